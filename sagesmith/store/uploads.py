"""Uploads: the parts of multipart uploads, as files beside the objects until they are joined.

<folder>/<upload id>/upload.json      what CreateMultipartUpload said
<folder>/<upload id>/<n>.<random>     a part's bytes
<folder>/<upload id>/<n>.json         which of those files part n is; written last, so a part is whole or absent
<folder>/<upload id>/completed.json   the answer, once the object exists: completing again answers the same
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sagesmith.store.sidecars import sync_folder, write_durably

_ID = re.compile(r"[0-9a-f]{48}")
_KEEP_COMPLETED = 24 * 3600  # seconds for which a client may repeat CompleteMultipartUpload
_NO_RANGE_COPY = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
_LOCKS = [threading.Lock() for _ in range(64)]


class NoSuchUpload(KeyError):
    """There is no upload of that id for that bucket and key."""


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was begun."""

    id: str
    bucket: str
    key: str
    initiated: float
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    algorithm: str = ""  # of the checksums that its parts carry
    checksum_type: str = ""  # COMPOSITE or FULL_OBJECT


@dataclass(frozen=True)
class Part:
    """One part that was stored."""

    number: int
    size: int
    md5: str
    modified: float
    file: str
    checksums: Mapping[str, str] = field(default_factory=dict)


class Uploads:
    """All uploads below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(
        self,
        bucket: str,
        key: str,
        headers: Mapping[str, str],
        tags: Mapping[str, str],
        algorithm: str = "",
        checksum_type: str = "",
    ) -> Upload:
        """Begins an upload; it exists on disk when this returns."""
        self._forget_completed()
        upload = Upload(secrets.token_hex(24), bucket, key, time.time(), headers, tags, algorithm, checksum_type)
        folder = self.folder / upload.id
        folder.mkdir(parents=True)
        write_durably(folder / "upload.json", json.dumps(asdict(upload)).encode())
        sync_folder(self.folder)
        return upload

    def find(self, bucket: str, key: str, upload_id: str) -> Upload:
        """The upload, completed or not; raises NoSuchUpload."""
        if not _ID.fullmatch(upload_id):
            raise NoSuchUpload(upload_id)
        found = _read(self.folder / upload_id / "upload.json")
        if found is None or (found["bucket"], found["key"]) != (bucket, key):
            raise NoSuchUpload(upload_id)
        return Upload(**found)

    def open_uploads(self, bucket: str) -> list[Upload]:
        """The bucket's uploads that are neither completed nor aborted, by key and time of beginning."""
        found = []
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            document = _read(folder / "upload.json")
            if document and document["bucket"] == bucket and not (folder / "completed.json").exists():
                found.append(Upload(**document))
        return sorted(found, key=lambda upload: (upload.key.encode(), upload.initiated, upload.id))

    def put_part(
        self, upload: Upload, number: int, source: Path, md5: str, checksums: Mapping[str, str] | None = None
    ) -> Part:
        """Takes over the file at `source` as part `number`, durably, in place of an earlier one of that number."""
        folder = self._folder_of(upload)
        name = f"{number:05}.{secrets.token_hex(8)}"
        with source.open("rb") as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        part = Part(number, size, md5, time.time(), name, dict(checksums or {}))
        with self.lock(upload):
            try:
                source.rename(folder / name)
                earlier = _read(folder / f"{number:05}.json")
                write_durably(folder / f"{number:05}.json", json.dumps(asdict(part)).encode())
            except FileNotFoundError:
                raise NoSuchUpload(upload.id) from None
            if earlier:
                (folder / earlier["file"]).unlink(missing_ok=True)
        return part

    def parts(self, upload: Upload) -> list[Part]:
        """The parts by number."""
        documents = [_read(path) for path in sorted(self._folder_of(upload).glob("[0-9]*.json"))]
        return [Part(**document) for document in documents if document]

    def join(self, upload: Upload, parts: Iterable[Part], target: Path) -> None:
        """Writes the parts one after the other to a new file; by the file system itself where it can."""
        folder = self._folder_of(upload)
        with target.open("xb") as output:
            for part in parts:
                with (folder / part.file).open("rb") as source:
                    _append(source.fileno(), output.fileno(), part.size)

    def completed(self, upload: Upload) -> dict[str, Any] | None:
        """What `finish` recorded."""
        return _read(self.folder / upload.id / "completed.json")

    def finish(self, upload: Upload, answer: Mapping[str, Any]) -> None:
        """Records that the object exists and drops the parts."""
        folder = self._folder_of(upload)
        write_durably(folder / "completed.json", json.dumps(dict(answer)).encode())
        for path in folder.glob("[0-9]*"):
            path.unlink(missing_ok=True)

    def abort(self, upload: Upload) -> None:
        """Forgets an upload and its parts."""
        with self.lock(upload):
            folder = self._folder_of(upload)
            (folder / "upload.json").unlink(missing_ok=True)
            sync_folder(folder)
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, upload: Upload) -> Iterator[None]:
        """Held while an upload's parts are exchanged or joined."""
        with _LOCKS[int(upload.id, 16) % len(_LOCKS)]:
            yield

    def _folder_of(self, upload: Upload) -> Path:
        folder = self.folder / upload.id
        if not (folder / "upload.json").exists():
            raise NoSuchUpload(upload.id)
        return folder

    def _forget_completed(self) -> None:
        for done in self.folder.glob("*/completed.json"):
            with contextlib.suppress(FileNotFoundError):
                if done.stat().st_mtime < time.time() - _KEEP_COMPLETED:
                    shutil.rmtree(done.parent, ignore_errors=True)


def _append(source: int, output: int, size: int) -> None:
    while size > 0 and hasattr(os, "copy_file_range"):
        try:
            copied = os.copy_file_range(source, output, size)
        except OSError as error:
            if error.errno not in _NO_RANGE_COPY:
                raise
            break
        if not copied:
            break
        size -= copied
    while size > 0 and (data := os.read(source, min(size, 2**20))):
        size -= len(data)
        while data:
            data = data[os.write(output, data) :]
    if size:
        raise OSError(errno.EIO, "a part of a multipart upload is shorter than it was when it was stored")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return document if isinstance(document, dict) else None
