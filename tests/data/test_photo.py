"""Image files of every mode become upright RGB pixels of one size."""

import concurrent.futures
import re
import struct
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jconv.data.photo import photo_size, read_photo
from tests.data.builders import random_images, write_image

RGB = random_images(1, 6, 8, 3)[0]
GREY = RGB[..., 0]


def read(tmp_path, image, size=(6, 8), suffix=".png", **options):
    path = tmp_path / f"image{suffix}"
    image.save(path, **options)
    return read_photo(path, size)


def test_rgb_comes_back_as_it_is(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, Image.fromarray(RGB)), RGB)


def test_grey_fills_three_channels(tmp_path):
    expected = np.repeat(GREY[..., None], 3, -1)
    np.testing.assert_array_equal(read(tmp_path, Image.fromarray(GREY)), expected)


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path):
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read(tmp_path, deep)[..., 0], GREY)


def test_black_and_white(tmp_path):
    bits = Image.fromarray(GREY > 127)
    expected = np.repeat(np.where(GREY > 127, 255, 0)[..., None], 3, -1)
    np.testing.assert_array_equal(read(tmp_path, bits), expected)


def test_palette(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    np.testing.assert_array_equal(read(tmp_path, image), np.asarray(image.convert("RGB")))


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.fromarray(GREY % 3).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colours = np.array([[10, 20, 30], [255, 255, 255], [70, 80, 90]])
    np.testing.assert_array_equal(read(tmp_path, image, transparency=1), colours[GREY % 3])


def test_transparency_shows_white(tmp_path):
    alpha = np.where(GREY > 127, 255, 0).astype(np.uint8)
    image = Image.fromarray(np.concatenate([RGB, alpha[..., None]], -1))
    expected = np.where(alpha[..., None] == 255, RGB, 255)
    np.testing.assert_array_equal(read(tmp_path, image), expected)


def test_cmyk(tmp_path):
    actual = read(tmp_path, Image.new("CMYK", (8, 6), (0, 255, 255, 0)), suffix=".jpg")
    assert (abs(actual.astype(int) - [255, 0, 0]) < 12).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path, orientation):
    # What the camera stored, for each value of the tag, so that upright it reads RGB.
    undo = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image.png"
    Image.fromarray(np.ascontiguousarray(undo[orientation](RGB))).save(path, exif=exif)
    assert photo_size(path) == (6, 8)
    np.testing.assert_array_equal(read_photo(path, (6, 8)), RGB)


def test_the_centre_is_cut_out_without_distortion(tmp_path):
    # Left, middle and right of a wide image; the middle is what a square shows.
    wide = np.repeat(np.array([[0, 128, 255]], np.uint8), 20, 1)[None, 0].repeat(20, 0)
    actual = read(tmp_path, Image.fromarray(wide), size=(10, 10))
    assert (actual[:, 1:-1] == 128).all()  # scaling mixes the border pixels with their neighbours


def test_scaling_down_averages(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    actual = read(tmp_path, Image.fromarray(stripes), size=(8, 8))
    assert (abs(actual.astype(int) - 127) < 20).all()


def test_a_large_jpeg_decodes_to_what_the_whole_would_give(tmp_path):
    rows = np.linspace(0, 255, 600).astype(np.uint8)
    smooth = np.broadcast_to(rows[:, None, None], (600, 800, 3))
    actual = read(tmp_path, Image.fromarray(smooth), size=(30, 30), suffix=".jpg", quality=95)
    expected = smooth.reshape(30, 20, 800, 3).mean((1, 2))[:, None]
    assert (abs(actual.astype(int) - expected) < 6).all()


def png_header(width, height):
    """A PNG whose header announces a size that its few bytes of pixels don't have."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize("side", [8193, 12000, 30000])
@pytest.mark.parametrize("function", [photo_size, lambda path: read_photo(path, (8, 8))])
def test_a_bomb_is_refused_by_its_header(tmp_path, side, function):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(
        ValueError, match=r"bomb\.png: .* found: .*(more than 67108864|decompression)"
    ):
        function(path)


@pytest.mark.parametrize("function", [photo_size, lambda path: read_photo(path, (8, 8))])
def test_100_megapixels_are_refused_without_a_warning(tmp_path, function):
    path = tmp_path / "photo.png"
    path.write_bytes(png_header(12000, 8400))
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="found: 12000 x 8400 pixels, more than 67108864"):
            function(path)
    assert shown == []


def test_threads_change_the_filters_of_warnings_one_at_a_time(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.fromarray(RGB).save(path)
    before, whole_open, seen = list(warnings.filters), Image.open, []

    def slow_open(*args, **kwargs):  # slow, so that the threads would overlap
        seen.append(len(warnings.filters))
        time.sleep(0.01)
        return whole_open(*args, **kwargs)

    monkeypatch.setattr(Image, "open", slow_open)
    barrier = threading.Barrier(4)

    def read(_):
        barrier.wait()
        read_photo(path, (6, 8))
        return time.monotonic()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        start = time.monotonic()
        assert max(pool.map(read, range(4))) - start >= 0.04
    assert seen == [len(before) + 1] * 4
    assert list(warnings.filters) == before


def test_formats_that_run_programs_are_not_opened(tmp_path):
    path = tmp_path / "program.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")
    with pytest.raises(ValueError, match="cannot identify image file"):
        read_photo(path, (8, 8))


def test_float_pixels_are_refused(tmp_path):
    path = tmp_path / "float.tif"
    Image.fromarray(GREY.astype(np.float32)).save(path)
    with pytest.raises(ValueError, match="mode F, whose range of values is not known"):
        read_photo(path, (6, 8))


@pytest.mark.parametrize("name", ["gone.png", "folder.png"])
def test_names_the_file_that_is_none(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / name}: expected an image")):
        read_photo(tmp_path / name, (8, 8))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".gif", ".tiff", ".webp", ".ppm"])
def test_every_format(tmp_path, suffix):
    write_image(tmp_path / f"image{suffix}", np.full((6, 8, 3), 200, np.uint8))
    actual = read_photo(tmp_path / f"image{suffix}", (6, 8))
    assert (abs(actual.astype(int) - 200) < 3).all()
