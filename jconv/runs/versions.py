"""What a result depends on besides the code: versions of software, and the device."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import jax

from jconv.core.outside import onednn_version

PACKAGES = ("jconv", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> dict[str, str]:
    """By name: installed packages, Python, the system, and the devices JAX computes on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["onednn"] = onednn_version()
    devices = jax.local_devices()
    kind = devices[0].device_kind
    found["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    found["devices"] = f"{len(devices)} x {kind}"
    return found
