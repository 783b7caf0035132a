"""images: pictures and masks, from encoded bytes to arrays and back.

JPEG and PNG, and BMP and WebP, which `application/x-image` may hold too. What is not plain RGB becomes it: CMYK by
Pillow's formula (Adobe's inverted ones too), palettes by their colours, grey by repeating it, 16 bits by the upper
eight, transparency by leaving it out. EXIF's orientation is applied. Imports Pillow inside its functions.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 89_478_485  # of a picture: 256 MB as RGB; one that says it has more is refused before it is decoded
KINDS = ("JPEG", "PNG", "BMP", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
JPEG_BEGINS, APP1 = b"\xff\xd8", 0xE1
BEGINS_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDA}  # SOF and SOS markers
ORIENTATION = 0x0112  # the EXIF tag; its values 2 to 8 ask for the transpositions of Pillow in TURNS
TURNS = (
    "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90",
)  # fmt: skip
SIDEWAYS = 5  # the first value that swaps width and height
BROKEN = (OSError, ValueError, SyntaxError, EOFError, TypeError, ArithmeticError, LookupError, struct.error, zlib.error)


def decoded(data: bytes | memoryview, name: str, *, at_least: int | None = None, grey: bool = False) -> np.ndarray:
    """A picture's pixels, (H, W, 3) uint8 RGB, or (H, W, 1) if `grey`; upright.

    Args:
        name: of the picture, for errors.
        at_least: pixels that suffice for the shorter side. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size
            where that leaves as many, which takes a part of the time.

    Raises:
        DataError: naming the picture: not one of KINDS, truncated, broken, or more than MAX_PIXELS.
    """
    plain = data[:2] == JPEG_BEGINS and _plain_jpeg(data, at_least, grey)
    if isinstance(plain, np.ndarray):
        return plain
    with _opened(data, name) as image:
        pixels = np.array(_upright(image, at_least, grey))
        return pixels[:, :, None] if grey else pixels


def _plain_jpeg(data: bytes | memoryview, at_least: int | None, grey: bool) -> np.ndarray | None:
    """The pixels of an unbroken upright JPEG in grey or RGB, by simplejpeg where that is installed; else None.

    It is the same libjpeg-turbo that Pillow holds and gives the same pixels, without Pillow's file objects and copies
    around it: small pictures take a fifth of the time.
    """
    try:
        import simplejpeg
    except ModuleNotFoundError:
        return None
    if _has_exif(data):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        if space not in ("Gray", "YCbCr", "RGB") or height * width > MAX_PIXELS:
            return None
        scale = _scale(width, height, at_least)
        least = {"min_height": -(-height // scale), "min_width": -(-width // scale)} if scale > 1 else {}
        return np.asarray(simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", **least))
    except ValueError:
        return None  # broken, or of a kind that Pillow may know; Pillow has the last word


def _has_exif(data: bytes | memoryview) -> bool:
    """Whether a JPEG has an EXIF segment before its picture begins."""
    at = 2
    while at + 10 < len(data) and data[at] == 0xFF and data[at + 1] not in BEGINS_FRAME:
        if data[at + 1] == APP1 and data[at + 4 : at + 8] == b"Exif":
            return True
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return False


def _scale(width: int, height: int, at_least: int | None) -> int:
    """1, 2, 4 or 8: what a JPEG's sides may be divided by while the shorter keeps `at_least` pixels."""
    shorter = min(width, height)
    return next((by for by in (8, 4, 2) if at_least is not None and shorter // by >= at_least), 1)


def size_of(data: bytes | memoryview, name: str) -> tuple[int, int]:
    """(width, height) of a picture as it stands upright, from its header.

    Raises:
        DataError: as `decoded`.
    """
    with _opened(data, name) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= SIDEWAYS else (width, height)


def kind_of(data: bytes | memoryview, name: str) -> str:
    """Which of KINDS a picture is, from its header. Raises DataError: as `decoded`."""
    with _opened(data, name) as image:
        return str(image.format)


def mask_of(data: bytes | memoryview, name: str) -> np.ndarray:
    """The values of a mask's pixels, (H, W) uint8: of a palette PNG the indices, not the colours.

    Raises:
        DataError: no single-channel PNG of at most 8 bits, or as `decoded`.
    """
    with _opened(data, name) as image:
        if image.format != "PNG" or image.mode not in ("1", "L", "P"):
            raise DataError(
                f"{name}: a mask is a PNG of one channel with 8 bits, this is a {image.format} of mode {image.mode}"
            )
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        return np.asarray(image).copy()


def png(pixels: np.ndarray) -> bytes:
    """A mask (H, W), or a picture (H, W, 3), both uint8, as PNG."""
    return _encoded(pixels, "PNG")


def jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    """A picture (H, W, 3), or a grey one (H, W), both uint8, as JPEG."""
    return _encoded(pixels, "JPEG", quality=quality)


def _encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    _pillow().fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _pillow() -> Any:
    """The module PIL.Image.

    Raises:
        ModuleNotFoundError: saying how to install it.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        message = "pictures need Pillow, which is not installed: pip install 'sagesmith[vision]'"
        raise ModuleNotFoundError(message, name=error.name) from error
    return Image


@contextmanager
def _opened(data: bytes | memoryview, name: str) -> Iterator[Image]:
    """A picture of which the header is read. Whatever a decoder raises about its bytes becomes a DataError."""
    pillow = _pillow()
    from PIL import UnidentifiedImageError

    try:
        with pillow.open(io.BytesIO(data), formats=KINDS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise pillow.DecompressionBombError(f"{image.width} x {image.height}")
            yield image
    except DataError:
        raise
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise DataError(f"{name}: has more than the {MAX_PIXELS} pixels that are allowed: {error}") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: is no picture: not one of {', '.join(KINDS)}, or its header is broken") from None
    except BROKEN as error:
        raise DataError(f"{name}: cannot be decoded: {error}") from None


def _orientation(image: Image) -> int:
    """EXIF's orientation, 1 to 8; 1, upright, where there is none or the EXIF data is broken."""
    if "exif" not in image.info:
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except BROKEN:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _upright(image: Image, at_least: int | None, grey: bool) -> Image:
    """The picture in RGB or grey, turned as its EXIF says."""
    orientation = _orientation(image)
    if image.format == "JPEG" and (grey or at_least is not None):
        scale = _scale(*image.size, at_least)
        image.draft("L" if grey else image.mode, (image.width // scale, image.height // scale))
    image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        image = _pillow().fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if orientation != 1:
        image = image.transpose(_pillow().Transpose[TURNS[orientation - 2]])
    return image.convert("L" if grey else "RGB")
