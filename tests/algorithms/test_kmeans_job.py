"""k-means as a job and as a served model: files and pipes in, SageMaker's log lines, every form of answer."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from sagesmith.algorithms import KMeans
from sagesmith.algorithms.base import Request, RequestError
from sagesmith.contract import JobFolder
from sagesmith.formats.batch import Batch
from sagesmith.formats.channel import Channel
from sagesmith.formats.recordio_writer import write_records
from tests.algorithms.test_kmeans_quality import letters
from tests.container.jobs import Job, serving

RECORDIO = "application/x-recordio-protobuf"
# Two centers 5 apart; the row is 3 from the second.
MODEL = [[0.0, 0.0], [3.0, 4.0]]
ROW = [3.0, 7.0]


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return letters()[:1500]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = str(Path(__file__).parents[2])
    environment = kept | {"PYTHONPATH": root, "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "error"}
    made = Job(JobFolder(tmp_path / "ml").create(), environment, "kmeans")
    return made.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"]})


def csv(rows: np.ndarray) -> str:
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows)


def test_a_job_as_the_sdk_sends_it_leaves_a_model_and_serves_it(job: Job, rows: np.ndarray) -> None:
    given = {"k": "6", "feature_dim": "16", "mini_batch_size": "500", "epochs": "2", "force_dense": "True"}
    given |= {"eval_metrics": '["msd", "ssd"]', "_disable_wait_to_read": "False", "_num_slices": "1"}
    job.configure("hyperparameters", given)
    job.channel("train", write_records(Batch(rows, np.zeros(len(rows)))), S3DistributionType="ShardedByS3Key")
    job.channel("test", csv(rows[:200]), ContentType="text/csv;label_size=0")
    ended = job.run()
    assert ended.status == 0, ended.log
    for metric in KMeans.metrics:
        assert re.search(metric.regex, ended.log), metric.name
    for part in ("initialize.time", "update.time", "_shrink.time", "finalize.time", "model.serialize.time"):
        assert re.search(rf'#metrics .*"Algorithm": "AWS/KMeansWebscale".*"{part}"', ended.log), part
    assert "Hyperparameter force_dense is taken for compatibility and has no effect" in ended.log
    assert "#test_score (algo-1) : ('msd', " in ended.log
    assert sorted(path.name for path in job.folder.model.iterdir()) == ["model.json", "model_algo-1"]
    with np.load(job.folder.model / "model_algo-1") as archive:
        assert (archive["centers"].shape, archive["centers"].dtype) == ((6, 16), np.float32)
    same = KMeans(k=6, epochs=2, mini_batch_size=500).fit(rows)
    assert np.array_equal(KMeans.load(job.folder.model).cluster_centers_, same.cluster_centers_)
    with serving(job) as server:
        answer = json.loads(server.invoke(csv(rows[:3]).encode()).body)["predictions"]
    assert [row["closest_cluster"] for row in answer] == same.predict(rows[:3]).astype(float).tolist()


def test_a_job_without_feature_dim_fails_as_in_sagemaker(job: Job, rows: np.ndarray) -> None:
    ended = job.configure("hyperparameters", {"k": "6"}).channel("train", csv(rows), ContentType="text/csv").run()
    assert ended.status != 0
    assert "Missing required hyperparameter: feature_dim" in ended.failure


def channels(folder: Path, rows: np.ndarray) -> dict[str, Any]:
    """The same rows as each content type."""
    sparse_rows, dense = Batch(sparse.csr_matrix(rows)), Batch(rows)
    contents = {
        "csv": (csv(rows).encode(), "text/csv;label_size=0"),
        "labelled": (csv(np.column_stack([np.arange(len(rows)), rows])).encode(), "text/csv"),
        "dense": (write_records(dense), RECORDIO),
        "sparse": (write_records(sparse_rows), RECORDIO),
    }
    found = {}
    for name, (content, kind) in contents.items():
        (folder / name).mkdir()
        (folder / name / "part").write_bytes(content)
        found[name] = Channel.from_folder("train", folder / name, kind)
    return found


def test_every_content_type_trains_the_same_model(tmp_path: Path, rows: np.ndarray) -> None:
    expected = KMeans(k=5).fit(rows).cluster_centers_
    for name, channel in channels(tmp_path, rows).items():
        model = KMeans(k=5, feature_dim=16).fit(channel)
        assert model.cluster_centers_ == pytest.approx(expected, rel=1e-4, abs=1e-4), name
        assert not hasattr(model, "labels_"), "a channel is not read once more for them"


def test_a_pipe_is_read_once_for_each_pass(tmp_path: Path, rows: np.ndarray) -> None:
    content = write_records(Batch(rows))
    for epoch in range(2):
        os.mkfifo(tmp_path / f"train_{epoch}")

    def feed() -> None:
        for epoch in range(2):
            with (tmp_path / f"train_{epoch}").open("wb") as pipe:
                pipe.write(content)

    feeder = threading.Thread(target=feed)
    feeder.start()
    model = KMeans(k=5, epochs=2).fit(Channel.from_pipe("train", tmp_path / "train", RECORDIO))
    feeder.join()
    assert np.array_equal(model.cluster_centers_, KMeans(k=5, epochs=2).fit(rows).cluster_centers_)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """A pass over what is generated as it is read: state and sample stay as large as they were."""
    sizes = []
    for batches in (30, 90):
        model = KMeans(k=2, extra_center_factor=2, mini_batch_size=200)
        from sagesmith.algorithms.run import Run

        model.begin(Run(1))
        random = np.random.default_rng(0)
        for _ in range(batches):
            model.update(Batch(random.normal(size=(200, 4)).astype(np.float32)))
        sizes.append(len(model.state()))
    assert sizes[0] == sizes[1]


@pytest.fixture
def served() -> KMeans:
    model = KMeans(k=2)
    model.restore({"centers": np.float32(MODEL)}, {})
    return model


def test_answers_have_sagemakers_forms(served: KMeans) -> None:
    body = b"3,7\n0,0\n"
    assert json.loads(served.respond(Request(body, "text/csv")).body) == {
        "predictions": [
            {"closest_cluster": 1.0, "distance_to_cluster": 3.0},
            {"closest_cluster": 0.0, "distance_to_cluster": 0.0},
        ]
    }
    assert served.respond(Request(body, "text/csv", "text/csv")).body == b"1.0,3.0\n0.0,0.0\n"
    lines = served.respond(Request(body, "text/csv", "application/jsonlines")).body.splitlines()
    assert json.loads(lines[0]) == {"closest_cluster": 1.0, "distance_to_cluster": 3.0}
    records = served.respond(Request(body, "text/csv", RECORDIO)).body
    assert records.count(b"closest_cluster") == records.count(b"distance_to_cluster") == 2


def test_every_form_of_request_is_understood(served: KMeans) -> None:
    sparse_row = {"data": {"features": {"keys": [0, 1], "shape": [2], "values": ROW}}}
    for body, kind in (
        (json.dumps({"instances": [{"features": ROW}]}), "application/json"),
        (json.dumps({"instances": [{"data": {"features": {"values": ROW}}}]}), "application/json"),
        (json.dumps({"instances": [sparse_row]}), "application/json"),
        (json.dumps(sparse_row) + "\n", "application/jsonlines"),
        (write_records(Batch(np.float32([ROW]))), RECORDIO),
        (write_records(Batch(sparse.csr_matrix(np.float32([ROW])))), RECORDIO),
    ):
        request = Request(body if isinstance(body, bytes) else body.encode(), kind)
        assert json.loads(served.respond(request).body)["predictions"][0]["distance_to_cluster"] == 3.0, body


def test_all_distances_can_be_asked_for(served: KMeans) -> None:
    answer = served.respond(Request(b"3,7", "text/csv", "application/json; distances=true"))
    assert json.loads(answer.body)["predictions"] == [{"distances": pytest.approx([58**0.5, 3.0])}]


@pytest.mark.parametrize(("body", "text"), [(b"1,2,3", "3 columns"), (b"1,nan", "column 1 is nan"), (b"1", "1 col")])
def test_rows_that_do_not_fit_are_refused(served: KMeans, body: bytes, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        served.respond(Request(body, "text/csv"))
