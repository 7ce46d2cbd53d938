"""Where the formulations of convolution lose to XLA's own on a CPU, or were not measured to win.

Each rule names the benchmark's cases and the ratios of time (ours / direct) that are its reason, as
`experiments/bench/ops.py` measures them; the rows in its results are of what the rules choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jconv.algorithms import chunks, rows
from jconv.ops.conv_call import Call, Rule

LEAST_CHUNK = 2**16
LEAST_OF_AN_EXAMPLE = 2**24
FEW_FEATURES, MOST_FEATURES = 32, 4
MANY_CHANNELS = 32
LEAST_TILES = 256
MOST_SUMMED = 256  # kMostSummed in winograd_plan.cc
MOST_COLUMNS = 3  # that oneDNN's filter gradient of depthwise convolutions has code for
LEAST_DEPTHWISE = 2**12
LEAST_PIXELS = 10_000
LEAST_PRODUCTS = 2**22  # below, a loop over chunks takes as long as what it computes


def tiny(call: Call, *_: Any) -> str | None:
    """Depthwise convolutions of which nothing is left to gain but the time to compile them."""
    # 9,216 multiply-adds, 3x3: fwd 0.05, dw 0.15; 113 thousand 0.03, 0.003; 410 thousand, 5x5:
    # 0.01, 0.006. Layers of MobileNetV2 from 0.4 to 8 million: the train step 0.3.
    if _products(call) < LEAST_DEPTHWISE:
        return f"not faster below {LEAST_DEPTHWISE} multiply-adds"
    return None


def small(call: Call, *_: Any) -> str | None:
    """Calls that a loop over chunks makes slower."""
    if _products(call) < LEAST_PRODUCTS:
        return f"slower below {LEAST_PRODUCTS} multiply-adds"
    return None


def _products(call):
    """Multiply-adds with zeros of the padding count, those with zeros between pixels don't."""
    pixels = call.image[0] * math.prod(call.output) // math.prod(call.input_dilation)
    return pixels * call.taps * call.groups * call.channels * call.features


def uneven(call: Call, first: Any, second: Any) -> str | None:
    """Chunks of one small example each, of which the steps of the loop take most of the time."""
    examples, example = call.image[0], math.prod(call.image[1:]) * first.dtype.itemsize
    if chunks.length(examples, example) * example < LEAST_CHUNK and examples > 1:
        return f"slower where {examples} examples don't divide into chunks of {LEAST_CHUNK} bytes"
    return None


def memory(together: Callable[[Call], int]) -> Rule:
    """The copies of `rows` within four times operands and result, for filters of 3x3 or so.

    Args:
      together: `together(call)`: how many taps' pixels are copied side by side.
    """

    def reason(call, first, second):
        n, *image = call.image
        one = math.prod(image), math.prod(call.output) * call.groups * call.channels
        length = chunks.length(n, (one[0] + one[1]) * first.dtype.itemsize)
        copies = length * together(call) * (one[0] + one[1])
        result = math.prod(call.output) * call.groups * call.features
        if copies > 3.5 * n * (one[0] + result):
            return "more memory than four times the operands and the result"
        return None

    return reason


def side_by_side(call: Call) -> int:
    """The taps whose pixels the filter gradient of `rows` copies."""
    return math.prod(call.size[-rows.together(call.size, call.channels) :])


def rows_pay(call: Call, *_: Any) -> str | None:
    """`rows` forward and in input gradients."""
    if call.groups > 1:
        # g32_28x256 fwd 0.46, dx 0.42; g4_28x128 fwd 0.48. Fewer channels were not measured.
        few = min(call.channels, call.features) < 8
        return "slower where a group has less than 8 channels" if few else None
    if set(call.input_dilation) != {1}:
        # c3s2_56x64 dx 0.74; patch4s4 dx 1.5, whose phases have one tap each; stem7s2 dx 4.7,
        # with three features.
        if _one_tap_each(call):
            return "slower where each phase has one tap"
        return "slower for few features" if call.features < FEW_FEATURES else None
    # c3_7x512 fwd 0.80, dx 0.76; c3_14x256 fwd 1.16.
    if math.prod(call.output) > 49 or call.channels < 512 or call.taps == 1:
        return "slower for dense convolutions but those of many channels on few pixels"
    return None


