"""Checkpoints: restored from S3 before the job starts, copied to S3 while it runs and once more at its end."""

from __future__ import annotations

import threading
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from sagesmith.agent.channels import Source, below, list_keys
from sagesmith.agent.connection import Server, refusal
from sagesmith.agent.failures import JobFailed
from sagesmith.agent.staging_in import download
from sagesmith.agent.staging_out import files_below, upload
from sagesmith.core.names import S3Uri

PAUSE = 5.0  # seconds between looks at the folder
SETTLING = 1.0  # seconds until a second look, for algorithms keep a checkpoint only until they have written two more
NOT_COPIED = (".sagemaker-ignore", ".sagemaker-uploading", ".sagemaker-uploaded")  # names' ends, SageMaker's own


class Checkpoints:
    """A folder that is kept the same as an S3 prefix. Files that vanish here stay in S3, as on SageMaker.

    A file is copied when its size and time have not changed since the look before, so that half a file is never sent
    over a whole one; the last look takes everything. Files whose names end in `.sagemaker-ignore` stay where they are.
    """

    def __init__(self, folder: Path, target: S3Uri, server: Server) -> None:
        self._folder = folder
        self._target = target
        self._server = server
        self._sent: dict[Path, tuple[int, int]] = {}
        self._seen: dict[Path, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self.failure = ""

    def restore(self) -> int:
        """Copies what an earlier run left; returns the number of files.

        Raises:
            JobFailed: the prefix cannot be read.
        """
        prefix = self._target.key.rstrip("/") + "/" if self._target.key else ""
        try:
            keys = [k for k in list_keys(self._server, self._target.bucket, prefix) if not k.endswith(NOT_COPIED)]
            for key in keys:
                if {"..", "."} & set(key.split("/")):
                    raise JobFailed(f"ClientError: checkpoint {key!r} would not lie in the checkpoint folder")
            found = [Source(S3Uri(self._target.bucket, key), below(prefix, key)) for key in keys]
            download(self._server, found, self._folder)
        except (ClientError, BotoCoreError, OSError) as error:
            raise JobFailed(f"ClientError: Checkpoint download from {self._target} failed: {refusal(error)}") from None
        self._sent = {path: _state(path) for path in files_below(self._folder)}
        return len(found)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Copies what is not in S3 yet. Call it once the job's process is gone."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._look(settled=False)

    def _run(self) -> None:
        while not self._ended.wait(PAUSE):
            self._look(settled=True)
            if not self._ended.wait(SETTLING):
                self._look(settled=True)

    def _look(self, *, settled: bool) -> None:
        for path in files_below(self._folder):
            if path.name.endswith(NOT_COPIED):
                continue
            try:
                state = _state(path)
                if self._sent.get(path) == state:
                    continue
                if settled and self._seen.get(path) != state:
                    self._seen[path] = state
                    continue
                upload(self._server, path, self._target.join(path.relative_to(self._folder).as_posix()))
                self._sent[path] = state
            except FileNotFoundError:  # the job has rotated it away meanwhile
                continue
            except (ClientError, BotoCoreError, OSError) as error:
                self.failure = f"Checkpoint {path.name} could not be copied to {self._target}: {refusal(error)}"


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
