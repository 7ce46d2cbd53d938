"""The page docs/transformations.md, from the battery itself: `python -m tests.ops.table`.

Rows are the public operations, columns what is tested of each of them. A cell says yes, or for what
it holds, or why it can't be; none is empty.
"""

from __future__ import annotations

import functools
import inspect
import types
from pathlib import Path

import jconv
import jconv.lax
import jconv.losses
from tests.ops import (
    norm_operations,
    test_beyond_int32,
    test_smallest,
    test_transformations,
)

PAGE = Path(__file__).parents[2] / "docs" / "transformations.md"
OPS = test_transformations.OPS

# The columns, and the tests that fill them.
COLUMNS = {
    "jit, eager, `disable_jit`": ("test_jit_and_eager", "test_without_jit"),
    "`grad`, `vjp`, `jvp`, `linearize`, `jacfwd`, `jacrev`": ("test_first_derivatives",),
    "grad of grad, `hessian`, hvp, jvp of jvp": ("test_second_derivatives",),
    "order 2 against differences": ("test_numerical_derivatives_of_order_2",),
    "`linear_transpose`": ("test_linear_transpose",),
    "`vmap`": ("test_vmap", "test_nested_vmap", "test_vmap_over_no_examples"),
    "remat, `scan`, `while`, `cond`": ("test_control_flow_and_remat",),
    "`shard_map`": ("test_shard_map",),
    "automatic, explicit sharding": ("test_global_sharding",),
    "`pmap`": ("test_pmap",),
    "export to CPU, CUDA, TPU": ("test_export",),
    "float16, bfloat16, 32, 64": ("test_dtypes",),
    "no example, one": ("test_number_of_examples",),
    "axes of one": ("test_one_of_each",),
    "empty axes": ("test_none",),
    "2^31 numbers": ("test_works", "test_refuses_and_says_why"),
}

# Operations that stand in the battery under other names, or several times.
ROWS = {
    "conv": (
        "conv_1d", "conv_2d", "conv_3d", "grouped", "depthwise", "dilated", "strided",
        "input_dilated",
    ),
}  # fmt: skip
# What has no array to be transformed by.
CONSTANTS = {
    "causal_mask",
    "explain_choice",
    "tune",
    "tuned",
    "conv_dimension_numbers",
    "keep_freed_memory",
}


@functools.cache
def public() -> list[str]:
    """Every function of arrays that `jconv`, `jconv.losses` and `jconv.lax` offer."""
    modules = {"": jconv, "losses.": jconv.losses, "lax.": jconv.lax}
    names = [
        prefix + name
        for prefix, module in modules.items()
        for name, member in vars(module).items()
        if isinstance(member, types.FunctionType)
        and name not in CONSTANTS
        and not name.startswith("_")
        and member.__module__.startswith(("jconv.", "jax."))
    ]
    return sorted(names, key=lambda name: (name.count("."), name))


def entries(name: str) -> list[str]:
    """The battery's operations that stand for a public one: its own, and its variants."""
    return [op for op in OPS if op in ROWS.get(name, ()) or _public_name(op) == name]


@functools.cache
def _public_name(op: str) -> str | None:
    """ "max_pool" of "max_pool_tied": the longest that it begins with."""
    names = [
        name
        for name in public()
        if (short := name.removeprefix("losses.")) == op or op.startswith(f"{short}_")
    ]
    return max(names, key=len, default=None)


def cell(name: str, column: str) -> str:
    """What the battery shows of an operation."""
    ops = [OPS[entry] for entry in entries(name)]
    if column == "`linear_transpose`":
        names = [list(inspect.signature(op.f).parameters) for op in ops]
        linear = {n[i]: None for n, op in zip(names, ops, strict=True) for i in op.linear}
        return f"in {', '.join(linear)}" if linear else "not linear"
    if column == "order 2 against differences" and name in norm_operations.CONSTANTS_INSIDE:
        return "u, v held constant"
    if column == "empty axes":
        refused = test_smallest.CASES[name][-1]
        words = {"H": "H, W", "C": "C"}
        return f"refused: {', '.join(words[axis] for axis in refused)}" if refused else "yes"
    if column == "2^31 numbers":
        cases = {
            "yes": test_beyond_int32.WORK,
            "refused": test_beyond_int32.REFUSED,
        }
        return ", ".join(word for word, names in cases.items() if name in map(_public_name, names))
    return "yes"


def page() -> str:
    head = ["operation", *COLUMNS]
    lines = [head, ["---"] * len(head)]
    lines += [[f"`{name}`", *(cell(name, column) for column in COLUMNS)] for name in public()]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return INTRODUCTION + rows + "\n"


INTRODUCTION = """# Every operation in every transformation

A generated page (`python -m tests.ops.table`); a test fails where it is out of date, and where a
public operation is missing from it. Each operation is compared with the same transformation of a
plain formulation in jax.numpy and jax.lax, in float64, to a relative 1e-10 (second derivatives
1e-9; float16, bfloat16 and float32 to eight roundings of their own). Meshes are eight devices, and
no compiled program gathers the examples. Of 2^31 numbers and more an operation
counts in wider integers, or refuses, for it would count in int32 (both: where it has positions to
count). `pytest -m slow tests/ops` runs all of it.

"""


if __name__ == "__main__":
    PAGE.write_text(page())
