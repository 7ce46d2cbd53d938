"""The commands: dataclasses whose fields are arguments; `run` prints what a function returns."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from flax import nnx
from tyro.conf import Positional

import jconv
from jconv import models, runs
from jconv.cli.bench import Bench
from jconv.receptive_field import table
from jconv.summary import receptive_fields, summarize
from jconv.training import DamagedCheckpoint, Interrupted, NonFiniteLoss

FIGURES = "receptive_field"  # the folder of figures, in that of a run or in the present one
MENDABLE = (ValueError, OSError, NonFiniteLoss, DamagedCheckpoint, ImportError)


@dataclasses.dataclass(frozen=True)
class Train(runs.TrainConfig):
    """Train a network; leaves checkpoints, metrics and report.html in a folder below runs/.

    Options that are not given take the values that suit the data set.
    """

    data: Positional[str] = "digits"
    resume: str | None = None
    """Folder of a stopped run: goes on from its newest checkpoint, with the options it had."""

    def run(self) -> None:
        """Trains, and says where the report lies."""
        fields = dataclasses.fields(runs.TrainConfig)
        if self.resume is not None:
            changed = [f.name for f in fields if getattr(self, f.name) != f.default]
            if changed not in ([], ["data_dir"]):
                raise ValueError(
                    "train: a run that is resumed keeps its own options, only data_dir may be "
                    f"given; got {', '.join(changed)}"
                )
            result = runs.resume_run(self.resume, data_dir=self.data_dir, log=say)
        else:
            config = runs.TrainConfig(**{f.name: getattr(self, f.name) for f in fields})
            result = runs.train(config, log=say)
        say(f"test accuracy {result.test.accuracy:.2%} after {result.seconds:.1f} s of training")
        say(f"report: {result.report}")


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a run's newest weights on the test images of its data set."""

    run_dir: Positional[str]
    """The run's folder."""
    data_dir: str | None = None
    """Where the data set's files lie, if not where the run found them."""

    def run(self) -> None:
        """Prints accuracy and loss."""
        result = runs.evaluate(self.run_dir, data_dir=self.data_dir)
        mention_steps(self.run_dir)
        wrong = len(result.probabilities) - int(result.confusion.trace())
        say(
            f"test accuracy {result.accuracy:.2%} ({wrong} of {len(result.probabilities):,} "
            "images wrong)"
        )
        say(f"test loss     {result.loss:.4f} nats")


@dataclasses.dataclass(frozen=True)
class Predict:
    """Classify image files with a run's newest weights."""

    run_dir: Positional[str]
    """The run's folder."""
    images: Positional[tuple[str, ...]]
    """Image files: JPEG, PNG and what else Pillow reads."""
    top: int = 3
    """How many classes to print for each image."""

    def run(self) -> None:
        """Prints the most probable classes of each image."""
        predictions = runs.predict(self.run_dir, self.images, top=self.top)
        mention_steps(self.run_dir)
        for prediction in predictions:
            best = "  ".join(f"{name} {probability:.1%}" for name, probability in prediction.top)
            say(f"{prediction.image}: {best}")


@dataclasses.dataclass(frozen=True)
class Summarize:
    """Print a model's layers: output shapes, receptive fields, parameters, multiply-adds, bytes.

    Field and stride are in pixels of the image; a field of stride 0 does not move.
    """

    model: Positional[str]
    """A name such as resnet20; an unknown one lists them all."""
    input: str = "32,32,3"
    """H,W,C of one image: pixels, pixels, channels."""
    classes: int = 10
    """Number of classes."""
    depth: int | None = None
    """Layers nested deeper are counted with the layer around them."""
    fields: bool = True
    """The columns of receptive fields."""

    def run(self) -> None:
        """Prints the table."""
        shape = _input_shape("summary", self.input)
        model, x = _abstract(self.model, shape, self.classes)
        say(str(summarize(model, x, depth=self.depth, fields=self.fields)))


