"""take, cut, pick, warp, shift_colours, mix: pixels resampled and coloured, in compiled code without the GIL."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from sagesmith.algorithms.lanes_compiled import LANES, load, spread, store
from sagesmith.formats.compiled import compiled, inlined

F = np.float32
FAST = {"contract", "reassoc", "nsz", "arcp"}


@inlined
def weigh(size: int, start: float, step: float, limit: int, places: np.ndarray, weights: np.ndarray) -> tuple[int, int]:
    """For each of `size` results the first source pixel and the weights of a triangle as wide as a step; returns the
    first and the last source pixel of all. A result whose middle lies beyond the source gets the place -1."""
    reach = max(1.0, step)
    first, last = limit, 0
    for i in range(size):
        middle = start + (i + 0.5) * step
        if middle < 0 or middle >= limit:
            places[i] = -1
            continue
        begin = max(0, int(np.floor(middle - reach + 0.5)))
        end = min(limit, int(np.floor(middle + reach + 0.5)))
        begin = min(begin, limit - 1)
        end = max(end, begin + 1)
        total = 0.0
        for k in range(weights.shape[1]):
            weight = 0.0
            if begin + k < end:
                weight = max(0.0, 1.0 - abs(begin + k + 0.5 - middle) / reach)
            weights[i, k] = weight
            total += weight
        if total <= 0:
            weights[i, 0], total = 1.0, 1.0
        for k in range(weights.shape[1]):
            weights[i, k] /= total
        places[i] = begin
        first, last = min(first, begin), max(last, end - 1)
    return first, last


@partial(compiled, fastmath=FAST)
def add_rows(image: np.ndarray, row: int, weights: np.ndarray, begin: int, count: int, line: np.ndarray) -> None:
    """line[j] = the weighted sum of the rows from `row` on at begin + j; an odd number of weights ends with a 0."""
    for k in range(0, len(weights), 2):
        one, two = weights[k], weights[k + 1]
        first = image[row + k, begin : begin + count]
        second = image[row + k + 1 if two != 0 else row + k, begin : begin + count]
        if k == 0:
            for j in range(count):
                line[j] = one * F(first[j]) + two * F(second[j])
        elif one != 0:
            for j in range(count):
                line[j] += one * F(first[j]) + two * F(second[j])


@compiled
def add_columns(
    lines: np.ndarray, channels: int, places: np.ndarray, weights: np.ndarray, begin: int, flip: bool, out: np.ndarray
) -> None:
    """out[0, x * channels + c] = the weighted sum of the pixels of lines[0] from places[x] on.

    Eight numbers are added and stored at a time, of which the first `channels` count: what follows them is written over
    by the next pixel.
    """
    width, half = len(places), spread(F(0.5))
    for target in range(width):
        x = width - 1 - target if flip else target
        if places[x] < 0:
            continue
        at, total = places[x] * channels - begin, half
        for k in range(weights.shape[1]):
            total = total + spread(weights[x, k]) * load(lines, 0, at + k * channels)
        store(out, 0, target * channels, total)


@compiled
def round_all(numbers: np.ndarray, into: np.ndarray) -> None:
    """Numbers from 0 to 255, a half added already, as bytes."""
    for j in range(len(into)):
        into[j] = np.uint8(np.int32(numbers[j]))


@partial(compiled, fastmath=FAST)
def take(
    image: np.ndarray, channels: int, into: np.ndarray, left: float, top: float, across: float, down: float,
    flip: bool, fill: np.ndarray,
) -> None:  # fmt: skip
    """Writes the window of `image` (H, W * channels) that begins at (left, top), `across` and `down` source pixels for
    each pixel of `into` (h, w * channels)."""
    height, width = into.shape[0], into.shape[1] // channels
    rows, columns = image.shape[0], image.shape[1] // channels
    taps_x, taps_y = int(np.ceil(max(1.0, across) * 2)) + 1, int(np.ceil(max(1.0, down) * 2)) + 1
    places_x, places_y = np.empty(width, np.int64), np.empty(height, np.int64)
    weights_x, weights_y = np.empty((width, taps_x), np.float32), np.empty((height, taps_y + taps_y % 2), np.float32)
    first, last = weigh(width, left, across, columns, places_x, weights_x)
    weigh(height, top, down, rows, places_y, weights_y)
    begin, count = first * channels, max(0, last + 1 - first) * channels
    lines = np.zeros((1, count + taps_x * channels + LANES), np.float32)
    out = np.zeros((1, width * channels + LANES), np.float32)
    beyond_left, beyond_right = 0, 0  # pixels of the result, before it is flipped
    while beyond_left < width and places_x[beyond_left] < 0:
        beyond_left += 1
    while beyond_left + beyond_right < width and places_x[width - 1 - beyond_right] < 0:
        beyond_right += 1
    if flip:
        beyond_left, beyond_right = beyond_right, beyond_left
    for y in range(height):
        if places_y[y] < 0 or count == 0:
            for x in range(width):
                for c in range(channels):
                    into[y, x * channels + c] = fill[c]
            continue
        add_rows(image, places_y[y], weights_y[y], begin, count, lines[0])
        add_columns(lines, channels, places_x, weights_x, begin, flip, out)
        round_all(out[0], into[y])
        for x in range(beyond_left):
            for c in range(channels):
                into[y, x * channels + c] = fill[c]
        for x in range(width - beyond_right, width):
            for c in range(channels):
                into[y, x * channels + c] = fill[c]


@compiled
def cut(image: np.ndarray, channels: int, into: np.ndarray, left: int, top: int, flip: bool) -> None:
    """As `take`, for a window inside of the picture whose pixels are the picture's own."""
    height, width = into.shape[0], into.shape[1]
    for y in range(height):
        source = image[top + y, left * channels : (left + width) * channels]
        if flip:
            for x in range(width):
                for c in range(channels):
                    into[y, width - 1 - x, c] = source[x * channels + c]
        else:
            for x in range(width):
                for c in range(channels):
                    into[y, x, c] = source[x * channels + c]


