"""LocalObjects: every object is a plain file `<root>/<bucket>/<key>` that its owner can look at.

    <root>/<bucket>/…          the objects (names: object_paths)
    <root>/.meta/<bucket>/…    sidecars, and bucket.json
    <root>/.tmp/               files being written; on the same file system, so that a rename publishes them

A file that somebody else puts into a bucket's folder is an object too; its ETag is computed when first asked for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat as stats
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from sagesmith.store.object_paths import OBJECT, names_of
from sagesmith.store.object_walk import Found, ObjectWalk
from sagesmith.store.objects import (
    BucketExists,
    BucketInfo,
    BucketNotEmpty,
    CommonPrefix,
    NoSuchBucket,
    NoSuchObject,
    ObjectInfo,
    PreconditionFailed,
    check_key,
)
from sagesmith.store.sidecars import Entry, Sidecars, identity, sync_folder, write_durably

BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
META = ".meta"  # the folder of the sidecars, beside the buckets
_STALE = 24 * 3600  # seconds after which a temporary file belongs to nobody
_TRIES = 100  # a rename loses against folders that come and go only while others write; this is far beyond bad luck
_MOVED = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


class LocalObjects:
    """Objects as plain files below a folder. One process writes; any number of threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / ".tmp"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._meta = root / META
        self._sidecars = Sidecars(self._meta)
        self._walk = ObjectWalk()
        self._locks = [threading.Lock() for _ in range(256)]
        self._sweep()

    def create_bucket(self, bucket: str, region: str = "") -> BucketInfo:
        if not BUCKET_NAME.fullmatch(bucket):
            raise ValueError(f"{bucket!r} is not a bucket name")
        with self._lock("", bucket):
            if (self.root / bucket).is_dir():
                raise BucketExists(bucket)
            info = BucketInfo(bucket, time.time(), region)
            self._meta.joinpath(bucket).mkdir(parents=True, exist_ok=True)
            sync_folder(self._meta)
            document = {"created": info.created, "region": region}
            write_durably(self._meta / bucket / "bucket.json", json.dumps(document).encode())
            (self.root / bucket).mkdir()
            sync_folder(self.root)
        return info

    def bucket(self, bucket: str) -> BucketInfo:
        folder = self._folder(bucket)
        try:
            document = json.loads((self._meta / bucket / "bucket.json").read_bytes())
            return BucketInfo(bucket, float(document["created"]), str(document["region"]))
        except (FileNotFoundError, ValueError, KeyError):
            return BucketInfo(bucket, folder.stat().st_mtime)

    def buckets(self) -> list[BucketInfo]:
        names = sorted(entry.name for entry in self.root.iterdir() if BUCKET_NAME.fullmatch(entry.name))
        return [self.bucket(name) for name in names if (self.root / name).is_dir()]

    def delete_bucket(self, bucket: str) -> None:
        with self._lock("", bucket):
            folder = self._folder(bucket)
            _remove_empty(folder)
            sync_folder(self.root)
            shutil.rmtree(self._meta / bucket, ignore_errors=True)

    def put(
        self,
        bucket: str,
        key: str,
        source: bytes | Path,
        info: ObjectInfo | None = None,
        *,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> ObjectInfo:
        check_key(key)
        folder = self._folder(bucket)
        info = info or ObjectInfo(key, 0, "", 0.0)
        temporary = self._stage(source)
        try:
            etag = info.etag or _md5(source if isinstance(source, bytes) else temporary)
            stat = temporary.stat()
            entry: Entry = {
                "id": identity(stat),
                "etag": etag,
                "headers": dict(info.headers),
                "checksums": dict(info.checksums),
                "tags": dict(info.tags),
            }
            for _ in range(_TRIES):
                with contextlib.suppress(
                    *_MOVED
                ):  # others may take away a folder, or what stood in its place, any time
                    self._make_folders(folder, bucket, key)
                with self._lock(bucket, key), contextlib.suppress(*_MOVED):
                    self._check(bucket, key, if_match, if_absent)
                    self._publish(bucket, key, temporary, entry)
                    return _info(key, stat, entry)
        finally:
            temporary.unlink(missing_ok=True)
        self._folder(bucket)
        raise OSError(errno.EAGAIN, f"the folders of {key!r} kept changing")

    def get(self, bucket: str, key: str, offset: int = 0, size: int | None = None) -> bytes:
        with self.open(bucket, key) as file:
            file.seek(offset)
            return file.read(-1 if size is None else size)

    def open(self, bucket: str, key: str) -> BinaryIO:
        check_key(key)
        plain = self._plain(bucket, key)
        for path in (plain, f"{plain}{OBJECT}"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                try:
                    file = cast(BinaryIO, os.fdopen(os.open(path, os.O_RDONLY | _NO_FOLLOW), "rb"))
                except IsADirectoryError:
                    continue
                except OSError as error:
                    if error.errno == errno.ELOOP:
                        continue
                    raise
                if stats.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return file
                file.close()
        raise NoSuchObject(key)

    def read(self, bucket: str, key: str) -> tuple[ObjectInfo, BinaryIO]:
        for _ in range(_TRIES):
            file = self.open(bucket, key)
            stat = os.fstat(file.fileno())
            entry = self._sidecars.find(bucket, key, identity(stat)) or self._adopt(bucket, key, file)
            if entry is not None:
                return _info(key, stat, entry), file
            file.close()
        raise OSError(errno.EAGAIN, f"{key!r} kept changing")

    def head(self, bucket: str, key: str) -> ObjectInfo:
        check_key(key)
        return self._info_of(bucket, key, self._find(bucket, key)[1])

    def list(self, bucket: str, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        for item in self.list_folders(bucket, prefix, "", after):
            assert isinstance(item, ObjectInfo)
            yield item

    def list_folders(
        self, bucket: str, prefix: str, delimiter: str, after: str = ""
    ) -> Iterator[ObjectInfo | CommonPrefix]:
        for item in self._walk.keys(str(self._folder(bucket)), prefix, after, delimiter):
            if isinstance(item, Found):
                with contextlib.suppress(NoSuchObject, FileNotFoundError):
                    yield self._info_of(bucket, item.key, os.lstat(item.path))
            else:
                yield item

    def delete(self, bucket: str, key: str) -> None:
        check_key(key)
        folder = self._folder(bucket)
        with self._lock(bucket, key):
            try:
                path = self._find(bucket, key)[0]
            except NoSuchObject:
                return
            path.unlink()
            sync_folder(path.parent)
            self._sidecars.remove(bucket, key)
        for parent in path.parents:
            if parent == folder:
                break
            try:
                parent.rmdir()
            except OSError:
                break

    def tag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        self.read(bucket, key)[1].close()
        with self._lock(bucket, key):
            stat = self._find(bucket, key)[1]
            entry = self._sidecars.find(bucket, key, identity(stat))
            if entry is None:
                raise NoSuchObject(key)
            self._sidecars.write(bucket, key, {**entry, "tags": dict(tags)})

    def path(self, bucket: str, key: str) -> Path | None:
        check_key(key)
        return self._find(bucket, key)[0]

    def _lock(self, bucket: str, key: str) -> threading.Lock:
        return self._locks[hash((bucket, key)) % len(self._locks)]

    def _folder(self, bucket: str) -> Path:
        folder = self.root / bucket
        if not BUCKET_NAME.fullmatch(bucket) or not folder.is_dir():
            raise NoSuchBucket(bucket)
        return folder

    def _plain(self, bucket: str, key: str) -> str:
        return os.path.join(self._folder(bucket), *names_of(key))

    def _find(self, bucket: str, key: str) -> tuple[Path, os.stat_result]:
        """The file that holds a key. The plain name comes first: files only ever move from it to the marked one."""
        plain = self._plain(bucket, key)
        for path in (plain, f"{plain}{OBJECT}"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                stat = os.lstat(path)
                if stats.S_ISREG(stat.st_mode):
                    return Path(path), stat
        raise NoSuchObject(key)

    def _info_of(self, bucket: str, key: str, stat: os.stat_result) -> ObjectInfo:
        entry = self._sidecars.find(bucket, key, identity(stat))
        if entry is None:
            info, file = self.read(bucket, key)
            file.close()
            return info
        return _info(key, stat, entry)

    def _adopt(self, bucket: str, key: str, file: BinaryIO) -> Entry | None:
        """The entry of a file that nobody described, computed and recorded; None when it was replaced meanwhile."""
        before = os.fstat(file.fileno())
        etag = _md5_of(file)
        file.seek(0)
        entry: Entry = {"id": identity(before), "etag": etag, "headers": {}, "checksums": {}, "tags": {}}
        with self._lock(bucket, key):
            if identity(self._find(bucket, key)[1]) != entry["id"]:
                return None
            known = self._sidecars.find(bucket, key, entry["id"])
            if known is None:
                self._sidecars.write(bucket, key, entry, durable=False)
        return known or entry

    def _stage(self, source: bytes | Path) -> Path:
        """The bytes in a synced file of the scratch folder, which is as new as now."""
        temporary = self.scratch / secrets.token_hex(16)
        try:
            if isinstance(source, bytes):
                temporary.write_bytes(source)
            else:
                _move(source, temporary)
            now = time.time_ns()
            os.utime(temporary, ns=(now, now))
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        except BaseException:  # a full disk needs the room
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _check(self, bucket: str, key: str, if_match: str | None, if_absent: bool) -> None:
        if if_match is None and not if_absent:
            return
        try:
            path, stat = self._find(bucket, key)
        except NoSuchObject:
            if if_match is None:
                return
            raise PreconditionFailed("") from None
        entry = self._sidecars.find(bucket, key, identity(stat))
        found = str(entry["etag"]) if entry else _md5(path)
        if if_absent or found != if_match:
            raise PreconditionFailed(found)

    def _publish(self, bucket: str, key: str, temporary: Path, entry: Entry) -> None:
        plain = Path(self._plain(bucket, key))
        marked = plain.with_name(plain.name + OBJECT)
        try:
            old = identity(self._find(bucket, key)[1])
        except NoSuchObject:
            old = None
        target = marked if plain.is_dir() or marked.exists() else plain
        if not target.parent.is_dir():
            raise FileNotFoundError(target.parent)
        self._sidecars.write(bucket, key, entry, keep=old)
        temporary.replace(target)
        sync_folder(target.parent)

    def _make_folders(self, folder: Path, bucket: str, key: str) -> None:
        """Makes the folders above a key, moving objects that have their names aside (`a` → `a%.object`)."""
        if os.path.isdir(os.path.dirname(self._plain(bucket, key))):
            return
        parts = key.split("/")
        path = folder
        for count in range(1, len(parts) + 1):
            above = "/".join(parts[:count])
            names = names_of(parts[count - 1])
            for name in names if count < len(parts) else names[:-1]:
                path = path / name
                self._make_folder(path, bucket, above)

    def _make_folder(self, path: Path, bucket: str, above: str) -> None:
        with self._lock(bucket, above):
            try:
                path.mkdir()
            except FileExistsError:
                if path.is_dir():
                    return
                path.rename(path.with_name(path.name + OBJECT))
                path.mkdir()
            except FileNotFoundError:
                return  # somebody removed the empty folder above; the caller tries again
            sync_folder(path.parent)

    def _sweep(self) -> None:
        """Removes temporary files that a killed process left behind."""
        for entry in self.scratch.iterdir():
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                if entry.stat().st_mtime < time.time() - _STALE:
                    entry.unlink()


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, target)
        source.unlink()


def _md5(source: bytes | Path) -> str:
    if isinstance(source, bytes):
        return hashlib.md5(source, usedforsecurity=False).hexdigest()
    with source.open("rb") as file:
        return _md5_of(file)


def _md5_of(file: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while data := file.read(2**20):
        digest.update(data)
    return digest.hexdigest()


def _info(key: str, stat: os.stat_result, entry: Entry) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=stat.st_size,
        etag=entry["etag"],
        modified=stat.st_mtime,
        headers=entry["headers"],
        checksums=entry["checksums"],
        tags=entry["tags"],
    )


def _remove_empty(folder: Path) -> None:
    """Removes a folder that holds nothing but empty folders; raises BucketNotEmpty at the first file."""
    folders = [str(folder)]
    for path in folders:
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    raise BucketNotEmpty(folder.name)
                folders.append(entry.path)
    for path in reversed(folders):
        try:
            os.rmdir(path)
        except OSError:
            raise BucketNotEmpty(folder.name) from None
