"""Everything that only a GPU can tell, in one call of under nine minutes.

    python experiments/bench/gpu.py --out DIR [--wheels DIR] [--commit HASH] [--parts tests layers]
    python experiments/bench/gpu.py --out DIR --dry-run      on a CPU: tiny, kernels interpreted

    tests      kernels, compiled, against float64: pytest -m gpu; fails where none ran
    ceilings   bandwidth of a copy, rate of a product of matrices
    layers     every kernel beside XLA and PyTorch, forward and backward apart
    steps      images a second in training: with kernels, on XLA, with Flax's layers, PyTorch
    blocks     tiles and warps of every kernel

Each part is a process with a limit of its own, the most important things first in it, and writes
lines of JSON to DIR as it goes: a crash or a hang loses what was not yet measured, nothing else.
The machine needs Python 3.12, jax with its CUDA plugin, flax, optax, triton, NumPy and pytest;
torch if it is there. jconv needs no installation, and jax-triton may come as a wheel in a folder.
How times are taken stands in gpu_timing.py.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Seconds at most; together more than TOTAL, for what one does not need the next may have.
LIMITS = {"tests": 110, "ceilings": 40, "layers": 170, "steps": 240, "blocks": 120}
TOTAL = 520
GRACE = 15  # seconds, from when a part should stop to when it is stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts one after the other: 0 if all of them ended well."""
    options = _parsed(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        return _part(options)
    until, failed = time.monotonic() + TOTAL, []
    with tempfile.TemporaryDirectory(prefix="jconv-gpu-") as folder:
        environment = _environment(Path(folder), options)
        for part in options.parts:
            limit = min(LIMITS[part], until - time.monotonic())
            result = _run(part, limit, options, environment)
            print(f"{part}: {result}", flush=True)
            if result != "done":
                failed.append(part)
    print(f"failed: {', '.join(failed)}" if failed else "all parts done", flush=True)
    return int(bool(failed))


def _parsed(arguments):
    parser = argparse.ArgumentParser(description="What only a GPU can tell about jconv.")
    parser.add_argument("--out", type=Path, required=True, help="the folder that results go to")
    parser.add_argument("--parts", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--wheels", type=Path, help="a folder of wheels of pure Python: jax-triton")
    parser.add_argument("--commit", help="jconv's, where the folder is no checkout of git")
    parser.add_argument("--torch-python", type=Path, help="an interpreter with PyTorch; this one's")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on a CPU")
    parser.add_argument("--part", choices=LIMITS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _environment(folder: Path, options: argparse.Namespace) -> dict[str, str]:
    """For the parts: `folder` as a place that jconv, its kernels and the wheels are found in."""
    for name, path in (("jconv", ROOT / "jconv"), ("jconv_kernels", ROOT / "kernels")):
        (folder / name).symlink_to(path)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    about = folder / f"jconv-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: jconv\nVersion: {version}\n")
    for wheel in sorted(options.wheels.glob("*.whl")) if options.wheels else ():
        zipfile.ZipFile(wheel).extractall(folder)
    path = [str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    changed = {"PYTHONPATH": os.pathsep.join(path), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if options.dry_run:
        changed |= {"TRITON_INTERPRET": "1", "JAX_PLATFORMS": "cpu"}
    return {**os.environ, **changed}


def _run(part, limit, options, environment) -> str:
    """ "done", or what went wrong with a part; what it prints goes to gpu.log too."""
    if limit <= GRACE:
        return "no time left"
    command = [
        sys.executable, __file__, "--out", str(options.out), "--part", part,
        "--seconds", str(limit - GRACE), *(["--dry-run"] if options.dry_run else []),
        *(["--commit", options.commit] if options.commit else []),
        *(["--torch-python", str(options.torch_python)] if options.torch_python else []),
    ]  # fmt: skip
    with (options.out / "gpu.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
        ended = f"stopped after {limit:.0f} s"
        try:
            printed, _ = process.communicate(timeout=limit)
            ended = ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # it and what it has started
            printed, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        log.write(printed)
    print(printed, end="", flush=True)
    if ended:
        return ended
    return "done" if process.returncode == 0 else f"ended with {process.returncode}"


def _part(options: argparse.Namespace) -> int:
    """One part, in this process."""
    until = time.monotonic() + options.seconds
    if options.part == "tests":
        return _tests(options)
    from gpu_layers import measure_ceilings, measure_layers
    from gpu_steps import measure_steps
    from gpu_timing import Work

    from jconv import bench

    torch = _torch(options)
    file = Path(__file__).with_name("gpu_torch.py")
    with bench.torch_peer(torch, file) if torch else contextlib.nullcontext() as peer:
        session = bench.session(**(peer.versions if peer else {}))
        if options.commit:
            session = dataclasses.replace(session, commit=options.commit, dirty=False)
        if session.device != "gpu" and not options.dry_run:
            print(f"{options.part}: JAX finds no GPU", flush=True)
            return 1
        work = Work(options.out, options.part, until, options.dry_run, session)
        if options.part == "ceilings":
            measure_ceilings(work)
        elif options.part == "blocks":
            from gpu_blocks import measure_blocks  # the only one that needs Triton to start

            measure_blocks(work)
        else:
            {"layers": measure_layers, "steps": measure_steps}[options.part](work, peer)
    return 0


def _torch(options: argparse.Namespace) -> Path | None:
    """An interpreter with PyTorch, if there is one and the part needs it."""
    if options.part not in ("layers", "steps"):
        return None
    if options.torch_python:
        return options.torch_python
    return Path(sys.executable) if importlib.util.find_spec("torch") else None


def _tests(options: argparse.Namespace) -> int:
    """The tests marked gpu; a rehearsal collects them."""
    command = [
        sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", "-q", "-p", "no:cacheprovider",
        "tests/kernels/triton", *(["--collect-only"] if options.dry_run else []),
    ]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = (run.stdout + run.stderr).splitlines()
    print("\n".join(lines[-25:]), flush=True)
    summary = {"returncode": run.returncode, "last": lines[-1:] and lines[-1]}
    (options.out / "tests.jsonl").write_text(json.dumps(summary) + "\n", encoding="utf-8")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