@compiled
def pick(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray, beyond: int, into: np.ndarray) -> None:
    """into[y, x] = mask[rows[y], columns[x]], or `beyond` where there is no such pixel."""
    for y in range(len(rows)):
        if rows[y] < 0 or rows[y] >= mask.shape[0]:
            into[y] = beyond
            continue
        for x in range(len(columns)):
            inside = 0 <= columns[x] < mask.shape[1]
            into[y, x] = mask[rows[y], columns[x]] if inside else beyond


@partial(compiled, fastmath=FAST)
def warp(
    image: np.ndarray, channels: int, into: np.ndarray, a: float, b: float, c: float, d: float, left: float,
    top: float, flip: bool,
) -> None:  # fmt: skip
    """Pixel (x, y) of `into` is that of `image` (H, W * channels) at (left + a x + b y, top + c x + d y), bilinear; the
    edges go on beyond the picture."""
    height, width = into.shape[0], into.shape[1]
    right, bottom = image.shape[1] // channels - 1, image.shape[0] - 1
    for y in range(height):
        for x in range(width):
            across = min(max(F(left + a * x + b * y), F(0)), F(right))
            down = min(max(F(top + c * x + d * y), F(0)), F(bottom))
            x0, y0 = int(across), int(down)
            x1, y1 = min(x0 + 1, right) * channels, min(y0 + 1, bottom)
            u, v = across - F(x0), down - F(y0)
            x0 *= channels
            target = into[y, width - 1 - x if flip else x]
            for k in range(channels):
                upper = F(image[y0, x0 + k]) * (F(1) - u) + F(image[y0, x1 + k]) * u
                lower = F(image[y1, x0 + k]) * (F(1) - u) + F(image[y1, x1 + k]) * u
                target[k] = np.uint8(upper * (F(1) - v) + lower * v + F(0.5))


@partial(inlined, fastmath=FAST)
def channel(k: np.float32, light: np.float32, reach: np.float32) -> np.uint8:
    """Red, green or blue as a byte: HSL to RGB at 12ths of the circle from where it is strongest."""
    k = k - F(12) if k >= F(12) else k
    return np.uint8((light - reach * max(F(-1), min(min(k - F(3), F(9) - k), F(1)))) * F(255) + F(0.5))


@partial(compiled, fastmath=FAST)
def shift_colours(image: np.ndarray, hue: Any, saturation: Any, lightness: Any) -> None:
    """Adds to hue (of 6, from 0 to 6), saturation and lightness (of 1) of (n, 3) uint8, in place."""
    hue, saturation, lightness = F(hue), F(saturation), F(lightness)
    for i in range(image.shape[0]):
        red, green, blue = F(image[i, 0]), F(image[i, 1]), F(image[i, 2])
        high, low = max(max(red, green), blue), min(min(red, green), blue)
        spread, light = high - low, (high + low) * F(1 / 510)
        over = F(1) / max(spread, F(1e-6))
        if high == red:
            turn = (green - blue) * over
        elif high == green:
            turn = (blue - red) * over + F(2)
        else:
            turn = (red - green) * over + F(4)
        strength = spread / max(F(1e-6), F(255) - abs(high + low - F(255)))
        turn += hue
        turn = turn + F(6) if turn < F(0) else turn
        turn = turn - F(6) if turn >= F(6) else turn
        strength = min(max(strength + saturation, F(0)), F(1))
        light = min(max(light + lightness, F(0)), F(1))
        reach = strength * min(light, F(1) - light)
        image[i, 0] = channel(turn * F(2), light, reach)
        image[i, 1] = channel(turn * F(2) + F(8), light, reach)
        image[i, 2] = channel(turn * F(2) + F(4), light, reach)


@partial(compiled, fastmath=FAST)
def mix(image: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> None:
    """Colours of (n, 3) uint8 times a matrix (3, 3) plus an offset (3,), in place, cut off at 0 and 255."""
    m = matrix
    for i in range(image.shape[0]):
        red, green, blue = F(image[i, 0]), F(image[i, 1]), F(image[i, 2])
        for k in range(3):
            value = red * m[0, k] + green * m[1, k] + blue * m[2, k] + offset[k]
            image[i, k] = np.uint8(min(max(value + F(0.5), F(0)), F(255)))
