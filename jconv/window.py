"""The integers of a convolution: every shape and every padding in jconv comes from this file.

Per axis, with n the input's extent and R the filter's, in pixels and taps:

    dilated input   D = (n - 1) * input_dilation + 1     zeros between the pixels; 0 when n is 0
    extent          E = dilation * (R - 1) + 1           what a dilated filter spans, in pixels
    output          P = (D + lo + hi - E) // stride + 1
    unread          u = (D + lo + hi - E) % stride       pixels at the end that no window reaches

Reference: Dumoulin & Visin 2016, "A guide to convolution arithmetic", arXiv:1603.07285.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

type Pair = tuple[int, int]
type PerAxis = int | Sequence[int]
type Padding = str | int | Sequence[int | Pair]

PADDING_WORDS = ("SAME", "SAME_LOWER", "VALID", "CAUSAL")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclasses.dataclass(frozen=True)
class Window:
    """One convolution or pooling in integers: hashable, to be a primitive's static parameter."""

    input: tuple[int, ...]  # spatial extent of x, pixels
    size: tuple[int, ...]  # spatial extent of the filter, taps
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[Pair, ...]  # (lo, hi) per axis, pixels; negative crops
    input_dilation: tuple[int, ...]
    groups: int = 1

    @classmethod
    def of(
        cls,
        input: Sequence[int],
        size: PerAxis,
        *,
        stride: PerAxis = 1,
        padding: Padding = "VALID",
        dilation: PerAxis = 1,
        input_dilation: PerAxis = 1,
        groups: int = 1,
        ceil_mode: bool = False,
        op: str = "window",
    ) -> Window:
        """The window of a call, every argument an int or one per axis.

        Args:
          padding: "SAME" | "SAME_LOWER" | "VALID" | "CAUSAL" | int | one entry per axis, each int
            or (lo, hi).
          ceil_mode: lets the last window hang over the end, if it starts inside the input or its
            left padding (PyTorch).
          op: the operation that asks, for the error messages.

        Raises:
          ValueError: an argument is no int or has the wrong length, is out of range, or the filter
            does not fit.
        """
        axes = len(input)
        size = per_axis(size, axes, "window", op)
        stride = per_axis(stride, axes, "stride", op)
        dilation = per_axis(dilation, axes, "dilation", op)
        input_dilation = per_axis(input_dilation, axes, "input_dilation", op)
        extents = tuple(_extent(r, d) for r, d in zip(size, dilation, strict=True))
        dilated = tuple(_dilated(n, d) for n, d in zip(input, input_dilation, strict=True))
        pads = resolve_padding(padding, dilated, extents, stride, op)
        if ceil_mode:
            pads = tuple(map(_ceil_pads, dilated, extents, stride, pads))
        _check_fits(op, dilated, size, extents, pads)
        return cls(tuple(input), size, stride, dilation, pads, input_dilation, groups)

    @classmethod
    def transposed(
        cls,
        output: Sequence[int],
        size: PerAxis,
        *,
        stride: PerAxis = 1,
        padding: Padding = "SAME",
        output_padding: PerAxis = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        op: str = "conv_transpose",
    ) -> Window:
        """The window of the convolution with this `output` whose adjoint is the transposed one.

        Many inputs share one output when stride > 1: "SAME" means the input of output * stride
        pixels, everything else the smallest input plus `output_padding`, as in PyTorch:
        (output - 1) * stride + extent - lo - hi + output_padding.

        Raises:
          ValueError: an argument is no int or has the wrong length, or is out of range.
        """
        axes, padding = len(output), hashable(padding)
        size = per_axis(size, axes, "window", op)
        stride = per_axis(stride, axes, "stride", op)
        dilation = per_axis(dilation, axes, "dilation", op)
        extra = per_axis(output_padding, axes, "output_padding", op, least=0)
        extents = tuple(_extent(r, d) for r, d in zip(size, dilation, strict=True))
        _check_output_padding(op, padding, output_padding, extra, stride, dilation)
        if padding in ("SAME", "SAME_LOWER"):
            input = tuple(p * s for p, s in zip(output, stride, strict=True))
            pads = resolve_padding(padding, input, extents, stride, op)
        else:
            pads = resolve_padding(padding, output, extents, stride, op)
            input = tuple(map(_smallest_input, output, extents, stride, pads, extra))
            if any(n < 1 <= p for n, p in zip(input, output, strict=True)):
                raise ValueError(
                    f"{op}: padding {pads} leaves no pixel of the output; got spatial input "
                    f"{tuple(output)}, window {size}, stride {stride}"
                )
            # An output_padding of a stride or more would be read by one more window: taken away.
            whole = tuple(more // s * s for more, s in zip(extra, stride, strict=True))
            pads = tuple((lo, hi - more) for (lo, hi), more in zip(pads, whole, strict=True))
        return cls(input, size, stride, dilation, pads, (1,) * axes, groups)

    @property
    def extent(self) -> tuple[int, ...]:
        """What the dilated filter spans, in pixels."""
        return tuple(_extent(r, d) for r, d in zip(self.size, self.dilation, strict=True))

    @property
    def dilated_input(self) -> tuple[int, ...]:
        """The input's extent with input_dilation - 1 zeros between its pixels."""
        return tuple(_dilated(n, d) for n, d in zip(self.input, self.input_dilation, strict=True))

    @property
    def output(self) -> tuple[int, ...]:
        """Spatial extent of y, pixels."""
        return tuple(
            _not_negative((n + lo + hi - e) // s + 1) for n, e, s, (lo, hi) in self._axes()
        )

    @property
    def input_grad_pads(self) -> tuple[Pair, ...]:
        """Padding of dy, dilated by the stride, whose convolution with the filter is x's size."""
        return tuple(
            (e - 1 - lo, e - 1 - hi + (n + lo + hi - e) % s) for n, e, s, (lo, hi) in self._axes()
        )

    @property
    def filter_grad_pads(self) -> tuple[Pair, ...]:
        """Padding of x whose convolution with dy, dilated by the stride, is the filter's size."""
        return tuple((lo, hi - (n + lo + hi - e) % s) for n, e, s, (lo, hi) in self._axes())

    def _axes(self) -> Iterator[tuple[int, int, int, Pair]]:
        return zip(self.dilated_input, self.extent, self.stride, self.pads, strict=True)


def per_axis(value: PerAxis, axes: int, name: str, op: str, *, least: int = 1) -> tuple[int, ...]:
    """One int per axis, from one int for all or one for each, in a sequence or an array.

    Raises:
      ValueError: `value` is no int or sequence of ints, has the wrong length, or an entry is
        smaller than `least`.
    """
    many = entries(value)
    try:
        ints = (_index(value),) * axes if many is None else tuple(map(_index, many))
    except TypeError:
        raise ValueError(f"{op}: {name} must be an int or {axes} ints; got {value!r}") from None
    if isinstance(value, str) or len(ints) != axes:
        raise ValueError(
            f"{op}: {name} must be an int or one int for each of {axes} spatial axes; got {value!r}"
        )
    if min(ints, default=least) < least:
        raise ValueError(f"{op}: {name} must be at least {least}; got {name}={value!r}")
    return ints


def whole(value: int, name: str, op: str, *, least: int = 1) -> int:
    """`value` as an int.

    Raises:
      ValueError: it is no int, or smaller than `least`.
    """
    try:
        number = _index(value)
    except TypeError:
        raise ValueError(f"{op}: {name} must be an int; got {value!r}") from None
    if number < least:
        raise ValueError(f"{op}: {name} must be at least {least}; got {name}={number}")
    return number


def resolve_padding(
    padding: Padding, input: Sequence[int], extent: Sequence[int], stride: Sequence[int], op: str
) -> tuple[Pair, ...]:
    """(lo, hi) per axis, in pixels of the (dilated) input, from any form that `padding` can take.

    Raises:
      ValueError: an unknown word, a wrong length, an entry that is no int or pair, or a negative
        one.
    """
    padding = hashable(padding)
    if isinstance(padding, str):
        _check_word(padding, op)
        return tuple(_word(padding, n, e, s) for n, e, s in zip(input, extent, stride, strict=True))
    axes = len(input)
    sides = list(padding) if isinstance(padding, Sequence) else [padding] * axes
    if len(sides) != axes:
        raise ValueError(
            f"{op}: padding must have one entry, an int or a (lo, hi) pair, for each of {axes} "
            f"spatial axes; got {padding!r}"
        )
    try:
        pads = tuple(map(_pair, sides))
    except TypeError:
        raise ValueError(
            f"{op}: each entry of padding must be an int or a (lo, hi) pair; got {padding!r}"
        ) from None
    if any(side < 0 for pair in pads for side in pair):
        raise ValueError(
            f"{op}: padding must not be negative (slice the input instead); got {padding!r}"
        )
    return pads


def hashable(value: Any) -> Any:
    """`value`, to be part of a static description: sequences and arrays as tuples, of any depth.

    The numbers of NumPy and JAX become Python's; traced ones, and everything else, stay.
    """
    if isinstance(value, str):
        return value
    if (many := entries(value)) is not None:
        return tuple(map(hashable, many))
    try:
        return value.item() if getattr(value, "ndim", None) == 0 else value
    except TypeError:  # A traced number has no value yet: who reads it says what is wrong.
        return value


def entries(value: Any) -> tuple[Any, ...] | None:
    """The entries of a sequence or of an array with axes; None for anything else."""
    return tuple(value) if isinstance(value, Sequence) or getattr(value, "ndim", 0) else None


def same(n: int, extent: int, stride: int) -> Pair:
    """Padding for ceil(n / stride) outputs, the odd pixel at the end: XLA's, TensorFlow's SAME."""
    total = max((-(-n // stride) - 1) * stride + extent - n, 0)
    return total // 2, total - total // 2


def centred(size: Sequence[int], dilation: Sequence[int]) -> tuple[Pair, ...]:
    """Half the filter on each side, whatever the stride: Flax's CIRCULAR and REFLECT."""
    return tuple(
        ((_extent(r, d) - 1) // 2, _extent(r, d) // 2) for r, d in zip(size, dilation, strict=True)
    )


def transposed_pads(
    padding: Padding, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], op: str
) -> tuple[Pair, ...]:
    """Padding of the input, dilated by the stride, in the sense of jax.lax.conv_transpose.

    "SAME" gives input * stride pixels, "VALID" (input - 1) * stride + max(extent, stride), "CAUSAL"
    input * stride; anything else is taken as it is.

    Raises:
      ValueError: as `resolve_padding`.
    """
    extents = tuple(_extent(r, d) for r, d in zip(size, dilation, strict=True))
    padding = hashable(padding)
    if padding == "SAME":
        return tuple(_same_transposed(e, s) for e, s in zip(extents, stride, strict=True))
    if padding == "SAME_LOWER":
        pads = (_same_transposed(e, s) for e, s in zip(extents, stride, strict=True))
        return tuple((hi, lo) for lo, hi in pads)
    if padding == "VALID":
        return tuple((e - 1, max(e, s) - 1) for e, s in zip(extents, stride, strict=True))
    if padding == "CAUSAL":
        return tuple((e - 1, s - 1) for e, s in zip(extents, stride, strict=True))
    return resolve_padding(padding, extents, extents, stride, op)


def _same_transposed(extent: int, stride: int) -> Pair:
    lo = extent - 1 - max(extent - stride, 0) // 2
    return lo, extent + stride - 2 - lo


def _check_word(padding: str, op: str) -> None:
    if padding in PADDING_WORDS:
        return
    if padding.lower() in PADDING_MODES:
        raise ValueError(
            f"{op}: padding says how many pixels there are, not what they hold: that is "
            f"padding_mode, of jconv.conv and jconv.pad; got padding={padding!r}"
        )
    raise ValueError(
        f"{op}: padding must be one of {', '.join(PADDING_WORDS)}, in upper case, an int, or one "
        f"int or (lo, hi) pair per axis; got {padding!r}"
    )


def _word(padding: str, n: int, extent: int, stride: int) -> Pair:
    lo, hi = same(n, extent, stride)
    return {"SAME": (lo, hi), "SAME_LOWER": (hi, lo), "VALID": (0, 0), "CAUSAL": (extent - 1, 0)}[
        padding
    ]


def _pair(entry: int | Pair) -> Pair:
    if isinstance(entry, Sequence):
        lo, hi = (
            map(_index, entry) if len(entry) == 2 and not isinstance(entry, str) else (None, None)
        )
        if lo is None or hi is None:
            raise TypeError
        return lo, hi
    return _index(entry), _index(entry)


def _index(value: object) -> int:
    """The int that `value` is, NumPy's too, but not a bool: True as a stride is a slip."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)  # type: ignore[arg-type]


def _extent(size: int, dilation: int) -> int:
    return dilation * (size - 1) + 1 if size else 0


def _dilated(n: int, dilation: int) -> int:
    return (n - 1) * dilation + 1 if n != 0 else 0


def _not_negative(size: int) -> int:
    """`size`, or 0; the symbolic sizes of jax.export, which can't be compared, as they are."""
    return max(size, 0) if isinstance(size, Integral) else size


def _smallest_input(output: int, extent: int, stride: int, pad: Pair, extra: int) -> int:
    return (output - 1) * stride + extent - sum(pad) + extra if output else 0


def _ceil_pads(n: int, extent: int, stride: int, pad: Pair) -> Pair:
    lo, hi = pad
    output = -(-(n + lo + hi - extent) // stride) + 1
    if (output - 1) * stride >= n + lo:
        output -= 1
    if output < 1:
        return pad
    return lo, max(hi, (output - 1) * stride + extent - n - lo)


def _check_output_padding(
    op: str,
    padding: Padding,
    output_padding: PerAxis,
    extra: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> None:
    if padding in ("SAME", "SAME_LOWER") and any(extra):
        raise ValueError(
            f'{op}: output_padding must be 0 with padding="{padding}", whose output is the input '
            f"times the stride; got output_padding={output_padding}"
        )
    if any(more >= max(s, d) for more, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"{op}: output_padding must be smaller than stride or dilation; got "
            f"output_padding={output_padding}, stride={tuple(stride)}, dilation={tuple(dilation)}"
        )


def _check_fits(
    op: str, input: Sequence[int], size: Sequence[int], extent: Sequence[int], pads: Sequence[Pair]
) -> None:
    if any(e > n + lo + hi and n > 0 for n, e, (lo, hi) in zip(input, extent, pads, strict=True)):
        padded = tuple(n + lo + hi for n, (lo, hi) in zip(input, pads, strict=True))
        raise ValueError(
            f"{op}: a window of {tuple(size)} taps spanning {tuple(extent)} pixels does not fit "
            f"in an input of {tuple(input)}, {padded} with its padding; use a smaller window or "
            "more padding"
        )
