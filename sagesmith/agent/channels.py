"""What a channel consists of: the objects, or manifest lines, that this host reads, in order."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from sagesmith.agent.connection import Server, refusal
from sagesmith.agent.failures import JobFailed
from sagesmith.contract import AgentPaper
from sagesmith.core.names import S3Uri

MANIFEST_BYTES = 256 << 20  # the largest manifest that is read


class Source(NamedTuple):
    """One object and where it goes below the channel's folder."""

    uri: S3Uri
    path: str  # relative, with forward slashes; never leaves the folder
    etag: str = ""  # without quotes, and the size in bytes, of the version that was listed; "" when none was
    size: int = 0

    def below(self, folder: Path) -> Path:
        """Its place in a channel's folder."""
        return folder.joinpath(*(part for part in self.path.split("/") if part))


@dataclass(frozen=True)
class Channel:
    """One entry of InputDataConfig with its defaults filled in."""

    name: str
    mode: str  # File | FastFile | Pipe
    kind: str  # S3Prefix | ManifestFile | AugmentedManifestFile
    uri: S3Uri
    sharded: bool
    content_type: str | None
    compressed: bool
    wrapped: bool  # RecordWrapperType RecordIO
    seed: int | None
    attributes: tuple[str, ...]

    def failed(self, reason: str) -> JobFailed:
        """What ends the job when this channel cannot be read."""
        return JobFailed(f"ClientError: Data download failed: channel '{self.name}': {reason}")

    @property
    def settings(self) -> dict[str, str]:
        """This channel's entry in inputdataconfig.json."""
        settings = {
            "TrainingInputMode": self.mode,
            "S3DistributionType": "ShardedByS3Key" if self.sharded else "FullyReplicated",
            "RecordWrapperType": "RecordIO" if self.wrapped else "None",
        }
        return ({"ContentType": self.content_type} if self.content_type is not None else {}) | settings


def read_channels(paper: AgentPaper) -> list[Channel]:
    """The paper's InputDataConfig.

    Raises:
        JobFailed: something that cannot be read here, naming channel and value.
    """
    return [_channel(entry, paper.get("input_mode", "File")) for entry in paper.get("channels", [])]


def _channel(entry: dict[str, Any], default_mode: str) -> Channel:
    name = entry["ChannelName"]
    source = entry.get("DataSource", {}).get("S3DataSource")
    if source is None:
        raise JobFailed(f"ClientError: channel '{name}' has no S3DataSource; other data sources are not available here")
    try:
        uri = S3Uri.parse(source["S3Uri"])
    except ValueError as error:
        raise JobFailed(f"ClientError: channel '{name}': {error}") from None
    channel = Channel(
        name=name,
        mode=entry.get("InputMode") or default_mode,
        kind=source.get("S3DataType", "S3Prefix"),
        uri=uri,
        sharded=source.get("S3DataDistributionType") == "ShardedByS3Key",
        content_type=entry.get("ContentType"),
        compressed=entry.get("CompressionType") == "Gzip",
        wrapped=entry.get("RecordWrapperType") == "RecordIO",
        seed=entry.get("ShuffleConfig", {}).get("Seed"),
        attributes=tuple(source.get("AttributeNames", ())),
    )
    if channel.kind == "AugmentedManifestFile" and not channel.attributes:
        raise JobFailed(f"ClientError: channel '{name}': S3DataType AugmentedManifestFile needs AttributeNames")
    if channel.mode == "FastFile" and channel.kind != "S3Prefix":
        raise JobFailed(f"ClientError: channel '{name}': InputMode FastFile needs S3DataType S3Prefix")
    return channel


def sources(channel: Channel, server: Server, host: str, hosts: list[str], epoch: int = 0) -> list[Source]:
    """The objects of an S3Prefix or ManifestFile channel that this host reads in an epoch.

    With a ShuffleConfig a Pipe channel's objects come in another order in each epoch, before they are shared out.

    Raises:
        JobFailed: no objects, fewer than hosts that share them, names that clash or would leave the folder.
    """
    try:
        if channel.kind == "ManifestFile":
            found = list(_manifest_sources(channel, server))
        else:
            found = list(_prefix_sources(channel, server))
    except ClientError as error:
        raise channel.failed(f"{channel.uri}: {refusal(error)}") from None
    if not found:
        raise channel.failed(f'no objects found under S3 URL "{channel.uri}". Check that objects exist under it.')
    check_paths(channel, found)
    if channel.mode == "Pipe":
        found = _without_indexes(found)
    if channel.seed is not None and channel.mode == "Pipe":
        random.Random(f"{channel.seed}/{epoch}").shuffle(found)
    return share(channel, found, host, hosts)


