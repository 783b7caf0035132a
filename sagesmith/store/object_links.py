"""Object links: a second name for an object's file, elsewhere on its file system, so that nothing is copied.

An object is replaced by a rename and never written in place, so a link keeps the one version that it was made of,
whatever becomes of the key. Who writes through a link changes the object; who lays links for others sees to it that
they cannot.
"""

from __future__ import annotations

import os
import stat as stats
from pathlib import Path

from sagesmith.store.local_objects import BUCKET_NAME, META
from sagesmith.store.object_paths import OBJECT, names_of
from sagesmith.store.sidecars import Sidecars, identity


class NoLink(OSError):
    """There is no link, and no file at its place either; the text says why."""


def link_object(root: Path, bucket: str, key: str, etag: str, size: int, target: Path) -> None:
    """Makes `target` a link to the file of an object, which must be the version that the ETag and size name.

    Args:
        root: the folder of a LocalObjects, perhaps another process's.
        etag: without quotes.
        target: a path where nothing is; its folder is there.

    Raises:
        NoLink: the object is another version by now or not kept as a file, or the file system makes no such link.
    """
    if not BUCKET_NAME.fullmatch(bucket):
        raise NoLink(f"{bucket!r} is no bucket")
    try:
        file = _file(root.joinpath(bucket, *names_of(key)))
        os.link(file, target, follow_symlinks=False)
    except OSError as error:
        raise NoLink(error.strerror or str(error)) from None
    try:
        _check(root, bucket, key, etag, size, os.lstat(target))
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _file(plain: Path) -> Path:
    """Where the object lies: under the plain name, or the marked one where a folder has the plain name."""
    for path in (plain, plain.with_name(plain.name + OBJECT)):
        try:
            if stats.S_ISREG(os.lstat(path).st_mode):
                return path
        except (FileNotFoundError, NotADirectoryError):
            continue
    raise NoLink("it is not there any more")


def _check(root: Path, bucket: str, key: str, etag: str, size: int, stat: os.stat_result) -> None:
    """The link holds its file, so what is found now stays true; the file's own name may mean another one already."""
    entry = Sidecars(root / META).find(bucket, key, identity(stat)) if stats.S_ISREG(stat.st_mode) else None
    if entry is None or stat.st_size != size or entry.get("etag") != etag:
        raise NoLink("it has changed since it was listed")
