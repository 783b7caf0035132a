"""annotations: the boxes of a picture, in the three forms that Object Detection takes them.

JSON with absolute pixels: a file for each picture, or an attribute of an augmented manifest (which has no `file`). The
label of a record: [A, B, A - 2 further numbers, then B for each object: class, left, top, right, bottom, …], fractions
of width and height. Boxes are cut at the picture's edges; one without area, or wholly outside, makes an annotation
invalid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sagesmith.formats.errors import DataError
from sagesmith.formats.nesting import load_json

HEADER, OBJECT = 2, 5  # A and B, as we write them
PADDING = -1.0  # behind the objects of a label that is shorter than label_width
SLACK = 1e-3  # pixels: a box that reaches less into the picture is outside


class Annotated(NamedTuple):
    """What is in a picture, and where."""

    classes: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (n, 4) float32: left, top, right, bottom in pixels
    size: tuple[int, int] | None  # (width, height) as the annotation says; records do not say it
    file: str | None  # the picture's path as the annotation says


def from_json(data: bytes, name: str) -> Annotated:
    """Boxes from JSON: `{"image_size": [{"width", "height"}], "annotations": [{"class_id", "left", …}], "file"}`.

    Raises:
        DataError: naming the file and the annotation (from 1): a key that is missing, a number that cannot be, a box
            without area or outside of the picture.
    """
    content = load_json(data, name)
    if not isinstance(content, dict):
        raise DataError(f"{name}: an annotation is a JSON object, found {type(content).__name__}")
    sizes, objects = content.get("image_size"), content.get("annotations")
    if not isinstance(sizes, list) or len(sizes) != 1 or not isinstance(sizes[0], dict):
        raise DataError(f'{name}: "image_size" must be a list of one object with width and height')
    if not isinstance(objects, list):
        raise DataError(f'{name}: "annotations" must be a list of objects')
    width, height = (_whole(sizes[0], key, f"{name}, image_size", 1) for key in ("width", "height"))
    classes = np.zeros(len(objects), np.int64)
    boxes = np.zeros((len(objects), 4), np.float32)
    for at, one in enumerate(objects):
        where = f"{name}, annotation {at + 1}"
        if not isinstance(one, dict):
            raise DataError(f"{where}: must be an object with class_id, left, top, width and height")
        classes[at] = _whole(one, "class_id", where, 0)
        left, top, across, down = (_number(one, key, where) for key in ("left", "top", "width", "height"))
        boxes[at] = _cut((left, top, left + across, top + down), width, height, where)
    file = content.get("file")
    return Annotated(classes, boxes, (width, height), file if isinstance(file, str) else None)


def from_label(label: np.ndarray, width: int, height: int, name: str) -> Annotated:
    """Boxes from a record's label, for a picture of `width` x `height` pixels.

    Raises:
        DataError: naming the record: a label that is not of the form, a class below 0, a box without area or outside.
    """
    if len(label) < 2:
        raise DataError(
            f"{name}: label {label.tolist()} holds no boxes; Object Detection's labels are [2, 5, class, xmin, ymin, "
            "xmax, ymax, …] (im2rec --pack-label)"
        )
    header, step = float(label[0]), float(label[1])
    if not (header.is_integer() and step.is_integer() and HEADER <= header <= len(label) and step >= OBJECT):
        raise DataError(
            f"{name}: label begins with {header:g}, {step:g}; expected the header's width, 2 or more, and the numbers "
            "of an object, 5 or more"
        )
    objects = label[int(header) :]
    objects = objects[: len(objects) - len(objects) % int(step)].reshape(-1, int(step))
    objects = objects[objects[:, 0] != PADDING]
    classes, scale = objects[:, 0].astype(np.int64), (width, height, width, height)
    if (rest := (len(label) - int(header)) % int(step)) and not (label[-rest:] == PADDING).all():
        raise DataError(f"{name}: {len(label) - int(header)} numbers are no whole objects of {int(step)}")
    boxes = np.zeros((len(objects), 4), np.float32)
    for at, one in enumerate(objects):
        where = f"{name}, object {at + 1}"
        if one[0] < 0 or one[0] != classes[at]:
            raise DataError(f"{where}: class {one[0]:g} is not a whole number from 0")
        boxes[at] = _cut([float(v) * side for v, side in zip(one[1:5], scale, strict=True)], width, height, where)
    return Annotated(classes, boxes, None, None)


def to_label(found: Annotated, width: int, height: int) -> np.ndarray:
    """A record's label: (2 + 5 n,) float32."""
    label = np.empty(HEADER + OBJECT * len(found.classes), np.float32)
    label[:HEADER] = HEADER, OBJECT
    objects = label[HEADER:].reshape(-1, OBJECT)
    objects[:, 0] = found.classes
    objects[:, 1:] = found.boxes / np.array([width, height] * 2, np.float32)
    return label


def _cut(box: Sequence[float], width: int, height: int, where: str) -> tuple[float, float, float, float]:
    """A box, cut at the edges of the picture."""
    left, top, right, bottom = box
    if not all(map(math.isfinite, (left, top, right, bottom))) or right <= left or bottom <= top:
        raise DataError(f"{where}: box ({left:g}, {top:g}) to ({right:g}, {bottom:g}) has no area")
    if right <= SLACK or bottom <= SLACK or left >= width - SLACK or top >= height - SLACK:
        raise DataError(
            f"{where}: box ({left:g}, {top:g}) to ({right:g}, {bottom:g}) is outside of the picture's "
            f"{width} x {height} pixels"
        )
    return max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)


def _number(values: dict[str, Any], key: str, where: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9 or value != value:
        raise DataError(f"{where}: {key} {value!r:.80} is not a number of pixels")
    return float(value)


def _whole(values: dict[str, Any], key: str, where: str, least: int) -> int:
    value = _number(values, key, where)
    if not value.is_integer() or value < least:
        raise DataError(f"{where}: {key} {values[key]!r:.80} is not a whole number from {least}")
    return int(value)