def _without_indexes(found: list[Source]) -> list[Source]:
    """All but the `.idx` beside a `.rec` file, MXNet's index of it: in one stream it would be read as records, where a
    reader of files passes it over."""
    records = {source.uri.key.removesuffix(".rec") for source in found if source.uri.key.endswith(".rec")}
    return [source for source in found if not (source.uri.key.endswith(".idx") and source.uri.key[:-4] in records)]


def share(channel: Channel, found: list[Any], host: str, hosts: list[str]) -> list[Any]:
    """This host's part: every n-th, or all when the channel is FullyReplicated."""
    if not channel.sharded or len(hosts) == 1:
        return found
    if len(found) < len(hosts):
        raise channel.failed(
            f"ShardedByS3Key needs at least one object for each of the {len(hosts)} hosts, found {len(found)}"
        )
    return found[sorted(hosts).index(host) :: len(hosts)]


def list_keys(server: Server, bucket: str, prefix: str) -> Iterator[str]:
    """All keys that start with `prefix`, in UTF-8 order, folder markers left out."""
    return (entry["Key"] for entry in list_objects(server, bucket, prefix))


def list_objects(server: Server, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """As `list_keys`, but whole entries of the listing: Key, ETag, Size."""
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = server.call("s3", "list_objects_v2", **request)
        yield from (entry for entry in page.get("Contents", []) if not entry["Key"].endswith("/"))
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def below(prefix: str, key: str) -> str:
    """Where `key` lies below `prefix`: what follows its last whole folder, or the last name of a key equal to it."""
    if prefix and not prefix.endswith("/") and key.startswith(prefix + "/"):
        prefix += "/"
    folder = prefix[: prefix.rfind("/") + 1]
    return key[len(folder) :].lstrip("/")


def _prefix_sources(channel: Channel, server: Server) -> Iterator[Source]:
    bucket, prefix = channel.uri
    for entry in list_objects(server, bucket, prefix):
        key, etag = entry["Key"], entry.get("ETag", "").strip('"')
        yield Source(S3Uri(bucket, key), below(prefix, key), etag, entry.get("Size", 0))


def read_object(channel: Channel, server: Server, uri: S3Uri) -> bytes:
    """A manifest's bytes."""

    def attempt() -> bytes:
        answer = server.client("s3").get_object(Bucket=uri.bucket, Key=uri.key)
        if answer["ContentLength"] > MANIFEST_BYTES:
            raise channel.failed(f"manifest {uri} has {answer['ContentLength']} bytes, more than {MANIFEST_BYTES}")
        return bytes(answer["Body"].read())

    return server.insist(attempt)


def _manifest_sources(channel: Channel, server: Server) -> Iterator[Source]:
    try:
        manifest = json.loads(read_object(channel, server, channel.uri))
    except (ValueError, RecursionError) as error:
        raise channel.failed(f"manifest {channel.uri} is not JSON: {error}") from None
    shape = 'a list [{"prefix": "s3://..."}, "name", ...]'
    if not isinstance(manifest, list) or not manifest or not isinstance(manifest[0], dict):
        raise channel.failed(f"manifest {channel.uri} must be {shape}")
    prefix = manifest[0].get("prefix")
    if not isinstance(prefix, str):
        raise channel.failed(f"manifest {channel.uri} must be {shape}")
    for name in manifest[1:]:
        if not isinstance(name, str) or not name:
            raise channel.failed(f"manifest {channel.uri} must be {shape}, found {name!r}")
        try:
            yield Source(S3Uri.parse(prefix + name), name)
        except ValueError as error:
            raise channel.failed(f"manifest {channel.uri}: {error}") from None


def check_paths(channel: Channel, found: list[Source]) -> None:
    """Raises JobFailed when objects would not lie in the channel's folder, or not side by side."""
    taken: dict[str, S3Uri] = {}
    for source in found:
        parts = [part for part in source.path.split("/") if part]
        if not parts or ".." in parts or "." in parts or "\0" in source.path or source.path.startswith("/"):
            raise channel.failed(f"{source.uri} would not lie in the channel's folder")
        path = "/".join(parts)
        if path in taken:
            raise channel.failed(f"{source.uri} and {taken[path]} would both become {path!r}")
        taken[path] = source.uri
    if channel.mode == "Pipe":
        return
    for path, uri in taken.items():
        for end in (position for position, letter in enumerate(path) if letter == "/"):
            if path[:end] in taken:
                raise channel.failed(f"{taken[path[:end]]} is a file and {uri} needs a folder of that name")
