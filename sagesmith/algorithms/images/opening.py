"""opening: from the channels of a job, or what a Python caller gives, to pictures."""

from __future__ import annotations

from pathlib import Path

from sagesmith.algorithms.images.manifests import SUFFIXES as MANIFESTS
from sagesmith.algorithms.images.manifests import manifest_pictures
from sagesmith.algorithms.images.pictures import FilePictures, Pictures, RecordPictures, listed, paired
from sagesmith.algorithms.images.streams import PictureStream, streamed
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.image_lists import read_list

RECORDS = "application/x-recordio"
PICTURES = ("application/x-image", "image/jpeg", "image/png")


def is_recorded(channel: Channel) -> bool:
    """Whether a channel's content type says RecordIO."""
    return channel.content_type.split(";", 1)[0].strip().lower() == RECORDS


def recorded(channel: Channel) -> Pictures | PictureStream:
    """The pictures of an `application/x-recordio` channel: `.rec` files, an augmented manifest, or what a pipe gives.

    Labels are float32 (n,) of records, and bytes of manifests: the text of the second attribute, or its object.

    Raises:
        DataError: neither in the channel, both, several manifests, or a broken one.
    """
    if channel.is_pipe:
        return streamed(channel)
    files = [path for path in channel.files() if not path.name.startswith((".", "_"))]
    found = [path for path in files if path.suffix == ".rec"]
    beside = [path for path in files if path.suffix in MANIFESTS and path.parent in (channel.folder, _parent(channel))]
    if len(beside) == 1 and not found:
        return manifest_pictures(beside[0])
    if not found or beside:
        names = ", ".join(path.name for path in files[:5]) or "nothing"
        raise DataError(
            f"channel {channel.name!r}: .rec files or one augmented manifest ({', '.join(MANIFESTS)}) are expected; "
            f"there is: {names}"
        )
    return RecordPictures(found)


def _parent(channel: Channel) -> Path | None:
    """The folder of a channel that is one file."""
    return None if channel.folder is None or channel.folder.is_dir() else channel.folder.parent


def from_list(channel: Channel, lists: Channel) -> FilePictures:
    """The pictures of a channel that the one `.lst` file of another channel names, with their classes.

    Raises:
        DataError: not one `.lst` file; a line that cannot be used; a picture that is not there.
    """
    found = [path for path in lists.files() if path.suffix == ".lst"]
    if len(found) != 1:
        raise DataError(f"channel {lists.name!r}: {len(found)} .lst files; exactly one is needed")
    return listed(_root(channel), read_list(found[0], labels=1), str(found[0].name))


def with_files(channel: Channel, others: Channel, suffix: str) -> FilePictures:
    """The pictures of a channel, each with the bytes of the file of the same path and stem in another channel.

    Args:
        suffix: of those files: `.json` for annotations, `.png` for masks.

    Raises:
        DataError: a picture or a file that has no partner, by name.
    """
    return paired(_root(channel), channel.files(), _root(others), others.files(), suffix)


def _root(channel: Channel) -> Path:
    if channel.folder is None or not channel.folder.is_dir():
        raise DataError(f"channel {channel.name!r}: a folder of pictures is expected")
    return channel.folder
