"""labels: the class of a picture, or its classes, from what a record, a list, a manifest or a caller says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError

MULTI_HOT, CLASS_ID = "multi-hot", "class-id"
PARAMETER = "label-format"


@dataclass(frozen=True)
class Labels:
    """How labels are read.

    Attributes:
        classes: how many there are.
        multi: whether a picture may be of several.
        form: of several classes: MULTI_HOT, a 0 or 1 for each, or CLASS_ID, their numbers.
    """

    classes: int
    multi: bool = False
    form: str = MULTI_HOT

    def of(self, label: Any, name: str) -> int | np.ndarray:
        """The class, or, of several, 0 and 1 for each class: (classes,) float32.

        Raises:
            DataError: naming the picture.
        """
        given = _numbers(label, name)
        if not self.multi:
            if len(given) != 1:
                raise DataError(f"{name}: has {len(given)} labels: one class is expected (multi_label=0)")
            return int(self._classes(given, name)[0])
        if self.form == MULTI_HOT:
            if len(given) != self.classes:
                raise DataError(
                    f"{name}: its label has {len(given)} numbers, not one for each of {self.classes} classes (classes "
                    f"by their numbers are announced by the content type's parameter {PARAMETER}={CLASS_ID})"
                )
            if not np.isin(given, (0, 1)).all():
                raise DataError(f"{name}: its label holds {given[~np.isin(given, (0, 1))][0]:g}, not only 0 and 1")
            return given
        hot = np.zeros(self.classes, np.float32)
        hot[self._classes(given, name)] = 1
        return hot

    def _classes(self, given: np.ndarray, name: str) -> np.ndarray:
        wrong = ~((given >= 0) & (given < self.classes) & (given % 1 == 0))
        if wrong.any():
            raise DataError(
                f"{name}: its label {given[wrong][0]:g} is not a class from 0 to {self.classes - 1} "
                f"(num_classes={self.classes})"
            )
        return given.astype(np.int64)


def _numbers(label: Any, name: str) -> np.ndarray:
    """Numbers of an array, or of the bytes that a manifest holds: `0` or `[1, 0, 1]`."""
    if isinstance(label, bytes | memoryview):
        text = bytes(label)[:1000].decode("utf-8", "replace").strip()
        try:
            label = json.loads(text)
            if isinstance(label, str):  # a number or a list in quotes once more
                label = json.loads(label)
        except ValueError:
            raise DataError(f"{name}: its label {text[:80]!r} is no number and no list of numbers") from None
    try:
        return np.atleast_1d(np.asarray(label, np.float32)).ravel()
    except (TypeError, ValueError):
        raise DataError(f"{name}: its label {str(label)[:80]!r} is no number and no list of numbers") from None


def form_of(content_type: str) -> str:
    """The form of several labels that a content type announces.

    Raises:
        DataError: another than the two there are.
    """
    found = ContentType.parse(content_type).parameters.get(PARAMETER, MULTI_HOT) if content_type else MULTI_HOT
    if found not in (MULTI_HOT, CLASS_ID):
        raise DataError(f"content type {content_type!r}: {PARAMETER} is {MULTI_HOT} or {CLASS_ID}, found {found!r}")
    return found


def coded(labels: Any, names: Sequence[Any] | None) -> tuple[list[Any], list[Any]]:
    """Labels of a Python caller as class numbers, and the classes' names in that order.

    Args:
        labels: a class for each picture, or a row of 0 and 1 for each.
        names: known already; None: those that occur, sorted, or the numbers themselves where they are 0, 1, ….

    Raises:
        ValueError: a label that is not among `names`.
    """
    array = np.asarray(labels)
    if array.ndim == 2:
        return list(array.astype(np.float32)), list(range(array.shape[1]))
    if array.ndim != 1:
        raise ValueError(f"labels are one class a picture, or a row of 0 and 1; found shape {array.shape}")
    found = sorted(set(array.tolist()))
    classes = list(names) if names is not None else found
    if names is None and array.dtype.kind in "iub" and found and found[0] >= 0:
        classes = list(range(int(found[-1]) + 1))
    number = {label: at for at, label in enumerate(classes)}
    if strange := [label for label in found if label not in number]:
        raise ValueError(f"label {strange[0]!r} is not among the classes {classes[:20]}")
    return [number[label] for label in array.tolist()], classes
