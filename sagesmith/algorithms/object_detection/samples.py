"""samples: pictures with their objects, augmented and in batches, from channels or what a Python caller gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.images.boxes import detection
from sagesmith.algorithms.images.loader import Loader, Skipped
from sagesmith.algorithms.images.opening import is_recorded, recorded, with_files
from sagesmith.algorithms.images.pictures import ArrayPictures, Picture, Pictures
from sagesmith.algorithms.images.streams import PictureStream
from sagesmith.algorithms.object_detection.annotations import Invalid, objects_of
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.algorithms.nets import Team

ANNOTATION = "_annotation"  # ends the names of the channels with annotations


class ObjectsChannel(Channel):
    """A channel over pictures in memory with their objects."""

    pictures: ArrayPictures

    @classmethod
    def over(cls, name: str, images: Sequence[np.ndarray], objects: Sequence[np.ndarray]) -> ObjectsChannel:
        """
        Raises:
            ValueError: not an array of objects (m, 5) for each picture.
        """
        checked = []
        for number, given in enumerate(objects):
            one = np.asarray(given, np.float32) if np.size(given) else np.empty((0, 5), np.float32)
            if one.ndim != 2 or one.shape[1] != 5:
                raise ValueError(
                    f"{name}: the objects of picture {number} have shape {np.shape(given)}; (m, 5) is expected: class, "
                    "xmin, ymin, xmax, ymax, the corners as shares of width and height"
                )
            checked.append(one)
        channel = cls.from_files(name, [])
        channel.pictures = ArrayPictures(images, checked)
        return channel


def opened(channels: Mapping[str, Channel], name: str) -> Pictures | PictureStream:
    """The pictures of a channel with what says where their objects are: records, annotations, or arrays.

    Raises:
        DataError: a channel of pictures without its channel of annotations, or as images.opening raises it.
    """
    channel = channels[name]
    if isinstance(channel, ObjectsChannel):
        return channel.pictures
    others = channels.get(f"{name}{ANNOTATION}")
    if is_recorded(channel):
        if others is not None:
            raise DataError(f"channel {others.name!r} is not read: channel {name!r} is RecordIO, with labels in it")
        return recorded(channel)
    if others is None:
        raise DataError(
            f"channel {name!r} is of pictures ({channel.content_type}), whose annotations must come in a channel "
            f"'{name}{ANNOTATION}'; for .rec files the content type is application/x-recordio"
        )
    return with_files(channel, others, ".json")


class Preparing:
    """From an encoded picture and its label to the network's input and the objects in it: a Loader's transform.

    Args:
        augmenting: crops, zooms, flips and changes colours.
        tell: told of boxes that are left out, once for each.
    """

    def __init__(self, classes: int, label_width: int, augmenting: bool, tell: Callable[[str], None]) -> None:
        self._classes, self._label_width, self._augmenting, self._tell = classes, label_width, augmenting, tell
        self._told: set[str] = set()

    def __call__(self, picture: Picture, random: np.random.Generator, into: np.ndarray) -> np.ndarray:
        """(m, 5) objects in `into`, which is written."""
        try:
            objects, warnings = objects_of(picture, self._classes, self._label_width)
        except Invalid as error:
            raise Skipped(str(error)) from None
        for warning in warnings:
            if warning not in self._told:
                self._told.add(warning)
                self._tell(warning)
        side = into.shape[0] * (2 if self._augmenting else 1)  # crops need more pixels than they leave
        image = picture.pixels(at_least=side)
        if image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        scale = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
        boxes, kept = detection(image, objects[:, 1:] * scale, random if self._augmenting else None, into)
        return np.concatenate([objects[kept, :1], boxes], axis=1)


def loader_of(pictures: Pictures | PictureStream, settings: Mapping[str, Any], team: Team, training: bool) -> Loader:
    """Batches for training, or for judging what was learnt; a host's share of them."""
    run = team.run
    told: set[str] = set()

    def skipped(reason: str) -> None:
        if reason not in told:
            told.add(reason)
            run.log("Left out: %s", reason, level=30)

    def tell(warning: str) -> None:
        run.log("%s", warning, level=30)

    side = settings["image_shape"]
    return Loader(
        pictures,
        Preparing(settings["num_classes"], settings["label_width"], training, tell),
        settings["mini_batch_size"],
        (side, side, 3),
        threads=run.threads,
        seed=settings["seed"],
        shuffle=training,
        rank=run.rank,
        size=team.size,
        skipped=skipped,
    )


def padded(objects: Sequence[np.ndarray]) -> np.ndarray:
    """(b, m, 5): the objects of each picture, padded with -1 to as many as the fullest has."""
    most = max((len(one) for one in objects), default=0)
    together = np.full((len(objects), most, 5), -1.0, np.float32)
    for row, one in zip(together, objects, strict=True):
        row[: len(one)] = one
    return together


def channel_of(name: str, pictures: Any, annotations: Any) -> dict[str, Channel]:
    """The channels that stand for what a Python caller gives as pictures and their annotations.

    Raises:
        ValueError: it is none of: a `.rec` file or a folder of them; a folder of pictures and one of annotations; a
            sequence of arrays and one of their objects.
    """
    if isinstance(pictures, Channel):
        return {name: pictures}
    if isinstance(pictures, str | Path):
        path = Path(pictures)
        if annotations is None:
            return {name: Channel.from_folder(name, path, "application/x-recordio")}
        others = Channel.from_folder(f"{name}{ANNOTATION}", Path(annotations), "application/json")
        return {name: Channel.from_folder(name, path, "application/x-image"), others.name: others}
    if annotations is None:
        raise ValueError(f"{name}: pictures need their objects: (images, objects), or (folder, folder of annotations)")
    return {name: ObjectsChannel.over(name, list(pictures), list(annotations))}
