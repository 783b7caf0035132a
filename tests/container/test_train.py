"""`train` as a process on a folder: AWS's log, the model, and a clear failure for everything that can be wrong."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.archives import pack
from sagesmith.formats.batch import Batch
from sagesmith.formats.frames import frame
from sagesmith.formats.recordio_writer import write_records
from tests.container.jobs import Job

ROWS = "1,0.5\n2,0.5\n3,0.5\n"
PREFIX = r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d INFO \d+\] "


def test_a_job_from_its_files_to_its_model(job: Job) -> None:
    job.configure("hyperparameters", {"offset": "0.5", "passes": "2", "_kvstore": "dist_sync"})
    ended = job.channel("train", ROWS, ContentType="text/csv").run()
    assert (ended.status, ended.failure) == (0, "")
    assert job.model() == {"mean": 2.5, "count": 6}
    assert sorted(path.name for path in job.folder.base.iterdir()) == ["checkpoints", "input", "model", "output"]
    lines = ended.log.splitlines()
    assert lines[:2] == [
        "Docker entrypoint called with argument(s): train",
        "Running default environment configuration script",
    ]
    expected = [
        r"Reading default configuration from mean_predictor.py: \{'passes': '1', 'offset': '0.0', 'mode': 'plain',.*",
        r"Merging with provided configuration from .*/ml/input/config/hyperparameters.json: \{'offset': '0.5', .*",
        r"Final configuration: \{'passes': '2', 'offset': '0.5', .*'_kvstore': 'dist_sync'\}",
        r"Hyperparameter _kvstore is taken for compatibility and has no effect",
        r"Training with 2 passes on algo-1",
        r"#quality_metric: host=algo-1, epoch=0, train mse <loss>=0.25",
        r"#progress_metric: host=algo-1, completed 50.0 % of epochs",
        r"#throughput_metric: host=algo-1, train throughput=100.0 records/second",
        None,
        r"#quality_metric: host=algo-1, epoch=1, train mse <loss>=0.25",
        r"#progress_metric: host=algo-1, completed 100.0 % of epochs",
        r"#throughput_metric: host=algo-1, train throughput=100.0 records/second",
        None,
        r"Saved model_algo-1, more/settings",
        r"Test data is not provided.",
        None,
    ]
    assert len(lines) == 2 + len(expected)
    for line, pattern in zip(lines[2:], expected, strict=True):
        assert re.fullmatch(PREFIX + pattern if pattern else r"#metrics \{.*\}", line), (line, pattern)
    metrics = json.loads(lines[10].removeprefix("#metrics "))
    assert metrics["Dimensions"] == {"Algorithm": "AWS/Mean", "Host": "algo-1", "Operation": "training", "epoch": 0}
    assert metrics["Metrics"] == {"update.time": {"sum": 1.5, "count": 1, "min": 1.5, "max": 1.5}}
    assert metrics["StartTime"] <= metrics["EndTime"]
    last = json.loads(lines[-1].removeprefix("#metrics "))["Metrics"]
    assert 0 < last["setuptime"]["sum"] <= last["totaltime"]["sum"] < 60000


def test_the_algorithm_may_come_from_the_environment(job: Job) -> None:
    job.channel("train", ROWS)
    assert job.run("train", SAGESMITH_ALGORITHM="mean").status == 0


def test_a_framework_image_has_its_own_log_form(job: Job) -> None:
    job.algorithm = "framework-mean"
    ended = job.channel("train", ROWS).run()
    assert ended.status == 0
    assert "Final configuration" not in ended.log
    assert "#progress_metric" not in ended.log
    assert "#metrics" not in ended.log
    assert re.search(r"^\[\d{4}-\d\d-\d\d:\d\d:\d\d:\d\d:INFO\] Training with 1 passes on algo-1$", ended.log, re.M)


@pytest.mark.parametrize(
    ("hyperparameters", "failure"),
    [
        (
            {"mini_batch_siz": "1"},
            "AlgorithmError: Additional properties are not allowed ('mini_batch_siz' was unexpec",
        ),
        ({"passes": "abc"}, "AlgorithmError: Hyperparameter passes: could not parse value abc"),
        ({"offset": "7"}, "AlgorithmError: Hyperparameter offset: 7 is not in [-1, 1]"),
        (
            {"passes": 3},
            "ClientError: {base}/input/config/hyperparameters.json: the value of 'passes' must be a string",
        ),
        ("[]", "ClientError: {base}/input/config/hyperparameters.json must hold a JSON object, found list"),
        ("{", "ClientError: {base}/input/config/hyperparameters.json is not valid JSON: "),
        ('{"a":' * 100000, "ClientError: {base}/input/config/hyperparameters.json is nested too deeply"),
    ],
)
def test_wrong_hyperparameters_fail_with_their_reason(job: Job, hyperparameters: Any, failure: str) -> None:
    ended = job.configure("hyperparameters", hyperparameters).channel("train", ROWS).run()
    assert ended.status == 1
    assert ended.failure.startswith(failure.replace("{base}", str(job.folder.base)))
    assert len(ended.failure.splitlines()) == 1
    assert ended.failure.strip() in ended.log
    assert "Traceback" not in ended.log
    assert not list(job.folder.model.iterdir())


@pytest.mark.parametrize(
    ("channel", "configuration", "failure"),
    [
        ("validation", {}, "Extraneous channel found: validation (channels of mean: files, model, test, train)"),
        (
            "train",
            {"ContentType": "text/libsvm"},
            "Channel configuration for 'train' channel is not supported: ContentTy",
        ),
        (
            "test",
            {"S3DistributionType": "ShardedByS3Key"},
            "Channel configuration for 'test' channel is not supported: S",
        ),
        (
            "files",
            {"TrainingInputMode": "Pipe"},
            "Channel configuration for 'files' channel is not supported: TrainingI",
        ),
        (
            "train",
            {"RecordWrapperType": "RecordIO"},
            "Channel configuration for 'train' channel is not supported: RecordWrapperType in input mode File '",
        ),
        (
            "train",
            {"RecordWrapperType": "Gzip", "TrainingInputMode": "Pipe"},
            "Channel configuration for 'train' channel is not supported: RecordWrapperType 'Gzip'; allowed: None, Rec",
        ),
        ("files", {}, "Channel files has no folder "),
        ("model", {}, "Channel model has no folder "),
    ],
)
def test_wrong_channels_fail_with_their_reason(job: Job, channel: str, configuration: Any, failure: str) -> None:
    job.channel("train", ROWS).channel(channel, None, **configuration)
    ended = job.run()
    assert ended.status == 1
    assert ended.failure.startswith(f"ClientError: {failure}")


def test_a_missing_channel_is_named(job: Job) -> None:
    assert job.run().failure == "ClientError: Missing required channel: train\n"


def test_data_that_cannot_be_read_names_its_file_and_line(job: Job) -> None:
    ended = job.channel("train", "1,2\n3,x\n").run()
    assert ended.status == 1
    assert ended.failure.startswith("ClientError: ")
    assert "part-0.csv" in ended.failure
    assert "line 2" in ended.failure


def test_an_unknown_algorithm_lists_those_there_are(job: Job) -> None:
    ended = job.run("train", "no-such-image")
    assert ended.status == 1
    assert ended.failure.startswith("ClientError: There is no algorithm 'no-such-image'; there are: ")
    assert "mean-predictor" in ended.failure


@pytest.mark.parametrize(
    ("fault", "status", "failure"),
    [
        ("disk:save", 1, "ClientError: No space left on the volume"),
        ("memory:train", 2, "AlgorithmError: Out of memory; ask for a larger instance type"),
        ("value:train", 1, "ClientError: labels must not be odd"),
        ("bug:train", 2, "AlgorithmError: KeyError: 'inside'"),
        ("exit:train", 2, "AlgorithmError: SystemExit: 3"),
    ],
)
def test_failures_say_whose_they_are_and_leave_no_model(job: Job, fault: str, status: int, failure: str) -> None:
    ended = job.configure("hyperparameters", {"fault": fault}).channel("train", ROWS).run()
    assert ended.status == status
    assert ended.failure.splitlines()[0].startswith(failure)
    assert "Traceback" in ended.log
    assert not list(job.folder.model.iterdir())


def test_sigterm_leaves_the_model_so_far_and_ends_with_0(job: Job) -> None:
    job.configure("hyperparameters", {"passes": "1000000"}).channel("train", ROWS)
    process = job.start()
    assert process.stdout is not None
    seen = ""
    while "epoch=3" not in seen:
        seen = process.stdout.readline()
        assert seen, "the job ended by itself"
    process.send_signal(signal.SIGTERM)
    ended = job.wait(process)
    assert ended.status == 0
    assert "Stopped by SIGTERM; the model is what was learnt until then" in ended.log
    assert job.model()["mean"] == 2.0


def test_a_job_killed_while_it_saves_leaves_no_torn_file_and_the_next_one_cleans_up(job: Job, tmp_path: Path) -> None:
    job.configure("hyperparameters", {"wait_for": str(tmp_path / "never")}).channel("train", ROWS)
    process = job.start()
    partial = job.folder.base / ".model-partial" / "more" / "settings"
    while not partial.exists():
        assert process.poll() is None
    process.kill()
    job.wait(process)
    assert not list(job.folder.model.iterdir())
    job.configure("hyperparameters", {})
    assert job.run().status == 0
    assert job.model()["mean"] == 2.0
    assert not partial.exists()


def test_pipe_mode_reads_one_fifo_per_pass(job: Job) -> None:
    job.configure("hyperparameters", {"passes": "2"}).channel("train", None, TrainingInputMode="Pipe")
    pipes = [job.folder.pipe("train", epoch) for epoch in range(3)]
    for pipe in pipes:
        os.mkfifo(pipe)
    writers = [threading.Thread(target=pipe.write_text, args=(ROWS,)) for pipe in pipes[:2]]
    for writer in writers:
        writer.start()
    ended = job.run()
    for writer in writers:
        writer.join()
    assert ended.status == 0, ended.log
    assert job.model() == {"mean": 2.0, "count": 6}


@pytest.mark.parametrize("content_type", ["text/csv", "application/x-recordio-protobuf"])
def test_pipe_mode_opens_the_frames_that_wrap_each_object(job: Job, content_type: str) -> None:
    job.channel("train", None, TrainingInputMode="Pipe", RecordWrapperType="RecordIO", ContentType=content_type)
    objects = [
        Batch(np.ones((2, 1), np.float32), np.float32([1, 2])),
        Batch(np.ones((1, 1), np.float32), np.float32([6])),
    ]
    texts = [write_records(one) for one in objects] if "recordio" in content_type else [b"1,1\n2,1\n", b"6,1"]
    pipe = job.folder.pipe("train", 0)
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"".join(frame(text) for text in texts),))
    writer.start()
    ended = job.run()
    writer.join()
    assert ended.status == 0, ended.log
    assert job.model() == {"mean": 3.0, "count": 3}


def test_fast_file_mode_reads_the_folder(job: Job) -> None:
    assert job.channel("train", ROWS, TrainingInputMode="FastFile").run().status == 0


def test_checkpoints_go_where_the_configuration_says(job: Job) -> None:
    job.configure("checkpoints", {"S3Uri": "s3://b/p", "LocalPath": "/opt/ml/checkpoints/mine"})
    assert job.channel("train", ROWS).run().status == 0
    assert (job.folder.checkpoints / "mine" / "state").read_text() == "6.0 3"


@pytest.mark.parametrize("path", ["relative", "/opt/ml/../../etc", 7])
def test_a_checkpoint_path_that_leads_elsewhere_is_refused(job: Job, path: Any) -> None:
    ended = job.configure("checkpoints", {"LocalPath": path}).channel("train", ROWS).run()
    assert ended.status == 1
    assert "'LocalPath' must" in ended.failure


def test_training_goes_on_from_an_archive_or_from_plain_files(job: Job, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "model_algo-1").write_text('{"mean": 10.0, "count": 3}')
    job.channel("train", ROWS).channel("model", None, ContentType="application/x-sagemaker-model")
    job.folder.channel("model").mkdir()
    pack(earlier, job.folder.channel("model") / "model.tar.gz")
    assert job.run().status == 0
    assert job.model() == {"mean": 6.0, "count": 6}
    (job.folder.channel("model") / "model.tar.gz").unlink()
    (job.folder.channel("model") / "model_algo-1").write_text('{"mean": 4.0, "count": 1}')
    assert job.run().status == 0
    assert job.model() == {"mean": 2.5, "count": 4}


def test_a_hostile_model_archive_fails_the_job_by_name(job: Job) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped"))
    job.channel("train", ROWS).channel("model", None)
    job.folder.channel("model").mkdir()
    (job.folder.channel("model") / "model.tar.gz").write_bytes(gzip.compress(buffer.getvalue()))
    ended = job.run()
    assert ended.failure.startswith(
        "ClientError: Channel model: model.tar.gz: member '../../escaped' would lie outside"
    )


def test_an_algorithm_that_takes_no_earlier_model_refuses_the_channel(job: Job) -> None:
    job.algorithm = "lonely-mean"
    ended = job.channel("train", ROWS).channel("model", "{}").run()
    assert ended.failure.startswith("ClientError: Extraneous channel found: model")


@pytest.mark.parametrize(
    ("resources", "failure"),
    [
        ({"current_host": "algo-3", "hosts": ["algo-1", "algo-2"]}, "'current_host' 'algo-3' is not one of 'hosts'"),
        ({"current_host": "algo-1", "hosts": "algo-1"}, "'hosts' must be a list of names, found 'algo-1'"),
        ({"current_host": "algo-1", "hosts": ["algo-1", "algo-1"]}, "'hosts' names a host twice"),
    ],
)
def test_a_resource_configuration_that_makes_no_sense_is_refused(job: Job, resources: Any, failure: str) -> None:
    ended = job.configure("resources", resources).channel("train", ROWS).run()
    assert ended.status == 1
    assert failure in ended.failure


def test_an_algorithm_of_one_host_refuses_two(job: Job) -> None:
    job.algorithm = "lonely-mean"
    job.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]})
    ended = job.channel("train", ROWS).run()
    assert ended.failure == "ClientError: lonely-mean trains on one host; this job has 2: algo-1, algo-2\n"
