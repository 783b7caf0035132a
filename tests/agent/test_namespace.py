"""Commands that need /opt/ml itself: each job has its own there, and the host none of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from sagesmith.agent import namespace
from sagesmith.agent.failures import JobFailed
from tests.agent.test_training import members


def _possible(base: Path) -> str:
    try:
        namespace.at_opt_ml(base, [])
    except JobFailed as failed:
        return str(failed)
    return ""


@pytest.fixture
def own(tmp_path, start):
    """`own(shell script, **changes)` starts a job whose entrypoint is bash."""
    if reason := _possible(tmp_path):
        pytest.skip(reason)

    def begin(script, **changes):
        return start("", command=["/bin/bash", "-c", script], own_entrypoint=True, **changes)

    return begin


def test_the_command_finds_its_folder_at_opt_ml_and_the_agents_python(server, own):
    server.objects["in/train/a.csv"] = b"1,2\n"
    agent = own(
        "cat input/data/train/a.csv && cp /opt/ml/input/config/resourceconfig.json /opt/ml/model/ && "
        "python3 -c 'import json, os, sys; print(json.dumps([sys.executable, dict(os.environ)]))' >model/seen.json",
        channels=[{"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://in/train"}}}],
        instance_type="ml.m5.large",
    )
    report = agent.wait()
    assert (report["exit"], report.get("failure")) == (0, None)
    found = members(server.objects["out/job/output/model.tar.gz"])
    executable, environ = json.loads(found["seen.json"])
    assert Path(executable).parent == Path(sys.executable).parent
    assert environ["SAGEMAKER_BASE_DIR"] == "/opt/ml"
    assert environ["PIP_TARGET"] == environ["PYTHONPATH"].split(os.pathsep)[0] == "/opt/ml/.packages"
    assert environ["TRAINING_JOB_NAME"] == "job"
    assert not {"SECRET_OF_THE_SERVER", "AWS_SECRET_ACCESS_KEY"} & set(environ)
    assert "very-secret" not in str(environ)
    assert json.loads(found["resourceconfig.json"])["current_instance_type"] == "ml.m5.large"
    assert server.messages("job/algo-1-1") == ["1,2"]


def test_two_jobs_at_once_never_see_each_others_folders(server, own, tmp_path):
    before = sorted(os.listdir("/opt/ml"))
    for name in ("one", "two"):
        os.mkfifo(tmp_path / f"{name}.fifo")  # each opens the other's end only once both have written
    script = (
        "touch /opt/ml/model/{0}; : >{2}/{0}.fifo & : <{2}/{1}.fifo; wait; ls /opt/ml/model >/opt/ml/output/data/seen"
    )
    agents = {
        name: own(
            script.format(name, other, tmp_path),
            run=name,
            model_output=f"s3://out/{name}/model.tar.gz",
            data_output=f"s3://out/{name}/output.tar.gz",
        )
        for name, other in (("one", "two"), ("two", "one"))
    }
    for name, agent in agents.items():
        assert agent.wait()["exit"] == 0
        assert members(server.objects[f"out/{name}/output.tar.gz"]) == {"seen": f"{name}\n".encode()}
    assert sorted(os.listdir("/opt/ml")) == before


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("exit 7", "AlgorithmError: , exit code: 7"),
        ("echo 'no such column' >/opt/ml/output/failure; exit 3", "AlgorithmError: no such column"),
    ],
)
def test_a_command_that_fails_says_why(own, script, failure):
    agent = own(script)
    assert agent.wait()["failure"] == failure
    assert agent.process.returncode == int(script[-1])


def test_sigterm_reaches_the_users_process_behind_a_shell(server, own):
    user = (
        "import pathlib, signal, sys\n"
        "def end(*_):\n    pathlib.Path('/opt/ml/model/part').write_text('half'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    agent = own(f'python3 -c "{user}"; echo never')
    server.wait(lambda: server.messages("job/algo-1-1") == ["ready"])
    agent.terminate()
    report = agent.wait()
    assert report["stopped"] is True
    assert "failure" not in report
    assert members(server.objects["out/job/output/model.tar.gz"]) == {"part": b"half"}


def test_a_host_without_unshare_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobFailed, match=r"ClientError: ContainerEntrypoint needs /opt/ml .* util-linux's unshare"):
        namespace.at_opt_ml(tmp_path, ["true"])


def test_a_kernel_that_refuses_is_quoted(monkeypatch, tmp_path):
    if sys.platform != "linux":
        pytest.skip("only Linux has mount namespaces")
    monkeypatch.setattr(namespace, "OPT_ML", tmp_path)
    unshare = tmp_path / "unshare"
    unshare.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    unshare.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(JobFailed, match=r"no mount namespace \(unshare failed: Operation not permitted\): run the"):
        namespace.at_opt_ml(tmp_path, ["true"])


def test_a_mount_point_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    if sys.platform != "linux":
        pytest.skip("only Linux has mount namespaces")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(namespace, "OPT_ML", tmp_path / "file" / "ml")
    with pytest.raises(JobFailed, match="mkdir -p /opt/ml"):
        namespace.at_opt_ml(tmp_path, ["true"])
