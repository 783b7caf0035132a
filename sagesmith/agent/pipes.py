"""Pipe channels: a FIFO per epoch, filled from S3 while the job reads it."""

from __future__ import annotations

import json
import os
import random
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError, ClientError

from sagesmith.agent.channels import Channel, Source, read_object, share, sources
from sagesmith.agent.connection import Server, passing, refusal
from sagesmith.agent.failures import JobFailed, Stopped
from sagesmith.contract import AgentPaper, JobFolder
from sagesmith.core.names import S3Uri
from sagesmith.formats.errors import DataError
from sagesmith.formats.frames import frame

CHUNK = 1 << 20


class PipeFeeder:
    """A thread that fills one channel's FIFOs, epoch after epoch, for as long as the job opens the next one.

    `failure` tells why it gave up; the reader then sees the end of its data, and the job is failed for it.
    """

    def __init__(self, channel: Channel, server: Server, paper: AgentPaper, folder: JobFolder) -> None:
        self._channel = channel
        self._server = server
        self._paper = paper
        self._folder = folder
        self.failure = ""
        self._first = self._plan(0)  # found missing before the job starts, as in File mode
        os.mkfifo(folder.pipe(channel.name, 0))
        self._thread = threading.Thread(target=self._run, name=f"pipe {channel.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        epoch = 0
        try:
            while True:
                self._feed(epoch)
                epoch += 1
        except Stopped:
            return
        except JobFailed as failed:
            self.failure = str(failed)
        except (ClientError, BotoCoreError, OSError, zlib.error) as error:
            self.failure = str(self._channel.failed(refusal(error)))

    def _feed(self, epoch: int) -> None:
        """One epoch. The next FIFO is there before this one ends, for readers that look ahead."""
        path = self._folder.pipe(self._channel.name, epoch)
        with path.open("wb", buffering=0) as pipe:  # waits for the reader
            os.mkfifo(self._folder.pipe(self._channel.name, epoch + 1))
            plan = self._first if epoch == 0 else self._plan(epoch)
            try:
                for chunk in self._stream(plan):
                    _write(cast(BinaryIO, pipe), chunk)
            except BrokenPipeError:
                pass  # the reader has had enough of this epoch
        path.unlink(missing_ok=True)

    def _plan(self, epoch: int) -> list[Source] | list[list[Source | bytes]]:
        paper = self._paper
        if self._channel.kind != "AugmentedManifestFile":
            return sources(self._channel, self._server, paper["host"], paper["hosts"], epoch)
        lines = augmented_records(self._channel, self._server)
        if self._channel.seed is not None:
            random.Random(f"{self._channel.seed}/{epoch}").shuffle(lines)
        return share(self._channel, lines, paper["host"], paper["hosts"])

    def _stream(self, plan: list[Source] | list[list[Source | bytes]]) -> Iterator[bytes]:
        for entry in plan:
            for item in [entry] if isinstance(entry, Source) else entry:
                chunks = [item] if isinstance(item, bytes) else self._object(item)
                if self._channel.wrapped:
                    yield self._framed(b"".join(chunks), item)
                else:
                    yield from chunks

    def _framed(self, payload: bytes, item: Source | bytes) -> bytes:
        try:
            return frame(payload)
        except DataError as error:
            raise self._channel.failed(f"{'manifest' if isinstance(item, bytes) else item.uri}: {error}") from None

    def _object(self, source: Source) -> Iterator[bytes]:
        chunks = read_chunks(self._server, source.uri)
        if not self._channel.compressed:
            return chunks
        return gunzip(chunks, self._channel, source.uri)


def read_chunks(server: Server, uri: S3Uri) -> Iterator[bytes]:
    """An object's bytes. A connection that breaks is taken up again where it broke, if the object is still the same."""
    done, etag, total = 0, "", -1
    while total < 0 or done < total:
        request: dict[str, Any] = {"Bucket": uri.bucket, "Key": uri.key}
        if etag:
            request |= {"Range": f"bytes={done}-", "IfMatch": etag}
        answer = server.call("s3", "get_object", **request)
        if not etag:
            etag, total = answer["ETag"], answer["ContentLength"]
        try:
            while chunk := answer["Body"].read(CHUNK):
                done += len(chunk)
                yield chunk
        except (BotoCoreError, OSError) as error:
            if isinstance(error, BrokenPipeError) or not passing(error):
                raise
            if server.stopping.wait(0.1):
                raise Stopped from None


def gunzip(chunks: Iterable[bytes], channel: Channel, uri: S3Uri) -> Iterator[bytes]:
    """The content of a gzip file of any number of members, in bounded memory."""
    member = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        data, full = chunk, False
        while data or full:  # a full answer may have left more in the decompressor, with no input over
            if member.eof:
                if not data.strip(b"\0"):
                    break
                member = zlib.decompressobj(wbits=31)
            try:
                output = member.decompress(data, CHUNK)
            except zlib.error as error:
                raise channel.failed(f"{uri} is not a gzip file (CompressionType Gzip): {error}") from None
            if output:
                yield output
            full = len(output) == CHUNK
            data = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise channel.failed(f"{uri} is truncated: the gzip data has no end")


def augmented_records(channel: Channel, server: Server) -> list[list[Source | bytes]]:
    """The manifest's lines, each as its attributes in order: an object for `-ref` attributes, else the value as text.

    Raises:
        JobFailed: a line that is not a JSON object or lacks an attribute, naming line and attribute.
    """
    records: list[list[Source | bytes]] = []
    try:
        text = read_object(channel, server, channel.uri)
    except ClientError as error:
        raise channel.failed(f"{channel.uri}: {refusal(error)}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"augmented manifest {channel.uri}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise channel.failed(f"{where} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise channel.failed(f"{where} must be a JSON object, found {type(values).__name__}")
        records.append([_attribute(channel, values, name, where) for name in channel.attributes])
    if not records:
        raise channel.failed(f"augmented manifest {channel.uri} has no lines")
    return records


def _attribute(channel: Channel, values: dict[str, object], name: str, where: str) -> Source | bytes:
    if name not in values:
        raise channel.failed(f"{where} has no attribute {name!r}")
    value = values[name]
    if not name.endswith("-ref"):
        return (value if isinstance(value, str) else json.dumps(value)).encode()
    if not isinstance(value, str):
        raise channel.failed(f"{where}: attribute {name!r} must be an S3 URI, found {value!r}")
    try:
        return Source(S3Uri.parse(value), "")
    except ValueError as error:
        raise channel.failed(f"{where}: {error}") from None


def _write(pipe: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]
