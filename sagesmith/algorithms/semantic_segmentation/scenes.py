"""scenes: pictures with the classes of their pixels, opened from channels, folders or arrays; how they are learnt from.

The names of errors are the pictures'; a mask is `mask of train/cat.jpg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sagesmith.algorithms.images import scenes
from sagesmith.algorithms.images.pictures import Picture, Pictures
from sagesmith.algorithms.images.streams import PictureStream
from sagesmith.algorithms.semantic_segmentation.label_maps import LabelMap
from sagesmith.formats.ahead import in_order
from sagesmith.formats.errors import DataError
from sagesmith.formats.images import mask_of

WAITING = 64 << 20  # pixels, 256 MB with their classes
Held = tuple[int, np.ndarray, Any]  # number, pixels (H, W, 3), classes (H, W) or None


@dataclass(frozen=True)
class Scenes:
    """A channel's pictures, each with a mask, and what the masks' pixel values mean."""

    pictures: Pictures | PictureStream
    labels: LabelMap

    def __len__(self) -> int:
        """How many there are; a stream does not tell: 0."""
        return 0 if isinstance(self.pictures, PictureStream) else len(self.pictures)

    def read(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (H, W, 3) uint8 and classes (H, W) uint8.

        Raises:
            DataError: naming the picture: it or its mask cannot be decoded, they differ in size, a class is unknown.
        """
        image, name = coloured(picture.pixels()), f"mask of {picture.name}"
        given = picture.label
        mask = checked_mask(given, name) if isinstance(given, np.ndarray) else mask_of(given, name)
        if image.shape[:2] != mask.shape:
            sizes = [f"{shape[1]} x {shape[0]}" for shape in (image.shape, mask.shape)]
            raise DataError(f"{picture.name}: the picture has {sizes[0]} pixels, its mask {sizes[1]}")
        return image, self.labels.classes_of(mask, name)

    def transform(self, base_size: int) -> Callable[[Picture, np.random.Generator, np.ndarray], np.ndarray]:
        """For a Loader: a random crop of a picture, whose classes (S, S) it returns."""

        def cropped(picture: Picture, random: np.random.Generator, into: np.ndarray) -> np.ndarray:
            image, classes = self.read(picture)
            return scenes.segmentation(image, classes, picture.name, base_size, random, into)

        return cropped

    def whole(self, threads: int) -> Iterator[Held]:
        """One pass over all pictures at their own size, decoded by several threads ahead."""

        def work(numbered: tuple[int, Picture]) -> Held:
            return numbered[0], *self.read(numbered[1])

        return in_order(work, enumerate(self.pictures), threads)


def coloured(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) of a picture (H, W, 1 or 3)."""
    return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)


def checked_mask(mask: Any, name: str) -> np.ndarray:
    """(H, W) uint8 of an array that a caller gave.

    Raises:
        DataError: another shape, or values that are not whole numbers from 0 to 255.
    """
    array = np.asarray(mask)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2:
        raise DataError(f"{name}: a mask is an array (height, width), this one has shape {np.shape(mask)}")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "uib" or array.min(initial=0) < 0 or array.max(initial=0) > 255:
        raise DataError(f"{name}: its values are not whole numbers from 0 to 255")
    return array.astype(np.uint8)


@dataclass
class Group:
    """Pictures of one size that go through the network together."""

    numbers: list[int] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)


def grouped(
    held: Iterator[Held], most: int, pixels: int, seen: Callable[[int, int], tuple[int, int]]
) -> Iterator[Group]:
    """Groups of up to `most` pictures of one size, of which the network sees up to `pixels` pixels (or one picture).

    At most twice `most` pictures, of up to WAITING pixels together, wait for others of their size.
    """
    waiting: dict[tuple[int, ...], Group] = {}
    count = held_pixels = 0
    for number, image, other in held:
        group = waiting.setdefault(image.shape, Group())
        group.numbers.append(number)
        group.images.append(image)
        group.others.append(other)
        height, width = image.shape[:2]
        count, held_pixels = count + 1, held_pixels + height * width
        down, across = seen(height, width)
        full = len(group.images) >= min(most, max(1, pixels // (down * across)))
        if full or count > 2 * most or held_pixels > WAITING:
            shape = image.shape if full else max(waiting, key=lambda shape: len(waiting[shape].images))
            group = waiting.pop(shape)
            count -= len(group.images)
            held_pixels -= len(group.images) * shape[0] * shape[1]
            yield group
    yield from waiting.values()
