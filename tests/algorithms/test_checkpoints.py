"""Checkpoints: whole after a kill at any moment, never those of another run, two kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sagesmith.algorithms.checkpoints import Checkpoint, Checkpoints, joined
from sagesmith.testing.check_algorithm import RecordingRun

SETTINGS = {"epochs": 3, "layers": [2, 3]}


@pytest.fixture
def run(tmp_path: Path) -> RecordingRun:
    run = RecordingRun()
    run.checkpoints = tmp_path / "checkpoints"
    return run


def test_what_was_written_is_read(run: RecordingRun) -> None:
    Checkpoints(run, "net", SETTINGS).write(4, {"a/b": np.arange(6.0).reshape(2, 3)}, {"best": 0.5})
    found = Checkpoints(run, "net", SETTINGS).newest()
    assert found is not None
    assert (found.number, found.facts) == (4, {"best": 0.5})
    np.testing.assert_array_equal(found.arrays["a/b"], np.arange(6.0).reshape(2, 3))


def test_nothing_without_a_folder_or_on_another_host(tmp_path: Path) -> None:
    assert Checkpoints(RecordingRun(), "net", SETTINGS).newest() is None
    other = RecordingRun()
    other.host, other.hosts, other.checkpoints = "algo-2", ("algo-1", "algo-2"), tmp_path
    Checkpoints(other, "net", SETTINGS).write(1, {})
    assert not list(tmp_path.iterdir())


def test_the_newest_two_stay_and_one_being_uploaded(run: RecordingRun) -> None:
    kept = Checkpoints(run, "net", SETTINGS)
    assert run.checkpoints is not None
    for number in range(5):
        kept.write(number, {})
        if number == 0:
            (run.checkpoints / "net-checkpoint.0.npz.sagemaker-uploading").touch()
    names = {path.name for path in run.checkpoints.iterdir() if path.suffix == ".npz"}
    assert names == {"net-checkpoint.0.npz", "net-checkpoint.3.npz", "net-checkpoint.4.npz"}


def test_a_broken_one_is_left_aside_and_said(run: RecordingRun) -> None:
    kept = Checkpoints(run, "net", SETTINGS)
    assert run.checkpoints is not None
    kept.write(1, {"a": np.ones(3)})
    kept.write(2, {"a": np.ones(3)})
    newest = run.checkpoints / "net-checkpoint.2.npz"
    newest.write_bytes(newest.read_bytes()[:100])
    found = kept.newest()
    assert found is not None
    assert found.number == 1
    assert any(line.startswith("Checkpoint left aside: ") and "net-checkpoint.2.npz" in line for line in run.lines)


def test_another_runs_is_left_aside(run: RecordingRun) -> None:
    Checkpoints(run, "net", SETTINGS).write(1, {})
    assert Checkpoints(run, "net", SETTINGS | {"epochs": 4}).newest() is None
    assert any("it is of a job with other epochs" in line for line in run.lines)
    assert Checkpoints(run, "net", SETTINGS | {"epochs": 4}, apart=["epochs"]).newest() is None
    assert Checkpoints(run, "other", SETTINGS).newest() is None


def test_what_may_differ_may_differ(run: RecordingRun) -> None:
    Checkpoints(run, "net", SETTINGS, apart=["epochs"]).write(1, {})
    assert Checkpoints(run, "net", SETTINGS | {"epochs": 4}, apart=["epochs"]).newest() is not None


def test_a_kill_at_any_moment_leaves_a_whole_one(run: RecordingRun, tmp_path: Path) -> None:
    script = (
        "import itertools, sys\nimport numpy as np\nfrom pathlib import Path\n"
        "from sagesmith.algorithms.run import Run\nfrom sagesmith.algorithms.checkpoints import Checkpoints\n"
        "run = Run()\nrun.checkpoints = Path(sys.argv[1])\nkept = Checkpoints(run, 'net', {})\n"
        "for n in itertools.count():\n    kept.write(n, {'a': np.full(300_000, n)})\n"
    )
    folder = tmp_path / "checkpoints"
    for pause in (0.01, 0.03, 0.05):
        child = subprocess.Popen([sys.executable, "-c", script, str(folder)])
        deadline = time.monotonic() + 60
        while not list(folder.glob("*.npz")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(pause)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        found = Checkpoints(run, "net", {}).newest()
        assert found is not None
        assert (found.arrays["a"] == found.number).all()


def test_parts_come_back_by_their_own_names() -> None:
    parts = {"network": {"a/b": np.arange(2), "c": np.ones(1)}, "net": {"c": np.zeros(1)}, "best": {}}
    reached = Checkpoint(3, joined(parts), {})
    for name, arrays in parts.items():
        assert list(reached.part(name)) == list(arrays)
        assert all(reached.part(name)[key] is array for key, array in arrays.items())
