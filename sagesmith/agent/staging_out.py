"""Stage out: model and output archives to S3, with the hosts of a gang merged by the first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sagesmith.agent.channels import Source
from sagesmith.agent.connection import Server, code_of, refusal
from sagesmith.agent.failures import JobFailed, Stopped
from sagesmith.agent.staging_in import download
from sagesmith.archives import ArchiveError, pack, unpack
from sagesmith.contract import AgentPaper, JobFolder
from sagesmith.core.names import S3Uri

LOOK = 0.5  # seconds between looks at the other hosts' reports
PARALLEL = 8
PART_SIZE = 64 << 20  # bytes of one part; S3 takes 10,000 of them


class StageOut:
    """Uploads what the job has left. Every upload is insisted upon, however long the server stays away."""

    def __init__(self, paper: AgentPaper, folder: JobFolder, server: Server, say: Callable[[str], None]) -> None:
        self._paper = paper
        self._folder = folder
        self._server = server
        self._say = say
        self._reports = S3Uri.parse(paper["reports"])

    def run(self, *, alone: bool = False, model: bool = True) -> None:
        """Hosts other than the first hand their files to the first, which uploads the whole.

        Args:
            alone: do not wait for the other hosts; the job was stopped or failed.
            model: upload the model as well as the output; a failed job has none.

        Raises:
            JobFailed: names that clash, or a refusal of the server.
        """
        hosts = sorted(self._paper["hosts"])
        try:
            if self._paper["host"] != hosts[0]:
                self._hand_over()
                return
            if not alone:
                for host in hosts[1:]:
                    self._merge(host)
            self._upload_all(model=model)
        except (ArchiveError, ClientError, BotoCoreError) as error:
            raise JobFailed(f"ClientError: Failed to upload the job's output: {refusal(error)}") from None

    def _hand_over(self) -> None:
        for folder, name in ((self._folder.model, "model"), (self._folder.output_data, "output")):
            if has_files(folder):
                self._upload_archive(folder, self._reports.join(f"{self._paper['host']}-{name}.tar.gz"))

    def _merge(self, host: str) -> None:
        """Takes over the files of another host once it has finished.

        Raises:
            JobFailed: both wrote a model file of the same name.
            Stopped: asked to stop while waiting.
        """
        while not self._finished(host):
            if self._server.stopping.wait(LOOK):
                raise Stopped
        for folder, name in ((self._folder.model, "model"), (self._folder.output_data, "output")):
            theirs = self._fetch(host, name)
            if theirs is None:
                continue
            for path in list(files_below(theirs)):
                target = folder / path.relative_to(theirs)
                if target.exists() and name == "model":
                    clash = path.relative_to(theirs)
                    raise JobFailed(f"AlgorithmError: hosts {self._paper['host']} and {host} both wrote model/{clash}")
                if target.exists():
                    target = folder / host / path.relative_to(theirs)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
            shutil.rmtree(theirs)

    def _finished(self, host: str) -> bool:
        report = read_json(self._server, self._reports.join(f"{host}.json"))
        return report is not None and "exit" in report

    def _fetch(self, host: str, name: str) -> Path | None:
        uri = self._reports.join(f"{host}-{name}.tar.gz")
        into = self._folder.base / f"from-{host}-{name}"
        try:
            download(self._server, [Source(uri, "archive")], into)
        except ClientError as error:
            if code_of(error) in {"NoSuchKey", "404"}:
                shutil.rmtree(into)
                return None
            raise
        unpack(into / "archive", into / "files")
        (into / "archive").unlink()
        return into / "files"

    def _upload_all(self, *, model: bool) -> None:
        to = self._paper.get("model_output") if model else None
        plain = self._paper.get("compression") == "NONE"
        for folder, target in ((self._folder.model, to), (self._folder.output_data, self._paper.get("data_output"))):
            if target is None or not has_files(folder):
                continue
            if plain and folder == self._folder.model:
                upload_folder(self._server, folder, S3Uri.parse(target))
            else:
                self._upload_archive(folder, S3Uri.parse(target))
        if to is not None and not has_files(self._folder.model):
            self._say("The job left no files in its model folder; there is no model artifact.")

    def _upload_archive(self, folder: Path, target: S3Uri) -> None:
        archive = self._folder.base / f"{folder.name}.upload.tar.gz"
        pack(folder, archive)
        upload(self._server, archive, target)
        archive.unlink()


def upload(server: Server, path: Path, target: S3Uri) -> None:
    """Puts a file into S3, in parts when it is large, again and again until it is accepted.

    The parts of attempts that broke off are dropped in the end: nobody else writes to the keys of a job.

    Raises:
        ClientError: the server refuses.
    """
    size = PART_SIZE
    while path.stat().st_size > 9_999 * size:
        size *= 2

    broken = False

    def attempt() -> None:
        nonlocal broken
        client = server.client("s3")
        if path.stat().st_size <= size:
            with path.open("rb") as file:
                client.put_object(Bucket=target.bucket, Key=target.key, Body=file)
            return
        from s3transfer.manager import TransferConfig, TransferManager  # slow to import, and seldom needed

        again, broken = broken, True
        config = TransferConfig(multipart_threshold=size, multipart_chunksize=size, max_request_concurrency=PARALLEL)
        with TransferManager(client, config) as manager:
            manager.upload(str(path), target.bucket, target.key).result()
        if again:
            _drop_parts(client, target)

    server.insist(attempt, stubborn=True)


def _drop_parts(client: Any, target: S3Uri) -> None:
    begun = client.list_multipart_uploads(Bucket=target.bucket, Prefix=target.key).get("Uploads", [])
    for upload in begun:
        if upload["Key"] == target.key:
            client.abort_multipart_upload(Bucket=target.bucket, Key=target.key, UploadId=upload["UploadId"])


def upload_folder(server: Server, folder: Path, target: S3Uri) -> None:
    """Puts every file of a folder under a prefix."""
    with ThreadPoolExecutor(PARALLEL, "upload") as pool:
        copies = [
            pool.submit(upload, server, path, target.join(path.relative_to(folder).as_posix()))
            for path in files_below(folder)
        ]
        for copy in copies:
            copy.result()


def read_json(server: Server, uri: S3Uri) -> dict[str, Any] | None:
    """A JSON object from S3, or None when it is not there."""

    def attempt() -> dict[str, Any] | None:
        try:
            answer = server.client("s3").get_object(Bucket=uri.bucket, Key=uri.key)
        except ClientError as error:
            if code_of(error) in {"NoSuchKey", "404"}:
                return None
            raise
        content: dict[str, Any] = json.loads(answer["Body"].read())
        return content

    return server.insist(attempt)


def files_below(folder: Path) -> Iterator[Path]:
    """The plain files of a folder and its subfolders, in order. Links are not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def has_files(folder: Path) -> bool:
    return next(files_below(folder), None) is not None
