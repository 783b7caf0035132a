"""`train`: one training job on one host, from the files below input/ to those below model/ and output/.

    configuration -> hyperparameters -> channels -> the other hosts -> Algorithm.train -> save (master only)

Exit status 0: done, or stopped by SIGTERM with what was learnt so far saved. 1: the user's error, 2: any other; the
reason is then the first line of output/failure and the traceback is in the log.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sagesmith.container import failures
from sagesmith.container.failures import JobError, fail
from sagesmith.container.finding import find
from sagesmith.container.log_lines import logger, start_logging
from sagesmith.contract import JobFolder

if TYPE_CHECKING:
    from sagesmith.algorithms.base import Algorithm
    from sagesmith.container.distributed import Circle
    from sagesmith.container.job_run import JobRun, StopRequest


def train(word: str, base: Path) -> int:
    """Trains the algorithm called `word` below `base` and returns the exit status."""
    started = time.monotonic()
    start_logging()
    folder = JobFolder(base.absolute())
    try:
        folder.create()
        algorithm = find(word)
        start_logging(framework=algorithm.framework)
        _train(algorithm, folder, started)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        # ValueError is what the contract of Algorithm.train names for data that cannot be trained on.
        return fail(folder, error, known=(ValueError,))
    return 0


def _train(algorithm: type[Algorithm], folder: JobFolder, started: float) -> None:
    from sagesmith.container.configuration import configure, read_hyperparameters
    from sagesmith.container.job_run import JobRun, StopRequest
    from sagesmith.container.saving import clear
    from sagesmith.container.script import is_script, run_script

    clear(folder)
    given = read_hyperparameters(folder.hyperparameters, folder)
    if is_script(algorithm, given):
        run_script(folder, given)
        return
    algorithm.warm_up()
    stop = StopRequest()
    stop.listen()
    model = configure(algorithm, given, folder.hyperparameters)
    run = JobRun(folder, algorithm, stop)
    _train_and_save(model, folder, run, stop, started)


def _train_and_save(model: Algorithm, folder: JobFolder, run: JobRun, stop: StopRequest, started: float) -> None:
    from sagesmith.container.channels import open_channels
    from sagesmith.container.configuration import read_checkpoints, read_hosts
    from sagesmith.container.saving import save

    run.host, run.hosts = read_hosts(folder)
    run.checkpoints = read_checkpoints(folder)
    run.initial_model = _earlier_model(model, folder)
    channels = open_channels(type(model), folder)
    circle = _join(model, run)
    setup = time.monotonic() - started
    try:
        if run.stopping:
            logger.info("Stopped before training began; there is no model")
            return
        model.train(channels, run)
        if run.is_master:
            logger.info("Saved %s", ", ".join(save(model, folder)) or "no files")
    except BaseException as error:
        if circle:
            _share_blame(circle, error)
        raise
    finally:
        if circle:
            circle.close()
    if stop:
        logger.info("Stopped by SIGTERM; the model is what was learnt until then")
    if "test" in {spec.name for spec in model.channels} - set(channels):
        run.log("Test data is not provided.")
    total = time.monotonic() - started
    run.metrics("training", {"setuptime": 1000 * setup, "totaltime": 1000 * total})


def _share_blame(circle: Circle, error: BaseException) -> None:
    """Tells the other hosts why this one fails; or takes over the reason of one that failed before it.

    What one host's user must change is every host's ClientError, whichever the job's reason is taken from.
    """
    from sagesmith.container.distributed import GangError

    own = isinstance(error, (GangError, ValueError))  # an error of this host's data is not another host's doing
    reason = "" if own else circle.last_words()
    circle.abandon(reason or failures.explain(error, known=(ValueError,))[0])
    told = str(error) if isinstance(error, GangError) else reason
    host, of_user, text = told.partition(": ClientError: ")
    if of_user:
        raise JobError(f"{host.split()[-1]}: {text}") from error
    if reason:
        raise JobError(reason, prefix="AlgorithmError", status=failures.OTHER_ERROR) from error


def _earlier_model(model: Algorithm, folder: JobFolder) -> Path | None:
    from sagesmith.container.channels import MODEL
    from sagesmith.container.configuration import read
    from sagesmith.container.saving import earlier_model

    if not model.incremental or MODEL not in read(folder.input_data_config, folder):
        return None
    return earlier_model(folder, MODEL)


def _join(model: Algorithm, run: JobRun) -> Circle | None:
    from sagesmith.container.distributed import Meeting, join

    if len(run.hosts) == 1:
        return None
    if not model.distributed:
        raise JobError(f"{model.name} trains on one host; this job has {len(run.hosts)}: {', '.join(run.hosts)}")
    circle = join(run.host, run.hosts, Meeting.of(run.hosts, os.environ))
    run.join(circle)
    return circle
