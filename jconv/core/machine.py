"""What of a machine decides which implementation is fastest."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform as host
from pathlib import Path
from typing import Any

import jax

from jconv.core.outside import onednn_version


@functools.cache
def facts(platform: str) -> dict[str, str]:
    """Processor and versions by name; measured choices hold where all of them are the same.

    Args:
      platform: "cpu", "cuda", "rocm" or "tpu"; where JAX finds none, the processor is "none".
    """
    found = {"platform": platform, "processor": _processor(platform)}
    found |= installed("jconv", "jaxlib")
    if platform == "cpu":
        found |= {"cores": str(cores()), "onednn": onednn_version()}
    return found


def installed(*packages: str) -> dict[str, str]:
    """The versions of those that are installed, by name."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def platform_of(device: Any) -> str:
    """A device's platform by lowering's names: JAX itself calls both kinds of GPU "gpu"."""
    if device.platform != "gpu":
        return device.platform
    return "rocm" if "rocm" in device.client.platform_version.lower() else "cuda"


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu() -> str:
    """The model of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or host.processor() or host.machine()


def _processor(platform: str) -> str:
    if platform == "cpu":
        return cpu()
    try:
        return jax.local_devices(backend=platform)[0].device_kind
    except RuntimeError:
        return "none"
