"""How arrays lie on the devices of a mesh, as far as their types say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def explicit_sharding(aval: Any) -> NamedSharding | None:
    """The sharding that is part of the type on a mesh with explicit axes, elsewhere None."""
    sharding = aval.sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None


def automatic(f: Callable[..., jax.Array], out: PartitionSpec, *args: Any) -> jax.Array:
    """f(*args); where axes of the mesh are explicit, split by XLA, with a result laid out as `out`.

    For reads at computed positions, whose results no type rule can lay out.
    """
    shardings = (explicit_sharding(jax.typeof(arg)) for arg in jax.tree.leaves(args))
    mesh = next((sharding.mesh for sharding in shardings if sharding is not None), None)
    if mesh is None:
        return f(*args)
    split: Any = jax.sharding.auto_axes(f, out_sharding=NamedSharding(mesh, out))
    return split(*args)


def align(args):
    """The arguments, varying over the same manual mesh axes: shard_map's checks ask for it."""
    varying = [varying_over(arg) for arg in args]
    union = frozenset().union(*varying)
    return [
        lax.pcast(arg, tuple(union - v), to="varying") if union - v else arg
        for arg, v in zip(args, varying, strict=True)
    ]


def varying_over(arg) -> frozenset[str]:
    """The manual mesh axes over which the argument varies."""
    aval = jax.typeof(arg)  # JAX 0.12 moved them from `vma` to `mat.varying`
    return aval.vma if hasattr(aval, "vma") else aval.mat.varying
