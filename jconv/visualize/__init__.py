"""Pictures of data, networks and training: arrays in, uint8 images, SVG and HTML out."""

from jconv.visualize.chart_file import chart_image, svg_file
from jconv.visualize.color_map import colorize
from jconv.visualize.confusion import (
    Confusion,
    confusion_matrix,
    confusion_svg,
    most_confused,
    precision,
    recall,
)
from jconv.visualize.curves import learning_curves, metric_series
from jconv.visualize.feature_maps import feature_map_grid, feature_maps
from jconv.visualize.fields import Fields, UnitOnImage, field_files
from jconv.visualize.filters import filter_grid
from jconv.visualize.image_grid import displayable, enlarge, image_grid
from jconv.visualize.line_chart import line_chart
from jconv.visualize.png import data_uri, encode_png
from jconv.visualize.receptive_field import (
    field_heat_map,
    field_heat_maps,
    field_on_image,
    field_overlay,
    growth_chart,
)
from jconv.visualize.report import Report, WrongImage, render_report, write_report

__all__ = [
    "image_grid", "displayable", "enlarge", "colorize", "encode_png", "data_uri",
    "filter_grid", "feature_map_grid", "feature_maps",
    "learning_curves", "metric_series", "line_chart", "svg_file", "chart_image",
    "field_heat_map", "field_heat_maps", "field_on_image", "field_overlay", "growth_chart",
    "Fields", "UnitOnImage", "field_files",
    "Confusion", "confusion_matrix", "confusion_svg", "most_confused", "precision", "recall",
    "Report", "WrongImage", "render_report", "write_report",
]  # fmt: skip
