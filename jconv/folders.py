"""Where jconv keeps what it can get, or measure, again."""

from __future__ import annotations

import sys
from pathlib import Path


def cache_dir() -> Path:
    """`jconv` in the platform's folder for caches: for files whose place is not named."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "jconv"
    if sys.platform == "win32":
        return Path.home() / "AppData" / "Local" / "jconv" / "Cache"
    return Path.home() / ".cache" / "jconv"
