"""packing: a folder of pictures into `.rec` files, as im2rec makes them, ready to be channels.

out/train/train.rec             the channel: nothing else lies in its folder, so that a pipe gives records alone
out/validation/validation.rec
out/train.lst, out/train.idx, … what im2rec leaves beside
out/classes.json                the names of class folders, in the order of their numbers
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sagesmith.algorithms.images.augmentation import resized
from sagesmith.algorithms.images.pictures import class_folders, listed, named, paired, read
from sagesmith.algorithms.object_detection.annotations import Invalid, objects_of, vector_of
from sagesmith.formats.ahead import in_order, processors
from sagesmith.formats.errors import DataError, NoData
from sagesmith.formats.image_lists import Listed, read_list, write_list
from sagesmith.formats.image_records import ImageRecord, RecordWriter
from sagesmith.formats.images import decoded, jpeg, kind_of, png

TRAIN, VALIDATION = "train", "validation"
AS_THEY_ARE = ("JPEG", "PNG")  # kinds that records hold; others are encoded anew


@dataclass(frozen=True)
class Plan:
    """How pictures are written.

    Attributes:
        resize: pixels of the shorter side; None: as they are.
        quality: of JPEG, 1 to 100; 95 unless given. Without this and `resize`, JPEG and PNG files keep their bytes.
        lossless: encode as PNG where they are encoded anew.
        validation: the part from 0 to 1 of the pictures, of each class, that goes into the second file.
        shuffle: write them in a random order.
    """

    resize: int | None = None
    quality: int | None = None
    lossless: bool = False
    validation: float = 0.0
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize < 1:
            raise ValueError(f"resize {self.resize}: at least 1 pixel")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality} is not from 1 to 100")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation {self.validation:g}: a part from 0 to below 1")

    @property
    def keeps_bytes(self) -> bool:
        return self.resize is None and self.quality is None and not self.lossless


class Collection(NamedTuple):
    """What is to be packed."""

    root: Path
    lines: list[Listed]
    classes: list[str]  # the names of class folders; empty where nothing names classes
    stratified: bool  # whether the first label is a class
    warnings: list[str] = []  # what was left out of labels


def of_class_folders(root: Path) -> Collection:
    """A folder with a folder for each class. Raises DataError: see `pictures.class_folders`."""
    found, names = class_folders(root)
    lines = [
        Listed(i, np.asarray(found.label(i), np.float32), path.relative_to(root).as_posix())
        for i, path in enumerate(found.files)
    ]
    return Collection(root, lines, names, stratified=True)


def of_list(root: Path, path: Path) -> Collection:
    """The pictures that a `.lst` file names, with its numbers and labels. Raises DataError: see `image_lists`."""
    lines = read_list(path)
    listed(root, lines, path.name)
    return Collection(root, lines, [], stratified=all(len(line.label) == 1 for line in lines))


def of_annotations(root: Path, annotations: Path) -> Collection:
    """Pictures with a JSON file of boxes each (Object Detection), of the same path and stem below `annotations`.

    Raises:
        DataError: by file: no partner, an invalid annotation, or one for a picture of another size or name.
    """
    found = paired(root, sorted(root.rglob("*")), annotations, sorted(annotations.rglob("*")), ".json")
    lines, warnings = [], []
    for i, path in enumerate(found.files):
        try:
            objects, said = objects_of(found.picture(i), classes=sys.maxsize, label_width=sys.maxsize)
        except Invalid as error:
            raise DataError(str(error)) from None
        lines.append(Listed(i, vector_of(objects), path.relative_to(root).as_posix()))
        warnings += said
    return Collection(root, lines, [], stratified=False, warnings=warnings)


def pack(
    given: Collection, out: Path, plan: Plan, told: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, int]:
    """Writes the files; returns how many pictures each part has.

    Args:
        told: called with the pictures done and all of them.

    Raises:
        DataError: a picture that cannot be decoded, by name; nothing of that part is left behind.
    """
    if not given.lines:
        raise NoData(f"{given.root}: no pictures")
    parts = _parts(given, plan)
    out.mkdir(parents=True, exist_ok=True)
    done = 0
    for part, lines in parts.items():
        folder = out / part
        folder.mkdir(exist_ok=True)
        path = folder / f"{part}.rec"
        try:
            with RecordWriter(path, out / f"{part}.idx") as writer:
                for record in in_order(lambda line: _record(given.root, line, plan), lines, processors()):
                    writer.write(record)
                    done += 1
                    told(done, len(given.lines))
        except BaseException:
            path.unlink(missing_ok=True)
            (out / f"{part}.idx").unlink(missing_ok=True)
            raise
        write_list(out / f"{part}.lst", lines)
    if given.classes:
        (out / "classes.json").write_text(json.dumps(given.classes, ensure_ascii=False) + "\n", "utf-8")
    return {part: len(lines) for part, lines in parts.items()}


def _record(root: Path, line: Listed, plan: Plan) -> ImageRecord:
    path = root / line.path
    name = named(root, path)
    data = read(path, name)
    if plan.keeps_bytes and kind_of(data, name) in AS_THEY_ARE:
        decoded(data, name, at_least=1)  # a broken picture is found now, not in the middle of training
        return ImageRecord(line.label, line.number, data)
    pixels = decoded(data, name, at_least=plan.resize)
    if plan.resize is not None:
        scale = plan.resize / min(pixels.shape[:2])
        pixels = resized(pixels, *(max(1, round(side * scale)) for side in pixels.shape[:2]))
    encoded = png(pixels) if plan.lossless else jpeg(pixels, plan.quality or 95)
    return ImageRecord(line.label, line.number, encoded)


def _parts(given: Collection, plan: Plan) -> dict[str, list[Listed]]:
    """The pictures of each file, in the order in which they are written."""
    random = np.random.default_rng(plan.seed)
    order = random.permutation(len(given.lines)) if plan.shuffle else np.arange(len(given.lines))
    held = _held_out(given, plan.validation, random)
    parts = {TRAIN: [given.lines[i] for i in order if i not in held]}
    if plan.validation:
        parts[VALIDATION] = [given.lines[i] for i in order if i in held]
        if not parts[VALIDATION]:
            raise DataError(f"{given.root}: {plan.validation:g} of {len(given.lines)} pictures are none for validation")
    return parts


def _held_out(given: Collection, part: float, random: np.random.Generator) -> set[int]:
    """The numbers of the pictures for validation; every class keeps at least one for training."""
    if given.stratified:
        labels = np.array([line.label[0] for line in given.lines])
        groups: Sequence[np.ndarray] = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    else:
        groups = [np.arange(len(given.lines))]
    held: set[int] = set()
    for group in groups:
        count = min(len(group) - 1, round(part * len(group)))
        held.update(random.permutation(group)[:count].tolist())
    return held
