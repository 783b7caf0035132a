"""label_maps: from the pixel values of a mask to classes, by `train_label_map.json` or `validation_label_map.json`.

`{"scale": 3}` divides pixel values; `{"map": {"0": 5, "1": 0}}` says which pixel value each class has. Numbers may be
strings. 255 is no class: such pixels count neither in the loss nor in the metrics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.images.scenes import IGNORED
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.nesting import load_json

FILES = ("train_label_map.json", "validation_label_map.json")
_UNKNOWN = 254  # above every class, below IGNORED


class LabelMap:
    """The class of every pixel value.

    Args:
        document: the parsed JSON; None: pixel values are classes.
        name: of the file, for errors.

    Raises:
        DataError: not of one of the two forms.
    """

    def __init__(self, classes: int, document: Any = None, name: str = "label map") -> None:
        self.classes = classes
        self._table = np.full(256, _UNKNOWN, np.uint8)  # class of each pixel value
        self._table[IGNORED] = IGNORED
        if document is None:
            document = {}
        if not isinstance(document, dict) or len(document) > 1 or set(document) - {"scale", "map"}:
            raise DataError(f'{name}: a label map is {{"scale": number}} or {{"map": {{"class": pixel value, …}}}}')
        if "map" in document:
            self._take_map(document["map"], name)
        else:
            self._take_scale(document.get("scale", 1), name)

    def _take_scale(self, value: Any, name: str) -> None:
        scale = _whole(value)
        if scale is None or scale < 1:
            raise DataError(f"{name}: scale {value!r:.80} is not a whole number of 1 or more")
        classes = np.arange(IGNORED) // min(scale, IGNORED)  # a larger scale, of whatever size, says no more
        self._table[:IGNORED] = np.where(classes < self.classes, classes, _UNKNOWN)

    def _take_map(self, entries: Any, name: str) -> None:
        if not isinstance(entries, dict) or not entries:
            raise DataError(f'{name}: map must be an object, {{"class": pixel value, …}}')
        given: dict[int, str] = {}
        for key, value in entries.items():
            label, pixel = _whole(key), _whole(value)
            if label is None or not (0 <= label < self.classes or label == IGNORED):
                raise DataError(f"{name}: class {key!r:.80} is not in [0, {self.classes - 1}], and not {IGNORED}")
            if pixel is None or not 0 <= pixel <= 255:
                raise DataError(f"{name}: pixel value {value!r:.80} of class {key} is not in [0, 255]")
            if pixel in given:
                raise DataError(f"{name}: pixel value {pixel} is of class {given[pixel]} and of class {key}")
            given[pixel] = key
            self._table[pixel] = label

    def classes_of(self, mask: np.ndarray, name: str) -> np.ndarray:
        """The classes of a mask (H, W) uint8, likewise; 255 where there is none.

        Raises:
            DataError: a pixel value that stands for no class, naming the mask `name` and one place.
        """
        found = mask.tobytes().translate(self._table.tobytes())  # quicker than indexing
        if (first := found.find(_UNKNOWN)) >= 0:
            row, column = divmod(first, mask.shape[1])
            raise DataError(
                f"{name}: pixel value {mask[row, column]} (column {column}, row {row}) stands for none of the "
                f"{self.classes} classes; allowed are {self._allowed()}"
            )
        return np.frombuffer(found, np.uint8).reshape(mask.shape)

    def _allowed(self) -> str:
        values = np.flatnonzero(self._table != _UNKNOWN).tolist()
        runs: list[list[int]] = []
        for value in values:
            if runs and runs[-1][1] == value - 1:
                runs[-1][1] = value
            else:
                runs.append([value, value])
        return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in runs)


def read(channel: Channel | None, name: str, classes: int) -> LabelMap | None:
    """The label map of the channel called `name` (train, validation) in the label_map channel; None: not there.

    Raises:
        DataError: the file cannot be read, or is no label map; the channel has no label map at all.
    """
    if channel is None:
        return None
    files = {path.name: path for path in channel.files()}
    if not set(files) & set(FILES):
        there = ", ".join(sorted(files)[:5]) or "nothing"
        raise DataError(f"channel {channel.name!r}: neither {' nor '.join(FILES)} is in it; there is: {there}")
    path = files.get(f"{name}_label_map.json")
    return None if path is None else LabelMap(classes, load_json(path.read_bytes(), path.name), path.name)


def _whole(value: Any) -> int | None:
    """A whole number that is given as one or as its text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    return None
