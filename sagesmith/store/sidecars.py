"""Sidecars: what is known of an object besides its bytes, as JSON beside the tree of plain files.

An entry describes one version of a file by its identity (inode, size, modification time). A writer records the new
version's entry next to the old one's *before* it renames the file into place; a reader takes the entry that matches
the file it opened. So whichever instant a process is killed at, file and entry belong together.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

Identity = list[int]
Entry = dict[str, Any]  # {"id": Identity, "etag": …, "headers": …, "checksums": …, "tags": …}


def identity(stat: os.stat_result) -> Identity:
    """What tells one version of a file from every other."""
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns]


class Sidecars:
    """The entries of all objects below one folder, filed by the SHA-256 of the key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, bucket: str, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / bucket / digest[:2] / f"{digest[2:]}.json"

    def find(self, bucket: str, key: str, version: Identity) -> Entry | None:
        """The entry of that version, if one was written."""
        return next((entry for entry in self._read(bucket, key) if entry.get("id") == version), None)

    def write(self, bucket: str, key: str, entry: Entry, keep: Identity | None = None, durable: bool = True) -> None:
        """Records an entry; of those recorded before only the version `keep` stays.

        `durable` is False for what can be computed again: it is written in one step, but not waited for.
        """
        entries = [old for old in self._read(bucket, key) if old.get("id") == keep and keep != entry["id"]]
        path = self.path(bucket, key)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            if durable:
                sync_folder(path.parent.parent)
        _replace(path, json.dumps([*entries, entry]).encode(), durable)

    def remove(self, bucket: str, key: str) -> None:
        self.path(bucket, key).unlink(missing_ok=True)

    def _read(self, bucket: str, key: str) -> list[Entry]:
        try:
            entries = json.loads(self.path(bucket, key).read_bytes())
        except (FileNotFoundError, ValueError):
            return []
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a file in one step that survives a power cut."""
    _replace(path, data, True)


def _replace(path: Path, data: bytes, durable: bool) -> None:
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in a folder survive a power cut."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