@dataclasses.dataclass(frozen=True)
class Fields:
    """Print what the pixels of a model's endpoints see of the image, and draw it.

    Size is from the first to the last pixel, padding how far pixel 0 reaches beyond the image,
    centre the middle of what it sees; stride is from one pixel to the next; all in pixels of the
    image. Figures: how fields grow with depth, how much each pixel moves an output, and the field
    of one unit on an image.
    """

    model: Positional[str]
    """A name such as resnet50, which gets random weights, or the folder of a run, which has its
    own; an unknown name lists them all."""
    input: str | None = None
    """H,W,C of one image: pixels, pixels, channels; 224,224,3 by default. A run has its own."""
    figures: bool = True
    """Draw; otherwise there is the table alone, and no weights are made."""
    out: str | None = None
    """Folder for report.html and the figures; by default receptive_field/MODEL, or receptive_field
    in the folder of the run."""
    image: str | None = None
    """An image file to look at, instead of noise, or of a run's test images."""
    endpoint: str | None = None
    """Whose unit is drawn on the image; by default the last one that has pixels."""
    unit: tuple[int, int] | None = None
    """Row and column of that unit; by default the one in the middle."""
    examples: int | None = None
    """How many inputs are looked at; by default 8 of noise, 32 test images."""
    seed: int = 0
    """Of random weights and noise."""
    data_dir: str | None = None
    """Where a run's data set lies, if not where the run found it."""

    def run(self) -> None:
        """Prints the table, and where the figures are."""
        is_run = self.model not in models.MODELS and Path(self.model).is_dir()
        if is_run:
            name, shape = _of_run(self.model, self.input)
        else:
            given = "224,224,3" if self.input is None else self.input
            name, shape = self.model, _input_shape("receptive-field", given)
        model, x = _abstract(name, shape, classes=10)
        say(table(receptive_fields(model, x)))
        if not self.figures:
            return
        options: dict[str, Any] = {
            "image": self.image, "endpoint": self.endpoint, "unit": self.unit,
        }  # fmt: skip
        if self.examples is not None:
            options["examples"] = self.examples
        if is_run:
            found = runs.fields_of_run(self.model, data_dir=self.data_dir, **options)
            mention_steps(self.model)
        else:
            found = runs.fields_of_model(name, input_shape=shape, seed=self.seed, **options)
        usual = Path(self.model, FIGURES) if is_run else Path(FIGURES, name)
        page = runs.write_fields(self.out or usual, found, title=f"Receptive fields of {name}")
        say(f"figures: {page}")


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Summarize, tyro.conf.subcommand("summary")]
    | Annotated[Fields, tyro.conf.subcommand("receptive-field")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
)


def say(line: str) -> None:
    """Prints a line at once. Where nobody reads any more (`| head`), the work goes on unheard."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def mention_steps(run_dir: str) -> None:
    """Says on standard error how far a run had come whose weights are not the last ones."""
    run = runs.Run.load(run_dir)
    if (reached := run.reached()) != run.steps:
        print(f"jconv: the newest weights are of step {reached} of {run.steps}", file=sys.stderr)


HELP = f"{jconv.__doc__}\n\n`jconv --version` prints the versions that a report of a bug needs."


def run(arguments: Sequence[str]) -> int:
    """Runs one command: exit code 0, 2 for what the user can mend, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know ASCII alone
    command = tyro.cli(Command, args=arguments, prog="jconv", description=HELP)
    try:
        command.run()
    except Interrupted as stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a late second Ctrl-C has nothing to stop
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\njconv: stopped", file=sys.stderr)
        return 130
    except MENDABLE as error:
        print(f"jconv: {error}", file=sys.stderr)
        return 2
    return 0


def _abstract(name: str, shape: tuple[int, int, int], classes: int) -> tuple[Any, Any]:
    """A model without weights, as it predicts, and one image: nothing is computed with them."""
    make = functools.partial(models.make, classes=classes, input_shape=shape)
    model = nnx.eval_shape(lambda: make(name, rngs=nnx.Rngs(0)))
    model.eval()
    return model, jax.ShapeDtypeStruct((1, *shape), "float32")


def _of_run(folder: str, given: str | None) -> tuple[str, tuple[int, int, int]]:
    """The model of a run, and the shape of its images."""
    run = runs.Run.load(folder)
    if given is not None:
        raise ValueError(
            f"receptive-field: a run has its own images, {run.input_shape}; got input {given!r}"
        )
    assert run.config.model is not None
    return run.config.model, run.input_shape


def _input_shape(command: str, text: str) -> tuple[int, int, int]:
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,6}\s*", p) for p in parts):
        raise ValueError(
            f"{command}: input must be H,W,C, three positive whole numbers such as 32,32,3; got "
            f"{text[:100]!r}"
        )
    height, width, channels = map(int, parts)
    return height, width, channels
