"""What a result depends on besides the code: versions of software, and the device."""

from __future__ import annotations

import os
import platform

import jax

from jconv.core.machine import installed
from jconv.core.outside import onednn_version

PACKAGES = ("jconv", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> dict[str, str]:
    """By name: installed packages, Python, the system, and the devices JAX computes on."""
    found = {"python": platform.python_version()} | installed(*PACKAGES)
    found["onednn"] = onednn_version()
    devices = jax.local_devices()
    kind = devices[0].device_kind
    found["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    found["devices"] = f"{len(devices)} x {kind}"
    return found
