"""Downloads from a server on this machine that behaves well, and from some that do not."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import re
import sys
import threading

import pytest

from jconv.data import cifar as cifar_module
from jconv.data import load, mnist
from jconv.data.cifar import load_cifar
from jconv.data.download import RemoteFile, fetch
from jconv.data.mnist import load_idx_set
from tests.data.builders import TINY_CIFAR10, cifar_files, tar_bytes, write_mnist

BODY = bytes(range(256)) * 4096


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.send_error(404)
        else:
            answer(self)

    def log_message(self, *args):
        pass


def good(body, length=None):
    def answer(handler):
        handler.send_response(200)
        if length != "none":
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirect(location):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.end_headers()

    return answer


def dropped(handler):
    """Breaks off in the middle with a reset, as a lost connection does."""
    good(BODY[: len(BODY) // 2], len(BODY))(handler)
    handler.wfile.flush()
    handler.connection.setsockopt(*LINGER)
    handler.connection.close()


def silent(handler):
    handler.server.released.wait(10)


LINGER = (1, 13, b"\1\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER on, 0 s: closing sends a reset


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # A client that hangs up is part of the tests.
    server.answers, server.asked, server.released = {}, [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def remote(server, *paths, body=BODY, name="file.bin"):
    urls = tuple(path if "://" in path else server.url + path for path in paths)
    return RemoteFile(name, len(body), hashlib.sha256(body).hexdigest(), urls)


def test_downloads_into_a_new_folder(server, tmp_path, capsys):
    server.answers["/good"] = good(BODY)
    path = fetch(remote(server, "/good"), tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "file.bin"
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]
    captured = capsys.readouterr()
    assert "file.bin" in captured.err
    assert captured.out == ""


def test_downloads_without_rich(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    server.answers["/good"] = good(BODY)
    assert fetch(remote(server, "/good"), tmp_path).read_bytes() == BODY
    assert capsys.readouterr().err == "downloading file.bin, 1.0 MB\n"


def test_a_server_that_announces_no_length(server, tmp_path):
    server.answers["/good"] = good(BODY, "none")
    assert fetch(remote(server, "/good"), tmp_path).read_bytes() == BODY


def test_the_next_url_is_tried(server, tmp_path):
    server.answers |= {"/wrong": good(BODY[::-1]), "/good": good(BODY)}
    assert fetch(remote(server, "/none", "/wrong", "/good"), tmp_path).read_bytes() == BODY
    assert server.asked == ["/none", "/wrong", "/good"]


def test_follows_a_redirect(server, tmp_path):
    server.answers |= {"/moved": redirect("/good"), "/good": good(BODY)}
    assert fetch(remote(server, "/moved"), tmp_path).read_bytes() == BODY


DIGEST = hashlib.sha256(BODY[::-1]).hexdigest()
BAD = {
    "absent": (None, "HTTP 404 Not Found"),
    "wrong_hash": (good(BODY[::-1]), f"SHA-256 is {DIGEST}, expected .*; nothing was kept"),
    "too_large": (good(BODY + b"x"), f"sends more than the published {len(BODY)} bytes"),
    "endless": (good(BODY * 3, "none"), f"sends more than the published {len(BODY)} bytes"),
    "short": (good(BODY[:-1]), f"ended after {len(BODY) - 1} of {len(BODY)} bytes"),
    "truncated": (good(BODY[:-1], len(BODY)), f"after [0-9]+ of {len(BODY)} bytes"),
    "empty": (good(b""), f"ended after 0 of {len(BODY)} bytes"),
    "dropped": (dropped, f"after [0-9]+ of {len(BODY)} bytes"),
    "silent": (silent, "timed out"),
    "to_plain_http": (redirect("http://example.org/x"), "redirects to http://example.org/x"),
    "to_a_file": (
        redirect("file:///etc/passwd"),
        "HTTP 302 .*file:///etc/passwd. is not allowed",
    ),
}


@pytest.mark.parametrize(("answer", "message"), BAD.values(), ids=BAD)
def test_nothing_is_kept_of_a_bad_download(server, tmp_path, answer, message):
    if answer:
        server.answers["/bad"] = answer
    with pytest.raises(ConnectionError, match="could not be downloaded: http.*/bad: .*" + message):
        fetch(remote(server, "/bad"), tmp_path, timeout=0.5)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_download_leaves_the_old_file(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"old")
    server.answers["/bad"] = good(BODY[::-1])
    with pytest.raises(ConnectionError, match="SHA-256"):
        fetch(remote(server, "/bad"), tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_only_https_is_used(server, tmp_path, url):
    with pytest.raises(ConnectionError, match=re.escape(f"{url}: only https is used")):
        fetch(remote(server, url), tmp_path)


def test_nobody_listens(server, tmp_path):
    # Port 1 is reserved; nothing answers there.
    with pytest.raises(ConnectionError, match="refused"):
        fetch(remote(server, "http://127.0.0.1:1/x"), tmp_path)


def test_mnist_is_downloaded_once(server, tmp_path):
    parts = write_mnist(tmp_path / "source")
    files = [(tmp_path / "source" / name).read_bytes() for name in mnist.NAMES]
    facts = tuple((len(data), hashlib.sha256(data).hexdigest()) for data in files)
    server.answers |= {
        f"/{name}": good(data) for name, data in zip(mnist.NAMES, files, strict=True)
    }
    idx_set = dataclasses.replace(mnist.MNIST, urls=(server.url + "/",), files=facts)
    for _ in range(2):
        train, _ = load_idx_set(idx_set, tmp_path / "cache")
        assert (train.images == parts[0][0]).all()
    assert len(server.asked) == 4
    assert (tmp_path / "cache" / "MNIST" / "raw" / mnist.NAMES[0]).is_file()


def test_cifar_is_downloaded_and_unpacked_once(server, tmp_path):
    files, parts = cifar_files(TINY_CIFAR10)
    folder = TINY_CIFAR10.folder
    body = tar_bytes((f"{folder}/{name}", data) for name, data in files.items())
    server.answers["/archive"] = good(body)
    archive = remote(server, "/archive", body=body, name="cifar-10-binary.tar.gz")
    cifar = dataclasses.replace(TINY_CIFAR10, archive=archive)
    for _ in range(2):
        train, _ = load_cifar(cifar, tmp_path)
        assert (train.images == parts[0][0]).all()
    assert server.asked == ["/archive"]
    # The downloaded archive goes once it is unpacked.
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_load_tells_why_the_download_failed(server, tmp_path):
    archive = remote(server, "/none", name="cifar-10-binary.tar.gz")
    broken = dataclasses.replace(cifar_module.CIFAR10, archive=archive)
    with pytest.raises(FileNotFoundError, match=r"/none: HTTP 404 Not Found\. Get it from http"):
        load_cifar(broken, tmp_path)


def test_a_folder_that_can_not_be_made_is_named(server, tmp_path):
    (tmp_path / "data").write_bytes(b"a file")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path / 'data'}"):
        load("mnist", data_dir=tmp_path / "data")
