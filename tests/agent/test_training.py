"""A training job's life in a real agent process, against a small fake server."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile

import psutil
import pytest

PRELUDE = "import sys, os, json, time, signal, pathlib\nbase = pathlib.Path(sys.argv[sys.argv.index('--base') + 1])\n"


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}


def test_a_job_reads_its_channels_and_leaves_a_model(server, start):
    server.objects["in/train/a.csv"] = b"1,2\n"
    server.objects["in/train/deep/b.csv"] = b"3,4\n"
    server.objects["in/trainer"] = b"also begins with the prefix"
    agent = start(
        PRELUDE + "config = {p.name: json.loads(p.read_text()) for p in (base / 'input/config').iterdir()}\n"
        "files = sorted(str(p.relative_to(base)) for p in (base / 'input/data').rglob('*') if p.is_file())\n"
        "(base / 'model/seen.json').write_text(json.dumps([config, files, dict(os.environ)]))\n"
        "(base / 'output/data/extra').write_text('x')\n"
        "print('loss=0.5;'); print('a\\tb'); print(); print('loss=0.25;', file=sys.stderr)",
        hyperparameters={"k": "10"},
        environment={"MINE": "1", "OMP_WAIT_POLICY": "ACTIVE", "AWS_REGION": "mars"},
        channels=[{"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://in/train"}}}],
        metrics=[{"Name": "loss", "Regex": "loss=(.*?);"}],
    )
    report = agent.wait()
    assert (report["exit"], report.get("failure"), agent.process.returncode) == (0, None, 0)
    assert [name for name, _ in report["phases"]] == ["Starting", "Downloading", "Training", "Uploading", "Exited"]
    assert report["metrics"]["loss"][0] == 0.25
    assert server.report("training-1") == report
    config, files, environ = json.loads(members(server.objects["out/job/output/model.tar.gz"])["seen.json"])
    assert members(server.objects["out/job/output/output.tar.gz"]) == {"extra": b"x"}
    assert config == {
        "hyperparameters.json": {"k": "10"},
        "inputdataconfig.json": {
            "train": {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
        },
        "resourceconfig.json": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"},
    }
    assert files == ["input/data/train/a.csv", "input/data/train/deep/b.csv", "input/data/train/trainer"]
    assert environ["OMP_NUM_THREADS"] == "1"
    assert environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert environ["AWS_REGION"] == "us-east-1"
    assert environ["TRAINING_JOB_NAME"] == "job"
    assert not {"SECRET_OF_THE_SERVER", "AWS_SECRET_ACCESS_KEY"} & set(environ)
    assert "very-secret" not in str(environ)
    assert sorted(server.messages("job/algo-1-1")) == ["a#011b", "loss=0.25;", "loss=0.5;"]
    assert [(datum["MetricName"], datum["Value"]) for datum in server.metrics] == [("loss", 0.5), ("loss", 0.25)]
    assert server.metrics[0]["Dimensions"] == [{"Name": "TrainingJobName", "Value": "job"}]


def test_missing_data_fails_the_job_before_it_starts(server, start):
    report = start(
        "raise SystemExit('never')",
        channels=[{"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://in/nothing"}}}],
    ).wait()
    assert report["exit"] == 1
    assert report["failure"].startswith("ClientError: Data download failed: channel 'train': no objects found under")
    assert server.logs == {}


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (
            "(base / 'output/failure').write_text('k is missing' + 'x' * 3000); sys.exit(3)",
            ("AlgorithmError: k is missing" + "x" * 3000)[:1024],
        ),
        ("(base / 'output/failure').write_text('ClientError: bad k'); sys.exit(2)", "ClientError: bad k"),
        ("sys.exit(7)", "AlgorithmError: , exit code: 7"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "AlgorithmError: , killed by SIGKILL (out of memory?), exit code: 137",
        ),
    ],
)
def test_a_failed_job_says_why_and_leaves_no_model(server, start, script, failure):
    agent = start(PRELUDE + "(base / 'model/half').write_text('x'); print('last words')\n" + script)
    assert agent.wait()["failure"] == failure
    assert agent.process.returncode != 0
    assert server.messages("job/algo-1-1") == ["last words"]
    assert "out/job/output/model.tar.gz" not in server.objects


def test_a_command_that_does_not_exist_is_named(start):
    report = start("", command=["/no/such/program"]).wait()
    assert report["failure"].startswith("ClientError: the training command cannot be run")
    assert "/no/such/program" in report["failure"]


def test_sigterm_reaches_the_job_and_its_partial_model_is_uploaded(server, start):
    agent = start(
        PRELUDE + "def end(*_):\n    (base / 'model/part').write_text('half'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready')\nwhile True: time.sleep(60)"
    )
    server.wait(lambda: server.messages("job/algo-1-1") == ["ready"])
    agent.terminate()
    report = agent.wait()
    assert report["stopped"] is True
    assert "failure" not in report
    assert agent.process.returncode == 0
    assert members(server.objects["out/job/output/model.tar.gz"]) == {"part": b"half"}


def test_a_job_that_ignores_sigterm_is_killed_after_its_grace_with_its_children(server, start):
    agent = start(
        PRELUDE + "import subprocess\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600']); print(child.pid)\nwhile True: time.sleep(60)",
        stop_grace=0.2,
    )
    server.wait(lambda: len(server.messages("job/algo-1-1")) == 1)
    child = psutil.Process(int(server.messages("job/algo-1-1")[0]))
    agent.terminate()
    report = agent.wait()
    assert (report["stopped"], report["exit"]) == (True, -signal.SIGKILL)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_server_that_goes_away_loses_nothing_and_does_not_hold_up_the_job(server, start, tmp_path):
    agent = start(
        PRELUDE + "print('one', flush=True)\nwhile not (base / 'go').exists(): time.sleep(0.02)\n"
        "print('two'); print('three'); (base / 'model/m').write_text('done'); (base / 'ended').touch()"
    )
    server.wait(lambda: server.messages("job/algo-1-1") == ["one"])
    server.down()
    (agent.ml / "go").touch()
    while not (agent.ml / "ended").exists():
        pass_time()
    server.up()  # on another port
    assert agent.wait()["exit"] == 0
    assert server.messages("job/algo-1-1") == ["one", "two", "three"]
    assert members(server.objects["out/job/output/model.tar.gz"]) == {"m": b"done"}
    assert server.puts[-1] == "runs/training-1/algo-1.json"


def test_log_lines_whose_acceptance_was_not_heard_of_are_not_sent_twice(server, start):
    server.lose_answers = 2
    start("for i in range(500): print(i)").wait()
    assert server.messages("job/algo-1-1")[:500] == [str(i) for i in range(500)]
    assert len(server.logs["job/algo-1-1"]) == 501  # and the agent's own line
    stamps = [event["timestamp"] for event in server.logs["job/algo-1-1"]]
    assert stamps == sorted(stamps)


def test_the_job_dies_with_an_agent_that_is_killed(server, start):
    agent = start("import os, time; print(os.getpid())\nwhile True: time.sleep(60)")
    server.wait(lambda: len(server.messages("job/algo-1-1")) == 1)
    job = psutil.Process(int(server.messages("job/algo-1-1")[0]))
    os.kill(agent.process.pid, signal.SIGKILL)
    agent.process.wait()
    gone, alive = psutil.wait_procs([job], timeout=10)
    assert [process.pid for process in gone] == [job.pid]
    assert not alive


def test_checkpoints_are_restored_and_copied_back(server, start):
    server.objects["ckpt/job/epoch-1"] = b"1"
    start(
        PRELUDE
        + "here = pathlib.Path(json.loads((base / 'input/config/checkpointconfig.json').read_text())['LocalPath'])\n"
        "assert (here / 'epoch-1').read_text() == '1'; (here / 'epoch-2').write_text('2')",
        checkpoint={"S3Uri": "s3://ckpt/job", "LocalPath": "/opt/ml/checkpoints"},
    ).wait()
    assert server.objects["ckpt/job/epoch-2"] == b"2"
    assert server.puts.count("ckpt/job/epoch-1") == 0


def test_checkpoints_outside_of_the_job_are_refused(start):
    report = start("", checkpoint={"S3Uri": "s3://ckpt/job", "LocalPath": "/opt/ml/../../etc"}).wait()
    assert "CheckpointConfig.LocalPath must lie below /opt/ml" in report["failure"]


def test_two_hosts_meet_and_their_files_are_merged(server, start):
    server.objects |= {"in/d/1": b"1", "in/d/2": b"2", "in/d/3": b"3"}
    script = (
        PRELUDE + "host = os.environ['SM_CURRENT_HOST']\n"
        "meeting = [os.environ['SAGESMITH_' + name] for name in ('RENDEZVOUS', 'GANG_TOKEN', 'HOSTS')]\n"
        "(base / f'model/{host}').write_text(' '.join(sorted(os.listdir(base / 'input/data/d'))))\n"
        "(base / f'model/meeting-{host}').write_text(json.dumps(meeting)); (base / 'output/data/same').write_text(host)"
    )
    source = {"S3Uri": "s3://in/d/", "S3DataDistributionType": "ShardedByS3Key"}
    common = {
        "hosts": ["algo-1", "algo-2"],
        "channels": [{"ChannelName": "d", "DataSource": {"S3DataSource": source}}],
    }
    first = start(script, **common)
    second = start(script, host="algo-2", log_stream="job/algo-2-1", **common)
    assert (first.wait()["exit"], second.wait()["exit"]) == (0, 0)
    model = members(server.objects["out/job/output/model.tar.gz"])
    assert (model["algo-1"], model["algo-2"]) == (b"1 3", b"2")
    assert model["meeting-algo-1"] == model["meeting-algo-2"]
    assert json.loads(json.loads(model["meeting-algo-1"])[2]) == {"algo-1": "127.0.0.1", "algo-2": "127.0.0.1"}
    output = members(server.objects["out/job/output/output.tar.gz"])
    assert output == {"same": b"algo-1", "algo-2/same": b"algo-2"}


def test_model_files_of_the_same_name_on_two_hosts_are_an_error(server, start):
    script = PRELUDE + "(base / 'model/m').write_text('x')"
    hosts = ["algo-1", "algo-2"]
    first = start(script, hosts=hosts)
    start(script, hosts=hosts, host="algo-2", log_stream="s2")
    assert first.wait()["failure"] == "AlgorithmError: hosts algo-1 and algo-2 both wrote model/m"


def test_compression_none_uploads_files(server, start):
    start(
        PRELUDE + "(base / 'model/a').mkdir(); (base / 'model/a/b').write_text('x')",
        model_output="s3://out/job/output/model/",
        compression="NONE",
    ).wait()
    assert server.objects["out/job/output/model/a/b"] == b"x"


def pass_time() -> None:
    """Gives the other processes a moment."""
    import time

    time.sleep(0.02)


def archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize("quote", ["", '"'])
def test_the_users_script_lies_in_the_code_folder(server, start, quote):
    server.objects["code/job/sourcedir.tar.gz"] = archive({"train.py": b"print()", "deep/more.py": b""})
    agent = start(
        PRELUDE + "code = sorted(str(p.relative_to(base / 'code')) for p in (base / 'code').rglob('*.*'))\n"
        "(base / 'model/seen.json').write_text(json.dumps(code))",
        hyperparameters={"sagemaker_submit_directory": f"{quote}s3://code/job/sourcedir.tar.gz{quote}"},
    )
    assert agent.wait()["exit"] == 0
    seen = members(server.objects["out/job/output/model.tar.gz"])["seen.json"]
    assert json.loads(seen) == ["deep/more.py", "train.py"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "Failed to download code from s3://code/job/sourcedir.tar.gz"),
        (b"no archive", "is not a whole tar"),
        (archive({"../escaped.py": b""}), "'../escaped.py' would lie outside the folder"),
    ],
)
def test_code_that_cannot_be_had_fails_the_job_before_it_starts(server, start, content, text):
    if content is not None:
        server.objects["code/job/sourcedir.tar.gz"] = content
    agent = start(
        "raise SystemExit(9)", hyperparameters={"sagemaker_submit_directory": "s3://code/job/sourcedir.tar.gz"}
    )
    report = agent.wait()
    assert report["failure"].startswith("ClientError: Failed to")
    assert text in report["failure"]
    assert not list(agent.home.rglob("escaped.py"))
