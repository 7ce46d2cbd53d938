"""What a run is made of, and the values that suit each data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from jconv.data import DATASETS
from jconv.training import Recipe


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run in numbers; None takes the value that suits the data set, 0 switches off.

    Attributes:
      data: digits, mnist, fashion-mnist, cifar10, cifar100, or a folder of images by class.
      model: a name in `jconv.models.MODELS`.
      data_dir: where the data set's files lie or are downloaded to; the default is a cache folder.
      run_dir: where the run is kept; the default is a new folder below runs/.
      image_size: side in pixels to which a folder's images are scaled.
      epochs: passes over the training images.
      batch_size: images per step, over all devices.
      seed: of the parameters, the order of the images, augmentation and dropout.
      algorithm: sgd or adamw.
      learning_rate: peak of the schedule, which warms up for a twentieth of the run and ends in a
        cosine.
      weight_decay: on kernels alone, not on norms and biases.
      momentum: of sgd (with Nesterov's correction).
      label_smoothing: in 0 to 1, without 1.
      clip_norm: largest global norm of the gradient.
      ema_decay: of the average of the weights with which the run is evaluated.
      crop: pixels of padding around each image, out of which it is cut at random.
      flip: probability that an image is mirrored left to right.
      shift: most pixels by which an image is moved along each axis.
      cutout: side in pixels of the square that is blanked in each image.
      dtype: of the computation; the parameters are float32.
      log_every: steps between rows of training metrics, at most a fifth of the run.
      eval_every: epochs between evaluations, each with a checkpoint.
    """

    data: str = "digits"
    model: str | None = None
    data_dir: str | None = None
    run_dir: str | None = None
    image_size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    algorithm: Literal["sgd", "adamw"] | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    label_smoothing: float | None = None
    clip_norm: float | None = None
    ema_decay: float | None = None
    crop: int | None = None
    flip: float | None = None
    shift: int | None = None
    cutout: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    log_every: int = 20
    eval_every: int = 1

    def resolved(self) -> TrainConfig:
        """With every None that stands for the data set's own value filled in.

        Raises:
          ValueError: a value is out of its range.
        """
        named = self.data if self.data in DATASETS else "folder"
        suits = {**COMMON, **PRESETS[named]}
        missing = {name: value for name, value in suits.items() if getattr(self, name) is None}
        config = dataclasses.replace(self, **missing)
        for name in ("epochs", "batch_size", "log_every", "eval_every"):
            if getattr(config, name) < 1:
                raise ValueError(f"train: {name} must be at least 1; got {getattr(config, name)}")
        for name in ("seed", "crop", "shift", "cutout"):
            if getattr(config, name) < 0:
                raise ValueError(f"train: {name} must not be negative; got {getattr(config, name)}")
        if config.seed >= 2**32:
            raise ValueError(f"train: seed must be below 2**32; got {config.seed}")
        if not 0 <= (config.flip or 0) <= 1:
            raise ValueError(f"train: flip is a probability, 0 to 1; got {config.flip}")
        config.recipe()
        return config

    def recipe(self) -> Recipe:
        """The optimizer's part of a resolved configuration.

        Raises:
          ValueError: a value is out of its range.
        """
        names = ("algorithm", "learning_rate", "weight_decay", "momentum", "label_smoothing")
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Recipe(**values, clip_norm=self.clip_norm or None, ema_decay=self.ema_decay or None)


COMMON: Mapping[str, Any] = {
    "algorithm": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4,
    "label_smoothing": 0.0, "clip_norm": 0.0, "ema_decay": 0.0,
    "crop": 0, "flip": 0.0, "shift": 0, "cutout": 0,
}  # fmt: skip

# Measured by the scripts in experiments/, which say what each reaches and how long it takes.
# fmt: off
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "digits": {"model": "convnet", "epochs": 40, "batch_size": 64, "shift": 1},
    "mnist": {"model": "convnet", "epochs": 5, "batch_size": 128, "shift": 2},
    "fashion-mnist": {"model": "convnet", "epochs": 12, "batch_size": 128, "flip": 0.5},
    "cifar10": {
        "model": "resnet20", "epochs": 30, "batch_size": 128, "learning_rate": 0.2,
        "crop": 4, "flip": 0.5,
    },
    "cifar100": {
        "model": "resnet56", "epochs": 60, "batch_size": 128, "learning_rate": 0.2,
        "crop": 4, "flip": 0.5,
    },
    "folder": {
        "model": "convnet", "epochs": 30, "batch_size": 32, "learning_rate": 0.05,
        "crop": 4, "flip": 0.5, "label_smoothing": 0.1,
    },
}
# fmt: on
