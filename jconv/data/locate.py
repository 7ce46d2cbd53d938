"""Where the files of a published data set lie; what is absent is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jconv.data.download import RemoteFile, fetch


def find(root: Path, folder: str, names: Sequence[str]) -> Path | None:
    """The first of `names` that is a file in `root`/`folder` or directly in `root`."""
    return next((path for path in places(root, folder, names) if path.is_file()), None)


def places(root: Path, folder: str, names: Sequence[str]) -> list[Path]:
    """Every path where `find` looks, in its order."""
    return [root / inner / name for inner in (folder, "") for name in names]


def download_absent(
    who: str, file: RemoteFile, target: Path, looked: Sequence[Path], *, download: bool
) -> Path:
    """Downloads `file` into `target`, which has been found to be absent from all of `looked`.

    Raises:
      FileNotFoundError: downloads are off or none succeeded; the message has the file's name, all
        places, and where to get the file and put it.
    """
    try:
        if download:
            return fetch(file, target)
        reason, cause = "downloads are off", None
    except OSError as error:
        reason, cause = str(error), error
    raise FileNotFoundError(
        f"{who}: {file.name} is in none of {', '.join(map(str, looked))}, and {reason}. Get it "
        f"from {' or '.join(file.urls)} ({file.size} bytes, SHA-256 {file.sha256}) and put it "
        f"into {target}, or say with data_dir (--data-dir) where it lies"
    ) from cause
