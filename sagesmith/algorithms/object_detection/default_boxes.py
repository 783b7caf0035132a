"""default_boxes: the boxes that SSD starts from: a few at every place of each of its feature maps.

Source: Liu et al., SSD: Single Shot MultiBox Detector (2016), section 2.2, and the authors' settings for 300 and 512
pixels, which other sizes follow: the smallest boxes are a tenth of the picture where there are up to six maps, finer
where there are more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

STRIDE = 8  # pixels between two places of the finest map; each further map's are twice as far apart
LARGEST = 1.05  # scale that the coarsest map's second square leans on
BEYOND = 1.02  # how far right or down a box may have its centre: the paper's map of 10 places goes to 304 of 300 pixels
FEW = 6  # maps up to which the boxes begin at 0.1 and 0.2 of the picture, as the paper's do at 300 pixels


def map_sizes(image_shape: int) -> list[int]:
    """Sides of the feature maps, from the finest to a single place: 38, 19, 10, 5, 3, 1 at 300 pixels.

    The first three are the base network's (and a convolution with stride 2); then maps are halved, or, where their
    side is 3 or 5, lose a border of one place by a convolution without padding.
    """
    sizes = [math.ceil(image_shape / STRIDE), math.ceil(image_shape / (2 * STRIDE))]
    while sizes[-1] > 1:
        sizes.append(next_size(sizes[-1]))
    return sizes


def shrinks(size: int) -> bool:
    """Whether the convolution behind a map of this side has no padding (else it has stride 2)."""
    return size in (3, 5)


def next_size(size: int) -> int:
    """Side of the map behind one of side `size`."""
    return size - 2 if shrinks(size) else (size + 1) // 2


def scales(maps: int) -> list[float]:
    """Side of each map's first square as a share of the picture's, and one more for the last map's second square."""
    first, second = (0.1, 0.2) if maps <= FEW else (0.07, 0.15)
    return [first] + [second + (LARGEST - second) * k / (maps - 1) for k in range(maps)]


def aspect_ratios(maps: int) -> list[tuple[int, ...]]:
    """Ratios besides 1 for each map; every one also stands for its inverse. The first and the last two have fewer."""
    return [(2,) if k == 0 or k >= maps - 2 else (2, 3) for k in range(maps)]


def boxes_per_place(maps: int) -> list[int]:
    """Default boxes at a place of each map: two squares, and two for each ratio."""
    return [2 + 2 * len(ratios) for ratios in aspect_ratios(maps)]


def default_boxes(image_shape: int) -> np.ndarray:
    """All default boxes, (n, 4) float32: centre x, centre y, width, height, as shares of the picture.

    8732 at 300 pixels, 24564 at 512. Order: map, row, column, kind. They may reach beyond the picture, as in the
    authors' settings.
    """
    sizes = map_sizes(image_shape)
    sides, ratios = scales(len(sizes)), aspect_ratios(len(sizes))
    parts = []
    for k, size in enumerate(sizes):
        shapes = np.array(_shapes(sides[k], sides[k + 1], ratios[k]))  # (kinds, 2)
        centers = (np.arange(size) + 0.5) * _step(sizes, k, image_shape)
        y, x = np.meshgrid(centers, centers, indexing="ij")
        places = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
        both = np.broadcast_arrays(places, shapes[None])
        parts.append(np.concatenate(both, axis=-1).reshape(-1, 4))
    return np.concatenate(parts).astype(np.float32)


def _step(sizes: Sequence[int], k: int, image_shape: int) -> float:
    """From one place of map k to the next: its stride in pixels, unless the places must be spread evenly to fit."""
    step = STRIDE * 2**k / image_shape
    shrunk = any(shrinks(earlier) for earlier in sizes[1:k])
    return 1 / sizes[k] if shrunk or (sizes[k] - 0.5) * step > BEYOND else step


def _shapes(side: float, next_side: float, ratios: Sequence[int]) -> list[tuple[float, float]]:
    """Width and height of each kind of box at a place."""
    between = math.sqrt(side * next_side)
    squares = [(side, side), (between, between)]
    roots = [(math.sqrt(ratio), 1 / math.sqrt(ratio)) for ratio in ratios]
    wide_and_tall = itertools.chain.from_iterable(((side * a, side * b), (side * b, side * a)) for a, b in roots)
    return squares + list(wide_and_tall)
