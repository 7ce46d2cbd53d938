"""Which tests of kernels run where: interpreted, or compiled.

One process interprets (TRITON_INTERPRET=1) or it compiles: `.ci/run` starts both.
"""

from __future__ import annotations

import pytest
from jconv_kernels import triton

interpreted = pytest.mark.skipif(
    not triton.interpreting() or triton.unavailable() is not None,
    reason=triton.unavailable() or "run with TRITON_INTERPRET=1",
)
