"""Weights of other frameworks into jconv's models. Nothing is ever unpickled: arrays come in, by
name."""

from jconv.convert.pytorch import from_pytorch as from_pytorch
