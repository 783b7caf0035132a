"""data: from channels, or what a Python caller gives, to batches of pictures with their classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.image_classification.labels import CLASS_ID, Labels, coded, form_of
from sagesmith.algorithms.image_classification.settings import shape_of
from sagesmith.algorithms.images.augmentation import augmented, resized
from sagesmith.algorithms.images.loader import Loader
from sagesmith.algorithms.images.opening import RECORDS, from_list, is_recorded, recorded
from sagesmith.algorithms.images.pictures import (
    ArrayPictures,
    FilePictures,
    Picture,
    Pictures,
    checked_pixels,
    class_folders,
    picture_files,
)
from sagesmith.algorithms.images.streams import PictureStream
from sagesmith.algorithms.images.together import Together
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.images import decoded

PICTURES = "application/x-image"


class PicturesChannel(Channel):
    """A channel over pictures that a Python caller has in memory, with their classes' names."""

    pictures: Pictures
    names: list[Any]

    @classmethod
    def over(cls, name: str, pictures: Pictures, names: list[Any]) -> PicturesChannel:
        from sagesmith.formats.format import Options

        channel = cls(name, "", Options())
        channel.pictures, channel.names = pictures, names
        return channel


class Opened:
    """The pictures of a channel.

    Attributes:
        names: of the classes, where folders or a Python caller's labels name them; None: they are numbers.
        form: of labels, see Labels.
    """

    def __init__(self, channel: Channel, lists: Channel | None) -> None:
        self.names: list[Any] | None = None
        self.form = form_of(channel.content_type)
        self.pictures: Pictures | PictureStream
        if isinstance(channel, PicturesChannel):
            self.pictures, self.names = channel.pictures, channel.names
        elif is_recorded(channel):
            if lists is not None:
                raise DataError(f"channel {lists.name!r} is for image files; {channel.name!r} is {RECORDS}")
            self.pictures = recorded(channel)
        elif channel.is_pipe:
            raise DataError(f"channel {channel.name!r}: image files are read in File mode; Pipe mode takes {RECORDS}")
        elif lists is not None:
            self.pictures, self.form = from_list(channel, lists), CLASS_ID
        else:
            self.pictures, self.form = self._folders(channel), CLASS_ID

    def _folders(self, channel: Channel) -> Pictures:
        if channel.folder is None:
            raise DataError(f"channel {channel.name!r}: a folder of pictures is expected")
        pictures, names = class_folders(channel.folder)
        self.names = list(names)
        return pictures

    def agree(self, classes: int, name: str) -> None:
        """
        Raises:
            DataError: the channel names another number of classes than num_classes.
        """
        if self.names is not None and len(self.names) > classes:
            raise DataError(
                f"channel {name!r} has {len(self.names)} classes ({', '.join(map(str, self.names[:10]))}), but "
                f"num_classes is {classes}"
            )


def loader_of(
    pictures: Pictures | PictureStream, settings: Mapping[str, Any], labels: Labels, *, training: bool, **options: Any
) -> Loader:
    """Batches: shuffled and augmented for training; else in their order, from the middle of each picture.

    Args:
        options: of Loader: rank, size, threads, patient.
    """
    channels, height, width = shape_of(settings["image_shape"])
    level = settings["augmentation_type"] if training else None
    transform = transform_of(labels, level, settings["resize"])
    return Loader(
        pictures, transform, settings["mini_batch_size"], (height, width, channels), seed=settings["seed"],
        shuffle=training, together=Together(level, settings["resize"]), **options,
    )  # fmt: skip


def transform_of(
    labels: Labels, level: str | None, resize: int | None
) -> Callable[[Picture, np.random.Generator, np.ndarray], int | np.ndarray]:
    def transform(picture: Picture, random: np.random.Generator, into: np.ndarray) -> int | np.ndarray:
        label = labels.of(picture.label, picture.name)
        image = fitting(picture.pixels(at_least=resize, grey=into.shape[2] == 1), picture.name, into.shape[2])
        augmented(image, into, picture.name, level=level, resize=resize, random=random)
        return label

    return transform


def fitting(image: np.ndarray, name: str, channels: int) -> np.ndarray:
    """The picture, if it has as many channels as image_shape says; pixels in memory are taken as they are.

    Raises:
        DataError: it has another number.
    """
    if image.shape[2] != channels:
        raise DataError(f"{name}: has {image.shape[2]} channels, image_shape says {channels}")
    return image


# -- what a Python caller gives ---------------------------------------------------------------------------------
def channel_of(name: str, value: Any, names: Sequence[Any] | None) -> Channel:
    """A channel from a folder of class folders, a `.rec` file or a folder of them, or (pictures, labels).

    Args:
        names: of the classes, if known already.

    Raises:
        ValueError, DataError: something else.
    """
    if isinstance(value, Channel):
        return value
    if isinstance(value, str | Path):
        return _of_path(name, Path(value))
    if not isinstance(value, tuple) or len(value) != 2 or value[1] is None:
        raise ValueError(
            f"{name}: pictures need labels: (X, y), or a folder with a folder for each class, or .rec files"
        )
    pictures, labels = value
    codes, classes = coded(labels, names)
    if len(pictures) != len(codes):
        raise ValueError(f"{name}: {len(pictures)} pictures, but {len(codes)} labels")
    if len(pictures) and isinstance(pictures[0], str | Path):
        files = [Path(path) for path in pictures]
        return PicturesChannel.over(name, FilePictures(Path(), files, codes), classes)
    return PicturesChannel.over(name, ArrayPictures(pictures, codes), classes)


def _of_path(name: str, path: Path) -> Channel:
    if path.is_file():
        return Channel.from_files(name, [path], RECORDS)
    if not path.is_dir():
        raise DataError(f"{name}: {path}: no such file or folder")
    recordings = any(one.suffix == ".rec" for one in path.iterdir())
    return Channel.from_folder(name, path, RECORDS if recordings else PICTURES)


def pixels_of(images: Any, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Pictures to be asked about, each whole, at the network's size.

    Args:
        images: an array (n, H, W, C) or (n, H, W), or a list of arrays or paths; a folder; or the path of one picture.

    Raises:
        DataError: no picture, by name.
    """
    channels, height, width = shape
    if isinstance(images, str | Path):
        path = Path(images)
        images = picture_files(sorted(path.rglob("*"))) if path.is_dir() else [path]
    found = []
    for number, one in enumerate(images):
        if isinstance(one, str | Path):
            data, name = Path(one).read_bytes(), str(one)
            image = decoded(data, name, grey=channels == 1, at_least=max(height, width))
        else:
            name = f"picture {number}"
            image = checked_pixels(one, name)
        found.append(resized(fitting(image, name, channels), height, width))
    return found
