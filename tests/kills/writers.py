"""Clients that write S3 objects without pause and know, at every moment, what may lie under each of their keys.

An object's first line names its key, version and size, and the rest follows from that line, so a reader can tell
from the bytes alone whether they are one version, whole. A key has one writer. What the server has acknowledged must
be there; what was under way when the connection broke may be there or not; nothing else.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sagesmith.testing.server import RunningServer

PART = 5 * 2**20  # bytes; S3 takes no smaller ones but the last
PAUSE = 0.02  # seconds between two operations of a client
ABSENT = -1  # the "version" of a key under which there is nothing


def content_of(key: str, version: int, size: int) -> bytes:
    """The bytes of one version: about `size` of them."""
    head = f"{key} {version} {size}\n".encode()
    block = hashlib.sha256(head).digest() * 32
    return head + (block * (size // len(block) + 1))[:size]


def version_in(key: str, content: bytes) -> int:
    """Which version the bytes are.

    Raises:
        AssertionError: they are torn, or another key's.
    """
    words = content.split(b"\n", 1)[0].split()
    assert words[:1] == [key.encode()], f"{key} holds something else: {content[:60]!r}"
    assert len(words) == 3, f"{key} is torn within its first line: {content[:60]!r}"
    version, size = int(words[1]), int(words[2])
    assert content == content_of(key, version, size), f"{key} is torn: version {version}, {len(content)} bytes"
    return version


def check_etag(key: str, etag: str, content: bytes) -> None:
    """The ETag must be that of the bytes, put at once or in parts."""
    if etag.endswith('-2"'):
        halves = content[:PART], content[PART:]
        joined = b"".join(hashlib.md5(half, usedforsecurity=False).digest() for half in halves)
        expected = f'"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-2"'
    else:
        expected = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    assert etag == expected, f"{key}: ETag {etag}, content says {expected}"


class Client(threading.Thread):
    """Does one thing after the other until it is told to end, or something goes against the rules: `failure`."""

    def __init__(self, name: str, ended: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._ended = ended
        self.failure: BaseException | None = None

    def act(self) -> None:
        """The next thing; what it raises ends the client."""
        raise NotImplementedError

    def run(self) -> None:
        try:
            while not self._ended.wait(PAUSE):
                self.act()
        except BaseException as error:
            self.failure = error


class Writer(Client):
    """One client and its keys.

    Attributes:
        possible: key → the versions that may lie under it now.
    """

    def __init__(self, server: RunningServer, bucket: str, name: str, seed: int, ended: threading.Event) -> None:
        super().__init__(name, ended)
        self._s3 = server.client("s3")
        self._bucket = bucket
        self._random = random.Random(seed)
        self._version = 0
        self.possible: dict[str, set[int]] = {f"{name}/{letter}": {ABSENT} for letter in "abcdef"}
        self.acknowledged = 0
        self.broken = 0

    def act(self) -> None:
        key = self._random.choice(list(self.possible))
        kinds: list[Callable[[str], None]] = [self._put, self._multipart, self._remove, self._copy, self.verify]
        operation = self._random.choices(kinds, weights=[50, 3, 15, 12, 20])[0]
        try:
            operation(key)
        except ClientError as error:
            # An answer of which only the status arrived: S3's errors have a body with a code in words.
            if not error.response["Error"]["Code"].isdigit():
                raise
            self.broken += 1
        except (BotoCoreError, OSError):
            self.broken += 1
            time.sleep(0.2)

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _put(self, key: str) -> None:
        content = content_of(key, version := self._next(), self._random.choice((0, 10, 5_000, 300_000)))
        self.possible[key].add(version)
        answer = self._s3.put_object(Bucket=self._bucket, Key=key, Body=content)
        self._acknowledge(key, version)
        check_etag(key, answer["ETag"], content)

    def _multipart(self, key: str) -> None:
        content = content_of(key, version := self._next(), PART + 1000)
        where = {"Bucket": self._bucket, "Key": key}
        upload = {**where, "UploadId": self._s3.create_multipart_upload(**where)["UploadId"]}
        parts = []
        for number, part in enumerate((content[:PART], content[PART:]), start=1):
            etag = self._s3.upload_part(**upload, PartNumber=number, Body=part)["ETag"]
            parts.append({"ETag": etag, "PartNumber": number})
        self.possible[key].add(version)
        answer = self._s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        self._acknowledge(key, version)
        check_etag(key, answer["ETag"], content)

    def _remove(self, key: str) -> None:
        self.possible[key].add(ABSENT)
        self._s3.delete_object(Bucket=self._bucket, Key=key)
        self._acknowledge(key, ABSENT)

    def _copy(self, key: str) -> None:
        """Onto itself with new metadata: another file with the same bytes."""
        source = {"Bucket": self._bucket, "Key": key}
        try:
            self._s3.copy_object(**source, CopySource=source, MetadataDirective="REPLACE")
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            self._must_be_possible(key, ABSENT)

    def verify(self, key: str) -> None:
        """Reads the key: it must be one of the versions that are possible, whole; henceforth only that one is."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            version = ABSENT
        else:
            content = answer["Body"].read()
            check_etag(key, answer["ETag"], content)
            version = version_in(key, content)
        self._must_be_possible(key, version)
        self.possible[key] = {version}

    def _must_be_possible(self, key: str, version: int) -> None:
        assert version in self.possible[key], f"{key} is at version {version}; possible: {sorted(self.possible[key])}"

    def _acknowledge(self, key: str, version: int) -> None:
        self.possible[key] = {version}
        self.acknowledged += 1


class Reader(Client):
    """Reads objects while others write them: whatever it sees must be one version, whole."""

    def __init__(self, server: RunningServer, bucket: str, keys: list[str], seed: int, ended: threading.Event) -> None:
        super().__init__("reader", ended)
        self._s3 = server.client("s3")
        self._bucket = bucket
        self._keys = keys
        self._random = random.Random(seed)
        self.reads = 0

    def act(self) -> None:
        key = self._random.choice(self._keys)
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
            content = answer["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
        except (BotoCoreError, OSError):
            time.sleep(0.2)
        else:
            check_etag(key, answer["ETag"], content)
            version_in(key, content)
            self.reads += 1


def listed(s3: Any, bucket: str) -> dict[str, int]:
    """Every key of a bucket and its size, page by page."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 7})
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
