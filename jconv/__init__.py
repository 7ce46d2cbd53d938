"""Convolutional networks in JAX.

The core can be seen, differentiated in every way, and trusted.
"""

from jconv.core import Choice as Choice
from jconv.core import explain_choice as explain_choice
from jconv.ops import avg_pool as avg_pool
from jconv.ops import batch_norm as batch_norm
from jconv.ops import conv as conv
from jconv.ops import conv_transpose as conv_transpose
from jconv.ops import max_pool as max_pool
from jconv.ops import normalize as normalize
