"""Which cases run on every change, and which on demand."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import pytest


def cases(values: Mapping[str, Any], often: Container[str]) -> list[Any]:
    """All of the cases, with their names as ids; those that are not named in `often` are slow."""
    return [
        pytest.param(value, id=name, marks=() if name in often else pytest.mark.slow)
        for name, value in values.items()
    ]


def names(values: Iterable[str], often: Container[str]) -> list[Any]:
    """As `cases`, where a test takes the name itself."""
    return cases({name: name for name in values}, often)
