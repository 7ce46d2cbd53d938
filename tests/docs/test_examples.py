"""The Python examples of the README and of the pages: each runs and prints what it says.

The blocks of a page follow one another in one namespace, as a reader types them; no page knows the
names of another. Behind a statement that prints, a comment that begins with a digit, a sign or a
bracket is what it prints, to five digits, and may end in words; any other comment is prose.
"""

import ast
import contextlib
import io
import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "```python\n" in path.read_text()
}
NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?")


def blocks(path):
    """(line of the page, source) of every Python block."""
    text = path.read_text()
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start(1)) + 1, match[1]


def statements(source):
    """(statement, comment behind it) of a block, or "" where there is no comment."""
    body = ast.parse(source).body
    starts = [node.lineno - 1 for node in body]
    lines = source.splitlines()
    for node, end in zip(body, [*starts[1:], len(lines)], strict=True):
        last = lines[node.end_lineno - 1][node.end_col_offset :]
        comments = [line.strip() for line in (last, *lines[node.end_lineno : end])]
        yield node, "\n".join(c.lstrip("#").strip() for c in comments if c.startswith("#"))


def says(comment, printed):
    """Whether the comment is prose, or begins with what was printed."""
    if not re.match(r"[-\d(\[]", comment):
        return True
    shape = [re.sub(r"\s", "", NUMBER.sub("#", text)) for text in (printed, comment)]
    ours, theirs = ([float(n) for n in NUMBER.findall(text)] for text in (printed, comment))
    return shape[1].startswith(shape[0]) and np.allclose(
        ours, theirs[: len(ours)], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("page", PAGES)
def test_runs_and_prints_what_it_says(page):
    names = {"__name__": page}
    for first, source in blocks(PAGES[page]):
        for node, comment in statements(source):
            where = f"{page}:{first + node.lineno - 1}"
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(ast.Module([node], []), where, "exec"), names)
            printed = out.getvalue().strip()
            assert not printed or says(comment, printed), f"{where} prints {printed}"


@pytest.mark.parametrize(
    ("comment", "printed", "agree"),
    [
        ("[1. 2.5]", "[1.  2.5]", True),
        ("[1. 2.5]", "[1.  2.6]", False),
        ("[1. 2.5]", "[1.  2.5 3. ]", False),
        ("6.0 6.4807405", "6.0 6.4807410", True),
        ("3.7416575, the root of 14", "3.7416575", True),
        ("(1, 10)", "(1, 11)", False),
        ("[1. 2.5]", "[1.  2.5]\n[3.]", False),
        ("[True False]", "[True True]", False),
        ("what ran, and why", "anything", True),
    ],
)
def test_a_comment_is_compared(comment, printed, agree):
    assert says(comment, printed) == agree


def test_pictures_and_pages_that_are_linked_exist():
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            assert "://" in target or (path.parent / target).exists(), f"{path}: {target}"
