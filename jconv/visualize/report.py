"""The report of a training run: one self-contained HTML page that shows what the network learned.

The page loads nothing: style, charts and images are inside it, so it can be mailed, archived and
printed. What it shows comes in as plain data, a `Report`; parts that are left empty are left out.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jconv.summary import Summary
from jconv.visualize import sections
from jconv.visualize.chart_file import chart_style
from jconv.visualize.fields import Fields, fields
from jconv.visualize.markup import escape


@dataclasses.dataclass(frozen=True)
class WrongImage:
    """An image that the network took for something else.

    Attributes:
      image: (H, W) or (H, W, C), uint8 or any real dtype.
      true: the index of its class.
      predicted: the index of the class it was taken for.
      probability: that the network gave to `predicted`, 0..1.
    """

    image: np.ndarray
    true: int
    predicted: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Report:
    """What a report shows.

    Attributes:
      title: the heading, for example "ResNet-20 on CIFAR-10".
      headline: figures by name, as they are to be read: {"test accuracy": "98.9 %", ...}; the first
        is shown large.
      history: the rows of the metrics file; see `jconv.visualize.curves.metric_series` for their
        keys.
      classes: the names of the classes.
      confusion: counts (classes, classes) on the test set, rows true, columns predicted; None
        leaves it out.
      worst: wrong images of the test set, the most confident first; None leaves them out, an empty
        sequence says that there is none.
      filters: the kernel (R, S, C, K) of the first convolution.
      image: one image (H, W) or (H, W, C), as the data set has it.
      endpoints: the activations of the network for `image`, without their batch axis, in order. A
        last one named "logits" with one number per class is shown as probabilities.
      fields: what the network sees.
      summary: the layers of the network.
      config: settings by name; nested mappings are shown with dotted names.
      versions: versions of packages, device, ... by name.
      notes: sentences, for example how to reproduce the run.
    """

    title: str
    headline: Mapping[str, str] = dataclasses.field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    classes: Sequence[str] = ()
    confusion: np.ndarray | None = None
    worst: Sequence[WrongImage] | None = None
    filters: np.ndarray | None = None
    image: np.ndarray | None = None
    endpoints: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    fields: Fields | None = None
    summary: Summary | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report(path: str | Path, report: Report) -> Path:
    """Writes the page to `path`, in UTF-8, and returns the path.

    Raises:
      ValueError: parts of the report disagree (see `render_report`).
      OSError: the file cannot be written.
    """
    path = Path(path)
    path.write_text(render_report(report), encoding="utf-8")
    return path


def render_report(report: Report) -> str:
    """The page as HTML.

    Raises:
      ValueError: the confusion matrix, a wrong image or the filters do not fit the classes or the
        shapes they need.
    """
    _check(report)
    parts = [
        sections.curves(report.history),
        sections.confusion(report.confusion, report.classes),
        sections.worst(report.worst, report.classes),
        sections.filters(report.filters),
        sections.through_the_network(report.image, report.endpoints, report.classes),
        fields(report.fields),
        sections.layers(report.summary),
        sections.notes(report.notes),
        sections.settings(report.config, report.versions),
    ]
    folder = importlib.resources.files("jconv.visualize")
    template = string.Template(folder.joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(report.title),
        style=chart_style() + folder.joinpath("report.css").read_text(encoding="utf-8").rstrip(),
        header=sections.header(report.title, report.headline),
        main="\n".join(filter(None, parts)),
        footer="Written by jconv. This page is complete in itself and loads nothing.",
    )


def _check(report: Report) -> None:
    classes = len(report.classes)
    if report.confusion is not None and np.shape(report.confusion) != (classes, classes):
        raise ValueError(
            f"report: the confusion matrix of {classes} classes has as many rows and columns; got "
            f"{np.shape(report.confusion)}"
        )
    for number, wrong in enumerate(report.worst or ()):
        for name, label in {"true": wrong.true, "predicted": wrong.predicted}.items():
            if not 0 <= label < classes:
                raise ValueError(
                    f"report: labels of {classes} classes lie in 0..{classes - 1}; got "
                    f"{name}={label} in worst[{number}]"
                )
