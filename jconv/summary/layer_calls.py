"""Which layers a model calls, in what order and nesting, and what they cost: one trace tells.

In the copy of the model that is traced, every module's `__call__` notes its output and opens a
`jax.named_scope`. JAX writes the scope into each equation, so every multiply-add finds the call
that asked for it through jit, remat and scan. The copy's modules get a subclass of their class,
with one method replaced, and know their path by an attribute, which Flax carries along wherever it
splits a module and merges it again; the original model and its classes stay as they are.

A call also gives its outputs a name (`jax.ad_checkpoint.checkpoint_name`), an equation of its own
whose result nobody takes: it marks in the program, in whatever scan or jit they are, the values
whose receptive fields are asked for.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.core import Tracer
from jax.extend.core import Jaxpr

from jconv.receptive_field import ReceptiveField
from jconv.summary.multiply_adds import walk

CALL = "jconv_call_"  # and its number: the scope of a call, and the name of what it returns
_SCOPE = re.compile(CALL + r"(\d+)")
_REPORT = "_jconv_call"  # the attribute by which a module reports its calls


@dataclasses.dataclass
class Call:
    """One call of one layer.

    Attributes:
      path: where the layer sits in the model, "" for the model itself.
      type: the name of its class.
      parent: the call from inside which it came.
      level: how deep it is nested; 0 is the model.
      output: the shapes that it returns.
      output_bytes: of the returned arrays that no other call returned before.
      multiply_adds: done by the layer itself, outside the layers it calls.
      field: what its outputs see of the image; None where that was not asked.
      calls: whether it called other layers.
    """

    path: str
    type: str
    parent: Call | None
    level: int
    output: tuple[tuple[int, ...], ...] = ()
    output_bytes: int = 0
    multiply_adds: int = 0
    field: ReceptiveField | None = None
    calls: bool = False


@dataclasses.dataclass(frozen=True)
class Variable:
    """A parameter or statistic: where it sits, whether it is trained, how many numbers and bytes it
    has."""

    path: str
    trained: bool
    size: int
    bytes: int


class CallRecorder:
    """Notes the calls of the modules it is attached to. One recorder serves one trace."""

    def __init__(self) -> None:
        self.variables: list[Variable] = []
        self._calls: dict[int, Call] = {}
        self._finished: list[int] = []
        self._active: list[Call] = []
        # The arrays themselves are kept, not only their ids: the id of a dead tracer may be given
        # to a new one.
        self._seen: dict[int, Any] = {}

    def attach(self, modules: Iterable[tuple[str, nnx.Module]]) -> None:
        """Makes all modules inside each `(path, module)` report their calls, and lists their
        variables."""
        for prefix, root in modules:
            for parts, node in nnx.iter_graph(root):
                path = ".".join([*filter(None, [prefix]), *map(str, parts)])
                if isinstance(node, nnx.Variable):
                    self._add_variable(path, node)
                elif isinstance(node, nnx.Module) and callable(node):
                    cls = type(node)
                    call = functools.partial(self.call, path, cls.__name__)
                    setattr(node, _REPORT, call)
                    object.__setattr__(node, "__class__", _reporting(cls))

    def _add_variable(self, path: str, variable: nnx.Variable) -> None:
        if isinstance(variable, nnx.RngState):
            return
        leaves = jax.tree.leaves(variable.get_value())
        size, nbytes = sum(leaf.size for leaf in leaves), _nbytes(leaves)
        self.variables.append(Variable(path, isinstance(variable, nnx.Param), size, nbytes))

    def call(self, path: str, type: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls `fn` as the layer at `path`.

        Raises:
          ValueError: the layer raised an error; the message names it, its inputs and the reason.
        """
        parent = self._active[-1] if self._active else None
        call = Call(path, type, parent, parent.level + 1 if parent else 0)
        if parent:
            parent.calls = True
        index = len(self._calls)
        self._calls[index] = call
        self._active.append(call)
        try:
            with jax.named_scope(f"{CALL}{index}"):
                result = fn(*args, **kwargs)
                for array in jax.tree.leaves(result):
                    if isinstance(array, Tracer):
                        checkpoint_name(array, f"{CALL}{index}")
        except _LayerError:
            raise
        except Exception as error:
            raise _LayerError(_complaint(call, args, kwargs, error)) from error
        finally:
            self._active.pop()
        arrays = jax.tree.leaves(result)
        call.output = tuple(array.shape for array in arrays if hasattr(array, "shape"))
        call.output_bytes = _nbytes(a for a in arrays if id(a) not in self._seen)
        self.see(arrays)
        self._finished.append(index)
        return result

    def see(self, arrays: Iterable[Any]) -> None:
        """Arrays that no layer made."""
        self._seen.update((id(array), array) for array in arrays)

    def forget_arrays(self) -> None:
        """Lets go of the tracers: caches of jit may hold on to the recorder."""
        self._seen.clear()

    def finish(self, jaxpr: Jaxpr, fields: Mapping[str, ReceptiveField]) -> list[Call]:
        """The calls in the order in which they finished, with the work that `jaxpr`, their trace,
        holds for each, and their fields by the names of what they return."""
        turns: dict[int, collections.Counter[int]] = {}
        work: collections.Counter[int] = collections.Counter()
        for done in walk(jaxpr):
            if scopes := _SCOPE.findall(done.scope):
                index = int(scopes[-1])
                turns.setdefault(index, collections.Counter())[id(done.equation)] += done.turns
                work[index] += done.turns * done.multiply_adds
        kept, paths = [], set()
        for index in self._finished:
            call = self._calls[index]
            # A scan traces its body more than once; the calls of the other traces have left no
            # equation.
            if index not in turns and call.path in paths and not call.calls:
                continue
            paths.add(call.path)
            # A call has run as often as its own equations; those of loops and of jitted functions
            # inside it may come up more often.
            call.output_bytes *= min(turns[index].values()) if index in turns else 1
            call.multiply_adds = work[index]
            call.field = fields.get(f"{CALL}{index}")
            kept.append(call)
        return kept


class _LayerError(ValueError):
    """Raised once, by the innermost layer that failed; the layers around it let it pass."""


def _complaint(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> str:
    layer = f"layer {call.path} ({call.type})" if call.path else f"{call.type} itself"
    arrays = [a for a in jax.tree.leaves((args, kwargs)) if hasattr(a, "shape")]
    got = ", ".join(f"{a.dtype} {tuple(a.shape)}" for a in arrays) or "no array"
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return f"summary: {layer} cannot take its input: {reason.rstrip('.')}; got {got}"


@functools.cache
def _reporting(cls: type[nnx.Module]) -> type[nnx.Module]:
    """The subclass of `cls` whose calls are reported; one per class, as Flax registers every class
    for good."""

    def call(self, *args, **kwargs):
        return getattr(self, _REPORT)(functools.partial(cls.__call__, self), *args, **kwargs)

    body = {"__call__": call, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    options = {"pytree": cls._pytree__is_pytree}
    return types.new_class(cls.__name__, (cls,), options, lambda namespace: namespace.update(body))


def _nbytes(arrays: Iterable[Any]) -> int:
    return sum(array.size * array.dtype.itemsize for array in arrays if hasattr(array, "dtype"))
