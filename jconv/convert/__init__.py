"""Weights of other frameworks into jconv's models, as arrays by name: nothing is unpickled."""

from jconv.convert.pytorch import from_pytorch as from_pytorch
