"""Flax NNX layers: parameters, and one call to one operation of `jconv.ops`.

Arguments and parameters have Flax's names. What has no convolution in it is Flax's own,
re-exported.
"""

from flax.nnx import Dropout as Dropout
from flax.nnx import Linear as Linear
from flax.nnx import Sequential as Sequential
from flax.nnx import elu as elu
from flax.nnx import gelu as gelu
from flax.nnx import leaky_relu as leaky_relu
from flax.nnx import log_softmax as log_softmax
from flax.nnx import relu as relu
from flax.nnx import sigmoid as sigmoid
from flax.nnx import silu as silu
from flax.nnx import softmax as softmax
from flax.nnx import tanh as tanh

from jconv.nn.conv import Conv as Conv
from jconv.nn.conv import ConvTranspose as ConvTranspose
from jconv.nn.norm import BatchNorm as BatchNorm
from jconv.nn.pool import AvgPool as AvgPool
from jconv.nn.pool import Flatten as Flatten
from jconv.nn.pool import GlobalAvgPool as GlobalAvgPool
from jconv.nn.pool import MaxPool as MaxPool