def narrow(call: Call, first: Any, *_: Any) -> str | None:
    """Products of 16 bits."""
    # c1_14_1024_256_bf16: 35 to 182 GFLOP/s, of float32 70 to 211.
    return "slower for numbers of 16 bits" if first.dtype.itemsize < 4 else None


def unstrided_pays(call: Call, *_: Any) -> str | None:
    """`pointwise` forward: the pixels that are read are copied before."""
    # c1s2_56_64_128 fwd 1.04 to 1.15 in four runs; dx, which has input_dilation, 0.83 to 0.94.
    return "slower for a stride" if set(call.stride) != {1} else None


def filter_rows_pay(call: Call, first: Any, second: Any) -> str | None:
    """`rows` in filter gradients."""
    # c3_56x64 0.53, c3_28x128 0.44, c3_14x256 0.81, c3_7x512 0.89, c3s2_56x64 0.26, stem7s2 0.63,
    # patch4s4 0.34, c1_56_64_256 0.07, c1_14_1024_256 0.33, c5_28_1_32 0.67, conv1d 0.80,
    # dil2_28x128 0.37, tc4s2 0.86, tc2s2 0.54, g32_28x256 0.003, g4_28x128 0.02, rs2_32x16 0.81.
    # r_32x16 1.33, r_16x32 1.07 and r_8x64 1.32 have 2.4 million multiply-adds per example.
    products = math.prod(call.output) * call.taps * call.channels * call.features
    plain = call.groups == 1 and call.taps > 1 and set(call.stride) == {1}
    if plain and call.channels >= 16 and products < LEAST_OF_AN_EXAMPLE:
        return f"slower below {LEAST_OF_AN_EXAMPLE} multiply-adds for each example"
    # c3_128x64 1.08: an example of 4 MiB is no chunk that stays in the cache.
    if plain and math.prod(call.image[1:]) * first.dtype.itemsize > chunks.BYTES:
        return f"slower where an example has more than {chunks.BYTES} bytes"
    return None


def im2col_pays(call: Call, *_: Any) -> str | None:
    """Filter gradients of the first layer of a network."""
    # stem7s2 dw 0.34, c5_28_1_32 dw 0.39; patch4s4 dw 0.47, rows 0.40.
    if call.channels > MOST_FEATURES or call.taps <= 16:
        return f"slower for more than {MOST_FEATURES} channels, or 16 taps or fewer"
    return None


def phases_pay(call: Call, *_: Any) -> str | None:
    """Convolutions with zeros between the pixels, most of them input gradients."""
    # stem7s2 dx 0.46. With more features its sums are less exact than twice XLA's (c3s2_56x64).
    if set(call.input_dilation) == {1}:
        return "the same as XLA's without input_dilation (the stride of an input gradient)"
    if call.groups > 1 or call.features > MOST_FEATURES:
        return f"less exact for groups, or more than {MOST_FEATURES} features"
    return "slower where each phase has one tap" if _one_tap_each(call) else None


def _one_tap_each(call):
    pairs = zip(call.size, call.input_dilation, strict=True)
    return all(taps <= between for taps, between in pairs)


def planes_pay(call: Call, *_: Any) -> str | None:
    """All three directions."""
    # conv3d fwd 0.24, dx 0.24, dw 0.25.
    image = math.prod(call.image) * call.size[0]
    spread = image * call.input_dilation[0] // call.stride[0]
    if call.size[0] == 1 or call.channels > 64:
        return "slower for one tap along the first axis, or more than 64 channels"
    pixels = call.image[0] * math.prod(call.output)
    if spread > 3 * (math.prod(call.image) + pixels * call.features):
        return "more memory than three times the operands and the result"
    return None


def few_features(call: Call, *_: Any) -> str | None:
    """oneDNN in dense convolutions from many channels to a few."""
    # Against XLA's: c5_28_1_32 dx 2.5, patch4s4 dx 1.3; against phases: stem7s2 dx 2.4. On 16
    # images of 64x64, 3x3: 64 channels to 1 2.6, to 3 1.8, to 4 1.5; 32 to 1 3.2, to 3 1.5; but
    # 16 to 1 0.75, to 3 0.29, and 3 to 3 (96x96) 0.18.
    many = call.groups == 1 and call.taps > 1 and call.channels >= MANY_CHANNELS
    if many and call.features <= MOST_FEATURES:
        return f"slower from {MANY_CHANNELS} channels or more to {MOST_FEATURES} or fewer"
    return None


