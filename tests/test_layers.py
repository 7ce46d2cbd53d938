"""Who may import whom: the table of the contributor guide, read off every module's source."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ANYTHING = "*"


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclasses.dataclass(frozen=True)
class Row:
    """What a layer may import beside itself and the standard library.

    `outside` are packages of others, `inside` parts of jconv; `lazily` may be either, but only
    inside a function.
    """

    outside: str = ""
    inside: str = ""
    lazily: str = ""

    def allows(self, name: str, lazy: bool) -> bool:
        """`name` is a package of others, or "jconv.<part>"."""
        allowed = names(self.outside) | {f"jconv.{part}" for part in names(self.inside)}
        allowed |= names(self.lazily) if lazy else frozenset()
        every = "jconv.*" if name.split(".")[0] == "jconv" else ANYTHING
        return name in allowed or every in allowed


# Flax stands on JAX, so whatever may import flax may import jax too.
TABLE = {
    "jconv/window.py": Row(),
    "jconv/aligned.py": Row(),
    "jconv/allocator.py": Row(),
    "jconv/folders.py": Row(),
    "jconv/timing.py": Row("jax numpy"),
    "jconv/core": Row("jax numpy", "", lazily="jconv_kernels"),
    "jconv/algorithms": Row("jax", "window"),
    "jconv/ops": Row("jax numpy", "window core algorithms"),
    "jconv/lax.py": Row("jax", "ops window"),
    "jconv/losses.py": Row("", "ops"),
    "jconv/nn": Row("flax jax", "ops window"),
    "jconv/models": Row("flax jax", "ops nn"),
    "jconv/data": Row("jax numpy grain", "folders", lazily="PIL sklearn rich"),
    "jconv/training": Row("flax jax numpy optax orbax", lazily="rich"),
    "jconv/receptive_field": Row("jax numpy", "aligned window ops core"),
    "jconv/explain": Row("jax numpy", "window ops"),
    "jconv/detection": Row("jax numpy", "window ops"),
    "jconv/visualize": Row("jax numpy", "window ops summary", lazily="PIL"),
    "jconv/convert": Row("numpy flax jax", "nn models"),
    "jconv/bench/torch_ops.py": Row("torch"),
    "jconv/bench": Row("jax flax numpy", "window core ops timing", lazily="jconv_kernels rich"),
    "jconv/tuning": Row("jax numpy", "core timing folders window"),
    "jconv/summary": Row("jax flax numpy", "aligned window ops receptive_field"),
    "jconv/runs": Row(
        "jax flax numpy", "core data models training receptive_field summary visualize"
    ),
    "jconv/cli": Row("jax flax tyro rich", "*"),
    "jconv/__init__.py": Row("", "*"),
    "jconv/__main__.py": Row("", "cli"),
    "kernels/__init__.py": Row(),
    "kernels/shapes.py": Row("jax numpy"),
    "kernels/tangent.py": Row("jax numpy"),
    "kernels/triton": Row("jax triton numpy kernels", lazily="jax_triton"),
    "kernels/onednn/build.py": Row("setuptools"),
    "kernels/onednn": Row("jax numpy kernels"),
    "experiments": Row("*", "*"),
    "tests/oracles": Row("numpy"),
}
ONLY_SHIM = "kernels/triton/launch.py"  # The one module that knows jax_triton.
UNSAFE = names("pickle cPickle _pickle dill cloudpickle joblib shelve marshal")
HEAVY = names("grain orbax tyro rich PIL matplotlib sklearn optax jconv_kernels triton")


@dataclasses.dataclass(frozen=True)
class Import:
    name: str  # the package, or "jconv.<part>"
    line: int
    lazy: bool


def imports(tree: ast.AST, package: tuple[str, ...]) -> list[Import]:
    """All imports of a module in `package`, those inside functions too; TYPE_CHECKING blocks count
    as any other.
    """
    found = []

    def visit(node, lazy):
        for child in ast.iter_child_nodes(node):
            modules = []
            if isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else ()
                module = ".".join([*base, *([child.module] if child.module else [])])
                single = module in ("jconv", "tests")  # `from jconv import window`
                modules = [f"{module}.{a.name}" for a in child.names] if single else [module]
            elif _import_by_name(child):
                modules = [_import_by_name(child)]
            found.extend(Import(_top(module), child.lineno, lazy) for module in modules)
            visit(child, lazy or isinstance(child, ast.FunctionDef | ast.Lambda))

    visit(tree, False)
    return found


def _import_by_name(node) -> str | None:
    """The module in `importlib.import_module("name")` or `__import__("name")`."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    called = (
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    )
    return node.args[0].value if called in ("import_module", "__import__") else None


def _top(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2] if parts[0] in ("jconv", "tests") else parts[:1])


def modules(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if path.is_file())


def layer_of(path: Path) -> str | None:
    """The row of the table that a module belongs to, None if there is none."""
    relative = path.relative_to(ROOT).as_posix()
    return next((row for row in TABLE if relative == row or relative.startswith(f"{row}/")), None)


def checked() -> list[Path]:
    return [
        path
        for name in ("jconv", "kernels", "experiments", "tests/oracles")
        for path in modules(name)
    ]


