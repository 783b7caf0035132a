"""Boxes and masks move with the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from sagesmith.algorithms.images.augmentation import Window, whole
from sagesmith.algorithms.images.boxes import detection, jittered, overlapping, placed, zoomed_out
from sagesmith.algorithms.images.scenes import crop_side, segmentation
from sagesmith.formats.errors import DataError


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A black picture with two white boxes."""
    random = np.random.default_rng(seed)
    image = np.zeros((90, 120, 3), np.uint8)
    boxes = np.zeros((2, 4), np.float32)
    for at in range(2):
        left, top = 60 * at + random.integers(1, 20), random.integers(1, 40)
        width, height = random.integers(20, 38, 2)
        boxes[at] = left, top, left + width, top + height
        image[top : top + height, left : left + width] = 255
    return image, boxes


@pytest.mark.parametrize("seed", range(40))
def test_boxes_lie_where_the_white_pixels_are(seed, monkeypatch):
    image, boxes = scene(seed)
    into = np.empty((150, 150, 3), np.uint8)
    monkeypatch.setattr("sagesmith.algorithms.images.boxes.MEAN", (0, 0, 0))
    monkeypatch.setattr("sagesmith.algorithms.images.boxes.jittered", lambda *given: None)
    found, kept = detection(image, boxes, np.random.default_rng(seed), into)
    assert len(found) == len(kept) > 0
    inside = np.zeros((150, 150), bool)
    for left, top, right, bottom in found * 150:
        inside[int(np.ceil(top)) : int(bottom), int(np.ceil(left)) : int(right)] = True
    white = into[..., 0] > 100
    assert (white[inside]).mean() > 0.93
    if len(kept) == 2:  # none was left out: nothing white beyond the boxes, save their rims
        assert (into[..., 0][~inside] > 200).mean() < 0.05


def test_without_chance_the_picture_is_only_scaled():
    image, boxes = scene(0)
    into = np.empty((60, 60, 3), np.uint8)
    found, kept = detection(image, boxes, None, into)
    assert kept.tolist() == [0, 1]
    assert found == pytest.approx(boxes / np.float32([120, 90, 120, 90]))


def test_a_picture_without_boxes():
    into = np.empty((60, 60, 3), np.uint8)
    for seed in range(10):
        found, kept = detection(scene(0)[0], np.empty((0, 4), np.float32), np.random.default_rng(seed), into)
        assert found.shape == (0, 4)
        assert len(kept) == 0


def test_zooming_out_keeps_the_picture_within():
    image = scene(0)[0]
    for seed in range(50):
        window = zoomed_out(image, np.random.default_rng(seed))
        assert window.left <= 0
        assert window.top <= 0
        assert window.left + window.width >= 120 - 1e-6
        assert window.top + window.height >= 90 - 1e-6
        assert 1 <= window.width / 120 <= 4


def test_crops_keep_an_object_and_stay_in_the_window():
    image, boxes = scene(3)
    crops = [overlapping(whole(image), boxes, np.random.default_rng(seed)) for seed in range(100)]
    for crop in crops:
        assert len(placed(boxes, crop)[1]) > 0
        assert crop.left >= 0
        assert crop.left + crop.width <= 120 + 1e-6
    assert 20 < sum(crop != whole(image) for crop in crops) < 100


def test_boxes_are_cut_flipped_and_left_out():
    boxes = np.float32([[0, 0, 40, 40], [90, 0, 100, 10]])
    found, kept = placed(boxes, Window(10, 10, 50, 50), flip=True)
    assert kept.tolist() == [0]
    assert found == pytest.approx(np.float32([[0.4, 0, 1, 0.6]]))


def test_jitter_changes_colours_in_bounds():
    image = np.random.default_rng(0).integers(256, size=(10, 10, 3), dtype=np.uint8)
    changed = 0
    for seed in range(20):
        found = image.copy()
        jittered(found, np.random.default_rng(seed))
        changed += bool((found != image).any())
    assert 15 <= changed <= 20


@pytest.mark.parametrize("seed", [None, *range(20)])
def test_masks_move_with_the_pixels(seed):
    mask = np.zeros((60, 90), np.uint8)
    mask[20:50, 30:70] = 1
    image = np.repeat(mask[..., None] * 200, 3, axis=2)
    into = np.empty((40, 40, 3), np.uint8)
    random = None if seed is None else np.random.default_rng(seed)
    found = segmentation(image, mask, "1.jpg", 64, random, into)
    bright = into[..., 0] > 100
    assert (bright == (found == 1)).mean() > 0.97
    assert (into[found == 255] == 0).all()


def test_crops_are_rounded_up_and_sizes_must_agree():
    assert [crop_side(size) for size in (17, 24, 240, 241)] == [24, 24, 240, 248]
    with pytest.raises(DataError, match=r"^1\.jpg: the picture has 90 x 60 pixels, its mask 60 x 90"):
        into = np.empty((40, 40, 3), np.uint8)
        segmentation(np.zeros((60, 90, 3), np.uint8), np.zeros((90, 60), np.uint8), "1.jpg", 64, None, into)
