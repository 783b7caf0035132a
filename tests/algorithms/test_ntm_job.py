"""NTM as a job in a folder, served, on two hosts, stopped and resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms import NTM
from sagesmith.algorithms.base import Request
from sagesmith.algorithms.run import Run
from sagesmith.container.distributed import _free_port
from sagesmith.contract import JobFolder
from sagesmith.formats.batch import Batch
from sagesmith.formats.recordio_writer import write_records
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.ntm_documents import TOPICS, bars, csv, drawn
from tests.algorithms.test_ntm_learning import matched
from tests.container.jobs import Job, serving
from tests.container.test_distributed import TwoHosts

SETTINGS = {
    "feature_dim": "25", "num_topics": "5", "epochs": "8", "mini_batch_size": "64", "optimizer": "adam",
    "num_patience_epochs": "9",
}  # fmt: skip
NATIVE = {name: int(value) if value.isdigit() else value for name, value in SETTINGS.items()}
COUNTS = drawn(1200)[0]


@pytest.fixture
def job(tmp_path: Path, environment: dict[str, str]) -> Job:
    made = Job(JobFolder(tmp_path / "job").create(), environment, "ntm")
    made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]}).configure("hyperparameters", SETTINGS)
    return made.channel("train", csv(COUNTS), ContentType="text/csv")


def sparse_json(row: np.ndarray) -> dict[str, Any]:
    keys = np.flatnonzero(row)
    return {"keys": keys.tolist(), "shape": [len(row)], "values": row[keys].tolist()}


def test_a_job_trains_is_measured_and_served(job: Job) -> None:
    held, mixtures = drawn(200, seed=4)
    for name in ("validation", "test"):
        job.channel(name, write_records(Batch(held)), ContentType="application/x-recordio-protobuf")
    words = "".join(f"w{number}\n" for number in range(25))
    job.channel("auxiliary", None, ContentType="text/plain")
    folder = job.folder.channel("auxiliary")
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text(words)
    ended = job.run()
    assert ended.status == 0, ended.log
    for metric in NTM.metrics:
        assert re.search(metric.regex, ended.log), metric.name
    assert '"Algorithm": "AWS/NTM", "Host": "algo-1", "Operation": "training", "epoch": 0' in ended.log
    assert '"Total Records Seen": {"sum": 1200, "count": 1, "min": 1200, "max": 1200}' in ended.log
    for line in (
        "# Starting training for epoch 8", "Metrics for Training:", "Loss (name: value) logppx: ",
        "Finished scoring on 200 examples from 4 batches, each of size 64.", "#validation_score (8): ",
        "Timing: train: ", "Loss of server-side model: ", "Topics from epoch:final (num_topics:5) [, tu ",
        "Serializing model to ",
    ):  # fmt: skip
        assert line in ended.log, line
    assert sorted(path.name for path in job.folder.model.iterdir()) == ["model.json", "model_algo-1"]
    model = NTM.load(job.folder.model)
    assert {frozenset(topic) for topic in model.topics(5)} == {
        frozenset(f"w{word}" for word in np.flatnonzero(bar)) for bar in bars()
    }
    weights = model.predict(held)
    assert matched(weights, mixtures) > 0.8
    with serving(job) as server:
        rows, expected = held[:2], weights[:2]
        bodies = {
            "text/csv": csv(rows).encode(),
            "application/json": json.dumps({"instances": [{"features": row.tolist()} for row in rows]}).encode(),
            "application/jsonlines": b"\n".join(
                json.dumps({"data": {"features": {"values": row.tolist()}}}).encode() for row in rows
            ),
            "application/x-recordio-protobuf": write_records(Batch(rows)),
        }
        for kind, body in bodies.items():
            answer = json.loads(server.invoke(body, kind).body)
            assert list(answer) == ["predictions"], kind
            served = [prediction["topic_weights"] for prediction in answer["predictions"]]
            np.testing.assert_allclose(served, expected, atol=1e-6, err_msg=kind)
        instances = [{"data": {"features": sparse_json(row)}} for row in rows]
        body = json.dumps({"instances": instances}).encode()
        lines = server.invoke(body, "application/json", Accept="application/jsonlines").body.splitlines()
        np.testing.assert_allclose([json.loads(line)["topic_weights"] for line in lines], expected, atol=1e-6)
        body = write_records(Batch(sparse.csr_matrix(rows)))
        kind = "application/x-recordio-protobuf"
        assert b"topic_weights" in server.invoke(body, kind, Accept=kind).body
        short = server.invoke(b"1,2,3\n")
        assert (short.status, b"rows of 3 columns, but feature_dim is 25" in short.body) == (400, True)


@pytest.mark.parametrize(
    ("settings", "channel", "reason"),
    [
        ({"num_topics": "1"}, {}, "num_topics: 1 is not in [2, 1000]"),
        ({"feature_dim": None}, {}, "Missing required hyperparameter: feature_dim"),
        ({"feature_dim": "24"}, {}, "rows of 25 columns, but feature_dim is 24"),
        ({"rank": "3"}, {}, "'rank' was unexpected"),
        ({}, {"content": "1,-2" + ",0" * 23 + "\n"}, "row 0, column 1 is -2; counts are 0 or more"),
        ({}, {"content": ""}, "channel 'train' holds no documents"),
        ({}, {"ContentType": "application/x-parquet"}, "application/x-recordio-protobuf, text/csv"),
    ],
)
def test_a_users_mistake_is_told(
    job: Job, settings: dict[str, str | None], channel: dict[str, str], reason: str
) -> None:
    given = {name: value for name, value in (SETTINGS | settings).items() if value is not None}
    content = channel.pop("content", csv(COUNTS[:3]))
    job.configure("hyperparameters", given).channel("train", content, **({"ContentType": "text/csv"} | channel))
    ended = job.run()
    assert ended.status == 1, ended.log
    assert reason in ended.failure


def test_private_keys_of_the_service_are_taken(job: Job) -> None:
    private = {"_tuning_objective_metric": "", "_data_format": "record", "_num_gpus": "auto", "_kvstore": "auto_gpu"}
    ended = job.configure("hyperparameters", SETTINGS | private | {"epochs": "1"}).run()
    assert ended.status == 0, ended.log


def test_two_hosts_learn_one_model(tmp_path: Path, environment: dict[str, str]) -> None:
    hosts = TwoHosts(tmp_path, environment)
    for job, part in zip(hosts.jobs, (COUNTS[:400], COUNTS[400:]), strict=True):
        job.algorithm = "ntm"
        job.configure("hyperparameters", SETTINGS | {"batch_norm": "true", "epochs": "20"})
        job.channel("train", csv(part), ContentType="text/csv", S3DistributionType="ShardedByS3Key")
        job.channel("validation", csv(drawn(100, seed=3)[0]), ContentType="text/csv")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert not list(hosts.jobs[1].folder.model.iterdir())
    scores = [re.findall(r"#validation_score \(\d+\): (\S+)", each.log) for each in ended]
    assert len(scores[0]) >= 9
    assert scores[0] == scores[1], "both hosts have the same network"
    assert ["on 400 examples" in ended[0].log, "on 800 examples" in ended[1].log] == [True, True]
    held, mixtures = drawn(200, seed=4)
    assert matched(NTM.load(hosts.jobs[0].folder.model).predict(held), mixtures) > 0.8


def test_a_host_without_documents_takes_part(tmp_path: Path, environment: dict[str, str]) -> None:
    hosts = TwoHosts(tmp_path, environment)
    for job, part in zip(hosts.jobs, (COUNTS[:0], COUNTS), strict=True):
        job.algorithm = "ntm"
        job.configure("hyperparameters", SETTINGS | {"batch_norm": "true", "epochs": "20"})
        job.channel("train", csv(part), ContentType="text/csv", S3DistributionType="ShardedByS3Key")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    held, mixtures = drawn(200, seed=4)
    assert matched(NTM.load(hosts.jobs[0].folder.model).predict(held), mixtures) > 0.8


GANG = """
import os, sys
import numpy as np
import torch
from sagesmith.algorithms import NTM, nets
from sagesmith.algorithms.ntm import network
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.ntm_documents import drawn

