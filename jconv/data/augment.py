"""Random changes of training images: pure functions of (key, images), to be jitted.

Images are (N, H, W, C), uint8 or floating point, and keep their shape and dtype. Every image of a
batch is changed in its own way. Lengths are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

type Augmentation = Callable[[jax.Array, jax.Array], jax.Array]

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def compose(*functions: Augmentation) -> Augmentation:
    """The functions one after the other, the first first, each with a key of its own.

        augment = compose(partial(random_crop, padding=4), random_flip, partial(cutout, size=8))

    Raises:
      ValueError: an argument is not callable, such as the result of an augmentation.
    """
    for function in functions:
        if not callable(function):
            raise ValueError(f"compose: expected functions of (key, images); got {function!r}")

    def composed(key, images):
        _check("compose", key, images)
        keys = jax.random.split(key, max(1, len(functions)))
        for function, own_key in zip(functions, keys, strict=False):
            images = function(own_key, images)
        return images

    return composed


def random_crop(key, images, padding: int = 4, padding_mode: str = "zeros"):
    """Pads every side by `padding` pixels and cuts an H x W window out of each image at random.

    Args:
      padding_mode: "zeros" | "reflect" | "replicate" | "circular": what lies in the padding.

    Raises:
      ValueError: a bad key, images, padding or mode.

    Reference: He et al. 2015, arXiv:1512.03385, section 4.2.
    """
    _check("random_crop", key, images)
    _check_whole("random_crop", "padding", padding)
    if padding_mode not in PADDING_MODES:
        raise ValueError(
            f"random_crop: padding_mode must be one of {', '.join(PADDING_MODES)}; got "
            f"{padding_mode!r}"
        )
    # A reflection leaves the border pixel out, so it has one pixel less to offer.
    shortest = min(images.shape[1:3]) - (padding_mode == "reflect")
    if padding > shortest:
        raise ValueError(
            f"random_crop: padding {padding} exceeds the {shortest} pixels that {padding_mode!r} "
            f"allows; got images {_named(images)}"
        )
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return _windows(key, jnp.pad(images, pads, PADDING_MODES[padding_mode]), images.shape)


def random_shift(key, images, max_pixels: int, fill: float = 0):
    """Moves each image by -max_pixels to max_pixels pixels along both axes; `fill` comes in.

    Args:
      fill: a value of the images' own range: 0 to 255 for uint8.

    Raises:
      ValueError: a bad key, images, shift or fill.
    """
    _check("random_shift", key, images)
    _check_whole("random_shift", "max_pixels", max_pixels)
    _check_fits("random_shift", "max_pixels", max_pixels, images)
    value = _fill("random_shift", fill, images)
    pads = ((0, 0), (max_pixels, max_pixels), (max_pixels, max_pixels), (0, 0))
    return _windows(key, jnp.pad(images, pads, constant_values=value), images.shape)


def random_flip(key, images, probability: float = 0.5):
    """Mirrors each image left to right with the given probability.

    Raises:
      ValueError: a bad key, images or probability.
    """
    _check("random_flip", key, images)
    if not 0 <= probability <= 1:
        raise ValueError(f"random_flip: probability must be 0 to 1; got {probability}")
    flipped = jax.random.bernoulli(key, probability, (images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def cutout(key, images, size: int, fill: float = 0):
    """Fills a square of `size` x `size` pixels in each image.

    Its centre is any pixel of the image, so that a part of it may fall outside. It spans the pixels
    from centre - size // 2 to centre - size // 2 + size - 1.

    Args:
      fill: a value of the images' own range; 0 is the mean of normalised images.

    Raises:
      ValueError: a bad key, images, size or fill.

    Reference: DeVries & Taylor 2017, arXiv:1708.04552.
    """
    _check("cutout", key, images)
    _check_whole("cutout", "size", size)
    _check_fits("cutout", "size", size, images)
    value = _fill("cutout", fill, images)
    count, *extents = images.shape[:3]
    centres = jax.random.randint(key, (2, count, 1), 0, jnp.asarray(extents)[:, None, None])
    inside = []
    for axis, extent in enumerate(extents):
        offset = jnp.arange(extent) - (centres[axis] - size // 2)  # [n, pixel]
        inside.append((offset >= 0) & (offset < size))
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return jnp.where(hole, value, images)


def to_float(images):
    """float32 in 0 to 1 from uint8 in 0 to 255; floating point comes back as it is.

    Raises:
      ValueError: images are neither; of another integer dtype the range is not known.
    """
    _check_images("to_float", images)
    if images.dtype == jnp.uint8:
        return jnp.asarray(images, jnp.float32) / 255
    return images


def normalize(images, mean: Sequence[float], std: Sequence[float]):
    """(images - mean) / std for each channel, after `to_float`.

    Args:
      mean, std: one number per channel, in units of the full range: 0 is black, 1 is what uint8
        writes as 255. Floating point images are expected in those units too.

    Raises:
      ValueError: bad images, not one number per channel, or a std that is not positive.
    """
    _check_images("normalize", images)
    centre, scale = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    channels = images.shape[-1]
    if centre.shape != (channels,) or scale.shape != (channels,):
        raise ValueError(
            f"normalize: mean and std must have {channels} numbers, one per channel; got "
            f"{centre.shape} and {scale.shape}, images {_named(images)}"
        )
    if not ((scale > 0) & np.isfinite(scale) & np.isfinite(centre)).all():
        raise ValueError(f"normalize: std must be positive and both finite; got {mean}, {std}")
    images = to_float(images)
    return (images - jnp.asarray(centre, images.dtype)) / jnp.asarray(scale, images.dtype)


def _windows(key, padded, shape):
    """A window of `shape` out of each padded image, every position equally likely."""
    count, height, width, channels = shape
    room = jnp.asarray([padded.shape[1] - height, padded.shape[2] - width])
    corners = jax.random.randint(key, (count, 2), 0, room + 1)

    def window(image, corner):
        return lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(window)(padded, corners)


def _fill(op: str, fill: float, images):
    """`fill` in the dtype of the images."""
    if images.dtype == jnp.uint8 and not (0 <= fill <= 255 and fill == int(fill)):
        raise ValueError(f"{op}: fill must be a whole number, 0 to 255, for uint8; got {fill}")
    return jnp.asarray(fill, images.dtype)


def _check(op: str, key, images) -> None:
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    legacy = dtype == jnp.uint32 and key.ndim == 1
    if not (typed and key.ndim == 0) and not legacy:
        found = "None" if key is None else f"{type(key).__name__} {getattr(key, 'shape', key)}"
        raise ValueError(f"{op}: key must be one PRNG key, as from jax.random.key; got {found}")
    _check_images(op, images)


def _check_images(op: str, images) -> None:
    shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    floating = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    if shape is None or len(shape) != 4 or not (floating or dtype == jnp.uint8):
        found = type(images).__name__ if shape is None else f"{dtype}{list(shape)}"
        raise ValueError(
            f"{op}: images must be (N, H, W, C), uint8 from 0 to 255 or floating point; got {found}"
        )


def _check_whole(op: str, name: str, value) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 0:
        raise ValueError(f"{op}: {name} must be a whole number of pixels, 0 or more; got {value!r}")


def _check_fits(op: str, name: str, value: int, images) -> None:
    if value > min(images.shape[1:3]):
        raise ValueError(f"{op}: {name} {value} exceeds the image; got images {_named(images)}")


def _named(images) -> str:
    return " ".join(f"{axis}={n}" for axis, n in zip("NHWC", images.shape, strict=True))
