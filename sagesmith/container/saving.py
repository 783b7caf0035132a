"""The model folder: an earlier model taken from a channel, and the new one left whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
from pathlib import Path

from sagesmith.algorithms.base import Algorithm
from sagesmith.archives import ArchiveError, unpack
from sagesmith.container.failures import JobError
from sagesmith.contract import JobFolder

logger = logging.getLogger("sagesmith.container")

PARTIAL = ".model-partial"
EARLIER = ".model-earlier"


def earlier_model(folder: JobFolder, channel: str) -> Path | None:
    """The folder of the model in `channel`: its one archive unpacked, or its plain files; None without the channel.

    Raises:
        JobError: nothing in it, or an archive that cannot be unpacked safely.
    """
    path = folder.channel(channel)
    if not path.is_dir():
        raise JobError(f"Channel {channel} has no folder {path}; incremental training reads it in File mode")
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    if not files:
        raise JobError(f"Channel {channel} holds no model: {path} is empty")
    if len(files) > 1 or not _is_archive(files[0]):
        return path
    into = folder.base / EARLIER
    shutil.rmtree(into, ignore_errors=True)
    try:
        unpack(files[0], into)
    except ArchiveError as error:
        raise JobError(f"Channel {channel}: {error}") from None
    return into


def _is_archive(file: Path) -> bool:
    return file.name.endswith((".tar.gz", ".tgz", ".tar")) or tarfile.is_tarfile(file)


def clear(folder: JobFolder) -> None:
    """Removes what a killed attempt in the same folder may have left half-written."""
    for parent in (folder.base, folder.model):
        shutil.rmtree(parent / PARTIAL, ignore_errors=True)
    folder.failure.unlink(missing_ok=True)


def save(algorithm: Algorithm, folder: JobFolder) -> list[str]:
    """Saves into a folder beside the model's, then renames file by file: a killed job leaves no torn file.

    Returns the names of the files, relative to the model folder.
    """
    folder.model.mkdir(parents=True, exist_ok=True)
    partial = _partial(folder)
    try:
        algorithm.save(partial)
        names = sorted(file.relative_to(partial).as_posix() for file in partial.rglob("*") if file.is_file())
        for name in names:
            target = folder.model / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial / name, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return names


def _partial(folder: JobFolder) -> Path:
    # Beside the model folder, so that nothing half-written is ever packed with it; inside it only where the model
    # folder is a volume of its own, across which nothing can be renamed.
    same = os.stat(folder.base).st_dev == os.stat(folder.model).st_dev
    partial = (folder.base if same else folder.model) / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    return partial
