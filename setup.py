"""Maps the folder `kernels/` to the import name `jconv_kernels`: `kernels` is taken on PyPI.

All other metadata is in pyproject.toml, which can't say this together with package discovery.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["jconv", "jconv.*"]),
        "jconv_kernels",
        *(f"jconv_kernels.{name}" for name in find_packages("kernels")),
    ],
    package_dir={"jconv_kernels": "kernels"},
)
