"""augmentation: what is done to a picture's pixels between decoding and the network.

Geometry is a window: a rectangle of the picture, in its pixels, that becomes the network's input. Crops, rescaling,
changed proportions and zooming out are choices of a window, and the pixels are computed once, by `taken`.
"""

from __future__ import annotations

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
    """Writes a window of a picture, scaled to `into`; bilinear, over all pixels that fall together.

    Args:
        image: (H, W, C) uint8, C as that of `into`.
        into: (h, w, C) uint8.
        flip: mirror left and right.
        fill: the colour of what lies beyond the picture.
    """
    from PIL import Image

    height, width, channels = into.shape
    across, down = width / window.width, height / window.height
    left, right = max(0.0, window.left), min(float(image.shape[1]), window.left + window.width)
    top, bottom = max(0.0, window.top), min(float(image.shape[0]), window.top + window.height)
    x0, x1 = round((left - window.left) * across), round((right - window.left) * across)
    y0, y1 = round((top - window.top) * down), round((bottom - window.top) * down)
    target = into[:, ::-1] if flip else into
    if (x0, y0, x1, y1) != (0, 0, width, height):
        target[:] = fill
    if x1 <= x0 or y1 <= y0:
        return
    source = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    pixels = np.asarray(source.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, (left, top, right, bottom)))
    target[y0:y1, x0:x1] = pixels.reshape(y1 - y0, x1 - x0, channels)


def whole(image: np.ndarray) -> Window:
    """The window that is the picture."""
    return Window(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture at another size, its proportions not kept: (height, width, C)."""
    into = np.empty((height, width, image.shape[2]), np.uint8)
    taken(image, whole(image), into)
    return into


def coloured(image: np.ndarray, hue: float, saturation: float, lightness: float) -> None:
    """Adds to hue, saturation and lightness, in place.

    Args:
        image: (H, W, 3) uint8.
        hue: half degrees, of 180; it goes round.
        saturation, lightness: of 255; what leaves the range is cut off.
    """
    rgb = image.astype(np.float32) / 255
    high, low = rgb.max(axis=2), rgb.min(axis=2)
    light, spread = (high + low) / 2, high - low
    some = np.maximum(spread, 1e-6)
    turn = np.where(
        high == rgb[..., 0],
        (rgb[..., 1] - rgb[..., 2]) / some % 6,
        np.where(high == rgb[..., 1], (rgb[..., 2] - rgb[..., 0]) / some + 2, (rgb[..., 0] - rgb[..., 1]) / some + 4),
    )
    strength = spread / np.maximum(1e-6, 1 - np.abs(2 * light - 1))
    turn = (turn + hue / 30) % 6
    strength = np.clip(strength + saturation / 255, 0, 1)
    light = np.clip(light + lightness / 255, 0, 1)
    reach = strength * np.minimum(light, 1 - light)
    for channel, offset in enumerate((0, 8, 4)):
        k = (offset + turn * 2) % 12
        value = light - reach * np.clip(np.minimum(k - 3, 9 - k), -1, 1)
        image[..., channel] = np.rint(value * 255)


def warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The picture under an affine map about its centre, at its own size; its edges go on beyond it.

    Args:
        matrix: (2, 2), from offsets (across, down) in the picture to offsets in the result.
    """
    from PIL import Image

    height, width, channels = image.shape
    back = np.linalg.inv(matrix)
    centre = np.array([width / 2, height / 2])
    shift = centre - back @ centre
    margin = int(np.ceil(max(height, width) * 0.5))
    source = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    shift = shift + margin
    values = (back[0, 0], back[0, 1], shift[0], back[1, 0], back[1, 1], shift[1])
    given = Image.fromarray(source[:, :, 0] if channels == 1 else source)
    turned = given.transform((width, height), Image.Transform.AFFINE, values, Image.Resampling.BILINEAR)
    return np.asarray(turned).reshape(height, width, channels)


def random_map(random: np.random.Generator) -> np.ndarray:
    """Rotation, shear and changed proportions, as MXNet's augmenter composes them: (2, 2) for `warped`."""
    angle = np.deg2rad(random.uniform(-ROTATION, ROTATION))
    shear = random.uniform(-SHEAR, SHEAR)
    ratio = 1 + random.uniform(-ASPECT, ASPECT)
    down = 2 / (1 + ratio)
    across = ratio * down
    a, b = np.cos(angle), np.sin(angle)
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
        into: (h, w, C) uint8, written.
        level: one of LEVELS; None: the middle is cut out and nothing else is done.
        resize: scale the shorter side to this first; None: leave the size.
        random: needed with a level.

    Raises:
        DataError: naming the picture: smaller than `into` in one dimension.
    """
    height, width, channels = into.shape
    scale = 1.0 if resize is None else resize / min(image.shape[:2])
    down, across = (max(1, round(side * scale)) for side in image.shape[:2])
    if down < height or across < width:
        what = "after resize" if resize is not None else "set resize, or use larger pictures"
        raise DataError(f"{name}: {across} x {down} pixels, smaller than image_shape's {width} x {height} ({what})")
    if level is None or random is None:
        left, top, flip = (across - width) // 2, (down - height) // 2, False
    else:
        left, top = int(random.integers(across - width + 1)), int(random.integers(down - height + 1))
        flip = bool(random.integers(2))
    if level == "crop_color_transform" and random is not None:
        image = warped(image, random_map(random))
    stretch = image.shape[1] / across, image.shape[0] / down
    taken(image, Window(left * stretch[0], top * stretch[1], width * stretch[0], height * stretch[1]), into, flip=flip)
    if level in ("crop_color", "crop_color_transform") and random is not None and channels == 3:
        coloured(into, *(random.uniform(-most, most) for most in (HUE, SATURATION, LIGHTNESS)))
