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
    with _opened(data, name) as image:
        pixels = np.asarray(_upright(image, at_least, grey))
        return pixels[:, :, None] if grey else pixels


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
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@contextmanager
def _opened(data: bytes | memoryview, name: str) -> Iterator[Image]:
    """A picture of which the header is read. Whatever a decoder raises about its bytes becomes a DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=KINDS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height}")
            yield image
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
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
    from PIL import Image as pillow

    orientation = _orientation(image)
    if image.format == "JPEG" and at_least is not None:
        shorter = min(image.size)
        width, height = (max(1, -(-side * at_least // shorter)) for side in image.size)
        image.draft("L" if grey else image.mode, (width, height))
    image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        image = pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if orientation != 1:
        image = image.transpose(pillow.Transpose[TURNS[orientation - 2]])
    return image.convert("L" if grey else "RGB")
