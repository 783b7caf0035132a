"""How a job says why it failed: one clear first line in output/failure, the traceback in the log, an exit status."""

from __future__ import annotations

import errno
import logging
import re
import traceback

from sagesmith.contract import FAILURE_CHARACTERS, JobFolder

logger = logging.getLogger("sagesmith.container")

USER_ERROR = 1  # exit status: the request or its data must change before it can work
OTHER_ERROR = 2  # exit status: anything else; the same job may work another time
_OF_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory", re.I)  # torch has no MemoryError


class JobError(Exception):
    """A failure whose text is meant for the user: `prefix` is ClientError or AlgorithmError."""

    def __init__(self, message: str, *, prefix: str = "ClientError", status: int = USER_ERROR) -> None:
        super().__init__(message)
        self.prefix = prefix
        self.status = status

    def __str__(self) -> str:
        return f"{self.prefix}: {super().__str__()}"


def explain(error: BaseException, *, known: tuple[type[BaseException], ...] = ()) -> tuple[str, int]:
    """The failure text of an error, and the exit status. `known` are the errors that mean bad data (ClientError)."""
    if isinstance(error, JobError):
        return str(error), error.status
    # xgboost's errors end with a stack trace of C++, which would fill the whole reason
    message = " ".join(str(error).split("\nStack trace:", 1)[0].split())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return f"ClientError: No space left on the volume{where}; ask for a larger VolumeSizeInGB", USER_ERROR
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OF_MEMORY.search(message)):
        detail = f": {message}" if message else ""
        return f"AlgorithmError: Out of memory{detail}; ask for a larger instance type", OTHER_ERROR
    if isinstance(error, known):
        return f"ClientError: {message or type(error).__name__}", USER_ERROR
    if message and isinstance(error, RuntimeError):
        return f"AlgorithmError: {message}", OTHER_ERROR
    return f"AlgorithmError: {type(error).__name__}{': ' if message else ''}{message}", OTHER_ERROR


def fail(folder: JobFolder, error: BaseException, *, known: tuple[type[BaseException], ...] = ()) -> int:
    """Logs the error with its traceback, writes output/failure, and returns the exit status."""
    reason, status = explain(error, known=known)
    where = "".join(traceback.format_exception(error))
    logger.error("%s", reason if isinstance(error, JobError) and not error.__cause__ else f"{reason}\n{where}")
    try:
        folder.write_failure(reason[:FAILURE_CHARACTERS] + "\n")
    except OSError as trouble:
        logger.error("Could not write %s: %s", folder.failure, trouble)
    return status
