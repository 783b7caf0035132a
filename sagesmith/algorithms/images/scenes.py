"""scenes: augmentation for semantic segmentation, where a mask moves with the pixels.

As GluonCV's loaders do it: the long side scaled to a random size, a square cut out, flipped every second time.
"""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.images.augmentation import Window, taken
from sagesmith.formats.errors import DataError

IGNORED = 255  # a mask's pixels that count for nothing, and what is beyond a scene


def crop_side(crop_size: int) -> int:
    """`crop_size` rounded up to a multiple of 8."""
    return -(-crop_size // 8) * 8


def segmentation(
    image: np.ndarray,
    mask: np.ndarray,
    name: str,
    base_size: int,
    random: np.random.Generator | None,
    into: np.ndarray,
) -> np.ndarray:
    """A square of a scene and of its mask, for Semantic Segmentation.

    With `random` the long side becomes base_size x U(0.5, 2.0), a square of `into`'s side is cut out anywhere and
    flipped every second time. Without, the short side becomes that side and the middle is cut out. Where the scene is
    smaller than the square, the rest is black and IGNORED.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8.
        into: (S, S, 3) uint8, written.

    Returns:
        the mask's square, (S, S) uint8: the value of the nearest pixel.

    Raises:
        DataError: picture and mask differ in size.
    """
    if image.shape[:2] != mask.shape:
        raise DataError(
            f"{name}: the picture has {image.shape[1]} x {image.shape[0]} pixels, its mask {mask.shape[1]} x "
            f"{mask.shape[0]}"
        )
    window, flip = _window(image.shape[0], image.shape[1], into.shape[0], base_size, random)
    taken(image, window, into, flip=flip)
    return nearest(mask, window, into.shape[0], flip)


def _window(
    height: int, width: int, side: int, base_size: int, random: np.random.Generator | None
) -> tuple[Window, bool]:
    if random is None:
        span = float(min(height, width))
        return Window((width - span) / 2, (height - span) / 2, span, span), False
    scale = base_size * random.uniform(0.5, 2.0) / max(height, width)
    span = side / scale
    left = random.uniform(0, max(0.0, width - span))
    top = random.uniform(0, max(0.0, height - span))
    return Window(left, top, span, span), bool(random.integers(2))


def nearest(mask: np.ndarray, window: Window, side: int, flip: bool) -> np.ndarray:
    """A window of a mask scaled to (side, side) by taking the nearest pixel; IGNORED beyond the mask."""
    from sagesmith.algorithms.images.pixels_compiled import pick

    steps = (np.arange(side) + 0.5) / side
    rows = np.floor(window.top + steps * window.height).astype(np.int64)
    columns = np.floor(window.left + steps * window.width).astype(np.int64)
    found = np.empty((side, side), np.uint8)
    pick(np.require(mask, np.uint8, ("C", "W")), rows, columns[::-1].copy() if flip else columns, IGNORED, found)
    return found
