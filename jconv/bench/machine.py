"""What a time depends on besides the code: the machine, the versions, and the settings."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from jconv.core.machine import cores, cpu, installed

PACKAGES = ("jconv", "jax", "jaxlib", "flax", "numpy")
# Environment variables that change times: the C library's allocator, huge pages, XLA, and numbers
# of threads.
SETTINGS = (
    "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "JCONV_HUGE_PAGES", "THP_MEM_ALLOC_ENABLE",
    "XLA_FLAGS", "OMP_", "KMP_", "MKL_",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Session:
    """What rows that were measured together have in common.

    Attributes:
      commit: of jconv's source; None where it is no git checkout.
      dirty: whether the source differs from that commit.
      date: when the session began, UTC, ISO 8601.
      device: JAX's platform: "cpu", "gpu" or "tpu".
      processor: the model of the CPU, or of the accelerator.
      cores: how many this process may use.
      versions: of packages, by name.
      settings: environment variables that change times, by name.
    """

    commit: str | None
    dirty: bool
    date: str
    device: str
    processor: str
    cores: int
    versions: dict[str, str]
    settings: dict[str, str]

    @property
    def setting(self) -> tuple[Any, ...]:
        """What must be the same for times to be put into one table."""
        versions = (self.versions.get(name, "") for name in ("jaxlib", "onednn"))
        return self.device, self.processor, self.cores, *versions, *sorted(self.settings.items())

    def describe(self) -> str:
        """Machine, versions, commit and settings in one line of text."""
        words = [f"{self.processor}, {self.cores} core{'s' * (self.cores != 1)}"]
        words += [f"{name} {version}" for name, version in self.versions.items()]
        if self.commit is not None:
            words.append(f"commit {self.commit}{' with changes' if self.dirty else ''}")
        return ", ".join([*words, *(f"{name}={value}" for name, value in self.settings.items())])


def session(**versions: str) -> Session:
    """This machine, now.

    Args:
      versions: of packages that other processes use, by name.
    """
    device = jax.local_devices()[0]
    commit, dirty = _commit()
    now = datetime.datetime.now(datetime.UTC)
    return Session(
        commit=commit,
        dirty=dirty,
        date=now.isoformat(timespec="seconds"),
        device=device.platform,
        processor=cpu() if device.platform == "cpu" else device.device_kind,
        cores=cores(),
        versions=_versions() | versions,
        settings=_settings(),
    )


def _commit() -> tuple[str | None, bool]:
    """Of the checkout that this very file is tracked in, if it is in one."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parents[1]
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "--short", "HEAD"), bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError):
        return None, False


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()} | installed(*PACKAGES)
    onednn = importlib.import_module("jconv_kernels.onednn")
    return found if onednn.available() else found | {"onednn": onednn.version()}


def _settings() -> dict[str, str]:
    """A preloaded library by its name: where it lies on this machine says nothing elsewhere."""
    found = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)}
    if preloaded := found.get("LD_PRELOAD"):
        found["LD_PRELOAD"] = " ".join(Path(path).name for path in preloaded.split())
    return dict(sorted(found.items()))
