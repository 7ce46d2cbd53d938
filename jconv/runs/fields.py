"""What a model or a run sees: its receptive fields, measured on images, as a page and as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from jconv import models
from jconv.data import Datasets
from jconv.data.augment import normalize
from jconv.runs.field_study import measured_fields
from jconv.runs.inference import read_image
from jconv.runs.run import Run
from jconv.visualize import Fields, Report, field_files, write_report

NOISE = 8  # random inputs of a network that is not trained
TEST_IMAGES = 32  # of a trained one


def fields_of_model(
    name: str,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 10,
    seed: int = 0,
    examples: int = NOISE,
    image: str | Path | None = None,
    endpoint: str | None = None,
    unit: Sequence[int] | None = None,
) -> Fields:
    """The fields of a model with random weights, in evaluation mode.

    Args:
      name: in `jconv.models.MODELS`.
      input_shape: (H, W, C) of an image.
      seed: of weights and noise.
      examples: so many images of noise are looked at.
      image: a file that is looked at instead.
      endpoint, unit: the unit that is shown on an image; by default the one in the middle of the
        last endpoint that has pixels.

    Raises:
      ValueError: no such model, endpoint or unit, images too small for it, an unreadable file, or
        no examples.
      FileNotFoundError: there is no such file.
    """
    _check_examples(examples)
    rngs = nnx.Rngs(seed)
    model = models.make(name, classes=classes, input_shape=input_shape, rngs=rngs)
    model.eval()
    if image is None:
        x = np.asarray(jax.random.normal(jax.random.key(seed), (examples, *input_shape)))
        shown, measured = x[0], f"images of noise ({examples})"
    else:
        shown = read_image(image, input_shape, name)
        x = normalize(shown[None], [0.5] * input_shape[2], [0.25] * input_shape[2])
        measured = Path(image).name
    return measured_fields(model, x, shown, measured, endpoint=endpoint, unit=unit)


def fields_of_run(
    run_dir: str | Path,
    *,
    datasets: Datasets | None = None,
    data_dir: str | Path | None = None,
    examples: int = TEST_IMAGES,
    image: str | Path | None = None,
    endpoint: str | None = None,
    unit: Sequence[int] | None = None,
) -> Fields:
    """The fields of a run's network with its newest weights, on its first test images.

    Args:
      datasets, data_dir: as in `evaluate`; not needed where there is an `image`.
      examples, image, endpoint, unit: as in `fields_of_model`.

    Raises:
      ValueError: no run, no checkpoint, other images than it was started on, or as
        `fields_of_model`.
      FileNotFoundError: the data set's files are absent.
      DamagedCheckpoint: the checkpoint's content is not what was saved.
    """
    _check_examples(examples)
    run = Run.load(run_dir)
    if image is not None:
        images, measured = read_image(image, run.input_shape, run_dir)[None], Path(image).name
    else:
        if datasets is None:
            run.check_images(datasets := run.datasets(data_dir))
        run.check_test(datasets.test)
        images = datasets.test.images[np.arange(min(examples, len(datasets.test)))]
        measured = f"test images ({len(images)})"
    x = run.prepare(images)
    return measured_fields(run.trained(), x, images[0], measured, endpoint=endpoint, unit=unit)


def write_fields(folder: str | Path, fields: Fields, *, title: str) -> Path:
    """Writes report.html and the same as image files into a folder, and returns the page's path.

    Raises:
      OSError: they cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in field_files(fields).items():
        (folder / name).write_bytes(content)
    return write_report(folder / "report.html", Report(title=title, fields=fields))


def _check_examples(examples: int) -> None:
    if examples < 1:
        raise ValueError(f"receptive-field: examples must be at least 1; got {examples}")
