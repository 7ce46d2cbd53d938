"""Pure operations on arrays: one family per file."""

from jconv.ops.avg_pool import avg_pool as avg_pool
from jconv.ops.conv import conv as conv
from jconv.ops.conv import conv_transpose as conv_transpose
from jconv.ops.max_pool import max_pool as max_pool
from jconv.ops.norm import batch_norm as batch_norm
from jconv.ops.norm import normalize as normalize
from jconv.ops.norm import running_average as running_average
from jconv.ops.pad import pad as pad
