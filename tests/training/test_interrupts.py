"""jconv.training.interrupts: the second Ctrl-C kills, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import time
from jconv.training.interrupts import Interrupts
with Interrupts() as interrupts:
    print("ready", flush=True)
    while not interrupts.requested:
        time.sleep(0.001)
    print("requested", flush=True)
    time.sleep(600)
"""


def test_the_first_ctrl_c_asks_and_the_second_kills():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for expected in ("ready", "requested"):
        assert process.stdout.readline().strip() == expected
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.strip() == "finishing this step; Ctrl-C again kills without saving"
