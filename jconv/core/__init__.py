"""How an operation becomes a JAX primitive, and what computes it; no operation is known here."""

from jconv.core.derivatives import bilinear as bilinear
from jconv.core.derivatives import linear as linear
from jconv.core.dispatch import Choice as Choice
from jconv.core.dispatch import Implementation as Implementation
from jconv.core.dispatch import one_body as one_body
from jconv.core.explain import explain_choice as explain_choice
from jconv.core.outside import onednn as onednn
from jconv.core.outside import triton as triton
from jconv.core.parts import Parts as Parts
from jconv.core.primitive import Operation as Operation
from jconv.core.sharding import automatic as automatic
from jconv.core.sharding import explicit_sharding as explicit_sharding
