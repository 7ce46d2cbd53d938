"""Using a run: its accuracy on the test images, and what it sees in photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jconv import data
from jconv.data import Dataset, Datasets
from jconv.data.pipeline import eval_batches
from jconv.runs.run import Run
from jconv.visualize.confusion import confusion_matrix

BATCH = 256  # images that are classified at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What a network makes of a data set.

    Attributes:
      probabilities: float32 (N, classes), in the order of the images.
      accuracy: fraction of images whose most probable class is theirs.
      loss: mean cross entropy, nats.
      confusion: int64 (classes, classes), rows true, columns predicted.
    """

    probabilities: np.ndarray
    accuracy: float
    loss: float
    confusion: np.ndarray


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network sees in one image.

    Attributes:
      image: the file.
      top: (class, probability), the most probable first.
    """

    image: Path
    top: tuple[tuple[str, float], ...]


def classify(model: Any, prepare: Callable[[Any], Any], dataset: Dataset) -> Evaluation:
    """What `model`, in evaluation mode, makes of all images of `dataset`.

    Args:
      prepare: uint8 images (N, H, W, C) to what the model takes.
    """
    log_probability = jax.jit(lambda x: jax.nn.log_softmax(model(prepare(x)).astype(jnp.float32)))
    logs = np.concatenate(
        [
            np.asarray(log_probability(batch["image"]))[batch["mask"]]
            for batch in eval_batches(dataset, min(BATCH, len(dataset)))
        ]
    )
    labels, predicted = dataset.labels, logs.argmax(-1)
    return Evaluation(
        probabilities=np.exp(logs),
        accuracy=float((predicted == labels).mean()),
        loss=float(-logs[np.arange(len(labels)), labels].mean(dtype=np.float64)),
        confusion=confusion_matrix(labels, predicted, len(dataset.classes)),
    )


def evaluate(
    run_dir: str | Path,
    *,
    datasets: Datasets | None = None,
    data_dir: str | Path | None = None,
) -> Evaluation:
    """The run's newest weights on the test images of its data set.

    Args:
      datasets: instead of those that the run was started on, with the same classes; needed where
        those were given to `train`.
      data_dir: where the files of the data set, or the folder of images, lie now.

    Raises:
      ValueError: no run, no checkpoint, or other images than the run was started on.
      FileNotFoundError: the data set's files are absent.
      DamagedCheckpoint: the checkpoint's content is not what was saved.
    """
    run = Run.load(run_dir)
    if datasets is None:
        run.check_images(datasets := run.datasets(data_dir))
    run.check_test(datasets.test)
    return classify(run.trained(), run.prepare, datasets.test)


def predict(run_dir: str | Path, images: Sequence[str | Path], *, top: int = 3) -> list[Prediction]:
    """The `top` most probable classes of each image file, by the run's newest weights.

    An image is scaled until it covers the run's input, and its centre is cut out. Networks of one
    channel see its luminance; those trained on digits expect bright strokes on black.

    Raises:
      ValueError: no run, no checkpoint, no image in a file, or top < 1.
      FileNotFoundError: a file is absent.
      DamagedCheckpoint: the checkpoint's content is not what was saved.
    """
    if top < 1:
        raise ValueError(f"predict: top must be at least 1; got {top}")
    run = Run.load(run_dir)
    paths = [Path(image) for image in images]
    if not paths:
        raise ValueError("predict: expected at least one image file; got none")
    if absent := [str(path) for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"predict: no such file: {', '.join(absent)}")
    pixels = np.stack([read_image(path, run.input_shape, run.folder) for path in paths])
    labels = np.zeros(len(paths), np.int32)
    shown = Dataset("images", pixels, labels, run.classes)
    rows = classify(run.trained(), run.prepare, shown).probabilities
    best = np.argsort(-rows, axis=-1, kind="stable")[:, :top]
    return [
        Prediction(path, tuple((run.classes[i], float(row[i])) for i in order))
        for path, row, order in zip(paths, rows, best, strict=True)
    ]


def read_image(path: str | Path, input_shape: tuple[int, int, int], name: str | Path) -> np.ndarray:
    """An image file as uint8 (H, W, C), scaled until it covers `input_shape` and cut; of one
    channel its luminance.

    Args:
      name: of the network, for the messages.

    Raises:
      ValueError: no image in the file, or a network of neither 1 nor 3 channels.
      FileNotFoundError: there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{name}: no such file: {path}")
    rgb = data.read_photo(Path(path), input_shape[:2])
    if input_shape[2] == 3:
        return rgb
    if input_shape[2] != 1:
        raise ValueError(
            f"{name}: image files have 1 or 3 channels; the network's images have {input_shape[2]}"
        )
    luminance = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    return luminance.round().astype(np.uint8)[..., None]
