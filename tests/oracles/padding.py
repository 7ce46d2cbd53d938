"""The paddings of the frameworks' manuals, one axis at a time, in pixels (before, after).

* SAME: TensorFlow's manual (`tf.nn.convolution`, "Notes on padding"), whose rule reads the
  remainder of the input by the stride; XLA's manual agrees. The odd pixel goes to the end;
  SAME_LOWER (ONNX) puts it at the beginning.
* CAUSAL: van den Oord et al. 2016, arXiv:1609.03499: an output sees no later input.
"""

from __future__ import annotations


def extent(size: int, dilation: int) -> int:
    """Pixels from the first to the last tap of a filter, both counted."""
    taps = [tap * dilation for tap in range(size)]
    return taps[-1] - taps[0] + 1


def dilated(n: int, input_dilation: int) -> int:
    """Pixels of an axis after `input_dilation - 1` zeros were put between each two neighbours."""
    pixels = [i * input_dilation for i in range(n)]
    return pixels[-1] + 1 if pixels else 0


def same(n: int, size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME."""
    rest = n % stride
    total = max(extent(size, dilation) - (stride if rest == 0 else rest), 0)
    return total // 2, total - total // 2


def same_lower(n: int, size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """ONNX's SAME_LOWER: as SAME, with the odd pixel at the beginning."""
    return same(n, size, stride, dilation)[::-1]


def causal(size: int, dilation: int = 1) -> tuple[int, int]:
    """All padding before the first pixel, so that output p ends at input p."""
    return extent(size, dilation) - 1, 0


def output_size(n: int, size: int, stride: int, dilation: int, pair: tuple[int, int]) -> int:
    """Places where the filter lies wholly inside the padded input, counted one by one."""
    first, last = -pair[0], n + pair[1] - 1
    places = 0
    while first + places * stride + extent(size, dilation) - 1 <= last:
        places += 1
    return places


def pads(padding, spatial, window, *, stride, dilation, input_dilation=None):
    """(lo, hi) per axis from a word, an int, or one int or pair per axis."""
    if isinstance(padding, int):
        padding = (padding,) * len(spatial)
    if not isinstance(padding, str):
        return tuple((entry, entry) if isinstance(entry, int) else entry for entry in padding)
    input_dilation = input_dilation or (1,) * len(spatial)
    word = {
        "SAME": same,
        "SAME_LOWER": same_lower,
        "VALID": lambda n, size, stride, dilation: (0, 0),
        "CAUSAL": lambda n, size, stride, dilation: causal(size, dilation),
    }[padding]
    axes = zip(spatial, window, stride, dilation, input_dilation, strict=True)
    return tuple(word(dilated(n, e), r, s, d) for n, r, s, d, e in axes)
