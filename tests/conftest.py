"""Eight CPU devices, strict types, and the fixtures that all tests share.

JAX is configured here, before any test touches a device. Without `-m gpu` every test runs on the
CPU, GPU or not.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import hypothesis
import jax
import pytest

# optax multiplies int32 step counts with Python floats, which strict promotion forbids.
CALLS_OPTAX = ("training", "runs", "cli", "docs", "experiments")


def pytest_addoption(parser):
    parser.addoption(
        "--data-dir", type=Path, help="where the data sets lie; default: jconv's own cache"
    )
    parser.addoption(
        "--torch-python", type=Path, help="an interpreter with PyTorch; default: .torch/bin/python"
    )


def pytest_configure(config):
    jax.config.update("jax_num_cpu_devices", 8)
    # A cache would hide compilations from the tests that count them.
    jax.config.update("jax_enable_compilation_cache", False)
    if not _wants_gpu(config):
        jax.config.update("jax_platforms", "cpu")
    # Reproducible, and no time limit: machines that run tests are busy.
    hypothesis.settings.register_profile("jconv", derandomize=True, deadline=None, max_examples=200)
    hypothesis.settings.register_profile(
        "thorough", derandomize=True, deadline=None, max_examples=2000
    )
    hypothesis.settings.load_profile(config.getoption("--hypothesis-profile") or "jconv")
    config.pluginmanager.register(GpuTestsRan(config), "gpu-tests-ran")


def pytest_collection_modifyitems(items):
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_items and jax.default_backend() != "gpu":
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="JAX finds no GPU"))


class GpuTestsRan:
    """Fails a run that asked for gpu tests on a host with a GPU and ran none: skips alone would
    look like success.
    """

    def __init__(self, config):
        self._wanted = _wants_gpu(config) and _has_gpu()
        self._ran = 0

    def pytest_runtest_logreport(self, report):
        self._ran += report.when == "call" and not report.skipped and "gpu" in report.keywords

    def pytest_sessionfinish(self, session):
        worker = hasattr(session.config, "workerinput")
        if (
            self._wanted
            and not self._ran
            and not worker
            and session.exitstatus == pytest.ExitCode.OK
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self._wanted and not self._ran:
            terminalreporter.write_line(
                "FAILED: this host has a GPU, but no test marked gpu ran on it", red=True
            )


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """No silent conversion between dtypes, wherever no library of others needs it."""
    parts = request.path.relative_to(Path(__file__).parent).parts
    level = "standard" if parts[0] in CALLS_OPTAX else "strict"
    with jax.numpy_dtype_promotion(level):
        yield


@pytest.fixture
def key():
    """A fixed PRNG key."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def data_dir(request):
    """The folder that holds the data sets; the test is skipped where there is none."""
    path = request.config.getoption("--data-dir")
    if path is None:
        from jconv.data import cache_dir

        path = cache_dir()
    if not path.is_dir():
        pytest.skip(f"no data sets in {path}; give --data-dir")
    return path


def _wants_gpu(config) -> bool:
    expression = config.option.markexpr
    return "gpu" in expression and "not gpu" not in expression


def _has_gpu() -> bool:
    """Whether the host has an NVIDIA GPU, whatever JAX makes of it."""
    return sys.platform == "linux" and (
        Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None
    )
