"""Compiles `_library.so` when jconv is installed: where it can, else jconv does without it.

`setup.py` reads it by path: jconv_kernels can't be imported before it is installed. Headers and
libdnnl come from packages that are build requirements on x86-64 Linux. The library is linked to
libdnnl by its name alone; `library.py` loads the one that is installed beside jconv.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

FOLDER = Path("kernels", "onednn")
NAME = "jconv_kernels.onednn._library"
EXTENSIONS = [
    Extension(
        NAME,
        sources=[str(path) for path in sorted(FOLDER.glob("*.cc"))],
        depends=[str(path) for path in sorted(FOLDER.glob("*.h"))],
        language="c++",
        extra_compile_args=["-std=c++17", "-O3", "-g0", "-fvisibility=hidden"],
        optional=True,  # a compiler's failure is a warning
    )
]


class BuildLibrary(build_ext):
    """Builds the library, or says in a warning why not."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name == NAME:
            # One of an earlier build would be installed where this one fails.
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
            headers, dnnl = _xla_headers(), _installed("onednn-cpu-gomp", "libdnnl.so.3")
            found = _installed("onednn-devel-cpu-gomp", "include/oneapi/dnnl/dnnl.hpp")
            if reason := _missing(headers, dnnl, found):
                self.warn(f"jconv does without oneDNN: {reason}")
                return
            include = found.parents[2]  # type: ignore[union-attr]
            # System headers: their warnings are not ours.
            ext.extra_compile_args += [f"-isystem{headers}", f"-isystem{include}"]
            objects = self._compiled_side_by_side(ext)
            ext.extra_objects = [*objects, str(dnnl)]
            ext.depends += objects  # newer than the library: it is linked again
            ext.sources = []
        super().build_extension(ext)

    def _compiled_side_by_side(self, ext: Extension) -> list[str]:
        """The objects of all sources, which setuptools would compile one after the other."""
        compile = functools.partial(
            self.compiler.compile,
            output_dir=self.build_temp,
            debug=self.debug,
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = pool.map(lambda source: compile([source]), sorted(ext.sources))
            return [path for paths in objects for path in paths]

    def get_ext_filename(self, fullname: str) -> str:
        """A plain name: the library knows nothing of Python, so one serves all versions."""
        if fullname.endswith(NAME.rpartition(".")[2]):
            return str(Path(*fullname.split(".")).with_suffix(".so"))
        return super().get_ext_filename(fullname)


def _missing(headers: Path | None, dnnl: Path | None, found: Path | None) -> str | None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"for Linux on x86-64 only, this is {sys.platform} on {platform.machine()}"
    if headers is None:
        return "jaxlib, with XLA's headers, is not installed where jconv is built"
    if dnnl is None or found is None:
        return "onednn-devel-cpu-gomp is not installed where jconv is built"
    return None


def _xla_headers() -> Path | None:
    spec = importlib.util.find_spec("jaxlib")
    places = spec.submodule_search_locations if spec else None
    return Path(places[0], "include") if places else None


def _installed(distribution: str, ending: str) -> Path | None:
    """The file of an installed distribution whose path ends so."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())).resolve() for file in files if str(file).endswith(ending))
    return next(paths, None)
