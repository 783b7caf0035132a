"""What Object Detection reads: annotations, label vectors, folders, records, manifests, arrays; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagesmith.algorithms.images.loader import Loader
from sagesmith.algorithms.images.pictures import Picture
from sagesmith.algorithms.nets import Team
from sagesmith.algorithms.object_detection.annotations import Invalid, from_annotation, from_vector, objects_of
from sagesmith.algorithms.object_detection.samples import channel_of, loader_of, opened, padded
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.images import jpeg
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.detection_scenes import annotation, drawn, label_vector, write_folders, write_records

SETTINGS = {"num_classes": 2, "label_width": 350, "mini_batch_size": 3, "image_shape": 300, "seed": 0}


def picture(label: Any, side: tuple[int, int] = (40, 20), name: str = "train/a.jpg") -> Picture:
    """A picture of width and height."""
    return Picture(name, jpeg(np.zeros((side[1], side[0], 3), np.uint8)), label)


def said(**changes: Any) -> bytes:
    """An annotation of a picture of 40 by 20 pixels."""
    document: dict[str, Any] = {
        "file": "a.jpg",
        "image_size": [{"width": 40, "height": 20, "depth": 3}],
        "annotations": [{"class_id": 1, "left": 4, "top": 5, "width": 20, "height": 10}],
    }
    return json.dumps({k: v for k, v in (document | changes).items() if v is not ...}).encode()


def box(**changes: Any) -> dict[str, Any]:
    return {"class_id": 1, "left": 4, "top": 5, "width": 20, "height": 10} | changes


# -- annotations -------------------------------------------------------------------------------------------------
def test_boxes_in_pixels_become_shares_of_the_picture() -> None:
    objects, warnings = objects_of(picture(said()), 2, 350)
    assert np.allclose(objects, [[1, 0.1, 0.25, 0.6, 0.75]])
    assert not warnings
    assert objects_of(picture(said(annotations=[])), 2, 350)[0].shape == (0, 5)
    assert len(objects_of(picture(said(file=...)), 2, 350)[0]) == 1  # as in an augmented manifest
    deeper = said(file="some/folder/a.jpg", categories=[{"class_id": 0, "name": "dog"}])
    assert len(objects_of(picture(deeper), 2, 350)[0]) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "its annotation: not JSON"),
        (b"[]", "not a JSON object"),
        (said(file="b.jpg"), "is of the file 'b.jpg'"),
        (said(image_size=...), "no 'image_size'"),
        (said(image_size=[{"width": 40}]), "no 'image_size'"),
        (said(image_size=[{"width": 20, "height": 40, "depth": 3}]), "for 20 x 40 pixels, upright it has 40 x 20"),
        (said(annotations=...), "no list 'annotations'"),
        (said(annotations=[3]), "must be a JSON object, found 3"),
        (said(annotations=[box(left="4")]), "'left' of an annotation must be a number, found \"4\""),
        (said(annotations=[box(class_id=True)]), "'class_id' of an annotation must be a number"),
        (said(annotations=[box(width=float("nan"))]), "'width' of an annotation must be a number, found NaN"),
    ],
)
def test_a_broken_annotation_is_told_by_its_picture(content: bytes, reason: str) -> None:
    with pytest.raises(Invalid, match=r"^train/a\.jpg: ") as error:
        objects_of(picture(content), 2, 350)
    assert reason in str(error.value)


def test_boxes_are_cut_at_the_edges_and_those_without_area_left_out() -> None:
    annotations = [box(left=-10, top=-10), box(left=30, width=50), box(width=0), box(height=-3), box(left=41)]
    objects, warnings = objects_of(picture(said(annotations=annotations)), 2, 350)
    assert np.allclose(objects, [[1, 0, 0, 0.25, 0], [1, 0.75, 0.25, 1, 0.75]][1:])
    assert [("no area" in warning, "outside" in warning) for warning in warnings] == [
        (False, True), (True, False), (True, False), (False, True),
    ]  # fmt: skip
    assert all(warning.startswith("train/a.jpg: a box of class 1") for warning in warnings)


@pytest.mark.parametrize("number", [2, -1, 0.5])
def test_a_class_that_there_is_not_is_an_error(number: float) -> None:
    with pytest.raises(DataError, match=r"train/a\.jpg: class_id .* is not one of 0 to 1 \(num_classes=2\)"):
        objects_of(picture(said(annotations=[box(class_id=number)])), 2, 350)


def test_a_label_wider_than_label_width_is_an_error() -> None:
    crowd = said(annotations=[box()] * 4)
    assert len(objects_of(picture(crowd), 2, 22)[0]) == 4
    with pytest.raises(DataError, match=r"4 objects make a label of 22 numbers, but label_width is 21; set it to 22"):
        objects_of(picture(crowd), 2, 21)


@given(st.binary(max_size=60))
def test_no_bytes_are_an_annotation_by_chance(content: bytes) -> None:
    with pytest.raises(Invalid):
        from_annotation(content, picture(b""))


# -- label vectors -----------------------------------------------------------------------------------------------
def test_label_vectors_of_im2rec() -> None:
    plain = np.array([2, 5, 1, 0.1, 0.2, 0.3, 0.4, 0, 0, 0, 1, 1], np.float32)
    assert np.allclose(from_vector(plain, "r"), [[1, 0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1, 1]])
    wider = np.array([4, 6, 640, 480, 1, 0.1, 0.2, 0.3, 0.4, 7], np.float32)
    assert np.allclose(from_vector(wider, "r"), [[1, 0.1, 0.2, 0.3, 0.4]])
    padding = np.append(plain, [-1] * 10).astype(np.float32)
    assert len(from_vector(padding, "r")) == 2
    assert from_vector(np.array([2, 5], np.float32), "r").shape == (0, 5)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ([3], "Image Classification"),
        ([2, 4, 1, 0, 0, 1], "not 2, 4"),
        ([9, 5, 1], "not 9, 5"),
        ([2, 5, 1, 0, 0, 1], "4 numbers after the header are not whole objects of 5"),
        ([2, 5, 1, 0, 0, 1, np.inf], "not finite"),
    ],
)
def test_a_broken_label_vector_is_told(label: list[float], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        from_vector(np.array(label, np.float32), "x.rec, record 3")


# -- channels ----------------------------------------------------------------------------------------------------
def taken(loader: Loader) -> tuple[np.ndarray, list[np.ndarray]]:
    batches = list(loader.epoch(0))
    return np.concatenate([b.images for b in batches]), [one for b in batches for one in b.targets]


def test_all_forms_of_the_same_pictures_are_the_same(tmp_path: Path) -> None:
    images, objects = drawn(5)
    team = Team(RecordingRun())
    pictures, annotations = write_folders(tmp_path, "train", images, objects)
    records = write_records(tmp_path / "rec" / "train.rec", images, objects)
    manifest = tmp_path / "train" / "all.manifest"
    lines = [
        {"source-ref": f"{number:03}.jpg", "bounding-box": annotation(f"{number:03}.jpg", image, one)}
        for number, (image, one) in enumerate(zip(images, objects, strict=True))
    ]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    forms = [channel_of("train", pictures, annotations), channel_of("train", records, None)]
    forms += [
        channel_of("train", records.parent, None),
        channel_of("train", manifest, None),
        channel_of("train", images, objects),
    ]
    found = [taken(loader_of(opened(form, "train"), SETTINGS, team, training=False)) for form in forms]
    for pixels, boxes in found:
        assert pixels.shape == (5, 300, 300, 3)
        assert np.abs(pixels.astype(int) - found[-1][0]).mean() < 9  # JPEG
        for mine, expected in zip(boxes, objects, strict=True):
            assert np.allclose(mine, expected, atol=0.006)


def test_a_broken_annotation_costs_its_picture_and_a_warning(tmp_path: Path) -> None:
    images, objects = drawn(4)
    pictures, annotations = write_folders(tmp_path, "train", images, objects)
    (annotations / "001.json").write_text("{")
    run = RecordingRun()
    loader = loader_of(opened(channel_of("train", pictures, annotations), "train"), SETTINGS, Team(run), training=True)
    assert len(taken(loader)[1]) == 3
    assert len(taken(loader)[1]) == 3
    left = [line for line in run.lines if line.startswith("Left out: train/001.jpg: its annotation: not JSON")]
    assert len(left) == 1  # said once, not in every epoch


def test_mistakes_about_channels_are_told(tmp_path: Path) -> None:
    images, objects = drawn(2)
    pictures, annotations = write_folders(tmp_path, "train", images, objects)
    (annotations / "001.json").unlink()
    with pytest.raises(DataError, match=r"train/001\.jpg"):
        opened(channel_of("train", pictures, annotations), "train")
    images_only = {"train": Channel.from_folder("train", pictures, "image/jpeg")}
    with pytest.raises(DataError, match="must come in a channel 'train_annotation'"):
        opened(images_only, "train")
    both = channel_of("train", pictures, annotations) | channel_of("train", pictures, None)
    with pytest.raises(DataError, match="channel 'train_annotation' is not read"):
        opened(both, "train")
    with pytest.raises(ValueError, match="pictures need their objects"):
        channel_of("train", images, None)
    with pytest.raises(ValueError, match=r"objects of picture 0 have shape \(1, 4\)"):
        channel_of("train", images[:1], [np.zeros((1, 4))])


def test_a_broken_picture_is_an_error_by_name(tmp_path: Path) -> None:
    images, objects = drawn(2)
    pictures, annotations = write_folders(tmp_path, "train", images, objects)
    path = pictures / "001.jpg"
    path.write_bytes(path.read_bytes()[:600])
    loader = loader_of(
        opened(channel_of("train", pictures, annotations), "train"), SETTINGS, Team(RecordingRun()), training=True
    )
    with pytest.raises(DataError, match=r"train/001\.jpg: cannot be decoded"):
        taken(loader)


def test_objects_are_padded_to_those_of_the_fullest_picture() -> None:
    _, objects = drawn(6)
    together = padded([*objects, np.empty((0, 5))])
    assert together.shape == (7, max(map(len, objects)), 5)
    for row, one in zip(together, objects, strict=False):
        assert (row[: len(one)] == one).all()
        assert (row[len(one) :] == -1).all()
    assert len(label_vector(objects[0])) == 2 + 5 * len(objects[0])
