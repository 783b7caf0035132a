"""Default boxes, matching, loss, suppression and average precision of Object Detection, beside slow plain twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sagesmith.algorithms.object_detection import matching
from sagesmith.algorithms.object_detection.default_boxes import boxes_per_place, default_boxes, map_sizes, scales
from sagesmith.algorithms.object_detection.losses import loss_of
from sagesmith.algorithms.object_detection.precision import (
    average_precisions,
    coco_precision,
    mean_average_precision,
)
from sagesmith.algorithms.object_detection.suppression import detections
from tests.algorithms import detection_reference as reference


def drawn_boxes(random: np.random.Generator, count: int, least: float = 0.05) -> np.ndarray:
    """Boxes by corners within the picture, (count, 4)."""
    low = random.uniform(0, 0.6, (count, 2))
    return np.concatenate([low, low + random.uniform(least, 0.4, (count, 2))], axis=1).astype(np.float32)


# -- default boxes -----------------------------------------------------------------------------------------------
def test_the_papers_boxes_at_300_and_512_pixels() -> None:
    assert map_sizes(300) == [38, 19, 10, 5, 3, 1]
    assert map_sizes(512) == [64, 32, 16, 8, 4, 2, 1]
    assert len(default_boxes(300)) == 8732
    assert len(default_boxes(512)) == 24564
    assert np.allclose(scales(6), [0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05])
    assert np.allclose(scales(7), [0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05])
    first = default_boxes(300)[:4]
    assert np.allclose(first[:, :2], 4 / 300)  # the middle of the first 8 by 8 pixels
    assert np.allclose(first[0, 2:], 0.1)
    assert np.allclose(first[1, 2:], math.sqrt(0.1 * 0.2))
    assert np.allclose(first[2, 2:], [0.1 * math.sqrt(2), 0.1 / math.sqrt(2)])
    assert np.allclose(first[3, 2:], [0.1 / math.sqrt(2), 0.1 * math.sqrt(2)])
    assert np.allclose(default_boxes(300)[-1], [0.5, 0.5, 0.88 / math.sqrt(2), 0.88 * math.sqrt(2)])


@pytest.mark.parametrize("side", [300, 301, 333, 400, 417, 512, 640, 1000])
def test_any_size_has_a_box_for_every_place_and_ends_in_a_single_one(side: int) -> None:
    sizes, boxes = map_sizes(side), default_boxes(side)
    assert sizes[-1] == 1
    assert len(boxes) == sum(size**2 * kinds for size, kinds in zip(sizes, boxes_per_place(len(sizes)), strict=True))
    assert (boxes[:, :2] > 0).all()
    assert (boxes[:, :2] <= 1.02).all()


# -- matching ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(5))
def test_matching_a_batch_is_matching_box_by_box(seed: int) -> None:
    random = np.random.default_rng(seed)
    places = drawn_boxes(random, 60)
    defaults = np.concatenate([(places[:, :2] + places[:, 2:]) / 2, places[:, 2:] - places[:, :2]], axis=1)
    boxes = np.stack([drawn_boxes(random, 4) for _ in range(3)])
    classes = np.array([[2, 0, 1, 1], [0, 2, -1, -1], [-1, -1, -1, -1]])
    boxes[classes < 0] = -1
    wanted, owner = matching.match(*(torch.from_numpy(a) for a in (defaults, boxes, classes)))
    for k in range(3):
        expected = reference.matched(defaults, boxes[k], classes[k])
        assert len(set(expected[expected >= 0])) == (classes[k] >= 0).sum()  # the twin knows no quarrels
        assert wanted[k].tolist() == [classes[k][o] + 1 if o >= 0 else 0 for o in expected]
        assert owner[k][wanted[k] > 0].tolist() == expected[expected >= 0].tolist()


def test_objects_that_want_the_same_default_box_get_one_each() -> None:
    defaults = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.55, 0.5, 0.2, 0.2], [0.1, 0.1, 0.05, 0.05]])
    small = [0.49, 0.49, 0.51, 0.51]
    boxes = torch.tensor([[small, [0.48, 0.48, 0.52, 0.52], small]])
    wanted, owner = matching.match(defaults, boxes, torch.tensor([[4, 7, 4]]))
    assert wanted[0, :2].tolist() == [8, 5]  # the larger overlap has the first, another its next best
    assert owner[0, 0] == 1
    assert wanted[0, 2] == 0  # which does not touch any


def test_no_objects_no_matches() -> None:
    defaults = torch.from_numpy(default_boxes(300))
    wanted, _ = matching.match(defaults, torch.empty(2, 0, 4), torch.empty(2, 0))
    assert wanted.shape == (2, 8732)
    assert not wanted.any()


def test_offsets_and_boxes_are_each_others_inverse() -> None:
    random = np.random.default_rng(0)
    defaults = torch.from_numpy(default_boxes(300)[::7])
    boxes = torch.from_numpy(drawn_boxes(random, len(defaults)))
    offsets = matching.encoded(boxes, defaults)
    assert torch.allclose(matching.decoded(offsets, defaults), boxes, atol=1e-5)
    one = matching.encoded(torch.tensor([[0.1, 0.1, 0.5, 0.3]]), torch.tensor([[0.2, 0.2, 0.2, 0.2]]))
    assert np.allclose(one, [[(0.1 / 0.2) / 0.1, 0, math.log(2) / 0.2, 0]], atol=1e-5)  # the paper's formula


# -- loss --------------------------------------------------------------------------------------------------------
def test_the_loss_counts_matched_boxes_and_three_times_as_many_hard_negatives() -> None:
    random = np.random.default_rng(3)
    defaults = torch.from_numpy(default_boxes(300)[3::20][:400])
    boxes = torch.from_numpy(np.stack([drawn_boxes(random, 3, 0.2) for _ in range(3)]))
    classes = torch.tensor([[0, 1, 1], [2, -1, -1], [-1, -1, -1]])
    logits = torch.from_numpy(random.normal(size=(3, 400, 4))).float().requires_grad_()
    offsets = torch.from_numpy(random.normal(size=(3, 400, 4))).float().requires_grad_()
    wanted, owner = matching.match(defaults, boxes, classes)
    loss = loss_of(logits, offsets, wanted, owner, boxes, defaults)
    classes_sum = offsets_sum = matched = counted = 0.0
    said, moved = logits.detach(), offsets.detach()
    for k in range(3):
        entropy = functional.cross_entropy(said[k], wanted[k], reduction="none")
        positive = wanted[k] > 0
        target = matching.encoded(boxes[k][owner[k]], defaults)
        offsets_sum += float(functional.smooth_l1_loss(moved[k][positive], target[positive], reduction="sum"))
        count = int(positive.sum())
        negatives = sorted(entropy[~positive].tolist(), reverse=True)[: 3 * count]
        classes_sum += float(entropy[positive].sum()) + sum(negatives)
        matched, counted = matched + count, counted + count + len(negatives)
    assert int(loss.matched) == matched
    assert int(loss.counted) == counted == 4 * matched
    assert loss.value.item() == pytest.approx((classes_sum + offsets_sum) / matched, rel=1e-4)
    loss.value.backward()
    assert not logits.grad[2].any()  # a picture without objects counts for nothing
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(offsets.grad).all()


def test_a_batch_without_objects_has_no_loss() -> None:
    defaults = torch.from_numpy(default_boxes(300)[:50])
    logits, offsets = torch.zeros(2, 50, 3, requires_grad=True), torch.zeros(2, 50, 4, requires_grad=True)
    boxes, classes = torch.empty(2, 0, 4), torch.empty(2, 0)
    loss = loss_of(logits, offsets, *matching.match(defaults, boxes, classes), boxes, defaults)
    assert loss.value.item() == 0
    loss.value.backward()
    assert not offsets.grad.any()


# -- suppression -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("limit", "topk"), [(0.45, 400), (0.2, 20), (1.0, 7), (0.7, 1)])
def test_detections_are_those_of_a_plain_search(limit: float, topk: int) -> None:
    random = np.random.default_rng(5)
    defaults = default_boxes(300)[::9]
    logits = random.normal(size=(3, len(defaults), 4)) * 2
    logits[..., 0] += 3
    logits = torch.from_numpy(logits).float()
    offsets = torch.from_numpy(random.normal(size=(3, len(defaults), 4))).float()
    found = detections(logits, offsets, defaults, limit, topk, 2)
    boxes = matching.decoded(offsets, torch.from_numpy(defaults)).clamp(0, 1).double().numpy()
    scores = torch.softmax(logits, -1).numpy()
    for k in range(3):
        rows = []
        for number in range(3):
            mine = scores[k, :, number + 1]
            order = sorted(np.flatnonzero(mine > 0.01), key=lambda n: (-mine[n], n))[:topk]
            kept = reference.suppressed(boxes[k][order], mine[order], limit)
            rows += [(number, mine[order[n]], *boxes[k][order[n]]) for n in kept]
        rows = sorted(rows, key=lambda row: -row[1])[:topk]
        assert np.allclose(found[k], np.array(rows), atol=1e-5)
        assert found[k].shape[1] == 6


def test_nothing_is_found_where_nothing_is_likely() -> None:
    logits = torch.zeros(1, 10, 3)
    logits[..., 0] = 20
    assert detections(logits, torch.zeros(1, 10, 4), default_boxes(300)[:10], 0.45, 400, 1)[0].shape == (0, 6)


# -- average precision -------------------------------------------------------------------------------------------
def drawn_scene(random: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Objects of three classes in six pictures, and detections that resemble some of them."""
    objects, found = [], []
    for _ in range(6):
        boxes = drawn_boxes(random, int(random.integers(0, 6)))
        classes = random.integers(0, 3, (len(boxes), 1))
        objects.append(np.concatenate([classes, boxes], axis=1))
        picked = random.integers(0, max(1, len(boxes)), 8) if len(boxes) else np.empty(0, int)
        near = np.clip(boxes[picked] + random.normal(0, 0.03, (len(picked), 4)), 0, 1)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 0.01)
        far = drawn_boxes(random, 3)
        rows = np.concatenate([near, far])
        head = np.column_stack([random.integers(0, 3, len(rows)), random.random(len(rows))])
        head[: len(picked), 0] = np.where(random.random(len(picked)) < 0.8, classes[picked, 0], head[: len(picked), 0])
        found.append(np.concatenate([head, rows], axis=1))
    return objects, found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([0.3, 0.5, 0.75]))
