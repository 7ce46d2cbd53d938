"""Poolings that each reach one branch: small, odd, unequal."""

from __future__ import annotations

import dataclasses

import numpy as np

from tests.oracles.padding import pads


@dataclasses.dataclass(frozen=True)
class Case:
    """Arguments of one pooling; an int stands for all axes, as in the operation itself."""

    x: tuple[int, ...] = (2, 5, 6, 3)  # N, *spatial, C
    window: int | tuple[int, ...] = 2
    stride: int | tuple[int, ...] | None = None
    padding: str | int | tuple = "VALID"
    dilation: int | tuple[int, ...] = 1
    ceil_mode: bool = False

    @property
    def options(self) -> dict:
        """Arguments after x, those that differ from the defaults, and the window."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[2:]}
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        chosen = {name: value for name, value in given.items() if value != defaults[name]}
        return {"window": self.window, **chosen}

    @property
    def definition(self) -> dict:
        """The same for the oracle: everything resolved to one entry per axis."""
        axes = len(self.x) - 2

        def per_axis(value):
            return (value,) * axes if isinstance(value, int) else value

        window = per_axis(self.window)
        stride = window if self.stride is None else per_axis(self.stride)
        dilation = per_axis(self.dilation)
        resolved = pads(self.padding, self.x[1:-1], window, stride=stride, dilation=dilation)
        return {
            "window": window,
            "stride": stride,
            "dilation": dilation,
            "pads": resolved,
            "ceil_mode": self.ceil_mode,
        }

    def image(self, dtype) -> np.ndarray:
        """Small whole numbers, so that windows hold equal pixels; exact in every dtype."""
        return np.random.default_rng(0).integers(-3, 4, self.x).astype(dtype)

    def distinct(self, dtype) -> np.ndarray:
        """No two pixels within 1/4 of one another: away from ties."""
        size = int(np.prod(self.x))
        values = np.random.default_rng(0).permutation(size).astype(dtype) / 4
        return values.reshape(self.x)


CASES = {
    "plain": Case(),
    "overlapping": Case(window=3, stride=2, padding=1),
    "stride_one_same": Case(window=(3, 2), stride=1, padding="SAME"),
    "same_lower": Case(window=(2, 4), stride=(1, 2), padding="SAME_LOWER"),
    "pixels_never_read": Case(window=(1, 2), stride=(3, 4)),
    "pads_wider_than_window": Case(window=2, stride=1, padding=((3, 0), (0, 4))),
    "ceil_mode": Case(window=2, ceil_mode=True),
    "ceil_mode_overlapping": Case(window=3, stride=2, padding=(0, 1), ceil_mode=True),
    "ceil_mode_drops_a_window_in_padding": Case(
        x=(1, 5, 6, 2), window=2, stride=(3, 4), padding=1, ceil_mode=True
    ),
    "window_is_input": Case(window=(5, 6)),
    "one_pixel": Case(x=(1, 1, 1, 1), window=1),
    "one_axis": Case(x=(2, 9, 3), window=3, stride=2, padding=((1, 0),)),
    "three_axes": Case(x=(1, 4, 3, 5, 2), window=(2, 1, 3), stride=(1, 2, 2)),
    "more_than_64_pixels": Case(x=(1, 12, 11, 2), window=9, stride=2, padding=1),
}
