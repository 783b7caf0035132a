"""annotations: the objects of a picture, from a JSON annotation or a record's label vector, checked.

Objects are (m, 5) float32: class, xmin, ymin, xmax, ymax, as shares of the picture's width and height. Boxes are cut
at the picture's edges; of those without an area in it, only a warning is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from sagesmith.algorithms.images.pictures import Picture
from sagesmith.formats.errors import DataError
from sagesmith.formats.images import size_of
from sagesmith.formats.nesting import load_json

HEADER, PER_OBJECT = 2, 5  # numbers of a label vector before its objects, and of an object
PADDING = -1.0
FEWEST_WIDTH = 1e-6  # share of the picture below which a side is none
LARGEST = 1e9  # class or pixel; no picture is as wide, and float32 parts with whole numbers long before


class Invalid(Exception):
    """An annotation that cannot be used; its picture is left out. The message names the picture."""


def objects_of(picture: Picture, classes: int, label_width: int) -> tuple[np.ndarray, list[str]]:
    """The objects of a picture, and a warning for each box that is left out.

    Raises:
        Invalid: the annotation is broken.
        DataError: a class that is not below `classes`, or more numbers than `label_width`; and what cannot be decoded.
    """
    label = picture.label
    if isinstance(label, np.ndarray) and label.ndim == 2:
        rows = label  # what a Python caller gave
    elif isinstance(label, np.ndarray):
        rows = from_vector(label, picture.name)
    else:
        rows = from_annotation(label, picture)
    numbers = HEADER + PER_OBJECT * len(rows)
    if numbers > label_width:
        raise DataError(
            f"{picture.name}: {len(rows)} objects make a label of {numbers} numbers, but label_width is {label_width}; "
            f"set it to {numbers} or more, for training and validation alike"
        )
    wrong = (rows[:, 0] < 0) | (rows[:, 0] >= classes) | (rows[:, 0] % 1 != 0)
    if wrong.any():
        raise DataError(
            f"{picture.name}: class_id {rows[wrong][0, 0]:g} is not one of 0 to {classes - 1} (num_classes={classes})"
        )
    return _within(rows, picture.name)


def from_vector(label: np.ndarray, name: str) -> np.ndarray:
    """The objects of a label vector: A, B, A - 2 further numbers, then B numbers for each object, of which five count.

    Objects of class -1 are padding.

    Raises:
        Invalid: it is not of this form.
    """
    if len(label) < HEADER:
        raise Invalid(f"{name}: a label of {len(label)} number(s) has no objects: is it one for Image Classification?")
    header, width = float(label[0]), float(label[1])
    longest = max(len(label), PER_OBJECT)
    if not (HEADER <= header <= len(label) and PER_OBJECT <= width <= longest and header % 1 == width % 1 == 0):
        raise Invalid(f"{name}: a label begins with its header's width and its objects', not {header:g}, {width:g}")
    body = label[int(header) :]
    if len(body) % int(width):
        raise Invalid(f"{name}: {len(body)} numbers after the header are not whole objects of {width:g}")
    rows = body.reshape(-1, int(width))[:, :PER_OBJECT].astype(np.float32)
    if not np.isfinite(rows).all():
        raise Invalid(f"{name}: the label holds numbers that are not finite")
    return np.asarray(rows[rows[:, 0] != PADDING])


def vector_of(objects: np.ndarray) -> np.ndarray:
    """The label vector of objects (m, 5), as im2rec packs it: (2 + 5 m,) float32."""
    return np.concatenate([np.array([HEADER, PER_OBJECT], np.float32), np.asarray(objects, np.float32).ravel()])


def from_annotation(content: bytes, picture: Picture) -> np.ndarray:
    """The objects of a JSON annotation: one of a file, or the value of an augmented manifest's attribute.

    Raises:
        Invalid: no JSON, members that are missing or of the wrong type, a `file` of another name, or an `image_size`
            that is not the picture's.
        DataError: the picture cannot be read.
    """
    name = picture.name
    try:
        document = load_json(content, f"{name}: its annotation")
    except DataError as error:
        raise Invalid(str(error)) from None
    if not isinstance(document, dict):
        raise Invalid(f"{name}: its annotation is not a JSON object")
    file = document.get("file")
    if file is not None and PurePosixPath(str(file)).name != PurePosixPath(name).name:
        raise Invalid(f"{name}: its annotation is of the file {file!r}")
    width, height = _size(document, picture)
    annotations = document.get("annotations")
    if not isinstance(annotations, list):
        raise Invalid(f"{name}: its annotation has no list 'annotations'")
    rows = [_row(one, name) for one in annotations]
    objects = np.array(rows, np.float32).reshape(-1, PER_OBJECT)
    objects[:, 1:] /= np.array([width, height, width, height], np.float32)
    return objects


def _size(document: dict[str, Any], picture: Picture) -> tuple[int, int]:
    """Width and height, if the annotation and the picture agree about them."""
    given = document.get("image_size")
    first = given[0] if isinstance(given, list) and len(given) == 1 else None
    if not isinstance(first, dict) or not all(_is_number(first.get(side)) for side in ("width", "height")):
        raise Invalid(f"{picture.name}: its annotation has no 'image_size' of one object with width and height")
    said = int(first["width"]), int(first["height"])
    data = picture.data
    real = (data.shape[1], data.shape[0]) if isinstance(data, np.ndarray) else size_of(data, picture.name)
    if said != real:
        raise Invalid(
            f"{picture.name}: its annotation is for {said[0]} x {said[1]} pixels, upright it has {real[0]} x {real[1]}"
        )
    return real


def _row(one: Any, name: str) -> Sequence[float]:
    """Class and corners in pixels."""
    if not isinstance(one, dict):
        raise Invalid(f"{name}: an annotation must be a JSON object, found {json.dumps(one)[:80]}")
    for member in ("class_id", "left", "top", "width", "height"):
        if not _is_number(one.get(member)):
            raise Invalid(f"{name}: {member!r} of an annotation must be a number, found {json.dumps(one.get(member))}")
    left, top = float(one["left"]), float(one["top"])
    return float(one["class_id"]), left, top, left + float(one["width"]), top + float(one["height"])


def _is_number(value: Any) -> bool:
    """Whether it is one that a class or a pixel can be: finite, and not beyond LARGEST."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _within(rows: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """The boxes cut at the picture's edges, without those that have no area then."""
    cut = rows.astype(np.float32, copy=True)
    cut[:, 1:] = np.clip(cut[:, 1:], 0, 1)
    sides = cut[:, 3:] - cut[:, 1:3]
    kept = (sides > FEWEST_WIDTH).all(axis=1)
    warnings = []
    for row in rows[~kept]:
        empty = row[3] <= row[1] or row[4] <= row[2]
        what = "has no area" if empty else "lies outside of the picture"
        corners = ", ".join(f"{value:.4g}" for value in row[1:])
        warnings.append(f"{name}: a box of class {row[0]:g} {what} and is left out: {corners} of width and height")
    return cut[kept], warnings
