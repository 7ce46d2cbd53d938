"""Files from their publishers: capped in size, verified by SHA-256, only then given their name."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import ipaddress
import os
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

CHUNK = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds without any answer


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
      name: the file's name, on the server and here.
      size: bytes, exactly; no byte beyond it is accepted.
      sha256: hexadecimal.
      urls: where it can be got, tried in this order.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


def fetch(file: RemoteFile, folder: Path, *, timeout: float = TIMEOUT) -> Path:
    """Downloads `file` into `folder` and returns its path; a progress bar goes to stderr.

    What arrives is written to a temporary file beside its place. It gets its name only once its
    size and its SHA-256 are the published ones, so a file with that name is whole.

    Args:
      timeout: seconds without an answer after which the next URL is tried.

    Raises:
      ConnectionError: no URL gave the published file; the message has the reason for each.
      OSError: `folder` can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in file.urls:
        with _temporary(folder, file.name) as path:
            reason = _download(url, file, path, timeout)
            if reason is None:
                os.replace(path, folder / file.name)
                return folder / file.name
        reasons.append(f"{url}: {reason}")
    raise ConnectionError(f"{file.name} could not be downloaded: {'; '.join(reasons)}")


def _download(url: str, file: RemoteFile, path: Path, timeout: float) -> str | None:
    """Why `url` does not give `file`, or None once `path` holds it."""
    if not _is_allowed(url):
        return "only https is used"
    # A server may break off in many ways, and http.client's errors are no OSError.
    network_errors = (OSError, http.client.HTTPException, ValueError)
    try:
        response = urllib.request.build_opener(_Redirects).open(url, timeout=timeout)
    except network_errors as error:
        return _describe(error)
    digest, received = hashlib.sha256(), 0
    with response, path.open("wb") as out, _progress(file) as advance:
        while True:
            try:
                chunk = response.read(CHUNK)
            except network_errors as error:
                return f"{_describe(error)} after {received} of {file.size} bytes"
            if not chunk:
                break
            received += len(chunk)
            if received > file.size:
                return f"sends more than the published {file.size} bytes"
            out.write(chunk)
            digest.update(chunk)
            advance(len(chunk))
    if received < file.size:
        return f"ended after {received} of {file.size} bytes"
    if digest.hexdigest() != file.sha256:
        return f"SHA-256 is {digest.hexdigest()}, expected {file.sha256}; nothing was kept"
    return None


def _describe(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _is_allowed(url: str) -> bool:
    """https, or http from this very machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not _is_allowed(newurl):
            raise urllib.error.URLError(f"redirects to {newurl}, and only https is used")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _temporary(folder: Path, name: str) -> Iterator[Path]:
    """A new file in `folder`, gone afterwards unless it was renamed."""
    handle, path = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
    os.close(handle)
    try:
        yield Path(path)
    finally:
        Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def _progress(file: RemoteFile) -> Iterator[Callable[[int], object]]:
    """A function that moves the bar on by so many bytes; without rich there is no bar."""
    try:
        from rich import console, progress
    except ImportError:
        print(f"downloading {file.name}, {file.size / 1e6:.1f} MB", file=sys.stderr)
        yield lambda count: None
        return
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console.Console(stderr=True)) as bar:
        task = bar.add_task(file.name, total=file.size)
        yield lambda count: bar.advance(task, count)
