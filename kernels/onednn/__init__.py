"""oneDNN on x86-64 CPUs, called by XLA through its foreign-function interface.

The C++ half is compiled when jconv is installed, where there is a compiler; `available()` says why
it can't be used, where it can't. Every function has the signature of a body in the tables of
`jconv.ops`, and a `..._unsupported` beside it that says in words what it refuses.
"""

from .conv import conv_filter_grad as conv_filter_grad
from .conv import conv_filter_grad_unsupported as conv_filter_grad_unsupported
from .conv import conv_forward as conv_forward
from .conv import conv_forward_unsupported as conv_forward_unsupported
from .conv import conv_input_grad as conv_input_grad
from .conv import conv_input_grad_unsupported as conv_input_grad_unsupported
from .depthwise import depthwise_filter_grad as depthwise_filter_grad
from .depthwise import depthwise_filter_grad_unsupported as depthwise_filter_grad_unsupported
from .library import available as available
from .library import version as version
from .norm import standardize as standardize
from .norm import standardize_grad as standardize_grad
from .norm import standardize_grad_unsupported as standardize_grad_unsupported
from .norm import standardize_tangent as standardize_tangent
from .norm import standardize_tangent_unsupported as standardize_tangent_unsupported
from .norm import standardize_unsupported as standardize_unsupported
from .pool import max_pool as max_pool
from .pool import max_pool_argmax as max_pool_argmax
from .pool import max_pool_argmax_unsupported as max_pool_argmax_unsupported
from .pool import max_pool_unsupported as max_pool_unsupported
from .pool import pool_put as pool_put
from .pool import pool_put_unsupported as pool_put_unsupported
from .pool import pool_take as pool_take
from .pool import pool_take_unsupported as pool_take_unsupported
from .pool import window_spread as window_spread
from .pool import window_spread_unsupported as window_spread_unsupported
from .pool import window_sum as window_sum
from .pool import window_sum_unsupported as window_sum_unsupported
from .winograd import winograd_filter_grad as winograd_filter_grad
from .winograd import winograd_filter_grad_unsupported as winograd_filter_grad_unsupported
from .winograd import winograd_forward as winograd_forward
from .winograd import winograd_forward_unsupported as winograd_forward_unsupported
from .winograd import winograd_input_grad as winograd_input_grad
from .winograd import winograd_input_grad_unsupported as winograd_input_grad_unsupported