def parsed(path: Path) -> tuple[ast.Module, list[Import]]:
    tree = ast.parse(path.read_text())
    return tree, imports(tree, path.relative_to(ROOT).parent.parts)


def violations(path: Path) -> list[str]:
    """Every import that the module's row does not allow, as "path:line: what"."""
    layer = layer_of(path)
    own = ".".join(Path(layer).with_suffix("").parts[:2])
    row, relative = TABLE[layer], path.relative_to(ROOT).as_posix()
    wrong = []
    for item in parsed(path)[1]:
        free = item.name == own or item.name in sys.stdlib_module_names
        if free or (row.allows(item.name, item.lazy) and _shim(item.name, relative)):
            continue
        wrong.append(f"{relative}:{item.line}: {layer} may not import {item.name}")
    return wrong


def _shim(name: str, relative: str) -> bool:
    return name != "jax_triton" or relative == ONLY_SHIM


def test_every_module_has_a_row():
    missing = [path.relative_to(ROOT).as_posix() for path in checked() if layer_of(path) is None]
    assert not missing, f"add a row to the table of layers for {missing}"


def test_imports_follow_the_table():
    wrong = [line for path in checked() if layer_of(path) for line in violations(path)]
    assert not wrong, "\n".join(wrong)


def test_nothing_unpickles():
    everything = checked() + [path for path in modules("tests") if path != Path(__file__)]
    wrong = []
    for path in everything:
        tree, found = parsed(path)
        wrong += [f"{path}:{item.line}: {item.name}" for item in found if item.name in UNSAFE]
        wrong += [
            f"{path}:{node.lineno}: allow_pickle"
            for node in ast.walk(tree)
            if isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and not (isinstance(node.value, ast.Constant) and node.value.value is False)
        ]
    assert not wrong, "\n".join(wrong)


def test_experiments_are_imported_by_nobody():
    outside = [path for path in checked() if layer_of(path) != "experiments"]
    wrong = [path for path in outside for item in parsed(path)[1] if item.name == "experiments"]
    assert not wrong


def test_core_knows_no_operation():
    """core/ works on any table: no name of an operation occurs in its code."""
    operations = names("conv conv_transpose conv_input_grad max_pool avg_pool batch_norm Window")
    wrong = []
    for path in modules("jconv/core"):
        for node in ast.walk(ast.parse(path.read_text())):
            word = getattr(node, "id", None) or getattr(node, "attr", None)
            word = node.value if isinstance(node, ast.Constant) else word
            if isinstance(word, str) and word in operations:
                wrong.append(f"{path}:{node.lineno}: {word}")
    assert not wrong, "\n".join(wrong)


def test_modules_of_nn_do_no_arithmetic_on_windows():
    """nn/ holds parameters: convolutions, windows and means are computed in ops/ alone."""
    forbidden = names("conv conv_general_dilated conv_transpose reduce_window mean var")
    wrong = []
    for path in modules("jconv/nn"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            module = ast.unparse(node.func.value)
            if node.func.attr in forbidden and module.split(".")[-1] in (
                "lax",
                "jnp",
                "numpy",
                "nn",
            ):
                wrong.append(f"{path}:{node.lineno}: {module}.{node.func.attr}")
    assert not wrong, "\n".join(wrong)


def test_import_of_jconv_is_light():
    """`import jconv` needs JAX and Flax; data pipelines, checkpoints, plots and kernels come when
    they are used.
    """
    program = f"import sys, jconv; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # Flax itself imports these.
    by_flax = subprocess.run(
        [sys.executable, "-c", program.replace("jconv;", "flax.nnx;")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(result.stdout.split()) <= set(by_flax.stdout.split())


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("jconv/window.py", "import numpy", "numpy"),
        ("jconv/ops/conv.py", "import flax", "flax"),
        ("jconv/ops/conv.py", "def f():\n    import jconv_kernels", "jconv_kernels"),
        ("jconv/core/dispatch.py", "import jconv_kernels", "jconv_kernels"),
        ("jconv/core/dispatch.py", "from ..ops import conv", "jconv.ops"),
        ("jconv/core/dispatch.py", "from jconv import ops", "jconv.ops"),
        ("jconv/models/resnet.py", "import jconv.data.load", "jconv.data"),
        ("jconv/models/resnet.py", "import importlib\nimportlib.import_module('grain')", "grain"),
        ("kernels/triton/depthwise.py", "def f():\n    import jax_triton", "jax_triton"),
        ("kernels/triton/launch.py", "import jax_triton", "jax_triton"),
        ("kernels/onednn/conv.py", "from jconv.window import Window", "jconv.window"),
        ("tests/oracles/conv.py", "import jconv", "jconv"),
        ("tests/oracles/conv.py", "import jax", "jax"),
        ("tests/oracles/conv.py", "from tests.tolerance import assert_close", "tests.tolerance"),
    ],
)  # fmt: skip
def test_the_check_finds(path, source, found, tmp_path, monkeypatch):
    """Each rule, broken on purpose."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / path
    module.parent.mkdir(parents=True)
    module.write_text(source)
    (message,) = violations(module)
    assert message.endswith(f"may not import {found}")