rank, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.randn_like, network.DROPPED = torch.zeros_like, 0.0  # nothing is drawn
run = RecordingRun()
if port:
    run.hosts = ("algo-1", "algo-2")
    run.host, run.port = run.hosts[rank], port
    nets.every_device = lambda run: [torch.device("cpu")] * 2
model = NTM(num_topics=5, epochs=6, mini_batch_size=200, optimizer="adam", num_patience_epochs=9)
model.fit(drawn(200)[0], run=run)
np.savez(out, **model.arrays())
os._exit(0)  # as a job ends where torch is: gloo's threads may abort an ordinary exit
"""


def test_two_hosts_of_two_devices_take_the_steps_of_one_device(tmp_path: Path) -> None:
    """Each host has the same documents, all of them in a batch: the mean gradient is that of one host."""
    port, files = _free_port("127.0.0.1"), [tmp_path / f"{number}.npz" for number in range(3)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    children = [
        subprocess.Popen([sys.executable, "-c", GANG, str(rank), str(port if rank < 2 else 0), str(file)],
                         env=environment, stderr=subprocess.PIPE)
        for rank, file in enumerate(files)
    ]  # fmt: skip
    errors = [child.communicate(timeout=200)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], errors
    first, second, alone = (dict(np.load(file)) for file in files)
    for name, array in alone.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], array, rtol=1e-3, atol=2e-4, err_msg=name)


class Stopped(RecordingRun):
    """A run that is asked to stop in its third epoch, with checkpoints in a folder."""

    def __init__(self, folder: Path, epoch: int = 3) -> None:
        super().__init__()
        self.checkpoints, self.epoch = folder, epoch

    @property
    def stopping(self) -> bool:
        return sum(line.startswith("# Starting training") for line in self.lines) >= self.epoch


@pytest.mark.parametrize("settings", [{"optimizer": "adam"}, {"optimizer": "adadelta", "batch_norm": True}])
def test_a_resumed_run_ends_with_the_model_of_an_uninterrupted_one(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = NTM(**NATIVE | settings | {"epochs": 4}).fit(COUNTS)
    first = RecordingRun()
    first.checkpoints = tmp_path
    NTM(**NATIVE | settings | {"epochs": 2}).fit(COUNTS, run=first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ntm-checkpoint.1.npz", "ntm-checkpoint.2.npz"]
    second = RecordingRun()
    second.checkpoints = tmp_path
    resumed = NTM(**NATIVE | settings | {"epochs": 4}).fit(COUNTS, run=second)
    assert "Resuming after epoch 2" in second.lines
    # Not to the bit: BLAS sums in an order that hangs on where memory lies.
    np.testing.assert_allclose(resumed.topic_logits_, whole.topic_logits_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(resumed.predict(COUNTS), whole.predict(COUNTS), rtol=1e-3, atol=1e-4)
    other = RecordingRun()
    other.checkpoints = tmp_path
    NTM(**NATIVE | settings | {"epochs": 1, "learning_rate": 0.02}).fit(COUNTS, run=other)
    assert any("Checkpoint left aside" in line and "learning_rate" in line for line in other.lines)


def test_a_job_that_was_killed_ends_with_the_model_of_one_that_was_not(job: Job) -> None:
    """SIGKILL in the midst of training: what it was writing may be torn, what it had kept is gone on from."""
    settings = SETTINGS | {"epochs": "40", "num_patience_epochs": "41", "mini_batch_size": "16"}
    job.configure("hyperparameters", settings).configure("checkpoints", {"LocalPath": "/opt/ml/checkpoints"})
    process = job.start()
    assert process.stdout is not None
    assert any("# Starting training for epoch 5" in line for line in process.stdout)
    process.kill()
    killed = job.wait(process)
    assert killed.status == -signal.SIGKILL
    assert not list(job.folder.model.iterdir())
    resumed = job.run()
    assert resumed.status == 0, resumed.log
    at = re.search(r"Resuming after epoch (\d+)", resumed.log)
    assert at is not None, resumed.log
    assert 4 <= int(at[1]) < 40
    assert f"# Starting training for epoch {at[1]}\n" not in resumed.log
    whole = NTM(**{name: int(value) if value.isdigit() else value for name, value in settings.items()})
    whole.fit(COUNTS, run=Run(1))
    found = NTM.load(job.folder.model)
    # Not to the bit: BLAS sums in an order that hangs on where memory lies, and 40 epochs carry that on.
    np.testing.assert_allclose(found.predict(COUNTS), whole.predict(COUNTS), atol=0.02)


def test_a_stopped_run_leaves_its_best_model(tmp_path: Path) -> None:
    run = Stopped(tmp_path)
    model = NTM(**NATIVE).fit(COUNTS, run=run)
    assert "# Starting training for epoch 4" not in run.lines
    assert "# Finished training epoch 3 on 64 examples from 1 batches, each of size 64." in run.lines
    assert any(line.startswith("Best model based on early stopping at epoch ") for line in run.lines)
    assert model.predict(COUNTS).shape == (1200, TOPICS)


@pytest.mark.parametrize("broken", ["num_topics", "vocabulary", "layers"])
def test_a_model_that_does_not_fit_together_is_refused(broken: str, tmp_path: Path) -> None:
    NTM(**NATIVE | {"epochs": 1}).fit(COUNTS, vocabulary=[f"w{n}" for n in range(25)]).save(tmp_path)
    document = json.loads((tmp_path / "model.json").read_text())
    if broken == "num_topics":
        document["hyperparameters"]["num_topics"] = 6
    elif broken == "vocabulary":
        document["vocabulary"].pop()
    else:
        with np.load(tmp_path / "model_algo-1") as archive:
            arrays: Any = dict(archive)
        arrays["layer_1_weight"] = arrays["layer_1_weight"][:-1]
        with (tmp_path / "model_algo-1").open("wb") as file:
            np.savez(file, **arrays)
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="model_algo-1 is no ntm model"):
        NTM.load(tmp_path)


def test_protobuf_answers_hold_the_weights() -> None:
    kind = "application/x-recordio-protobuf"
    model = NTM(**NATIVE | {"epochs": 1}).fit(COUNTS)
    answer = model.respond(Request(write_records(Batch(COUNTS[:3])), kind, kind))
    assert answer.content_type == kind
    assert answer.body.count(b"topic_weights") == 3
    assert model.predict(COUNTS[:3])[0].astype("<f4").tobytes() in answer.body
