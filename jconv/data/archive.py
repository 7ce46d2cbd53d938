"""Named files out of a tar.gz: nothing else in it is written, followed or trusted."""

from __future__ import annotations

import gzip
import os
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

SLACK = 1 << 24  # bytes of other members, headers and padding that an archive may have
CHUNK = 1 << 20  # bytes


def extract(archive: Path, wanted: Mapping[str, int], folder: Path) -> dict[str, Path]:
    """Writes the wanted members of `archive` into `folder`: file name -> path.

    A member's own path decides nothing: it is compared with the wanted ones, and the last part of
    that is the name of the file. All members are complete before the first gets its name.

    Args:
      wanted: path in the archive -> the most bytes that it may have.

    Raises:
      ValueError: the archive is damaged, unpacks to too much, lacks a wanted member, or has it
        twice, too large, or as anything but a plain file.
      OSError: `folder` can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking.", dir=folder) as temporary:
        # The damage of a stream shows in any of these ways.
        damage = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
        try:
            written = _write_members(archive, wanted, Path(temporary))
        except damage as error:
            raise ValueError(f"{archive}: expected a whole tar.gz; found: {error}") from error
        absent = [name for name in wanted if name not in written]
        if absent:
            raise ValueError(f"{archive}: expected {', '.join(wanted)}; found no {absent[0]}")
        for path in written.values():
            os.replace(path, folder / path.name)
    return {path.name: folder / path.name for path in written.values()}


def _write_members(archive: Path, wanted: Mapping[str, int], folder: Path) -> dict[str, Path]:
    written: dict[str, Path] = {}
    with gzip.open(archive) as stream:
        capped = _Capped(stream, archive, sum(wanted.values()) + SLACK)
        # "r|" reads forward only, so the cap counts every byte that is unpacked.
        with tarfile.open(fileobj=capped, mode="r|", errorlevel=2) as tar:  # pyright: ignore
            for member in tar:
                name = member.name.removeprefix("./")
                if name not in wanted:
                    continue
                _check(archive, member, wanted[name], twice=name in written)
                written[name] = folder / Path(name).name
                _copy(tar, member, written[name])
        while capped.read(CHUNK):  # gzip's checksum is compared at the very end
            pass
    return written


def _check(archive: Path, member: tarfile.TarInfo, most: int, *, twice: bool) -> None:
    if twice:
        raise ValueError(f"{archive}: expected {member.name} once; found it twice")
    if not member.isreg() or member.issparse():
        raise ValueError(
            f"{archive}: expected {member.name} to be a plain file; found another kind"
        )
    if member.size > most:
        raise ValueError(
            f"{archive}: expected at most {most} bytes of {member.name}; found {member.size}"
        )


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # a plain file has content
    with source, path.open("xb") as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)
    if path.stat().st_size != member.size:
        raise EOFError(f"{member.name} ended after {path.stat().st_size} of {member.size} bytes")


class _Capped:
    """A stream that refuses to unpack more than `most` bytes."""

    def __init__(self, stream, archive: Path, most: int):
        self._stream, self._archive, self._left, self._most = stream, archive, most, most

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(
                f"{self._archive}: expected at most {self._most} bytes unpacked; found more"
            )
        return data
