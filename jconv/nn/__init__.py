"""Flax NNX layers: parameters, and one call to one operation of `jconv.ops`.

Arguments and parameters have Flax's names. What has no convolution in it is Flax's own,
re-exported.
"""

from flax.nnx import Dropout as Dropout
from flax.nnx import Linear as Linear
from flax.nnx import Sequential as Sequential

from jconv.nn.activations import PReLU as PReLU
from jconv.nn.activations import celu as celu
from jconv.nn.activations import elu as elu
from jconv.nn.activations import gelu as gelu
from jconv.nn.activations import glu as glu
from jconv.nn.activations import hard_sigmoid as hard_sigmoid
from jconv.nn.activations import hard_swish as hard_swish
from jconv.nn.activations import hard_tanh as hard_tanh
from jconv.nn.activations import leaky_relu as leaky_relu
from jconv.nn.activations import log_sigmoid as log_sigmoid
from jconv.nn.activations import log_softmax as log_softmax
from jconv.nn.activations import mish as mish
from jconv.nn.activations import relu as relu
from jconv.nn.activations import relu6 as relu6
from jconv.nn.activations import selu as selu
from jconv.nn.activations import sigmoid as sigmoid
from jconv.nn.activations import silu as silu
from jconv.nn.activations import soft_sign as soft_sign
from jconv.nn.activations import softmax as softmax
from jconv.nn.activations import softplus as softplus
from jconv.nn.activations import tanh as tanh
from jconv.nn.blur_pool import BlurPool as BlurPool
from jconv.nn.conv import Conv as Conv
from jconv.nn.conv import ConvTranspose as ConvTranspose
from jconv.nn.conv_local import ConvLocal as ConvLocal
from jconv.nn.diff_stride import DiffStride as DiffStride
from jconv.nn.diff_stride import SpectralPool as SpectralPool
from jconv.nn.dropout import AlphaDropout as AlphaDropout
from jconv.nn.dropout import ChannelDropout as ChannelDropout
from jconv.nn.dropout import DropBlock as DropBlock
from jconv.nn.dropout import GaussianDropout as GaussianDropout
from jconv.nn.dropout import StochasticDepth as StochasticDepth
from jconv.nn.flex_conv import FlexConv as FlexConv
from jconv.nn.layer_norms import GroupNorm as GroupNorm
from jconv.nn.layer_norms import InstanceNorm as InstanceNorm
from jconv.nn.layer_norms import LayerNorm as LayerNorm
from jconv.nn.layer_norms import RMSNorm as RMSNorm
from jconv.nn.norm import BatchNorm as BatchNorm
from jconv.nn.partial_conv import PartialConv as PartialConv
from jconv.nn.pointwise import pointwise_dot as pointwise_dot
from jconv.nn.pool import AdaptiveAvgPool as AdaptiveAvgPool
from jconv.nn.pool import AdaptiveMaxPool as AdaptiveMaxPool
from jconv.nn.pool import AvgPool as AvgPool
from jconv.nn.pool import Flatten as Flatten
from jconv.nn.pool import GlobalAvgPool as GlobalAvgPool
from jconv.nn.pool import GlobalMaxPool as GlobalMaxPool
from jconv.nn.pool import LPPool as LPPool
from jconv.nn.pool import Maxout as Maxout
from jconv.nn.pool import MaxPool as MaxPool
from jconv.nn.pool import MaxUnpool as MaxUnpool
from jconv.nn.pool import MinPool as MinPool
from jconv.nn.random_pool import FractionalMaxPool as FractionalMaxPool
from jconv.nn.random_pool import StochasticPool as StochasticPool
from jconv.nn.response_norms import TLU as TLU
from jconv.nn.response_norms import FilterResponseNorm as FilterResponseNorm
from jconv.nn.response_norms import LocalResponseNorm as LocalResponseNorm
from jconv.nn.sampling import DeformConv as DeformConv
from jconv.nn.sampling import PixelShuffle as PixelShuffle
from jconv.nn.sampling import PixelUnshuffle as PixelUnshuffle
from jconv.nn.sampling import Resize as Resize
from jconv.nn.separable_conv import DepthwiseConv as DepthwiseConv
from jconv.nn.separable_conv import SeparableConv as SeparableConv
from jconv.nn.spaced_conv import DCLSConv as DCLSConv
from jconv.nn.spaced_conv import LearnableDilationConv as LearnableDilationConv
from jconv.nn.squeeze_excitation import SqueezeExcitation as SqueezeExcitation
from jconv.nn.weight_norms import SpectralNorm as SpectralNorm
from jconv.nn.weight_norms import WeightNorm as WeightNorm
from jconv.nn.weight_norms import WeightStandardized as WeightStandardized
