"""The script for a GPU, rehearsed: what it counts, what it does when a part goes wrong."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest
from jconv_kernels import triton

from jconv import bench
from jconv.bench.cases import Case

SCRIPTS = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def scripts(monkeypatch):
    """The modules of the script, by name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu
    import gpu_layers
    import gpu_steps
    import gpu_timing

    return {"gpu": gpu, "layers": gpu_layers, "steps": gpu_steps, "timing": gpu_timing}


@pytest.fixture
def work(scripts, tmp_path):
    return scripts["timing"].Work(
        tmp_path, "layers", time.monotonic() + 60, tiny=True, session=bench.session()
    )


def lines(work):
    path = work.out / f"{work.part}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class Fake:
    """Calls of so many seconds."""

    def __init__(self, each):
        self.each = each

    def seconds(self, calls):
        return calls * self.each


@pytest.mark.parametrize(("pass_", "arrays"), [("fwd", 2), ("full", 5)])
def test_least_bytes_of_what_follows_a_convolution(scripts, pass_, arrays):
    case = scripts["layers"].Epilogue((2, 8, 8, 4), "silu", gated=True, dtype="bfloat16")
    assert scripts["layers"].cost(case, pass_) == (2 * arrays * 512, 0)


def test_what_follows_a_convolution_without_jconv(scripts):
    import jax
    import numpy as np

    for name, layer in scripts["layers"].EPILOGUES.items():
        case = scripts["layers"]._small(layer)
        given = scripts["layers"]._operands(case, "full", 0)
        stock, ours = (jax.jit(case.program("full", by))(*given) for by in (None, "direct"))
        for a, e in zip(ours, stock, strict=True):
            assert a.dtype == e.dtype
            a, e = (np.asarray(array, np.float32) for array in (a, e))
            np.testing.assert_allclose(a, e, rtol=0.02, atol=0.02, err_msg=name)


@pytest.mark.parametrize(
    ("case", "pass_", "least", "flops"),
    [
        (Case("max_pool", (2, 8, 8, 4), window=2, stride=2), "fwd", 2 * (512 + 128), 0),
        (Case("max_pool", (2, 8, 8, 4), window=2, stride=2), "bwd", 2 * (512 + 128) + 128, 0),
        (Case("layer_norm", (2, 8, 8, 4)), "bwd", 2 * 3 * 512, 0),
        (Case("conv", (2, 8, 8, 4), (3, 3, 1, 4), padding=1, groups=4), "dw",
         2 * (2 * 512 + 36), 2 * 512 * 9),
    ],
)  # fmt: skip
def test_least_bytes_and_flops(scripts, case, pass_, least, flops):
    import dataclasses

    case = dataclasses.replace(case, dtype="bfloat16")
    assert scripts["layers"].cost(case, pass_) == (least, flops)


def test_rows_say_what_share_of_the_ceiling_was_reached(scripts, work):
    ceilings = work.out / "ceilings.jsonl"
    ceilings.write_text(
        json.dumps({"what": "copy", "per_second": 1e9}) + "\n"
        + json.dumps({"what": "matmul", "per_second": 1e12}) + "\n"
    )  # fmt: skip
    entries = {
        "jconv:triton": bench.Entry("triton", Fake(2.0)),
        "stock": bench.Entry("lax", Fake(4.0)),
        "torch": bench.Entry("torch", failure="RuntimeError: no"),
    }
    scripts["timing"].rows(
        work, "pool", "pool", "fwd", entries, least_bytes=10**9, flops=10**12, dispatch=1.0
    )
    ours, stock, torch = lines(work)
    assert (ours["of_ceiling"], stock["of_ceiling"]) == (0.5, 0.25)
    assert ours["to_stock"]["median"] == 0.5
    assert "bound by the host" in ours["implementation"]
    assert "bound by the host" not in stock["implementation"]
    assert torch["failure"] == "RuntimeError: no"
    assert bench.Row.from_json(json.dumps(ours)).bytes_per_second == 5e8


def test_operands_that_fit_the_cache_are_several(scripts):
    copies = scripts["timing"].copies
    assert len(copies(lambda n: n, 10**9)) == 1
    assert len(copies(lambda n: n, 30 * 10**6)) == 4
    assert len(copies(lambda n: n, 1)) == scripts["timing"].MOST_SETS


def test_backward_alone_is_the_gradient(scripts):
    case = Case("max_pool", (2, 6, 6, 8), window=2, stride=2, dtype="bfloat16")
    made = scripts["layers"].queued(case, "bwd", None)
    (dx,) = made.result
    assert dx.shape == case.x
    assert float(jnp.abs(dx.astype("float32")).sum()) > 0
    assert made.seconds(2) > 0


def test_a_contender_that_fails_stops_no_other(scripts):
    def fails():
        raise RuntimeError("out of\nmemory")

    assert scripts["timing"].attempt("x", fails).failure == "RuntimeError: out of memory"


def test_a_part_that_hangs_is_stopped(scripts, tmp_path, monkeypatch):
    gpu = scripts["gpu"]
    slow = tmp_path / "slow.py"
    slow.write_text("import time; print('began', flush=True); time.sleep(60)")
    monkeypatch.setattr(gpu, "__file__", str(slow))
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    options = gpu._parsed(["--out", str(tmp_path)])
    assert gpu._run("layers", 2.0, options, {}) == "stopped after 2 s"
    assert "began" in (tmp_path / "gpu.log").read_text("utf-8")
    assert gpu._run("layers", 0.1, options, {}) == "no time left"


def test_jconv_needs_no_installation(scripts, tmp_path):
    gpu = scripts["gpu"]
    site, wheels = tmp_path / "site", tmp_path / "wheels"
    site.mkdir()
    wheels.mkdir()
    import zipfile

    with zipfile.ZipFile(wheels / "thing-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing.py", "")
    options = gpu._parsed(["--out", str(tmp_path), "--wheels", str(wheels), "--dry-run"])
    environment = gpu._environment(site, options)
    assert (site / "jconv" / "window.py").exists()
    assert (site / "jconv_kernels" / "triton").is_dir()
    assert (site / "thing.py").exists()
    assert environment["JAX_PLATFORMS"] == "cpu"
    assert str(site) == environment["PYTHONPATH"].split(":")[0]


def test_rehearsal_of_ceilings(scripts, tmp_path):
    assert scripts["gpu"].main(["--out", str(tmp_path), "--dry-run", "--parts", "ceilings"]) == 0
    rows = [json.loads(r) for r in (tmp_path / "ceilings.jsonl").read_text("utf-8").splitlines()]
    assert [row["what"] for row in rows] == ["copy", "matmul", "dispatch"]


@pytest.mark.slow
@pytest.mark.skipif(not triton.installed(), reason="needs Triton")
def test_rehearsal_of_everything(scripts, tmp_path):
    assert scripts["gpu"].main(["--out", str(tmp_path), "--dry-run"]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{part}.jsonl" for part in scripts["gpu"].LIMITS} | {"gpu.log"}
    assert sys.executable
