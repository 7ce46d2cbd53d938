"""Unpacking: the wanted files, whole, and nothing that a hostile archive would like."""

import gzip
import re
import tarfile

import pytest

from jconv.data import archive as archive_module
from jconv.data.archive import extract
from tests.data.builders import tar_bytes

WANTED = {"top/a.bin": 10, "top/b.txt": 100}
GOOD = [("top/a.bin", b"0123456789"), ("top/b.txt", b"names")]


def link(name, kind, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.fixture
def unpack(tmp_path):
    def function(data):
        path = tmp_path / "made.tar.gz"
        path.write_bytes(data)
        return extract(path, WANTED, tmp_path / "out")

    return function


@pytest.mark.parametrize("prefix", ["", "./"])
def test_writes_the_wanted_files_alone(tmp_path, unpack, prefix):
    others = [
        ("../evil", b"x"),
        ("/tmp/evil", b"x"),
        ("top/../../evil", b"x"),
        ("top/readme.html", b"x"),
        link("top/link", tarfile.SYMTYPE, "/etc"),
        ("top/link/evil", b"x"),
    ]
    paths = unpack(tar_bytes([*others, *((prefix + name, data) for name, data in GOOD)]))
    assert {name: path.read_bytes() for name, path in paths.items()} == {
        "a.bin": b"0123456789",
        "b.txt": b"names",
    }
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert files == {"made.tar.gz", "out", "out/a.bin", "out/b.txt"}


BAD = {
    "lacks": (GOOD[:1], "expected top/a.bin, top/b.txt; found no top/b.txt"),
    "twice": ([*GOOD, GOOD[0]], "expected top/a.bin once; found it twice"),
    "too_large": ([("top/a.bin", bytes(11))], "at most 10 bytes of top/a.bin; found 11"),
    "symlink": ([link("top/a.bin", tarfile.SYMTYPE, "/etc/passwd")], "to be a plain file"),
    "hard_link": ([link("top/a.bin", tarfile.LNKTYPE, "top/b.txt")], "to be a plain file"),
    "device": ([link("top/a.bin", tarfile.CHRTYPE, "")], "to be a plain file"),
    "folder": ([link("top/a.bin", tarfile.DIRTYPE, "")], "to be a plain file"),
    "fifo": ([link("top/a.bin", tarfile.FIFOTYPE, "")], "to be a plain file"),
}


@pytest.mark.parametrize(("members", "message"), BAD.values(), ids=BAD)
def test_refuses(tmp_path, unpack, members, message):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/made.tar.gz: ") + ".*" + message):
        unpack(tar_bytes(members))
    assert list((tmp_path / "out").iterdir()) == []


DAMAGED = {
    "no_gzip": b"no archive at all",
    "empty": b"",
    "no_tar": gzip.compress(b"text " * 400),
    "truncated": tar_bytes(GOOD)[:-12],
    "inside_truncated": gzip.compress(gzip.decompress(tar_bytes(GOOD))[:515]),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_says_that_an_archive_is_damaged(tmp_path, unpack, data):
    with pytest.raises(ValueError, match=r"made\.tar\.gz: expected "):
        unpack(data)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bomb_is_refused(unpack, monkeypatch):
    monkeypatch.setattr(archive_module, "SLACK", 1 << 16)
    bomb = [("top/bomb", bytes(1 << 20)), *GOOD]
    with pytest.raises(ValueError, match="expected at most 65646 bytes unpacked; found more"):
        unpack(tar_bytes(bomb))


def test_a_bomb_after_the_last_member_is_refused(unpack, monkeypatch):
    monkeypatch.setattr(archive_module, "SLACK", 1 << 16)
    with pytest.raises(ValueError, match="bytes unpacked; found more"):
        unpack(gzip.compress(gzip.decompress(tar_bytes(GOOD)) + bytes(1 << 20)))
