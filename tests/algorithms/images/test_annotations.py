"""Boxes in their three forms; what cannot be a box is named."""

import json

import numpy as np
import pytest

from sagesmith.algorithms.images.annotations import from_json, from_label, to_label
from sagesmith.formats.errors import DataError

BOX = {"class_id": 1, "left": 10, "top": 20, "width": 30, "height": 40}


def written(*objects: object, **changes: object) -> bytes:
    content = {"file": "a/1.jpg", "image_size": [{"width": 100, "height": 80, "depth": 3}], "annotations": objects}
    return json.dumps(content | changes).encode()


def test_json_and_label_say_the_same():
    found = from_json(written(BOX, BOX | {"class_id": 0, "left": 90}), "1.json")
    assert found.classes.tolist() == [1, 0]
    assert found.boxes.tolist() == [[10, 20, 40, 60], [90, 20, 100, 60]]  # the second is cut at the edge
    assert (found.size, found.file) == ((100, 80), "a/1.jpg")
    label = to_label(found, 100, 80)
    assert label.tolist() == pytest.approx([2, 5, 1, 0.1, 0.25, 0.4, 0.75, 0, 0.9, 0.25, 1, 0.75])
    again = from_label(np.append(label, [-1.0] * 7).astype(np.float32), 100, 80, "record 1")
    assert again.classes.tolist() == [1, 0]
    assert again.boxes == pytest.approx(found.boxes)


def test_wider_headers_and_objects_are_passed_over():
    label = np.array([4, 6, 7, 8, 3, 0.5, 0.5, 1, 1, 0], np.float32)
    found = from_label(label, 10, 10, "record 1")
    assert (found.classes.tolist(), found.boxes.tolist()) == ([3], [[5, 5, 10, 10]])


def test_a_picture_may_hold_nothing():
    found = from_json(written(), "1.json")
    assert len(found.classes) == 0
    assert to_label(found, 100, 80).tolist() == [2, 5]
    assert len(from_label(np.float32([2, 5]), 100, 80, "record 1").boxes) == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "an annotation is a JSON object"),
        (written(image_size=[]), '"image_size" must be a list of one'),
        (written(image_size=[{"width": 0, "height": 1}]), "width 0 is not a whole number from 1"),
        (written(annotations={}), '"annotations" must be a list'),
        (written(BOX, 3), "annotation 2: must be an object"),
        (written(BOX | {"width": 0}), r"annotation 1: box \(10, 20\) to \(10, 60\) has no area"),
        (written(BOX | {"height": -4}), "has no area"),
        (written(BOX | {"left": 100}), "is outside of the picture's 100 x 80 pixels"),
        (written(BOX | {"top": -60}), "is outside of the picture"),
        (written(BOX | {"class_id": -1}), "class_id -1 is not a whole number from 0"),
        (written(BOX | {"class_id": True}), "class_id True is not a number"),
        (written({"class_id": 1}), "left None is not a number"),
        (written(BOX | {"left": 1e400}), "left inf is not a number"),
    ],
)
def test_invalid_annotations_are_named(data, said):
    with pytest.raises(DataError, match=rf"^1\.json.*{said}"):
        from_json(data, "1.json")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([3], r"holds no boxes.*pack-label"),
        ([1, 5, 0, 0, 0, 1, 1], "label begins with 1, 5"),
        ([2, 4, 0, 0, 0, 1, 1], "label begins with 2, 4"),
        ([2, 5, 0, 0, 0, 1], "4 numbers are no whole objects of 5"),
        ([2, 5, 0.5, 0, 0, 1, 1], "object 1: class 0.5 is not a whole number"),
        ([2, 5, 0, 0.5, 0, 0.5, 1], "object 1: .* has no area"),
        ([2, 5, 0, 1.5, 0, 1.8, 1], "object 1: .* is outside"),
        ([2, 5, 0, np.nan, 0, 1, 1], "object 1: .* has no area"),
    ],
)
def test_invalid_labels_are_named(label, said):
    with pytest.raises(DataError, match=rf"^record 7.*{said}"):
        from_label(np.float32(label), 10, 10, "record 7")