def test_average_precision_is_the_area_under_the_curve(seed: int, threshold: float) -> None:
    objects, found = drawn_scene(np.random.default_rng(seed))
    values = average_precisions(objects, found, threshold)
    present = {int(row[0]) for mine in objects for row in mine}
    assert set(values) == present
    for number, value in values.items():
        assert value == pytest.approx(reference.average_precision(objects, found, number, threshold))
    assert mean_average_precision(objects, found, threshold) == pytest.approx(np.mean(list(values.values()) or [0]))


def test_perfect_detections_and_none() -> None:
    objects = [np.array([[0, 0.1, 0.1, 0.4, 0.4], [1, 0.5, 0.5, 0.9, 0.8]]), np.empty((0, 5))]
    perfect = [np.array([[0, 0.9, 0.1, 0.1, 0.4, 0.4], [1, 0.8, 0.5, 0.5, 0.9, 0.8]]), np.empty((0, 6))]
    nothing = [np.empty((0, 6))] * 2
    assert mean_average_precision(objects, perfect) == 1
    assert mean_average_precision(objects, nothing) == 0
    doubled = [np.concatenate([perfect[0], perfect[0]]), np.empty((0, 6))]
    assert mean_average_precision(objects, doubled) == 1  # doubles that come after are wrong, but cost no recall
    with pytest.raises(ValueError, match="objects of 2 pictures, but detections of 1"):
        average_precisions(objects, perfect[:1])


def test_cocos_measures_are_faster_coco_evals() -> None:
    pytest.importorskip("faster_coco_eval")
    objects, found = drawn_scene(np.random.default_rng(1))
    measures = coco_precision(objects, found)
    assert 0 < measures["AP"] < measures["AP50"] < 1
    assert measures["AP50"] == pytest.approx(mean_average_precision(objects, found, 0.5), abs=0.1)
    perfect = [np.insert(mine, 1, 1.0, axis=1) for mine in objects]
    assert coco_precision(objects, perfect)["AP"] == pytest.approx(1)
    assert coco_precision(objects, [row[:0] for row in found])["AP"] == 0
