"""A run: the folder that training leaves, and what it takes to go on with it or use it.

RUN/config.json      the configuration, the classes, how images are prepared, and versions
RUN/metrics.jsonl    see `jconv.training.MetricsFile`
RUN/checkpoints/     see `jconv.training.Checkpoints`
RUN/report.html      see `jconv.visualize`
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jconv import models
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
from jconv.runs.versions import versions
from jconv.training import Checkpoints, TrainState


@dataclasses.dataclass(frozen=True)
class Run:
    """What defines a run, apart from its data and its weights.

    Attributes:
      folder: where it is kept.
      config: with nothing left to choose.
      steps: optimizer steps in all.
      train_size: number of training images.
      classes: the names of the classes.
      input_shape: (H, W, C) of the images.
      statistics: mean and standard deviation of each channel, with which images are normalised.
      versions: of the software that started the run, and the device.
      given: whether the images were given to `train`, instead of being those that `config` names.
    """

    folder: Path
    config: TrainConfig
    steps: int
    train_size: int
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    statistics: Statistics
    versions: dict[str, str]
    given: bool = False

    @classmethod
    def of(
        cls,
        folder: Path,
        config: TrainConfig,
        train: Dataset,
        statistics: Statistics,
        *,
        given: bool = False,
    ) -> Run:
        """The run of a resolved `config` on the images of `train`; a batch larger than all of them
        becomes as large as they and the devices allow."""
        assert config.batch_size is not None
        assert config.epochs is not None
        size, devices = config.batch_size, jax.local_device_count()
        if size > len(train):
            size = max(len(train) // devices, 1) * devices
        steps = len(train) // size * config.epochs
        config = dataclasses.replace(config, batch_size=size)
        return cls(
            folder=folder,
            config=config,
            steps=steps,
            train_size=len(train),
            classes=train.classes,
            input_shape=train.image_shape,
            statistics=statistics,
            versions=versions(),
            given=given,
        )

    def check(self) -> None:
        """Builds the model and traces the augmentation, so that a run that can't start is not kept.

        Raises:
          ValueError: an unknown model, images too small for it or for an augmentation, or a batch
            that does not divide by the devices.
        """
        size, devices = self.config.batch_size, jax.local_device_count()
        assert size is not None
        if size % devices or not self.steps:
            raise ValueError(
                f"train: batch_size must be a multiple of the {devices} devices, and not larger "
                f"than the training set; got batch_size={size}"
            )
        self.model()
        images = jax.ShapeDtypeStruct((size, *self.input_shape), jnp.uint8)
        jax.eval_shape(self.augment(), jax.eval_shape(jax.random.key, 0), images)

    def save(self) -> None:
        """Writes RUN/config.json."""
        values = dataclasses.asdict(self)
        del values["folder"]
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(values | {"statistics": self.statistics._asdict()}, indent=2)
        (self.folder / "config.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """The run kept in `folder`.

        Raises:
          ValueError: it holds no run, or its config.json is damaged.
        """
        path = Path(folder) / "config.json"
        if not path.is_file():
            raise ValueError(f"{folder}: no run is kept here; expected the file {path}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                folder=Path(folder),
                config=TrainConfig(**values["config"]),
                steps=values["steps"],
                train_size=values["train_size"],
                classes=tuple(values["classes"]),
                input_shape=tuple(values["input_shape"]),
                statistics=Statistics(**{k: tuple(v) for k, v in values["statistics"].items()}),
                versions=values["versions"],
                given=values["given"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not the configuration of a run; {error!r}") from error

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

    def same_data(self, datasets: Datasets) -> Datasets:
        """`datasets`, if they have the classes and the image size that the run was started on.

        Raises:
          ValueError: they have others.
        """
        test = datasets.test
        if (test.classes, test.image_shape) != (self.classes, self.input_shape):
            raise ValueError(
                f"{self.folder}: was trained on {len(self.classes)} classes of images "
                f"{self.input_shape}, (H, W, C); got {len(test.classes)} classes of images "
                f"{test.image_shape} from {test.name}"
            )
        return datasets

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

    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints, to be closed."""
        return Checkpoints(self.folder / "checkpoints")

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
        graph, template, _ = self.initial()
        with self.checkpoints() as checkpoints:
            if checkpoints.latest_step() is None:
                raise ValueError(f"{self.folder}: no checkpoint has been saved in this run yet")
            return checkpoints.restore(template).state.model(graph)


def load_data(config: TrainConfig, data_dir: str | Path | None = None) -> Datasets:
    """The data set that `config` names; for a folder of images `data_dir` is the folder itself.

    Raises:
      ValueError, FileNotFoundError: as `jconv.data.load`.
    """
    if config.data in DATASETS:
        return load(config.data, data_dir=data_dir or config.data_dir, image_size=config.image_size)
    return load(str(data_dir or config.data), image_size=config.image_size)
