"""The sections of a report, functions of their data; without data a section is the empty string."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jconv.summary import Summary
from jconv.summary.table import NUMBERS
from jconv.visualize.confusion import confusion_svg, most_confused, precision, recall
from jconv.visualize.curves import learning_curves, not_finite
from jconv.visualize.elements import NUMBER, bar, enlarged, percent, picture, section, table
from jconv.visualize.evenly import evenly
from jconv.visualize.feature_maps import feature_maps
from jconv.visualize.filters import filter_grid
from jconv.visualize.markup import bdi, escape, isolated

if TYPE_CHECKING:
    from jconv.visualize.report import WrongImage

MATRIX_CLASSES = 40  # beyond, the cells are too small to read
SHOWN_ENDPOINTS = 12
SHOWN_WRONG = 48
LONGEST_NAME = 40  # characters of a class where it stands beside others


def header(title: str, headline: Mapping[str, str]) -> str:
    """The heading of the page, and the figures of `headline` by their names, as they are given."""
    figures = "".join(
        f"<div><dt>{bdi(name)}</dt><dd>{bdi(value)}</dd></div>" for name, value in headline.items()
    )
    return f"<h1>{bdi(title)}</h1>" + (f'<dl class="headline">{figures}</dl>' if figures else "")


def notes(texts: Sequence[str]) -> str:
    """Sentences as a list."""
    items = "".join(f"<li>{bdi(text)}</li>" for text in texts)
    return section("notes", "Notes", "", f'<ul class="notes">{items}</ul>') if items else ""


def curves(history: Sequence[Mapping[str, Any]]) -> str:
    """A chart for each metric of the rows, as `metric_series` reads them, and the names of those
    with values that are not finite."""
    if not history:
        return ""
    figures = "".join(
        f"<figure><figcaption>{bdi(metric.replace('_', ' '))}</figcaption>{svg}</figure>"
        for metric, svg in learning_curves(history).items()
    )
    broken = ", ".join(
        f"{bdi(key)} ({count} of {len(history)} rows)" for key, count in not_finite(history).items()
    )
    warning = (
        f'<p class="aside">Not a number or infinite, and so not drawn: {broken}.</p>'
        if broken
        else ""
    )
    lead = "Point at a curve to read its values." if figures else "No metric has a finite value."
    return section("curves", "Learning curves", lead, f'<div class="grid">{figures}</div>{warning}')


def confusion(counts: np.ndarray | None, classes: Sequence[str]) -> str:
    """The confusion matrix (classes, classes) of image counts, rows true, columns predicted, as a
    drawing up to 40 classes; its largest errors, and every class in numbers."""
    if counts is None:
        return ""
    counts = np.asarray(counts)
    total, right = int(counts.sum()), int(np.trace(counts))
    lead = f"{right:,} of {total:,} test images recognised." if total else "No test images."
    small = len(classes) <= MATRIX_CLASSES
    pairs = _confused_pairs(counts, classes, 10 if small else 30)
    if small:
        lead += " Each row is a class, each column what its images were taken for."
        drawing = f'<div class="scroll">{confusion_svg(counts, classes)}</div>'
        body = f'<div class="split">{drawing}<div class="pairs">{pairs}</div></div>'
    else:
        lead += (
            f" A matrix of {len(classes):,} classes can't be read: these are its largest errors."
        )
        body = f'<div class="scroll">{pairs}</div>'
    return section("confusion", "Confusion", lead, body + _per_class(counts, classes))


def _confused_pairs(counts: np.ndarray, classes: Sequence[str], limit: int) -> str:
    pairs = most_confused(counts, limit)
    if not pairs:
        return '<p class="aside">No class was taken for another.</p>'
    rows = (
        [classes[pair.true], classes[pair.predicted], f"{pair.images:,}", percent(pair.share)]
        for pair in pairs
    )
    headers = ["is", "taken for", "images", "of its class"]
    return table("Most confused", headers, rows, numbers=2, longest=LONGEST_NAME)


def _per_class(counts: np.ndarray, classes: Sequence[str]) -> str:
    rows = (
        [name, f"{int(total):,}", percent(r), percent(p)]
        for name, total, r, p in zip(
            classes, counts.sum(axis=1), recall(counts), precision(counts), strict=True
        )
    )
    headers = ["class", "images", "recognised (recall)", "right when predicted (precision)"]
    numbers = f'<div class="scroll">{table("", headers, rows, numbers=3)}</div>'
    return f"<details><summary>Every class in numbers</summary>{numbers}</details>"


def worst(images: Sequence[WrongImage] | None, classes: Sequence[str]) -> str:
    """The first 48 of the wrong images, each with the class it was taken for, how surely in per
    cent, and the class it is of."""
    title = "Most confidently wrong"
    if images is None:
        return ""
    if not images:
        return section("worst", title, "None: every test image is right.", "")
    figures = "".join(_wrong(wrong, classes) for wrong in images[:SHOWN_WRONG])
    lead = "Test images that the network took for something else, the surest mistakes first."
    return section("worst", title, lead, f'<div class="worst">{figures}</div>')


def _wrong(wrong: WrongImage, classes: Sequence[str]) -> str:
    true, predicted = classes[wrong.true], classes[wrong.predicted]
    alt = f"{isolated(true)}, taken for {isolated(predicted)}"
    shown = picture(enlarged(wrong.image), alt)
    said = f"<strong>{bdi(predicted, LONGEST_NAME)}</strong> {escape(percent(wrong.probability))}"
    caption = f"<figcaption>{said}<br>is <em>{bdi(true, LONGEST_NAME)}</em></figcaption>"
    return f"<figure>{shown}{caption}</figure>"


def filters(kernel: np.ndarray | None) -> str:
    """The filters of a kernel (R, S, C, K) as a grid of K small images.

    Raises:
      ValueError: `kernel` has not four axes, or is empty.
    """
    if kernel is None:
        return ""
    kernel = np.asarray(kernel)
    in_rows = kernel.ndim == 4 and kernel.shape[2] not in (1, 3)
    grid = filter_grid(kernel, columns=None if in_rows else 16)
    rows, columns, channels, count = kernel.shape
    alt = f"{count} filters of {rows} x {columns} pixels"
    how = {1: "Middle grey is zero.", 3: "In colour, middle grey is zero."}.get(
        channels, f"The {channels} channels of a filter follow each other; middle grey is zero."
    )
    lead = f"{count} filters of {rows} × {columns}, each scaled by its own largest weight. {how}"
    body = f'<figure class="filters">{picture(grid, alt)}</figure>'
    return section("filters", "First-layer filters", lead, body)


def through_the_network(
    image: np.ndarray | None, endpoints: Mapping[str, np.ndarray], classes: Sequence[str]
) -> str:
    """One image (H, W) or (H, W, C), the feature maps (H, W, C) or (C,) of at most 12 of the named
    endpoints, and the classes of the highest of the "logits" (classes,) with their probabilities.

    Raises:
      ValueError: an endpoint or the image has another number of axes.
    """
    if image is None and not endpoints:
        return ""
    logits = np.asarray(endpoints["logits"]) if "logits" in endpoints else None
    if logits is not None and (not classes or logits.shape != (len(classes),)):
        logits = None
    names = [name for name in endpoints if logits is None or name != "logits"]
    shown = [names[i] for i in evenly(len(names), SHOWN_ENDPOINTS)]
    grids = feature_maps({name: endpoints[name] for name in shown})
    figures = "".join(_maps(name, np.shape(endpoints[name]), grid) for name, grid in grids.items())
    subject = ""
    if image is not None:
        subject = picture(enlarged(image), "The image that the network is looking at")
    if logits is not None:
        subject += _answers(logits, classes)
    lead = "Feature maps, dark where a map is at its lowest and light where it is at its highest."
    if len(shown) < len(names):
        lead += f" {len(shown)} of {len(names)} layers are shown."
    body = f'<div class="subject">{subject}</div><div class="grid">{figures}</div>'
    return section("maps", "One image through the network", lead, body)


def _maps(name: str, shape: tuple[int, ...], grid: np.ndarray) -> str:
    size = " × ".join(map(str, shape))
    caption = f"<figcaption>{bdi(name)} <span>{size}</span></figcaption>"
    shown = picture(grid, f"Feature maps of {isolated(name)}")
    return f'<figure class="maps">{caption}{shown}</figure>'


def _answers(logits: np.ndarray, classes: Sequence[str], limit: int = 5) -> str:
    if not np.isfinite(logits).all():
        return '<p class="aside">What the network says is not a number.</p>'
    odds = np.exp(np.asarray(logits, np.float64) - float(logits.max()))
    probabilities = (odds / odds.sum()).tolist()
    order = np.argsort(-odds, kind="stable")[:limit]
    rows = "".join(
        f'<tr><th scope="row">{bdi(classes[i], LONGEST_NAME)}</th>'
        f'<td class="number">{escape(percent(probabilities[i]))}{bar(probabilities[i])}</td></tr>'
        for i in order
    )
    return f"<table><caption>What the network says</caption><tbody>{rows}</tbody></table>"


def layers(summary: Summary | None) -> str:
    """The layers of a network as a table, their shares of the multiply-adds as bars."""
    if summary is None:
        return ""
    columns = summary.columns()
    heads = "".join(
        f'<th scope="col"{NUMBER if header in NUMBERS else ""}>{escape(header)}</th>'
        for header in columns
    )
    most = max([1, *(row.multiply_adds for row in summary.rows)])
    *rows, total = (
        dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
    )
    body = "".join(
        _cells(cells, part=row.multiply_adds / most)
        for cells, row in zip(rows, summary.rows, strict=True)
    )
    foot = _cells(total, part=0.0)
    inputs = ", ".join(" × ".join(map(str, shape)) for shape in summary.inputs)
    lead = (
        f"{isolated(summary.name)} on an input of {inputs}. A multiply-add is two floating-point "
        "operations."
    )
    if "field" in columns:
        lead += (
            " Field and stride are the theoretical receptive field of each output and how far it "
            "moves from one to the next, in pixels of the image; where the stride is 0 it does not "
            "move."
        )
    table = (
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody><tfoot>{foot}</tfoot></table>"
    )
    return section("layers", "Layers", lead, f'<div class="scroll layers">{table}</div>')


def _cells(texts: Mapping[str, str], part: float) -> str:
    """A row of the layer table, texts by column; `part` of the most multiply-adds is drawn as a bar
    beside their number."""
    first, *others = texts
    cells = [f'<th scope="row" class="code">{bdi(texts[first])}</th>']
    for header in others:
        text = bdi(texts[header]) if header in ("type", "remarks") else escape(texts[header])
        text += bar(part) if header == "multiply-adds" else ""
        cells.append(f"<td{NUMBER if header in NUMBERS else ''}>{text}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def settings(config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Settings and versions as two tables of names and values; nested names are joined by dots."""
    tables = [
        f'<div class="scroll">{table(title, ["name", "value"], rows, numbers=0)}</div>'
        for title, rows in {
            "Configuration": list(_flat(config)),
            "Versions": list(_flat(versions)),
        }.items()
        if rows
    ]
    if not tables:
        return ""
    lead = "What this run was made with."
    return section(
        "settings", "Configuration and versions", lead, f'<div class="grid">{"".join(tables)}</div>'
    )


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
