"""A run: the folder that training leaves, and what it takes to go on with it or use it.

RUN/config.json      the configuration, the classes, how images are prepared, and versions; with a
                     hash of itself, and locked by the process that trains
RUN/metrics.jsonl    see `jconv.training.MetricsFile`
RUN/checkpoints/     see `jconv.training.Checkpoints`
RUN/report.html      see `jconv.visualize`
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jconv import models
from jconv.core.versions import versions
from jconv.data import DATASETS, Dataset, Datasets, Statistics, load
from jconv.data.augment import (
    Augmentation,
    compose,
    cutout,
    normalize,
    random_crop,
    random_flip,
    random_shift,
)
from jconv.runs.config import TrainConfig
from jconv.training import Checkpoints, TrainState
from jconv.training.manifest import json_sha256

try:
    import fcntl
except ImportError:  # Windows has no such locks: there nothing keeps two processes apart
    fcntl = None


@dataclasses.dataclass(frozen=True)
class Run:
    """What defines a run, apart from its data and its weights.

    Attributes:
      folder: where it is kept.
      config: with nothing left to choose.
      steps: optimizer steps in all.
      classes: the names of the classes.
      input_shape: (H, W, C) of the images.
      statistics: mean and standard deviation of each channel, with which images are normalised.
      versions: of the software that started the run, and the device.
      train_images, test_images: the fingerprints of both data sets (`Dataset.fingerprint`).
      given: whether the images were given to `train`, instead of being those that `config` names.
    """

    folder: Path
    config: TrainConfig
    steps: int
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    statistics: Statistics
    versions: dict[str, str]
    train_images: str
    test_images: str
    given: bool = False

    @classmethod
    def of(
        cls,
        folder: Path,
        config: TrainConfig,
        datasets: Datasets,
        statistics: Statistics,
        *,
        given: bool = False,
    ) -> Run:
        """The run of a resolved `config` on `datasets`; a batch larger than all training images
        becomes as large as they and the devices allow."""
        assert config.batch_size is not None
        assert config.epochs is not None
        size, devices, train = config.batch_size, jax.local_device_count(), datasets.train
        if size > len(train):
            size = max(len(train) // devices, 1) * devices
        steps = len(train) // size * config.epochs
        log_every = min(config.log_every, max(steps // 5, 1))  # a short run has rows too
        config = dataclasses.replace(config, batch_size=size, log_every=log_every)
        return cls(
            folder=folder,
            config=config,
            steps=steps,
            classes=train.classes,
            input_shape=train.image_shape,
            statistics=statistics,
            versions=versions(),
            train_images=train.fingerprint(),
            test_images=datasets.test.fingerprint(),
            given=given,
        )

    def check(self) -> None:
        """Builds the model and traces the augmentation, so that a run that can't start is not kept.

        Raises:
          ValueError: an unknown model, images too small for it or for an augmentation, a batch
            that does not divide by the devices, or more steps than are counted.
        """
        size, devices = self.config.batch_size, jax.local_device_count()
        assert size is not None
        if size % devices or not self.steps:
            raise ValueError(
                f"train: batch_size must be a multiple of the {devices} devices, and not larger "
                f"than the training set; got batch_size={size}"
            )
        if self.steps >= 2**31:
            raise ValueError(
                f"train: a run has fewer than 2**31 steps; got epochs={self.config.epochs}, "
                f"{self.steps} steps"
            )
        self.model()
        images = jax.ShapeDtypeStruct((size, *self.input_shape), jnp.uint8)
        jax.eval_shape(self.augment(), jax.eval_shape(jax.random.key, 0), images)

    def save(self) -> None:
        """Writes RUN/config.json.

        Raises:
          ValueError: a run is kept there already.
        """
        values = dataclasses.asdict(self) | {"statistics": self.statistics._asdict()}
        del values["folder"]
        values = json.loads(json.dumps(values))
        text = json.dumps(values | {"sha256": json_sha256(values)}, indent=2)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with self._file.open("x", encoding="utf-8") as file:
                file.write(text + "\n")
        except FileExistsError:
            raise already_kept(self.folder) from None

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """The run kept in `folder`.

        Raises:
          ValueError: it holds no run, or its config.json is not what was saved.
        """
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise ValueError(f"{folder}: no run is kept here; expected the file {path}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            saved = values.pop("sha256")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not the configuration of a run; {error!r}") from error
        if json_sha256(values) != saved:
            raise ValueError(
                f"{path}: its content is not what was saved: it has SHA-256 {json_sha256(values)}, "
                f"expected {saved}"
            )
        tuples = {name: tuple(values[name]) for name in ("classes", "input_shape")}
        statistics = Statistics(**{k: tuple(v) for k, v in values["statistics"].items()})
        config = TrainConfig(**values["config"])
        return cls(folder, **{**values, **tuples, "statistics": statistics, "config": config})

    @property
    def _file(self) -> Path:
        return self.folder / "config.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While the run is trained: two processes would write over each other's results.

        Raises:
          ValueError: another process trains this run.
        """
        with self._file.open("r+") as file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{self.folder}: another process is training this run; wait for it, or stop it"
                ) from None
            yield

    def datasets(self, data_dir: str | Path | None = None) -> Datasets:
        """The run's data set; `data_dir` says where it lies now, if elsewhere.

        Raises:
          ValueError: the images were given to `train`, or files are damaged.
          FileNotFoundError: files are absent.
        """
        if self.given:
            raise ValueError(
                f"{self.folder}: its images were given to train() as datasets=; give them here too"
            )
        return load_data(self.config, data_dir)

    def check_test(self, test: Dataset) -> None:
        """Compares `test` with the classes and the image size that the run was started on.

        Raises:
          ValueError: they are others.
        """
        if (test.classes, test.image_shape) != (self.classes, self.input_shape):
            raise ValueError(
                f"{self.folder}: was trained on {len(self.classes)} classes of images "
                f"{self.input_shape}, (H, W, C); got {len(test.classes)} classes of images "
                f"{test.image_shape} from {test.name}"
            )

    def check_images(self, datasets: Datasets) -> None:
        """Compares `datasets` with the images that the run was started on.

        Raises:
          ValueError: they are others.
        """
        self.check_test(datasets.test)
        for part, started_on in (("train", self.train_images), ("test", self.test_images)):
            images = getattr(datasets, part)
            if images.fingerprint() != started_on:
                raise ValueError(
                    f"{self.folder}: was started on other {part} images than the {len(images):,} "
                    f"of {images.name}; give those, or start a new run"
                )

    def model(self) -> Any:
        """The untrained model, from the run's seed.

        Raises:
          ValueError: no such model, or the images are too small for it.
        """
        assert self.config.model is not None
        rngs = nnx.Rngs(self.config.seed)
        return models.make(
            self.config.model, classes=len(self.classes), input_shape=self.input_shape, rngs=rngs
        )

    def initial(self) -> tuple[nnx.GraphDef[Any], TrainState, Any]:
        """The graph of the model, the state at step 0, and the optimizer."""
        recipe = self.config.recipe()
        tx = recipe.optimizer(self.steps)
        key = jax.random.key(self.config.seed)
        graph, state = TrainState.create(
            self.model(), tx, key=key, ema=recipe.ema_decay is not None
        )
        return graph, state, tx

    def checkpoints(self, *, read_only: bool = False) -> Checkpoints:
        """The run's checkpoints, to be closed."""
        return Checkpoints(self.folder / "checkpoints", read_only=read_only)

    def reached(self) -> int:
        """The step of the newest checkpoint; 0 if there is none."""
        if not (self.folder / "checkpoints").is_dir():
            return 0
        with self.checkpoints(read_only=True) as checkpoints:
            return checkpoints.latest_step() or 0

    def prepare(self, images: Any) -> jax.Array:
        """uint8 images as the network takes them."""
        return normalize(images, *self.statistics)

    def augment(self) -> Augmentation:
        """`(key, images) -> images`: the configured augmentations, then `prepare`."""
        c = self.config
        chosen: list[Callable[..., Any]] = []
        if c.crop:
            chosen.append(functools.partial(random_crop, padding=c.crop))
        if c.shift:
            chosen.append(functools.partial(random_shift, max_pixels=c.shift))
        if c.flip:
            chosen.append(functools.partial(random_flip, probability=c.flip))
        if c.cutout:
            chosen.append(functools.partial(cutout, size=c.cutout))
        return compose(*chosen, lambda key, images: self.prepare(images))

    def compute_dtype(self) -> Any:
        """What `make_train_step` takes."""
        return jnp.bfloat16 if self.config.dtype == "bfloat16" else None

    def trained(self) -> Any:
        """The model with the weights of the newest checkpoint, in evaluation mode.

        Raises:
          ValueError: no checkpoint has been saved yet, or it does not fit the model.
          DamagedCheckpoint: its content is not what was saved.
        """
        if not self.reached():
            raise ValueError(f"{self.folder}: no checkpoint has been saved in this run yet")
        graph, template, _ = self.initial()
        with self.checkpoints(read_only=True) as checkpoints:
            return checkpoints.restore(template).state.model(graph)


def already_kept(folder: Path) -> ValueError:
    """The error of a run that would be written over another."""
    return ValueError(
        f"{folder}: a run is kept here already; resume it, or choose another run_dir (or remove "
        "the folder)"
    )


def load_data(config: TrainConfig, data_dir: str | Path | None = None) -> Datasets:
    """The data set that `config` names; for a folder of images `data_dir` is the folder itself.

    Raises:
      ValueError, FileNotFoundError: as `jconv.data.load`; and ValueError for a folder beside which
        the configuration has a data_dir.
    """
    if config.data in DATASETS:
        return load(config.data, data_dir=data_dir or config.data_dir, image_size=config.image_size)
    if config.data_dir and Path(config.data).is_dir():
        raise ValueError(
            "train: data_dir is where the files of a named data set lie; got "
            f"data_dir={config.data_dir} beside the folder {config.data}"
        )
    return load(str(data_dir or config.data), image_size=config.image_size)
