"""Calls that XLA can't see into, computed part by part where a program is split over devices.

A kernel outside XLA is an unknown to it: where a program is split, its operands would be gathered
and each device compute the whole. `Parts` says along which axes the call falls into independent
calls; how the arrays then lie is taken from where the operands lie:

    automatic axes    custom_partitioning: XLA decides, and asks when it does
    explicit axes     a shard_map, from the types of the operands
    manual axes       nothing: inside a shard_map every array is a part already
"""

from __future__ import annotations

import dataclasses
import functools
import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from jconv.core.sharding import explicit_sharding

type Axes = tuple[str | None, ...]  # of an array: a name where it may be split, else None
type Where = dict[str, Any]  # by an axis's name, the axes of the mesh that split it


@dataclasses.dataclass(frozen=True)
class Parts:
    """Along which axes a call falls into parts.

    `Parts((("n", None, "c"), ("n", None, "c")), ((None, "c"),))`: of two arrays (N, P, C), which
    may be split along N and C, comes one (R, C), to which all parts of N contribute.

    Attributes:
      operands, results: their axes, in order; an axis has one name wherever it stands.
    """

    operands: tuple[Axes, ...]
    results: tuple[Axes, ...]

    def where(self, specs: Sequence[Any]) -> Where:
        """How the call is split, given the operands' specs: an axis as in the first operand that
        has it, and no axis of the mesh twice.
        """
        found: Where = {}
        for axes, spec in zip(self.operands, specs, strict=True):
            for name, split in zip(axes, (*spec, *[None] * len(axes)), strict=False):
                taken = {mesh_axis for used in found.values() for mesh_axis in _flat(used)}
                if name is not None and name not in found and not taken & {*_flat(split)}:
                    found[name] = split
        return found

    def across(self, where: Where) -> tuple[str, ...]:
        """The axes of the mesh over which those results are summed that don't have them."""
        kept = set.intersection(*({*axes} for axes in self.results))
        return tuple(a for name, split in where.items() if name not in kept for a in _flat(split))

    def rule(self) -> dict[str, Any]:
        """For `custom_partitioning`."""
        names = sorted({name for axes in (*self.operands, *self.results) for name in axes if name})
        letters = dict(zip(names, string.ascii_letters, strict=False))
        whole = (f"w{number}" for number in range(1000))
        sides, kept = [], []
        for side in (self.operands, self.results):
            arrays = []
            for axes in side:
                terms = [letters[name] if name else next(whole) for name in axes]
                kept += [term for name, term in zip(axes, terms, strict=True) if name is None]
                arrays.append(" ".join(terms))
            sides.append(", ".join(arrays))
        summed = {name for axes in self.operands for name in axes if name} - {
            name for axes in self.results for name in axes
        }
        return {
            "sharding_rule": " -> ".join(sides),
            "need_replication_factors": tuple(kept),
            "reduction_factors": tuple(letters[name] for name in sorted(summed)),
        }


def specs(axes: Sequence[Axes], where: Where) -> tuple[PartitionSpec, ...]:
    """Of arrays with these axes."""
    return tuple(PartitionSpec(*(where.get(name) if name else None for name in a)) for a in axes)


def in_parts(body: Callable[..., Any], parts: Parts, *args: Any) -> Any:
    """body(*args), each device computing its part.

    Args:
      body: `body(*args, across=names)`, which sums over these axes of the mesh what does not have
        the axes that they split.
    """
    meshes = (explicit_sharding(jax.typeof(arg)) for arg in args)
    sharding = next((found for found in meshes if found is not None), None)
    if sharding is None:
        return _automatic(body, parts, args)
    return _explicit(body, parts, sharding.mesh, args)


def _explicit(body, parts, mesh, args):
    where = parts.where([jax.typeof(arg).sharding.spec for arg in args])
    given, results = specs(parts.operands, where), specs(parts.results, where)
    laid = [
        jax.sharding.reshard(arg, NamedSharding(mesh, spec))
        for arg, spec in zip(args, given, strict=True)
    ]
    part = functools.partial(body, across=parts.across(where))
    split: Any = jax.shard_map(
        part, mesh=mesh, in_specs=given, out_specs=_alone(results), check_vma=False
    )
    return split(*laid)


def _automatic(body, parts, args):
    def partition(mesh, operands, results):
        where = parts.where([operand.sharding.spec for operand in operands])
        given, laid = (
            tuple(NamedSharding(mesh, spec) for spec in specs(axes, where))
            for axes in (parts.operands, parts.results)
        )
        return mesh, functools.partial(body, across=parts.across(where)), _alone(laid), given

    def whole(*args):
        return body(*args, across=())

    split = custom_partitioning(whole)
    split.def_partition(partition, **parts.rule())
    return split(*args)


def _alone(results):
    return results if len(results) > 1 else results[0]


def _flat(split: Any) -> tuple[str, ...]:
    """The axes of the mesh in an entry of a spec: None, a name, or several."""
    return () if split is None else (split,) if isinstance(split, str) else tuple(split)
