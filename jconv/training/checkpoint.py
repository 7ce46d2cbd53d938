"""Checkpoints: the state of a run on disk, and the proof that it came back unchanged.

    DIR/<step>/state      the arrays, written by Orbax in the background
    DIR/<step>/extra      JSON: position in the data, and what the training loop wants to know
    DIR/<step>/manifest   JSON: type and SHA-256 of every array, and of extra

A checkpoint appears under its name only when it is complete, so a run may be killed at any time:
the newest one that is listed is whole. (That holds for a killed process; a power failure may also
lose what the operating system had not written yet.) On restoring, every array is compared with the
manifest before it is used, and with the state that is to be filled: nothing is cast or reshaped.

`save` returns when the arrays are copied and hashed in host memory. They are saved whole, without
the number of devices, and go to the devices of the state that is to be filled.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jconv.training import manifest as manifests
from jconv.training.manifest import DamagedCheckpoint
from jconv.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was read and verified.

    Attributes:
      step: the steps that were done when it was saved.
      state: the state, on the devices of the template.
      batches: what the data iterator's `get_state()` gave, for its `set_state()`; None if not
        saved.
      metadata: the JSON value that was saved along.
    """

    step: int
    state: TrainState
    batches: Any
    metadata: Any


class Checkpoints:
    """The checkpoints of one run, in one directory. Close it, or use it as a context manager.

    Args:
      directory: made if it is missing.
      keep: how many of the newest to keep.
      best: name of a metric; the checkpoint with the best value of it is kept too.
      mode: whether the best value is the largest or the smallest.
      read_only: for a process that restores while another may be saving: nothing is written,
        deleted or tidied up. Otherwise one process at a time may open a run's checkpoints.

    Raises:
      ValueError: `keep` is less than 1, or `mode` is unknown.
      FileNotFoundError: there is no such directory, and it is opened to be read only.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep: int = 3,
        best: str | None = None,
        mode: Literal["max", "min"] = "max",
        read_only: bool = False,
    ) -> None:
        if keep < 1:
            raise ValueError(f"Checkpoints: keep must be 1 or more; got {keep}")
        if mode not in ("max", "min"):
            raise ValueError(f"Checkpoints: mode must be 'max' or 'min'; got {mode!r}")
        self.directory = Path(directory).absolute()
        self._best = best
        if read_only and not self.directory.is_dir():
            raise FileNotFoundError(f"Checkpoints: no such directory: {self.directory}")
        self._manager = _manager(self.directory, keep, best, mode, read_only)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the writing in progress and ends the threads."""
        self._manager.close()

    def wait(self) -> None:
        """Returns when everything saved is complete on disk; raises what went wrong there."""
        self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, oldest first."""
        self.wait()
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step of the complete checkpoint with the best metric, or None if none has one."""
        self.wait()
        return self._manager.best_step() if self._best and self._manager.all_steps() else None

    def save(
        self,
        state: TrainState,
        *,
        batches: Any = None,
        metadata: Any = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Saves `state` under its own step; writing goes on in the background.

        Checkpoints of this step and of later ones are deleted first: they are of a run that was
        taken back to an earlier checkpoint.

        Args:
          batches: the position in the data: the iterator's `get_state()`, a JSON value.
          metadata: any JSON value.
          metrics: of this state, for `best`.

        Raises:
          ValueError: `batches` or `metadata` is no JSON value, or `metrics` lacks `best`.
        """
        import orbax.checkpoint as ocp

        if metrics is not None and self._best is not None and self._best not in metrics:
            raise ValueError(f"save: metrics lack {self._best!r}; got {', '.join(metrics)}")
        extra = _as_json({"batches": batches, "metadata": metadata})
        leaves = manifests.leaves(state)
        hosts = {name: manifests.to_host(leaf) for name, leaf in leaves.items()}
        step = int(hosts["step"])
        for later in [s for s in self.steps() if s >= step]:
            self._manager.delete(later)
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(hosts),
            extra=ocp.args.JsonSave(extra),
            manifest=ocp.args.JsonSave(manifests.describe(leaves, hosts, extra)),
        )
        scores = (
            None if metrics is None or self._best is None else {self._best: metrics[self._best]}
        )
        self._manager.save(step, args=items, metrics=scores, force=True)

    def restore(self, template: TrainState, *, step: int | None = None) -> Restored:
        """The checkpoint of `step`, the newest by default, verified, in the form of `template`.

        Args:
          template: a state of the same model and optimizer, whose arrays say where the restored
            ones go; its values are not used.

        Raises:
          FileNotFoundError: there is no such checkpoint.
          DamagedCheckpoint: its content is not what was saved; the message says how to resume.
          ValueError: it has other arrays than `template`, or of other shapes or dtypes.
        """
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            what = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"restore: {what} in {self.directory}; there are steps {steps}")
        step = steps[-1] if step is None else step
        try:
            hosts, extra, manifest = self._read(step)
        except DamagedCheckpoint as damage:
            raise DamagedCheckpoint(f"{damage}. {self._way_out(step, steps)}") from damage.__cause__
        state = _fill(template, hosts, manifest, self.directory / str(step))
        return Restored(step, state, extra["batches"], extra["metadata"])

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], Any, Any]:
        """Arrays, extra and manifest of one checkpoint, all verified."""
        import orbax.checkpoint as ocp

        folder = self.directory / str(step)
        texts = ocp.args.Composite(extra=ocp.args.JsonRestore(), manifest=ocp.args.JsonRestore())
        read = manifests.parsed(folder, lambda: self._manager.restore(step, args=texts))
        extra, manifest = read["extra"], read["manifest"]
        manifests.check_texts(folder, extra, manifest)
        as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in manifest["leaves"]}
        arrays = ocp.args.Composite(state=ocp.args.PyTreeRestore(restore_args=as_numpy))
        hosts = manifests.parsed(folder, lambda: self._manager.restore(step, args=arrays))["state"]
        manifests.check_arrays(folder, hosts, manifest)
        return hosts, extra, manifest

    def _way_out(self, step: int, steps: list[int]) -> str:
        """How to resume from the newest earlier checkpoint that is whole."""
        for earlier in reversed([s for s in steps if s < step]):
            try:
                self._read(earlier)
            except DamagedCheckpoint:
                continue
            return (
                f"The checkpoint of step {earlier} is whole: to resume from it, delete "
                f"{self.directory / str(step)} or restore with step={earlier}"
            )
        return "No earlier checkpoint is whole: start anew in an empty directory"


def _manager(directory: Path, keep: int, best: str | None, mode: str, read_only: bool) -> Any:
    from orbax.checkpoint import checkpoint_managers as policies

    preserve: list[Any] = [policies.LatestN(keep)]
    score = None
    if best is not None:
        score = lambda metrics: metrics[best]  # noqa: E731
        preserve.append(
            policies.BestN(
                get_metric_fn=score,
                n=1,
                reverse=mode == "min",
                keep_checkpoints_without_metrics=False,
            )
        )
    with manifests.quiet():  # it warns that what is read only is read only
        return _opened(directory, policies.AnyPreservationPolicy(preserve), score, mode, read_only)


def _opened(directory: Path, preserve: Any, score: Any, mode: str, read_only: bool) -> Any:
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        best_fn=score,
        best_mode=mode,
        preservation_policy=preserve,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        create=not read_only,
    )
    return ocp.CheckpointManager(directory, options=options)


def _as_json(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except TypeError as error:
        raise ValueError(f"save: batches and metadata must be JSON values; {error}") from error


def _fill(template: TrainState, hosts: Any, manifest: Any, folder: Path) -> TrainState:
    leaves = manifests.leaves(template)
    expected = {name: manifests.type_of(leaf) for name, leaf in leaves.items()}
    saved = {name: entry["type"] for name, entry in manifest["leaves"].items()}
    if wrong := sorted(
        n for n in expected.keys() | saved.keys() if expected.get(n) != saved.get(n)
    ):
        listed = ", ".join(
            f"{n}: {saved.get(n, 'nothing')} saved, {expected.get(n, 'nothing')} expected"
            for n in wrong[:4]
        )
        more = f", and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(f"restore: {folder} is of another model or optimizer; got {listed}{more}")
    placed = [_place(hosts[name], leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(template), placed)


def _place(host: np.ndarray, leaf: Any) -> Any:
    """`host` as an array like `leaf`: a key if it is one, on its devices if it is bound to some."""
    array: Any = jnp.array(host)
    if manifests.is_key(leaf):
        array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
    return jax.device_put(array, leaf.sharding) if leaf.committed else array
