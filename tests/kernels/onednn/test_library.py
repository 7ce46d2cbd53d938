"""How the library is found, loaded and refused."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest
from jconv_kernels import onednn
from jconv_kernels.onednn import library

from tests.kernels.onednn.calls import needs_onednn

unloaded = library._load.__wrapped__


@needs_onednn
def test_version():
    assert re.fullmatch(r"3\.\d+\.\d+, \w+", onednn.version())


def test_another_platform(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert unloaded().startswith("built for Linux on x86-64 only, this is darwin on ")


def test_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    assert unloaded().startswith("its extension was not built")


def test_not_installed(monkeypatch):
    assert library._shared_object("jconv", "libdnnl.so.3") == (
        "the package jconv has no libdnnl.so.3"
    )
    assert library._shared_object("no-such-package-anywhere", "x") == (
        "the package no-such-package-anywhere is not installed"
    )


@needs_onednn
def test_a_library_that_can_not_be_loaded(monkeypatch, tmp_path):
    (tmp_path / "_library.so").write_text("no library")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    assert unloaded().startswith("its libraries can't be loaded: ")


def test_an_interface_newer_than_jaxlibs():
    """Registered, such a handler would keep JAX's CPU backend from starting."""
    built = SimpleNamespace(jconv_onednn_ffi_api=lambda: 999)
    assert re.fullmatch(
        r"its extension was compiled for version 0\.999 of XLA's foreign-function interface, this "
        r"jaxlib has 0\.\d+: install jconv again",
        library._too_new(built),
    )
    assert library._too_new(SimpleNamespace(jconv_onednn_ffi_api=lambda: 1)) is None


def test_what_asks_for_it_is_told_why(monkeypatch):
    monkeypatch.setattr(library, "_load", lambda: "no compiler")
    assert onednn.available() == "no compiler"
    with pytest.raises(RuntimeError, match="onednn: no compiler"):
        onednn.version()
    with pytest.raises(RuntimeError, match="onednn: no compiler"):
        library.target("standardize")
