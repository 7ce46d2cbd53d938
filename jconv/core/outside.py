"""Rows whose bodies run outside XLA: `jconv_kernels`, imported when a row is first asked about."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from jconv.core.dispatch import Implementation
from jconv.core.parts import Parts


def onednn(body: str, name: str = "onednn") -> Implementation:
    """The row of `jconv_kernels.onednn.<body>`, for CPUs, where the library was built.

    Chosen only where XLA compiles the program whole, for this machine.

    Args:
      name: the row's, of its own where a table has a second one.
    """

    def call(*arrays: Any, **static: Any) -> Any:
        return getattr(_onednn(), body)(*arrays, **static)

    def unsupported(*avals: Any, **static: Any) -> str | None:
        return getattr(_onednn(), f"{body}_unsupported")(*avals, **static)

    return Implementation(name, call, unsupported, platforms=("cpu",), here_only=True)


def triton(body: str, parts: Callable[..., Parts]) -> Implementation:
    """The row of `jconv_kernels.triton.<body>`, for NVIDIA GPUs, where Triton is installed.

    Chosen only when it is named: the rule follows measurements on a GPU. Where Triton interprets
    (TRITON_INTERPRET=1), it runs on CPUs.

    Args:
      parts: `parts(*avals, **static)`, as in `Implementation`.
    """

    def call(*arrays: Any, **static: Any) -> Any:
        return getattr(_triton(), body)(*arrays, **static)

    def unsupported(*avals: Any, **static: Any) -> str | None:
        kernels = _triton()
        return kernels.unavailable() or getattr(kernels, f"{body}_unsupported")(*avals, **static)

    platforms = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)
    return Implementation(
        "triton", call, unsupported, platforms=platforms, by_name_only=True, parts=parts
    )


def onednn_version() -> str:
    """oneDNN's version and the instructions that it uses, or why it can't be called here."""
    reason = _onednn().available()
    return _onednn().version() if reason is None else f"not used: {reason}"


def _onednn() -> Any:
    return importlib.import_module("jconv_kernels.onednn")


def _triton() -> Any:
    return importlib.import_module("jconv_kernels.triton")
