"""Stage in: the configuration files, the channels' data and the models that a container expects to find."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from sagesmith.agent.channels import Channel, Source, below, list_keys, read_channels, sources
from sagesmith.agent.connection import Server, refusal
from sagesmith.agent.failures import JobFailed, Stopped
from sagesmith.agent.fast_files import FastFiles
from sagesmith.agent.manifest_files import objects_and_manifest
from sagesmith.agent.pipes import PipeFeeder, read_chunks
from sagesmith.archives import ArchiveError, unpack
from sagesmith.contract import AgentPaper, JobFolder, resource_config
from sagesmith.core.names import S3Uri

PARALLEL = 8  # objects downloaded at a time
OPT_ML = PurePosixPath("/opt/ml")
SUBMIT_DIRECTORY = "sagemaker_submit_directory"


def write_configuration(paper: AgentPaper, folder: JobFolder) -> list[Channel]:
    """The files under input/config, exactly as SageMaker writes them, and the channels they speak of."""
    channels = read_channels(paper)
    files = {
        folder.hyperparameters: paper.get("hyperparameters", {}),
        folder.input_data_config: {channel.name: channel.settings for channel in channels},
        folder.resource_config: resource_config(paper["host"], paper["hosts"], paper.get("instance_type")),
    }
    if "checkpoint" in paper:
        local = str(checkpoint_folder(paper, folder))
        files[folder.checkpoint_config] = {"LocalPath": local, "S3Uri": paper["checkpoint"]["S3Uri"]}
    for path, content in files.items():
        path.write_text(json.dumps(content), "utf-8")
    return channels


def checkpoint_folder(paper: AgentPaper, folder: JobFolder) -> Path:
    """Where the job keeps its checkpoints: CheckpointConfig.LocalPath, with /opt/ml standing for this job's folder.

    Raises:
        JobFailed: a LocalPath elsewhere, where jobs of one host would meet.
    """
    local = PurePosixPath(paper.get("checkpoint", {}).get("LocalPath") or OPT_ML / "checkpoints")
    if ".." in local.parts or not local.is_relative_to(OPT_ML):
        raise JobFailed(f"ClientError: CheckpointConfig.LocalPath must lie below /opt/ml, got {str(local)!r}")
    path = folder.base.joinpath(*local.relative_to(OPT_ML).parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


class Staged(NamedTuple):
    """What the job needs besides its files: feeders to be started with it, folders that it must not write to."""

    feeders: list[PipeFeeder]
    read_only: list[Path]


def stage_channels(
    channels: Iterable[Channel], paper: AgentPaper, folder: JobFolder, server: Server, say: Callable[[str], None]
) -> Staged:
    """Copies File channels, links FastFile ones where it can, and prepares the feeders of Pipe channels.

    Raises:
        JobFailed: data that is missing or cannot be laid out, worded as FailureReason.
        Stopped: the agent was asked to stop meanwhile.
    """
    feeders = []
    fast_files = FastFiles(paper, say, server.stopping.is_set)
    checkpoints = checkpoint_folder(paper, folder) if "checkpoint" in paper else None
    for channel in channels:
        if channel.mode == "Pipe":
            feeders.append(PipeFeeder(channel, server, paper, folder))
            continue
        into = folder.channel(channel.name)
        manifest: tuple[str, bytes] | None = None
        if channel.kind == "AugmentedManifestFile":
            found, manifest = objects_and_manifest(channel, server, paper)
        else:
            found = sources(channel, server, paper["host"], paper["hosts"])
        try:
            if channel.mode == "FastFile":
                found = fast_files.lay(channel, found, into, checkpoints)
            download(server, found, into)
            if manifest is not None:
                (into / manifest[0]).write_bytes(manifest[1])
        except (ClientError, BotoCoreError, OSError) as error:
            raise channel.failed(refusal(error)) from None
    return Staged(feeders, fast_files.read_only)


def download(server: Server, found: list[Source], into: Path) -> None:
    """Copies objects below a folder, several at a time. The first error ends all.

    Raises:
        ClientError: the server refuses one.
        OSError: the disk's errors, and names that it does not take.
        Stopped: the agent was asked to stop meanwhile.
    """
    into.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(min(PARALLEL, max(1, len(found))), "download") as pool:
        copies = [pool.submit(_copy, server, source, into) for source in found]
        try:
            for copy in copies:
                copy.result()
        except BaseException:
            for copy in copies:
                copy.cancel()
            raise


def _copy(server: Server, source: Source, into: Path) -> None:
    path = source.below(into)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # never written in place: what is there may be a link to something else
    with path.open("wb") as file:
        for chunk in read_chunks(server, source.uri):
            if server.stopping.is_set():
                raise Stopped
            file.write(chunk)


def stage_models(paper: AgentPaper, folder: JobFolder, server: Server) -> None:
    """Lays every model of the paper into its folder: an archive is unpacked, a prefix copied as it is.

    Raises:
        JobFailed: a model that is missing, damaged or would leave its folder.
    """
    for model in paper.get("models", []):
        into = folder.base / model["into"]
        if not into.resolve().is_relative_to(folder.base.resolve()):
            raise JobFailed(f"ClientError: a model cannot be put into {model['into']!r}, outside of the container")
        _stage(model["url"], "model data", into, folder, server)


def stage_code(paper: AgentPaper, folder: JobFolder, server: Server) -> None:
    """Lays the script of a framework image into code/. Only we can: the job has no key to fetch it with.

    The hyperparameter sagemaker_submit_directory names it, as text or as JSON; a path that is not in S3 is one
    inside the container, which the container finds itself.

    Raises:
        JobFailed: code that is missing, damaged or would leave its folder.
    """
    source = paper.get("hyperparameters", {}).get(SUBMIT_DIRECTORY, "").strip('" ')
    if source.startswith("s3://"):
        _stage(source, "code", folder.code, folder, server)


def _stage(url: str, what: str, into: Path, folder: JobFolder, server: Server) -> None:
    try:
        _unpack_or_copy(url, into, folder, server)
    except (ClientError, BotoCoreError) as error:
        raise JobFailed(f"ClientError: Failed to download {what} from {url}: {refusal(error)}") from None
    except (ArchiveError, ValueError, OSError) as error:
        raise JobFailed(f"ClientError: Failed to extract {what} from {url}: {error}") from None


def _unpack_or_copy(url: str, into: Path, folder: JobFolder, server: Server) -> None:
    uri = S3Uri.parse(url)
    into.mkdir(parents=True, exist_ok=True)
    if uri.key.endswith((".tar.gz", ".tgz")):
        archive = folder.base / "archive.tar.gz.download"
        try:
            _copy(server, Source(uri, archive.name), archive.parent)
            unpack(archive, into)
        finally:
            with contextlib.suppress(FileNotFoundError):
                archive.unlink()
        return
    found = [Source(S3Uri(uri.bucket, key), below(uri.key, key)) for key in list_keys(server, uri.bucket, uri.key)]
    if not found:
        raise ValueError("there are no objects under that prefix")
    for source in found:
        if ".." in source.path.split("/") or "." in source.path.split("/"):
            raise ValueError(f"{source.uri} would not lie in its folder")
    download(server, found, into)