def long_products(call: Call, *_: Any) -> str | None:
    """oneDNN in filter gradients of one tap, against `pointwise`."""
    # pointwise / oneDNN's: c1_56_64_256 0.88, 16 images of it 0.59, 8 images 0.81; 32 images of
    # 56x56, 48 to 192 0.81, of 28x28, 64 to 256 0.87, 96 to 384 0.77, 128 to 512 0.87; 64 of
    # 32x32, 64 to 256 0.76; but 32 of 56x56, 64 to 128 0.99, 32 to 128 1.16, 256 to 64 1.17; of
    # 14x14, 192 to 768 1.16, 256 to 1024 1.0.
    pixels = call.image[0] * math.prod(call.output)
    if call.groups > 1 or call.taps > 1 or pixels < LEAST_PIXELS or set(call.stride) != {1}:
        return None
    if call.channels >= 48 and call.features >= 4 * call.channels:
        return f"slower from 48 channels or more to 4 times as many, of {LEAST_PIXELS} pixels"
    return None


def few_columns(call: Call, *_: Any) -> str | None:
    """jconv's own loop for filter gradients of depthwise convolutions."""
    # Against oneDNN's: dw5_28x240 0.27, dw7_28x192 0.23, and on 16 images, 7x7, 24x24x96 0.16,
    # 12x12x192 0.18, 6x6x384 0.13; one axis of 400x256, 31 taps, 0.5. oneDNN has code for up to
    # three columns: dw3_56x128 1.3, dw3s2_56x128 1.5, and on 16 images 24x24x144 2.5, 6x6x576 2.8.
    if call.size[-1] <= MOST_COLUMNS:
        return f"slower for windows of {MOST_COLUMNS} columns or fewer"
    # 128 images of 28x28, one channel, 5x5 1.15; 3 to 12 channels as fast or faster.
    return "slower for one channel" if call.groups == 1 else None


def tiles_pay(pairs: int) -> Rule:
    """Winograd's tiles with oneDNN's products, against its direct form.

    Args:
      pairs: of channels, for which there is a tile at least: the filter is transformed, or summed,
        whatever the number of tiles.
    """

    def reason(call, *_):
        # c3_56x64 fwd 0.64, dx 0.65, dw 0.63; c3_28x128 0.58, 0.53, 0.58; c3_14x256 0.60, 0.61,
        # 0.71; 64 images of 8x8x256 0.61, 0.61, 0.68; 8 of 32x32x512 0.64, 0.62, 0.64. 48 channels
        # 1.00, 0.82, 0.80; 32 1.55, 1.42, 1.34.
        least = 64
        if min(call.channels, call.features) < least:
            return f"slower below {least} channels or features"
        # Forward and dx: 392 tiles for 256 channels 0.79, 196 0.92 and 1.13; 512 for 512 channels
        # 1.47, 1.50. dw: 784 for 192 channels 0.86, for 256 0.95, 392 1.55.
        tiles = call.image[0] * math.prod(-(-n // 2) for n in call.output)
        needed = max(LEAST_TILES, call.channels * call.features // pairs)
        if tiles < needed:
            return f"slower below {needed} tiles of 2x2 pixels"
        # 256 images of 1x1, 64 channels, fwd 5.4; 3x3 1.5; 5x5 0.98; 2x2 and 4x4 0.7. Pixels that a
        # tile has too many cost exactness, too, where taps that meet padding alone are large.
        if 3 * call.image[0] * math.prod(call.output) < 8 * tiles:
            return "slower where less than two thirds of the tiles of 2x2 pixels are filled"
        # Sums of 256 channels at most are added, where they are equally long; in one go 512 and
        # 1024 channels have 2.04 and 2.18 times the error of XLA's convolution (root mean square).
        if call.channels % -(-call.channels // MOST_SUMMED):
            return f"less exact for channels not in equal parts of at most {MOST_SUMMED}"
        return None

    return reason


def winograd_pays(call: Call, *_: Any) -> str | None:
    """All three directions."""
    # c3_56x64 fwd 0.78, dx 0.85, dw 0.29; c3_28x128 0.66, 0.65, 0.27; c3_14x256 0.69, 0.66, 0.60.
    # With 512 channels its error is more than twice that of XLA's convolution.
    least, most = 64, 256
    if min(call.channels, call.features) < least:
        return f"slower below {least} channels or features"
    if max(call.channels, call.features) > most:
        return f"less exact above {most} channels or features"
    return None
