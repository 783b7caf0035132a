"""opening: scenes from the channels of a job, and from what a Python caller gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.images.opening import is_recorded, recorded, with_files
from sagesmith.algorithms.images.pictures import ArrayPictures, FilePictures, Pictures, RecordPictures, picture_files
from sagesmith.algorithms.images.streams import PictureStream
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.semantic_segmentation import label_maps
from sagesmith.algorithms.semantic_segmentation.label_maps import LabelMap
from sagesmith.algorithms.semantic_segmentation.scenes import Scenes
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError

MASKS = ".png"


def opened(channels: Mapping[str, Channel], name: str, classes: int, run: Run) -> Scenes:
    """The scenes of the channel `name` (train, validation).

    Raises:
        DataError: a channel of masks is missing, or a picture or mask has no partner, by name.
    """
    labels = label_maps.read(channels.get("label_map"), name, classes)
    if labels is None:
        run.log("label maps not provided, using defaults.")
    labels = labels or LabelMap(classes)
    channel, masks = channels[name], channels.get(f"{name}_annotation")
    if channel.is_pipe or is_recorded(channel):
        if masks is not None:
            raise DataError(
                f"channel {masks.name!r} is not read: {name} is an augmented manifest, which names the masks"
            )
        return Scenes(_of_manifest(channel), labels)
    if masks is None:
        raise DataError(f"Missing required channel: {name}_annotation, with a PNG mask for each picture of {name}")
    return Scenes(_with_masks(channel, masks), labels)


def _with_masks(channel: Channel, masks: Channel) -> Pictures:
    """Pictures and masks of the same path and stem.

    The S3 prefix `…/train`, as AWS's sample gives it, also matches `…/train_annotation/`: what a channel has in a
    folder of that name is not its own.
    """
    if channel.folder is None or not channel.folder.is_dir():
        return with_files(channel, masks, MASKS)
    strange = channel.folder / f"{channel.name}_annotation"
    own = [path for path in channel.files() if strange not in path.parents]
    filtered = Channel.from_files(channel.name, own)
    filtered.folder = channel.folder
    return with_files(filtered, masks, MASKS)


def _of_manifest(channel: Channel) -> Pictures | PictureStream:
    if channel.is_pipe and not channel.wrapped:
        raise DataError(f"channel {channel.name!r}: in Pipe mode its RecordWrapperType must be RecordIO")
    found = recorded(channel)
    if isinstance(found, RecordPictures):
        raise DataError(f"channel {channel.name!r}: .rec files hold no masks; give pictures and masks, or a manifest")
    return found


def given(X: Any, y: Any, validation: Any, label_map: Any, classes: int) -> tuple[Scenes, Scenes | None]:
    """Training and validation scenes of a Python caller: folders, arrays, or one folder with a folder per channel.

    Raises:
        DataError: what is none of these, or pictures and masks that do not fit.
    """
    labels = LabelMap(classes, label_map, "label_map")
    if y is None:
        return _of_one_folder(X, classes)
    held = None
    if validation is not None:
        if not isinstance(validation, Sequence) or len(validation) != 2:
            raise DataError("validation must be a pair: pictures and masks")
        held = Scenes(_paired(validation[0], validation[1], "validation"), labels)
    return Scenes(_paired(X, y, "train"), labels), held


def _of_one_folder(root: Any, classes: int) -> tuple[Scenes, Scenes | None]:
    if not isinstance(root, str | Path) or not (Path(root) / "train").is_dir():
        raise DataError("masks are missing: give y, or as X a folder that has the folders train and train_annotation")
    names = ("train", "train_annotation", "validation", "validation_annotation", "label_map")
    folders = {name: Path(root) / name for name in names}
    channels = {name: Channel.from_folder(name, folder) for name, folder in folders.items() if folder.is_dir()}
    run = Run()
    train = opened(channels, "train", classes, run)
    return train, opened(channels, "validation", classes, run) if "validation" in channels else None


def _paired(pictures: Any, masks: Any, name: str) -> Pictures:
    if isinstance(pictures, str | Path) and isinstance(masks, str | Path):
        folder, others = Channel.from_folder(name, Path(pictures)), Channel.from_folder(name, Path(masks))
        return with_files(folder, others, MASKS)
    if isinstance(pictures, str | Path) or isinstance(masks, str | Path):
        raise DataError(f"{name}: pictures and masks must both be folders, or both arrays")
    return ArrayPictures(pictures, [np.asarray(mask) for mask in masks])


def asked(pictures: Any) -> Pictures:
    """Pictures without masks: pixels (n, H, W, 3), a list of (H, W, 3), a folder, a file, or a list of files.

    Raises:
        DataError: none of these, or a folder without pictures.
    """
    if isinstance(pictures, str | Path):
        path = Path(pictures)
        files = picture_files(sorted(path.rglob("*"))) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: no pictures")
        return _files(path if path.is_dir() else path.parent, files)
    listed = list(pictures)
    if not listed:
        raise DataError("there are no pictures")
    if all(isinstance(one, str | Path) for one in listed):
        return _files(Path(), [Path(one) for one in listed])
    return ArrayPictures(listed, [None] * len(listed))


def _files(root: Path, files: list[Path]) -> Pictures:
    return FilePictures(root, files, [None] * len(files))
