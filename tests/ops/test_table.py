"""The page of transformations says what the battery shows, of every public operation."""

from __future__ import annotations

import pytest

from tests.ops import table, test_smallest, test_transformations


def test_page_is_up_to_date():
    assert table.PAGE.read_text() == table.page(), "run: python -m tests.ops.table"


@pytest.mark.parametrize("name", table.public())
def test_public_operations_are_in_the_battery(name):
    assert table.entries(name)
    assert name in test_smallest.CASES


@pytest.mark.parametrize("column", [c for c in table.COLUMNS if c != "2^31 numbers"])
def test_columns_are_tested_for_every_operation(column):
    for test in table.COLUMNS[column]:
        in_battery = hasattr(test_transformations, test)
        drawn = names_of(getattr(test_transformations if in_battery else test_smallest, test))
        for public in table.public():
            if table.cell(public, column) not in EXCEPTIONS:
                entries = table.entries(public) if in_battery else [public]
                assert drawn.intersection(entries)


EXCEPTIONS = ("not linear", "u, v held constant")


def names_of(test):
    """The operations that a test is parametrised with."""
    marks = {mark.args[0]: mark.args[1] for mark in test.pytestmark if mark.name == "parametrize"}
    return {getattr(each, "values", (each,))[0] for each in marks["name"]}


def test_no_cell_is_empty():
    rows = [line.split("|")[1:-1] for line in table.page().splitlines() if line.startswith("|")]
    assert all(cell.strip() for row in rows for cell in row)
    assert len({len(row) for row in rows}) == 1
