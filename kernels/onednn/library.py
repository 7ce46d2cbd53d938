"""Finds the compiled library, loads it once, and tells XLA its functions.

Nothing happens at import: the first call that asks does it. There may be no library (no compiler
when jconv was installed, another platform than x86-64 Linux), then `available()` says why, and all
that asks here is refused with that reason.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import platform
import re
import sys
from pathlib import Path

import jax
import numpy as np

TARGETS = (
    "conv",
    "conv_input_grad",
    "conv_filter_grad",
    "depthwise_filter_grad",
    "max_pool",
    "pool_take",
    "pool_put",
    "window_sum",
    "window_spread",
    "standardize",
    "standardize_grad",
    "winograd",
    "winograd_filter_grad",
)
PREFIX = "jconv_onednn_"  # of what the library exports
DISTRIBUTION = "onednn-cpu-gomp"  # brings libdnnl, the library itself
SONAME = "libdnnl.so.3"
RTLD_NOW = 2
ALIGNMENT = 64  # kAlignment, in scratch.h: bytes


def available() -> str | None:
    """Why oneDNN can't be called in this process, in words, or None if it can."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else None


def version() -> str:
    """oneDNN's version and the instruction set that it uses here, such as "3.2.0, avx512_bf16".

    Raises:
      RuntimeError: there is no oneDNN, with the reason.
    """
    return library().jconv_onednn_version().decode()


def library() -> ctypes.CDLL:
    """The compiled library, its targets registered with XLA.

    Raises:
      RuntimeError: there is none, with the reason.
    """
    loaded = _load()
    if isinstance(loaded, str):
        raise RuntimeError(f"onednn: {loaded}")
    return loaded


def target(name: str) -> str:
    """What XLA calls the handler of `name`, which it knows from now on.

    Raises:
      RuntimeError: there is no library, with the reason.
    """
    library()
    return f"{PREFIX}{name}"


@functools.lru_cache(maxsize=4096)
def ask(query: str, *integers: int) -> tuple[jax.ShapeDtypeStruct, str]:
    """What a call needs: its scratch buffer, and oneDNN's name for the code that will run.

    Args:
      query: a function of the library, such as "conv".
      integers: the static facts of the call.

    Raises:
      NotImplementedError: it can't be computed, with the reason.
      RuntimeError: there is no library, with the reason.
    """
    text = ctypes.create_string_buffer(256)
    packed = (ctypes.c_int64 * len(integers))(*integers)
    function = getattr(library(), f"{PREFIX}{query}_query")
    function.restype = ctypes.c_int64
    size = function(packed, ctypes.c_int64(len(integers)), text, ctypes.c_int64(len(text)))
    if size < 0:
        raise NotImplementedError(text.value.decode())
    # With room to align it, and never empty.
    return jax.ShapeDtypeStruct((size + ALIGNMENT,), np.uint8), text.value.decode()


@functools.cache
def _load() -> ctypes.CDLL | str:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"built for Linux on x86-64 only, this is {sys.platform} on {platform.machine()}"
    path = Path(__file__).with_name("_library.so")
    if not path.exists():
        return "its extension was not built (it takes a C++17 compiler when jconv is installed)"
    if isinstance(dnnl := _shared_object(DISTRIBUTION, SONAME), str):
        return dnnl
    try:
        # Loaded first, it is what the extension finds under its name, wherever it lies.
        ctypes.CDLL(str(dnnl), mode=RTLD_NOW)
        built = ctypes.CDLL(str(path), mode=RTLD_NOW)
    except OSError as error:
        return f"its libraries can't be loaded: {error}"
    return _too_new(built) or _register(built)


def _shared_object(distribution: str, name: str) -> Path | str:
    """Where an installed distribution keeps a file, or why it has none."""
    try:
        files = importlib.metadata.files(distribution)
    except importlib.metadata.PackageNotFoundError:
        return f"the package {distribution} is not installed"
    for file in files or ():
        if file.name == name:
            return Path(str(file.locate())).resolve()
    return f"the package {distribution} has no {name}"


def _too_new(built: ctypes.CDLL) -> str | None:
    """Why this jaxlib would refuse the library's handlers.

    Asked before they are registered: a handler of a newer interface keeps JAX's whole CPU backend
    from starting.
    """
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text()
    runs = tuple(
        int(re.findall(rf"#define XLA_FFI_API_{part} (\d+)", header)[0])
        for part in ("MAJOR", "MINOR")
    )
    compiled = divmod(built.jconv_onednn_ffi_api(), 1000)
    if compiled[0] == runs[0] and compiled[1] <= runs[1]:
        return None
    return (
        f"its extension was compiled for version {compiled[0]}.{compiled[1]} of XLA's foreign-"
        f"function interface, this jaxlib has {runs[0]}.{runs[1]}: install jconv again"
    )


def _register(built: ctypes.CDLL) -> ctypes.CDLL:
    built.jconv_onednn_version.restype = ctypes.c_char_p
    built.jconv_onednn_conv_plans.restype = ctypes.c_int64
    for name in TARGETS:
        handler = jax.ffi.pycapsule(getattr(built, PREFIX + name))
        jax.ffi.register_ffi_target(PREFIX + name, handler, platform="cpu")
    return built
