"""Decoding: every kind of picture becomes upright RGB, and what cannot be decoded is named."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from sagesmith.formats.errors import DataError
from sagesmith.formats.images import decoded, jpeg, mask_of, png, size_of


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def halves() -> np.ndarray:
    """24 x 16: left half red, right half blue."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :12, 0] = 255
    pixels[:, 12:, 2] = 255
    return pixels


def test_png_is_given_back(halves):
    assert (decoded(png(halves), "a.png") == halves).all()


def test_jpeg_is_close(halves):
    found = decoded(memoryview(jpeg(halves)), "a.jpg")
    assert found.shape == (16, 24, 3)
    assert found[8, 2, 0] > 240
    assert found[8, 21, 2] > 240


def test_grey_has_one_channel(halves):
    assert decoded(png(halves), "a.png", grey=True).shape == (16, 24, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(halves, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(halves), "PNG", exif=exif)
    wanted = {
        1: halves, 2: halves[:, ::-1], 3: halves[::-1, ::-1], 4: halves[::-1], 5: halves.transpose(1, 0, 2),
        6: np.rot90(halves, -1), 7: np.rot90(halves, 2).transpose(1, 0, 2), 8: np.rot90(halves),
    }[orientation]  # fmt: skip
    assert (decoded(data, "a.png") == wanted).all()
    assert size_of(data, "a.png") == (wanted.shape[1], wanted.shape[0])


def test_palette_grey_16_bits_and_alpha_become_rgb():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    palette = Image.fromarray(grey).convert("P")
    palette.info["transparency"] = b"\0" * 4
    deep = Image.fromarray(grey.astype(np.uint16) << 8)
    clear = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(np.zeros_like(grey))])
    for image in (palette, deep, clear):
        found = decoded(encoded(image), "a.png")
        assert (found == grey[..., None].repeat(3, 2)).all(), image.mode


def test_cmyk_jpeg_becomes_rgb():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert decoded(encoded(image, "JPEG"), "a.jpg")[8, 8] == pytest.approx([255, 0, 0], abs=4)


def test_large_jpeg_is_decoded_smaller_where_that_suffices():
    data = jpeg(np.zeros((400, 600, 3), np.uint8))
    assert decoded(data, "a.jpg", at_least=190).shape[:2] == (200, 300)
    assert decoded(data, "a.jpg", at_least=201).shape[:2] == (400, 600)


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "is no picture"), (b"hello", "is no picture"), (jpeg(np.zeros((64, 64, 3), np.uint8))[:-20], "truncated")],
)
def test_what_is_no_picture_is_named(data, said):
    with pytest.raises(DataError, match=rf"^train/cat/1\.jpg: .*{said}"):
        decoded(data, "train/cat/1.jpg")


def test_a_bomb_is_refused_before_it_is_decoded():
    for side in (9500, 20000):  # more than the limit, and more than twice
        header = encoded(Image.new("1", (side, side)))
        with pytest.raises(DataError, match=r"^bomb\.png: has more than the 89478485 pixels"):
            decoded(header[:200], "bomb.png")


def test_masks_give_indices():
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    palette = Image.fromarray(mask)
    palette.putpalette([7] * 768)
    for data in (png(mask), encoded(palette.convert("P") if palette.mode != "P" else palette)):
        assert (mask_of(data, "m.png") == mask).all()


def test_masks_of_several_channels_are_refused(halves):
    with pytest.raises(DataError, match=r"^m\.png: a mask is a PNG of one channel.*RGB"):
        mask_of(png(halves), "m.png")


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("at_least", [None, 9, 30])
def test_pixels_are_the_same_without_simplejpeg(monkeypatch, grey, at_least):
    pytest.importorskip("simplejpeg")
    random = np.random.default_rng(0)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    given = [jpeg(random.integers(256, size=(61, 83, 3), dtype=np.uint8), quality) for quality in (30, 75, 98)]
    given.append(jpeg(random.integers(256, size=(40, 40), dtype=np.uint8)))
    given.append(
        encoded(Image.fromarray(random.integers(256, size=(61, 83, 3), dtype=np.uint8)), "JPEG", exif=sideways)
    )
    given.append(encoded(Image.new("CMYK", (40, 50), (9, 80, 7, 0)), "JPEG"))
    given.append(given[0][:300] + bytes(20) + given[0][320:])  # broken, but not beyond repair
    found = [decoded(data, "a.jpg", at_least=at_least, grey=grey) for data in given]
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    for data, pixels in zip(given, found, strict=True):
        assert (decoded(data, "a.jpg", at_least=at_least, grey=grey) == pixels).all()
