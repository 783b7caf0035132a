"""augmentation: what is done to a picture's pixels between decoding and the network.

Geometry is a window: a rectangle of the picture, in its pixels, that becomes the network's input. Crops, rescaling,
changed proportions and zooming out are choices of a window, and the pixels are computed once, by `taken`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sagesmith.formats.errors import DataError

LEVELS = ("crop", "crop_color", "crop_color_transform")
HUE, SATURATION, LIGHTNESS = 36, 50, 50  # largest offsets; hue in half degrees, the others of 255, as in OpenCV
ROTATION, SHEAR, ASPECT = 10.0, 0.1, 0.25  # degrees, ratio, ratio


class Window(NamedTuple):
    """A rectangle of a picture, in its pixels; it may reach beyond the picture."""

    left: float
    top: float
    width: float
    height: float


def taken(
    image: np.ndarray, window: Window, into: np.ndarray, *, flip: bool = False, fill: tuple[int, ...] | int = 0
) -> None:
    """Writes a window of a picture, scaled to `into`; bilinear, over all pixels that fall together, as Pillow does it.

    Args:
        image: (H, W, C) uint8, C as that of `into`.
        into: (h, w, C) uint8, contiguous.
        flip: mirror left and right.
        fill: the colour of what lies beyond the picture.
    """
    from sagesmith.algorithms.images.pixels_compiled import cut, take

    height, width, channels = into.shape
    rows = _rows(image, channels)
    left, top, across, down = window.left, window.top, window.width / width, window.height / height
    inside = left >= 0 and top >= 0 and left + width <= image.shape[1] and top + height <= image.shape[0]
    if across == down == 1.0 and inside and left == int(left) and top == int(top):
        cut(rows, channels, into, int(left), int(top), flip)
        return
    colour = np.zeros(channels, np.uint8)
    colour[:] = fill
    take(rows, channels, into.reshape(height, -1), float(left), float(top), float(across), float(down), flip, colour)


def _rows(image: np.ndarray, channels: int) -> np.ndarray:
    """(H, W * C), as compiled code takes it."""
    if image.shape[2] != channels:
        raise ValueError(f"a picture of {image.shape[2]} channels where {channels} are wanted")
    return np.require(image, np.uint8, ("C", "W")).reshape(image.shape[0], -1)


def whole(image: np.ndarray) -> Window:
    """The window that is the picture."""
    return Window(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture at another size, its proportions not kept: (height, width, C)."""
    into = np.empty((height, width, image.shape[2]), np.uint8)
    taken(image, whole(image), into)
    return into


def coloured(image: np.ndarray, hue: float, saturation: float, lightness: float) -> None:
    """Adds to hue, saturation and lightness (HSL), in place.

    Args:
        image: (H, W, 3) uint8, contiguous.
        hue: half degrees, of 180; it goes round.
        saturation, lightness: of 255; what leaves the range is cut off.
    """
    from sagesmith.algorithms.images.pixels_compiled import shift_colours

    shift_colours(image.reshape(-1, 3), hue / 30 % 6, saturation / 255, lightness / 255)


def warped(image: np.ndarray, matrix: np.ndarray, left: int, top: int, into: np.ndarray, *, flip: bool = False) -> None:
    """Writes a part of the picture under an affine map about its centre; bilinear, its edges go on beyond it.

    Args:
        image: (H, W, C) uint8.
        matrix: (2, 2), from offsets (across, down) in the picture to offsets in the result.
        left, top: of the part in the result, which is as large as the picture.
        into: (h, w, C) uint8, contiguous.
    """
    from sagesmith.algorithms.images.pixels_compiled import warp

    back = np.linalg.inv(matrix)
    centre = np.array([image.shape[1] / 2, image.shape[0] / 2])
    begin = back @ (np.array([left + 0.5, top + 0.5]) - centre) + centre - 0.5
    a, b, c, d, x, y = (float(value) for value in (*back.ravel(), *begin))
    warp(_rows(image, into.shape[2]), into.shape[2], into, a, b, c, d, x, y, flip)


def random_map(dice: Sequence[float]) -> np.ndarray:
    """Rotation, shear and changed proportions, as MXNet's augmenter composes them: (2, 2) for `warped`.

    Args:
        dice: three numbers from 0 to 1.
    """
    turn, lean, shape = (2 * one - 1 for one in dice)
    angle, shear, ratio = math.radians(ROTATION * turn), SHEAR * lean, 1 + ASPECT * shape
    down = 2 / (1 + ratio)
    across = ratio * down
    a, b = math.cos(angle), math.sin(angle)
    return np.array([[down * a - shear * b * across, down * b + shear * a * across], [-b * across, a * across]])


def augmented(
    image: np.ndarray,
    into: np.ndarray,
    name: str,
    *,
    level: str | None = None,
    resize: int | None = None,
    random: np.random.Generator | None = None,
) -> None:
    """A picture for Image Classification: scaled, cropped, and changed as far as `level` says.

    Args:
        image: (H, W, C) uint8.
        into: (h, w, C) uint8, contiguous, written.
        level: one of LEVELS; None: the middle is cut out and nothing else is done.
        resize: scale the shorter side to this first; None: leave the size.
        random: needed with a level.

    Raises:
        DataError: naming the picture: smaller than `into` in one dimension.
    """
    height, width, channels = into.shape
    scale = 1.0 if resize is None else resize / min(image.shape[:2])
    down, across = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    if down < height or across < width:
        what = "after resize" if resize is not None else "set resize, or use larger pictures"
        raise DataError(f"{name}: {across} x {down} pixels, smaller than image_shape's {width} x {height} ({what})")
    if level is None:
        _cropped(image, into, (across - width) // 2, (down - height) // 2, across, down, False)
        return
    assert random is not None
    dice = random.random(9).tolist()
    left, top, flip = int(dice[0] * (across - width + 1)), int(dice[1] * (down - height + 1)), dice[2] < 0.5
    if level == "crop_color_transform":
        scaled = image if scale == 1.0 else resized(image, down, across)
        warped(scaled, random_map(dice[6:9]), left, top, into, flip=flip)
    else:
        _cropped(image, into, left, top, across, down, flip)
    if level != "crop" and channels == 3:
        hue, saturation, lightness = ((2 * one - 1) for one in dice[3:6])
        coloured(into, HUE * hue, SATURATION * saturation, LIGHTNESS * lightness)


def _cropped(image: np.ndarray, into: np.ndarray, left: int, top: int, across: int, down: int, flip: bool) -> None:
    """What lies at (left, top) of the picture once that is scaled to `across` x `down` pixels."""
    x, y = image.shape[1] / across, image.shape[0] / down
    taken(image, Window(left * x, top * y, into.shape[1] * x, into.shape[0] * y), into, flip=flip)
