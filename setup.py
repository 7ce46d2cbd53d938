"""Maps the folder `kernels/` to the import name `jconv_kernels`: `kernels` is taken on PyPI.

Also compiles the extension over oneDNN. All other metadata is in pyproject.toml, which can't say
this together with package discovery.
"""

import runpy

from setuptools import find_packages, setup

onednn = runpy.run_path("kernels/onednn/build.py")

setup(
    packages=[
        *find_packages(include=["jconv", "jconv.*"]),
        "jconv_kernels",
        *(f"jconv_kernels.{name}" for name in find_packages("kernels")),
    ],
    package_dir={"jconv_kernels": "kernels"},
    ext_modules=onednn["EXTENSIONS"],
    cmdclass={"build_ext": onednn["BuildLibrary"]},
)
