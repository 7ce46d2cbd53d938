"""Colours for numbers: a ramp of even lightness, to be read in print and with any colour vision."""

from __future__ import annotations

import numpy as np

# Ink to sand, in sRGB. CIE lightness L* climbs from 10 to 94 in nearly even steps.
_STOPS = np.array(
    [
        (22, 25, 48),
        (34, 49, 92),
        (38, 80, 122),
        (46, 112, 134),
        (76, 143, 136),
        (124, 172, 134),
        (181, 197, 140),
        (228, 219, 168),
        (250, 240, 214),
    ],
    np.float32,
)


def colorize(values: np.ndarray) -> np.ndarray:
    """uint8 RGB (..., 3) of values in 0..1 (...), dark to light."""
    positions = np.clip(values, 0, 1) * (len(_STOPS) - 1)
    channels = [np.interp(positions, np.arange(len(_STOPS)), stops) for stops in _STOPS.T]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)
