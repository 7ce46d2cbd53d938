"""One call of an operation, as its rule sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jconv.receptive_field.constants import Known


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
      ins: its operands: dependencies, `Known` arrays, or None.
      shapes, outs: the shapes of its operands and results.
      at: what to call it where branches meet in it, if that is of interest.
    """

    name: str
    params: Mapping[str, Any]
    ins: Sequence[Any]
    shapes: Sequence[tuple[int, ...]]
    outs: Sequence[tuple[int, ...]]
    at: Callable[[], str | None] | None

    @property
    def deps(self) -> list[tuple[Any, tuple[int, ...]]]:
        """The operands that read the input, with their shapes."""
        pairs = zip(self.ins, self.shapes, strict=True)
        return [(value, shape) for value, shape in pairs if is_dep(value)]


def is_dep(value: Any) -> bool:
    """Whether a value reads the input."""
    return value is not None and not isinstance(value, Known)


def joined(domain: Any, deps: Sequence[Any], shape: tuple[int, ...], at: Any) -> Any:
    """What any of these reads, None among them reading nothing."""
    deps = [dep for dep in deps if dep is not None]
    return domain.join(deps, shape, at) if deps else None
