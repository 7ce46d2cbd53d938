"""Convolutions that each reach one branch: small, odd, unequal."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tests.oracles import conv as oracle
from tests.oracles.padding import pads


@dataclasses.dataclass(frozen=True)
class Case:
    """Arguments of one convolution; an int stands for all axes, as in the operation itself."""

    x: tuple[int, ...] = (2, 5, 6, 4)  # N, *spatial, C
    window: tuple[int, ...] = (3, 2)
    k: int = 6
    stride: int | tuple[int, ...] = 1
    padding: str | int | tuple = "SAME"
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    input_dilation: int | tuple[int, ...] = 1

    @property
    def w(self) -> tuple[int, ...]:
        return (*self.window, self.x[-1] // self.groups, self.k)

    @property
    def terms(self) -> int:
        """Products behind each output."""
        return int(np.prod(self.w[:-1]))

    @property
    def options(self) -> dict:
        """Keyword arguments of jconv.conv, those that differ from its defaults."""
        fields = dataclasses.fields(self)[3:]
        given = {f.name: getattr(self, f.name) for f in fields}
        return {f.name: given[f.name] for f in fields if given[f.name] != f.default}

    @property
    def definition(self) -> dict:
        """The same for the oracle: everything resolved to one entry per axis."""

        def per_axis(value):
            return (value,) * len(self.window) if isinstance(value, int) else value

        axes = {
            "stride": per_axis(self.stride),
            "dilation": per_axis(self.dilation),
            "input_dilation": per_axis(self.input_dilation),
        }
        resolved = pads(self.padding, self.x[1:-1], self.window, **axes)
        return {**axes, "pads": resolved, "groups": self.groups}

    def arrays(self, key, dtype) -> tuple[jax.Array, jax.Array]:
        """x and w, normally distributed."""
        keys = jax.random.split(key)
        shapes = (self.x, self.w)
        return tuple(
            jax.random.normal(k, shape, jnp.float32).astype(dtype)
            for k, shape in zip(keys, shapes, strict=True)
        )

    def expected(self, x, w) -> np.ndarray:
        return oracle.conv(x, w, **self.definition)


CASES = {
    "plain": Case(),
    "stride": Case(stride=(2, 3)),
    "valid": Case(padding="VALID", stride=2),
    "pixels_never_read": Case(window=(1, 1), stride=(3, 2), padding="VALID"),
    "pads_wider_than_window": Case(padding=((4, 3), (5, 2)), stride=(2, 1)),
    "pads_of_one_side": Case(padding=((0, 2), (3, 0)), stride=(1, 2)),
    "pad_by_int": Case(padding=2),
    "pad_per_axis": Case(padding=(0, 2)),
    "same_lower": Case(window=(2, 4), padding="SAME_LOWER", stride=(1, 2)),
    "causal": Case(padding="CAUSAL", dilation=(2, 1)),
    "dilation": Case(dilation=(2, 3)),
    "dilation_and_stride": Case(x=(1, 9, 6, 2), dilation=(2, 1), stride=(3, 2), padding=1),
    "input_dilation": Case(input_dilation=(2, 3)),
    "input_dilation_and_stride": Case(
        input_dilation=(2, 3), stride=(3, 2), padding=((1, 0), (2, 3)), groups=2
    ),
    "groups": Case(groups=2, stride=(2, 1)),
    "depthwise": Case(groups=4, k=8, stride=(2, 1), dilation=(1, 2)),
    "depthwise_one_each": Case(groups=4, k=4),
    "pointwise": Case(window=(1, 1)),
    "window_is_input": Case(window=(5, 6), padding="VALID"),
    "one_pixel": Case(x=(1, 1, 1, 1), window=(3, 3), k=1),
    "one_channel": Case(x=(1, 4, 3, 1), k=1),
    "one_axis": Case(x=(2, 9, 4), window=(3,), k=4, stride=2, groups=2, padding=((1, 2),)),
    "three_axes": Case(x=(1, 4, 5, 3, 2), window=(2, 2, 3), k=3, stride=(1, 2, 1)),
    "four_axes": Case(x=(1, 2, 3, 2, 3, 1), window=(2, 1, 2, 2), k=2),
}
