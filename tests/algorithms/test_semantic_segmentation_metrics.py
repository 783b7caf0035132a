"""mIOU, pixel accuracy, label maps, learning rates, patience."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from sklearn.metrics import confusion_matrix, jaccard_score

from sagesmith.algorithms.semantic_segmentation import metrics
from sagesmith.algorithms.semantic_segmentation.label_maps import LabelMap
from sagesmith.algorithms.semantic_segmentation.schedules import Patience, Schedule
from sagesmith.formats.errors import DataError


# -- metrics -----------------------------------------------------------------------------------------------------
def drawn(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, (3, 20, 30)).astype(np.uint8)
    predicted = np.where(random.random(label.shape) < 0.6, label, random.integers(0, classes, label.shape))
    label[random.random(label.shape) < 0.1] = 255
    return label, predicted.astype(np.uint8)


def test_the_confusion_matrix_is_scikit_learns_without_the_ignored() -> None:
    label, predicted = drawn(6)
    known = label != 255
    expected = confusion_matrix(label[known], predicted[known], labels=range(6))
    assert np.array_equal(metrics.confusion(label, predicted, 6), expected)
    on_device = metrics.confusion_on_device(torch.from_numpy(label), torch.from_numpy(predicted), 6)
    assert np.array_equal(on_device.numpy(), expected)


def test_measures_are_of_all_pixels_of_all_pictures() -> None:
    label, predicted = drawn(4)
    parts = sum(metrics.confusion(*pair, 4) for pair in zip(label, predicted, strict=True))
    known = label != 255
    assert np.array_equal(parts, metrics.confusion(label, predicted, 4))
    assert metrics.mean_iou(parts) == pytest.approx(jaccard_score(label[known], predicted[known], average="macro"))
    assert metrics.pixel_accuracy(parts) == pytest.approx((label == predicted)[known].mean())


def test_a_class_that_occurs_nowhere_counts_as_0() -> None:
    label = np.array([0, 0, 1, 255], np.uint8)
    counts = metrics.confusion(label, np.array([0, 0, 1, 1], np.uint8), 4)
    assert metrics.intersection_over_union(counts).tolist() == [1, 1, 0, 0]
    assert (metrics.mean_iou(counts), metrics.pixel_accuracy(counts)) == (0.5, 1.0)


def test_without_a_labelled_pixel_all_is_0() -> None:
    counts = metrics.confusion(np.full(5, 255, np.uint8), np.zeros(5, np.uint8), 3)
    assert (metrics.mean_iou(counts), metrics.pixel_accuracy(counts)) == (0.0, 0.0)


# -- label maps --------------------------------------------------------------------------------------------------
def classes_of(document: Any, pixels: list[int], classes: int = 3) -> list[int]:
    return LabelMap(classes, document, "map.json").classes_of(np.array([pixels], np.uint8), "m.png")[0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("scale", [3, "3", 3.0])
def test_a_scale_divides_pixel_values(scale: Any) -> None:
    assert classes_of({"scale": scale}, [0, 2, 3, 6, 8, 255]) == [0, 0, 1, 2, 2, 255]


@pytest.mark.parametrize("text", [False, True])
def test_a_map_names_the_pixel_value_of_each_class(text: bool) -> None:
    pixels = {"0": 5, "1": 0, "2": 2}
    document = {"map": {key: str(value) for key, value in pixels.items()} if text else pixels}
    assert classes_of(document, [5, 0, 2, 255]) == [0, 1, 2, 255]


def test_a_map_may_leave_pixels_out_of_the_loss_or_make_255_a_class() -> None:
    assert classes_of({"map": {"0": 1, "255": 0}}, [0, 1]) == [255, 0]
    assert classes_of({"map": {"0": 1, "1": 255}}, [255, 1]) == [1, 0]


def test_without_a_map_pixel_values_are_classes() -> None:
    assert classes_of(None, [0, 1, 2, 255]) == [0, 1, 2, 255]
    assert classes_of({}, [0, 1, 2, 255]) == [0, 1, 2, 255]


@pytest.mark.parametrize(
    ("document", "pixel", "allowed"),
    [(None, 3, "0 to 2, 255"), ({"scale": 40}, 120, "0 to 119, 255"), ({"map": {"0": 5, "2": 7}}, 6, "5, 7, 255")],
)
def test_an_unknown_pixel_value_is_told_with_mask_and_place(document: Any, pixel: int, allowed: str) -> None:
    mask = np.full((4, 5), 5 if document and "map" in document else 0, np.uint8)
    mask[2, 3] = pixel
    with pytest.raises(DataError) as raised:
        LabelMap(3, document, "map.json").classes_of(mask, "cat.png")
    assert str(raised.value) == (
        f"cat.png: pixel value {pixel} (column 3, row 2) stands for none of the 3 classes; allowed are {allowed}"
    )


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], '{"scale": number}'),
        ({"scale": 2, "map": {"0": 1}}, '{"scale": number}'),
        ({"scales": 2}, '{"scale": number}'),
        ({"scale": 0}, "scale 0 is not"),
        ({"scale": 1.5}, "scale 1.5 is not"),
        ({"scale": True}, "scale True is not"),
        ({"scale": "x"}, "scale 'x' is not"),
        ({"map": []}, "map must be an object"),
        ({"map": {}}, "map must be an object"),
        ({"map": {"3": 1}}, "class '3' is not in [0, 2]"),
        ({"map": {"-1": 1}}, "class '-1' is not"),
        ({"map": {"0": 256}}, "pixel value 256 of class 0"),
        ({"map": {"0": None}}, "pixel value None of class 0"),
        ({"map": {"0": 7, "1": "7"}}, "pixel value 7 is of class 0 and of class 1"),
    ],
)
def test_what_is_no_label_map_is_told(document: Any, told: str) -> None:
    with pytest.raises(DataError) as raised:
        LabelMap(3, document, "map.json")
    assert str(raised.value).startswith("map.json: ")
    assert told in str(raised.value)


_JSON = some.recursive(
    some.none() | some.booleans() | some.floats() | some.integers() | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(["scale", "map", "0", "1"]), inner)
    ),
    max_leaves=6,
)


@given(document=_JSON, classes=some.integers(2, 254))
def test_any_json_is_a_label_map_or_refused(document: Any, classes: int) -> None:
    try:
        made = LabelMap(classes, document, "map.json")
    except DataError:
        return
    for pixel in range(256):
        try:
            found = int(made.classes_of(np.array([[pixel]], np.uint8), "m")[0, 0])
        except DataError:
            continue
        assert found < classes or found == 255


# -- learning rates ------------------------------------------------------------------------------------------------
def settings(**others: Any) -> dict[str, Any]:
    return {"learning_rate": 0.001, "epochs": 30, "lr_scheduler": "poly", "lr_scheduler_factor": 0.1,
            "lr_scheduler_step": None} | others  # fmt: skip


def test_poly_gives_the_numbers_of_sagemakers_log() -> None:
    schedule = Schedule(settings(), 91)
    assert f"{schedule.rate(20):.6f}" == "0.000993"
    assert schedule.rate(91) == pytest.approx(0.00097, abs=5e-6)
    assert schedule.rate(15 * 91) == pytest.approx(0.0005, rel=0.08)
    rates = [schedule.rate(at) for at in range(30 * 91)]
    assert rates == sorted(rates, reverse=True)
    assert schedule.rate(30 * 91) == 0


def test_cosine_falls_from_the_rate_to_nothing() -> None:
    schedule = Schedule(settings(lr_scheduler="cosine"), 10)
    assert [schedule.rate(at) for at in (0, 100, 150, 300)] == pytest.approx(
        [0.001, 0.0005 * (1 + math.cos(math.pi / 3)), 0.0005, 0]
    )


def test_step_falls_after_its_epochs() -> None:
    schedule = Schedule(settings(lr_scheduler="step", lr_scheduler_step=[2, 5], lr_scheduler_factor=0.5), 4)
    assert [schedule.rate(at) for at in (0, 7, 8, 19, 20, 100)] == pytest.approx(
        [0.001, 0.001, 0.0005, 0.0005, 0.00025, 0.00025]
    )


# -- patience ------------------------------------------------------------------------------------------------------
def ended(mious: list[float], tolerance: float = 0.0, patience: int = 2, least: int = 1) -> int | None:
    judge = Patience(tolerance, patience, least)
    return next((epoch for epoch, miou in enumerate(mious) if judge.judge(epoch, miou)), None)


def test_training_ends_after_epochs_in_a_row_without_improvement() -> None:
    assert ended([0.1, 0.2, 0.2, 0.3, 0.1, 0.3]) == 5
    assert ended([0.1, 0.2, 0.2, 0.3, 0.1, 0.31, 0.3]) is None


def test_a_gain_must_exceed_the_tolerance_relative_to_the_best() -> None:
    assert ended([0.5, 0.54, 0.55], tolerance=0.1) == 2
    assert ended([0.5, 0.56, 0.62], tolerance=0.1) is None


def test_the_first_epochs_never_end_training() -> None:
    assert ended([0.5, 0.1, 0.1, 0.1, 0.1], least=5) == 4
    assert ended([0.0, 0.0, 0.0]) == 1


def test_patience_goes_on_from_its_state() -> None:
    first = Patience(0.0, 3, 1)
    assert not any(first.judge(epoch, 0.3) for epoch in range(2))
    second = Patience(0.0, 3, 1, **first.state())
    assert [second.judge(2, 0.3), second.judge(3, 0.3)] == [False, True]
