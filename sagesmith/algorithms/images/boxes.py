"""boxes: augmentation for object detection, where boxes move with the pixels.

Boxes are float32 (n, 4): left, top, right, bottom, in pixels of the picture. Source of the crop and of zooming out:
Liu et al., SSD, arXiv 1512.02325, 2.2 and 3.6; SageMaker's own does flips, rescaling and jitter.
"""

from __future__ import annotations

import math

import numpy as np

from sagesmith.algorithms.images.augmentation import Window, taken, whole

ZOOM = 4.0  # the most that a canvas is wider than the picture on it
OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of a crop with one of the boxes: IoU at least
TRIALS = 50
SMALLEST = 0.3  # side of a crop as a part of the picture's
JITTER_BRIGHTNESS, JITTER_CONTRAST, JITTER_SATURATION, JITTER_HUE = 32.0, 0.5, 0.5, 18.0  # the SSD paper's code
MEAN = (124, 117, 104)  # ImageNet's, which fills canvases


def zoomed_out(image: np.ndarray, random: np.random.Generator, most: float = ZOOM) -> Window:
    """A window up to `most` times as wide and high as the picture, which lies somewhere in it."""
    ratio = random.uniform(1.0, most)
    height, width = image.shape[0] * ratio, image.shape[1] * ratio
    left = random.uniform(0, width - image.shape[1])
    top = random.uniform(0, height - image.shape[0])
    return Window(-left, -top, width, height)


def overlapping(window: Window, boxes: np.ndarray, random: np.random.Generator) -> Window:
    """A crop of `window` whose IoU with one of the boxes is at least one of OVERLAPS, drawn at random; or any crop
    that holds a box's centre; or, as one choice of seven, `window` itself."""
    choice = int(random.integers(len(OVERLAPS) + 2))
    if choice == 0 or not len(boxes):
        return window
    least = 0.0 if choice == 1 else OVERLAPS[choice - 2]
    for _ in range(TRIALS):
        across, down = random.uniform(SMALLEST, 1.0, 2)
        if not 0.5 <= across / down <= 2.0:
            continue
        width, height = window.width * across, window.height * down
        left = window.left + random.uniform(0, window.width - width)
        top = window.top + random.uniform(0, window.height - height)
        crop = Window(left, top, width, height)
        if _overlap(crop, boxes).max() >= least and _centred(crop, boxes).any():
            return crop
    return window


def _overlap(crop: Window, boxes: np.ndarray) -> np.ndarray:
    right, bottom = crop.left + crop.width, crop.top + crop.height
    across = np.minimum(boxes[:, 2], right) - np.maximum(boxes[:, 0], crop.left)
    down = np.minimum(boxes[:, 3], bottom) - np.maximum(boxes[:, 1], crop.top)
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(shared / np.maximum(areas + crop.width * crop.height - shared, 1e-9))


def _centred(crop: Window, boxes: np.ndarray) -> np.ndarray:
    across, down = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    inside = (across > crop.left) & (across < crop.left + crop.width)
    return np.asarray(inside & (down > crop.top) & (down < crop.top + crop.height))


def placed(boxes: np.ndarray, window: Window, flip: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Where boxes lie in a window, as fractions of its width and height, and which of them stay.

    A box whose centre is outside goes; the others are cut at the window's edges.

    Returns:
        (m, 4) float32 from 0 to 1, and the numbers (m,) of the boxes kept.
    """
    kept = np.flatnonzero(_centred(window, boxes)) if len(boxes) else np.empty(0, np.int64)
    scale = np.array([window.width, window.height] * 2, np.float32)
    moved = (boxes[kept] - np.array([window.left, window.top] * 2, np.float32)) / scale
    moved = np.clip(moved, 0, 1).astype(np.float32)
    if flip:
        moved = np.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], axis=1)
    return moved, kept


def jittered(image: np.ndarray, random: np.random.Generator) -> None:
    """Brightness, contrast, saturation and hue changed at random, in place; each with probability one half."""
    from sagesmith.algorithms.images.pixels_compiled import mix

    dice = random.random(8).tolist()
    light, factor, strength, turn = (
        2 * one - 1 if yes < 0.5 else 0.0 for yes, one in zip(dice[:4], dice[4:], strict=True)
    )
    strength, factor = 1 + JITTER_SATURATION * strength, 1 + JITTER_CONTRAST * factor
    grey = np.array([[0.299], [0.587], [0.114]]) * (1 - strength)
    matrix = factor * (np.eye(3) * strength + grey) @ _turning(JITTER_HUE * turn)
    offset = np.full(3, factor * JITTER_BRIGHTNESS * light, np.float32)
    mix(image.reshape(-1, 3), matrix.astype(np.float32), offset)


def _turning(degrees: float) -> np.ndarray:
    """The matrix that turns colours about the grey axis."""
    a, b = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)) / math.sqrt(3)
    third = (1 - a) / 3
    return np.array(
        [[a + third, third + b, third - b], [third - b, a + third, third + b], [third + b, third - b, a + third]]
    )


def detection(
    image: np.ndarray, boxes: np.ndarray, random: np.random.Generator | None, into: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its boxes for Object Detection, scaled to `into`, its proportions not kept.

    With `random`: zoomed out every second time, a crop that keeps objects, flipped every second time, colours changed.

    Args:
        image: (H, W, 3) uint8.
        boxes: (n, 4) in pixels of it.
        into: (S, S, 3) uint8, written.

    Returns:
        boxes (m, 4) as fractions from 0 to 1, and the numbers (m,) of those that are left.
    """
    window, flip = whole(image), False
    if random is not None:
        if random.integers(2):
            window = zoomed_out(image, random)
        window, flip = overlapping(window, boxes, random), bool(random.integers(2))
    taken(image, window, into, flip=flip, fill=MEAN)
    if random is not None:
        jittered(into, random)
    return placed(boxes, window, flip)
