"""Batches of kept pictures in one call: the same pixels as picture by picture, and only where it can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms.images.augmentation import augmented
from sagesmith.algorithms.images.loader import Batch, Loader
from sagesmith.algorithms.images.pictures import ArrayPictures, FilePictures, Picture, Pictures
from sagesmith.algorithms.images.together import Together
from sagesmith.algorithms.images.together_compiled import dice
from sagesmith.formats.images import png


@pytest.mark.parametrize("count", [1, 4, 9])
def test_dice_are_numpys_philox(count: int) -> None:
    for key, number in ((0, 0), (5 << 32 | 3, 77), (2**64 - 1, 2**63)):
        out = np.empty(count)
        dice(np.uint64(key), np.uint64(number), out)
        philox = np.random.Philox(key=np.array([key, number], np.uint64))
        np.testing.assert_array_equal(out, np.random.Generator(philox).random(count))


def drawn(folder: Any, sizes: list[tuple[int, int]]) -> Pictures:
    random, files = np.random.default_rng(0), []
    for number, (height, width) in enumerate(sizes):
        files.append(folder / f"{number}.png")
        files[-1].write_bytes(png(random.integers(0, 256, (height, width, 3)).astype(np.uint8)))
    return FilePictures(folder, files, list(range(len(files))))


def epochs(pictures: Pictures, level: str | None, resize: int | None, together: Together | None) -> list[list[Batch]]:
    def transform(picture: Picture, random: np.random.Generator, into: np.ndarray) -> Any:
        pixels = picture.pixels(at_least=resize)
        augmented(pixels, into, picture.name, level=level, resize=resize, random=random)
        return picture.label

    loader = Loader(pictures, transform, 4, (20, 16, 3), threads=2, seed=5, shuffle=True, together=together)
    return [list(loader.epoch(number)) for number in range(3)]


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("resize", [None, 24])
@pytest.mark.parametrize("level", [None, "crop", "crop_color", "crop_color_transform"])
def test_pixels_are_those_of_one_by_one(tmp_path: Any, level: str | None, resize: int | None, in_memory: bool) -> None:
    pictures = drawn(tmp_path, [(24, 30)] * 10)
    if in_memory:
        pictures = ArrayPictures([picture.pixels() for picture in pictures], list(range(10)))
    asked: list[int] = []

    class Counted(Together):
        def __call__(self, *arguments: Any) -> None:
            asked.append(1)
            super().__call__(*arguments)

    pairs = zip(
        epochs(pictures, level, resize, Counted(level, resize)), epochs(pictures, level, resize, None), strict=True
    )
    for first, second in pairs:
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.images, other.images)
            np.testing.assert_array_equal(one.numbers, other.numbers)
            assert one.targets == other.targets == one.numbers.tolist()
    assert len(asked) == (0 if level == "crop_color_transform" else 6), "the first epoch decodes, two more do not"


@pytest.mark.parametrize(("sizes", "resize"), [([(24, 30)] * 9 + [(30, 24)], None), ([(24, 30)] * 10, 28)])
def test_other_sizes_are_taken_one_by_one(tmp_path: Any, sizes: list[tuple[int, int]], resize: int | None) -> None:
    class Never(Together):
        def __call__(self, *arguments: Any) -> None:
            raise AssertionError("these pictures cannot be cut as they are")

    found = epochs(drawn(tmp_path, sizes), "crop", resize, Never("crop", resize))
    assert [len(batch) for batch in found[2]] == [4, 4, 2]
