"""A whole program by one implementation, where it can compute a call, for measurements."""

from __future__ import annotations

import contextlib
import dataclasses
import re

from jconv.core.dispatch import Measured
from jconv.core.tuned import Tuned, following


@dataclasses.dataclass(frozen=True)
class _Everywhere(Tuned):
    """What a file would say that has measured one implementation as the fastest of every call."""

    implementation: str = ""
    but: str | None = None

    def look_up(self, call: tuple[str, str], platform: str) -> Measured | None:
        if self.but is not None and re.search(self.but, ": ".join(call)):
            return None
        return Measured(self.implementation, self.file, by_name=True)


def everywhere(
    implementation: str, *, but: str | None = None
) -> contextlib.AbstractContextManager[None]:
    """What is compiled inside runs by `implementation` wherever that can compute a call, by the
    tables' choice elsewhere; calls that name an implementation themselves keep it.

    Not in a program that is split over several devices, as with `jconv.tuned`.

    Args:
      but: a regular expression: calls with it in their text, operation, operands and settings, stay
        with the tables' choice.
    """
    return following(_Everywhere(f"everywhere({implementation!r})", "", implementation, but))


# Convolutions of one group, which cuDNN is for.
DENSE = r"^conv.*groups=1\b"
