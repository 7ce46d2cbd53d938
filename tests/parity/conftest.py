"""The fixtures `torch` and `torchvision`: their functions, evaluated in a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.parity import peer

DEFAULT = Path(__file__).parents[2] / ".torch" / "bin" / "python"


class Torch:
    """`torch("nn.functional.conv2d", x, w, stride=2)`: (results, gradients).

    Arrays are given as they are, or as `peer.Constant`s, without a gradient; `results` is a list,
    `gradients` one array per other floating-point argument, in order, of
    sum(results[0] * peer.cotangent(results[0].shape)).
    """

    def __init__(self, python: Path):
        self._process = subprocess.Popen(
            [python, peer.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __call__(self, name: str, *args, **kwargs):
        arrays = []

        def stored(value):
            if isinstance(value, (list, tuple)):
                return [stored(v) for v in value]
            kind = "constant" if isinstance(value, peer.Constant) else "array"
            value = value.array if isinstance(value, peer.Constant) else value
            if not hasattr(value, "shape"):
                return value
            arrays.append(np.asarray(value))
            return {kind: len(arrays) - 1}

        call = {
            "name": name,
            "args": [stored(arg) for arg in args],
            "kwargs": {key: stored(value) for key, value in kwargs.items()},
        }
        request = {f"a{k}": array for k, array in enumerate(arrays)}
        peer.send(self._process.stdin, {"call": np.array(json.dumps(call)), **request})
        found = peer.receive(self._process.stdout)
        if found is None:
            raise RuntimeError(f"torch.{name}: PyTorch's process has ended")
        if "error" in found:
            raise ValueError(f"torch.{name}: {found['error']}")
        results = [found[f"y{i}"] for i in range(len(found)) if f"y{i}" in found]
        return results, [found[f"g{k}"] for k in range(len(arrays)) if f"g{k}" in found]

    def close(self) -> None:
        """Ends PyTorch's process."""
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def torch(request):
    """PyTorch; the test is skipped where there is none."""
    python = request.config.getoption("--torch-python") or DEFAULT
    if not python.is_file():
        pytest.skip(f"no PyTorch: {python} is absent; see docs/contributing.md")
    found = Torch(python)
    yield found
    found.close()


@pytest.fixture(scope="session")
def torchvision(torch):
    """`torch`, for names in torchvision; the test is skipped where there is none."""
    try:
        torch("torchvision.ops.box_area", peer.Constant(np.ones((1, 4))))
    except ValueError as error:
        if peer.ABSENT not in str(error):
            raise
        pytest.skip(f"{error}; see docs/contributing.md")
    return torch
