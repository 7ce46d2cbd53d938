"""docs/kernel_variants.md names the layers and calls whose kernels are compiled in the tests."""

from __future__ import annotations

import re
from pathlib import Path

from tests.kernels.triton.variants import LAYERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "kernel_variants.md"
CHIPS = 2


def test_the_document_has_every_call_on_every_chip():
    text = DOCUMENT.read_text("utf-8")
    chips = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
    assert len(chips) == CHIPS
    for chip in chips:
        rows = re.findall(r"^\| (\w+) \| (\w+) \| _\w+ \|", chip, flags=re.MULTILINE)
        # A call of several kernels has as many rows, one below the other.
        expected = [(layer, call) for layer, calls in LAYERS.items() for call in calls]
        assert list(dict.fromkeys(rows)) == expected
