"""Convolutional networks in JAX.

The core can be seen, differentiated in every way, and trusted.
"""

from importlib.metadata import version as _version

from jconv import lax as lax
from jconv import losses as losses
from jconv import receptive_field as receptive_field
from jconv.allocator import keep_freed_memory as keep_freed_memory
from jconv.core import Choice as Choice
from jconv.core import explain_choice as explain_choice
from jconv.ops import adaptive_avg_pool as adaptive_avg_pool
from jconv.ops import adaptive_max_pool as adaptive_max_pool
from jconv.ops import affine_grid as affine_grid
from jconv.ops import alpha_dropout as alpha_dropout
from jconv.ops import avg_pool as avg_pool
from jconv.ops import batch_norm as batch_norm
from jconv.ops import blur_pool as blur_pool
from jconv.ops import causal_mask as causal_mask
from jconv.ops import channel_dropout as channel_dropout
from jconv.ops import conv as conv
from jconv.ops import conv_local as conv_local
from jconv.ops import conv_matrix as conv_matrix
from jconv.ops import conv_norm_bound as conv_norm_bound
from jconv.ops import conv_singular_values as conv_singular_values
from jconv.ops import conv_transpose as conv_transpose
from jconv.ops import dcls_conv as dcls_conv
from jconv.ops import deform_conv as deform_conv
from jconv.ops import depth_to_space as depth_to_space
from jconv.ops import depthwise_conv as depthwise_conv
from jconv.ops import drop_block as drop_block
from jconv.ops import dropout as dropout
from jconv.ops import fft_conv as fft_conv
from jconv.ops import filter_response_norm as filter_response_norm
from jconv.ops import fold as fold
from jconv.ops import fractional_max_pool as fractional_max_pool
from jconv.ops import gaussian_dropout as gaussian_dropout
from jconv.ops import global_avg_pool as global_avg_pool
from jconv.ops import global_max_pool as global_max_pool
from jconv.ops import grid_sample as grid_sample
from jconv.ops import group_norm as group_norm
from jconv.ops import instance_norm as instance_norm
from jconv.ops import layer_norm as layer_norm
from jconv.ops import local_response_norm as local_response_norm
from jconv.ops import lp_pool as lp_pool
from jconv.ops import max_pool as max_pool
from jconv.ops import max_unpool as max_unpool
from jconv.ops import maxout as maxout
from jconv.ops import min_pool as min_pool
from jconv.ops import normalize as normalize
from jconv.ops import pad as pad
from jconv.ops import partial_conv as partial_conv
from jconv.ops import pixel_shuffle as pixel_shuffle
from jconv.ops import pixel_unshuffle as pixel_unshuffle
from jconv.ops import prelu as prelu
from jconv.ops import resize as resize
from jconv.ops import rms_norm as rms_norm
from jconv.ops import roi_align as roi_align
from jconv.ops import roi_pool as roi_pool
from jconv.ops import scale_bias_act as scale_bias_act
from jconv.ops import separable_conv as separable_conv
from jconv.ops import space_to_depth as space_to_depth
from jconv.ops import spectral_norm as spectral_norm
from jconv.ops import spectral_pool as spectral_pool
from jconv.ops import stochastic_depth as stochastic_depth
from jconv.ops import stochastic_pool as stochastic_pool
from jconv.ops import tlu as tlu
from jconv.ops import unfold as unfold
from jconv.ops import weight_norm as weight_norm
from jconv.ops import weight_standardize as weight_standardize
from jconv.tuning import tune as tune
from jconv.tuning import tuned as tuned

__version__ = _version("jconv")
