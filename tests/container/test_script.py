"""Script mode: the user's script gets what SageMaker's framework images give it, and its failure is told."""

from __future__ import annotations

import gzip
import io
import json
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sagesmith.archives import pack
from tests.container.jobs import Job

SHOW = """
import json, os, sys
shown = {k: v for k, v in os.environ.items() if k.startswith("SM_")}
with open(os.path.join(os.environ["SM_MODEL_DIR"], "shown.json"), "w") as file:
    json.dump({"arguments": sys.argv[1:], "environment": shown, "folder": os.getcwd()}, file)
import beside
"""


@pytest.fixture
def script(job: Job) -> Job:
    job.algorithm = "framework-mean"
    job.folder.code.mkdir()
    (job.folder.code / "beside.py").write_text("")
    return job.channel("train", "1,2\n")


def write(job: Job, text: str, **hyperparameters: Any) -> Job:
    (job.folder.code / "train.py").write_text(text)
    return setting(job, sagemaker_program="train.py", **hyperparameters)


def setting(job: Job, **hyperparameters: Any) -> Job:
    return job.configure("hyperparameters", {name: json.dumps(value) for name, value in hyperparameters.items()})


def test_the_script_gets_arguments_and_variables(script: Job) -> None:
    values = {"max_depth": 3, "eta": 0.1, "n": "x y", "flag": True, "sizes": [1, 2], "sagemaker_job_name": "j"}
    script.configure("resources", {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"})
    ended = write(script, SHOW, **values).run()
    assert ended.status == 0, ended.log
    shown = json.loads((script.folder.model / "shown.json").read_text())
    expected = ["--eta", "0.1", "--flag", "True", "--max_depth", "3", "-n", "x y", "--sizes", "[1, 2]"]
    assert shown["arguments"] == expected
    assert shown["folder"] == str(script.folder.code)
    environment = shown["environment"]
    base = script.folder.base
    assert environment["SM_MODEL_DIR"] == str(base / "model")
    assert environment["SM_OUTPUT_DATA_DIR"] == str(base / "output" / "data")
    assert environment["SM_CHANNELS"] == '["train"]'
    assert environment["SM_CHANNEL_TRAIN"] == str(base / "input" / "data" / "train")
    assert (environment["SM_HP_MAX_DEPTH"], environment["SM_HP_N"]) == ("3", "x y")
    assert json.loads(environment["SM_HPS"])["sizes"] == [1, 2]
    assert json.loads(environment["SM_USER_ARGS"]) == expected
    assert (environment["SM_CURRENT_HOST"], environment["SM_HOSTS"]) == ("algo-1", '["algo-1"]')
    assert (environment["SM_NUM_CPUS"], environment["SM_LOG_LEVEL"]) == ("1", "20")
    assert environment["SM_NETWORK_INTERFACE_NAME"] == "eth0"
    assert (environment["SM_MODULE_NAME"], environment["SM_ENTRY_POINT"]) == ("train", "train.py")
    described = json.loads(environment["SM_TRAINING_ENV"])
    assert (described["job_name"], described["is_master"]) == ("j", True)
    assert "SM_HP_SAGEMAKER_PROGRAM" not in environment


@pytest.mark.parametrize("place", ["code", "channel", "submitted"])
def test_an_archive_of_sources_is_found_and_unpacked(script: Job, tmp_path: Path, place: str) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "go.sh").write_text('echo "$1 $2" > "$SM_MODEL_DIR/said"\n')
    (script.folder.code / "beside.py").unlink()
    directory = "s3://bucket/sourcedir.tar.gz"
    if place == "code":
        pack(sources, script.folder.code / "sourcedir.tar.gz")
    else:
        channel = script.folder.channel("code")
        channel.mkdir()
        pack(sources, channel / "sourcedir.tar.gz")
        directory = "/opt/ml/input/data/code/sourcedir.tar.gz" if place == "submitted" else ""
    setting(script, sagemaker_program="go.sh", sagemaker_submit_directory=directory, depth=2)
    ended = script.run()
    assert ended.status == 0, ended.log
    assert (script.folder.model / "said").read_text() == "--depth 2\n"


def test_a_failing_script_gives_its_last_words(script: Job) -> None:
    ended = write(script, "import sys; print('out'); raise ValueError('no such column')", depth=1).run()
    assert ended.status == 2
    start = 'AlgorithmError: ExecuteUserScriptError: ExitCode 1, ErrorMessage "ValueError: no such column", Command "'
    assert ended.failure.startswith(start)
    assert "train.py --depth 1" in ended.failure
    assert "Traceback" in ended.log


def test_a_killed_script_names_the_signal(script: Job) -> None:
    ended = write(script, "import os; os.kill(os.getpid(), 9)").run()
    assert "killed by signal 9 (SIGKILL)" in ended.failure


def test_sigterm_reaches_the_script(script: Job) -> None:
    write(script, "import time; print('ready', flush=True); time.sleep(60)")
    process = script.start()
    assert process.stdout is not None
    while "ready" not in (line := process.stdout.readline()):
        assert line
    process.send_signal(signal.SIGTERM)
    ended = script.wait(process)
    assert ended.status == 0
    assert "The script was stopped by SIGTERM" in ended.log


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("../x.py", "must lie inside the submitted code, found '../x.py'"),
        ("/etc/x.py", "must lie inside the submitted code"),
        ("x.exe", "must name a .py or .sh file, found 'x.exe'"),
        (7, "must name a .py or .sh file, found 7"),
        ("gone.py", "'gone.py' is not in the submitted code; there is: beside.py"),
    ],
)
def test_programs_that_cannot_be_are_refused(script: Job, program: Any, text: str) -> None:
    ended = setting(script, sagemaker_program=program).run()
    assert ended.status == 1
    assert text in ended.failure


def test_a_hostile_source_archive_is_refused(script: Job) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("train.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (script.folder.code / "sourcedir.tar.gz").write_bytes(gzip.compress(buffer.getvalue()))
    ended = setting(script, sagemaker_program="train.py").run()
    assert "is a link to '/etc/passwd'" in ended.failure


def test_requirements_that_cannot_be_installed_fail_before_the_script_runs(script: Job) -> None:
    (script.folder.code / "requirements.txt").write_text("./no-such-package\n")
    ended = write(script, "print('ran')").run()
    assert ended.status == 1
    assert ended.failure.startswith("ClientError: requirements.txt could not be installed: ")
    assert "ran" not in ended.log.split()


def test_a_built_in_image_takes_no_script(script: Job) -> None:
    script.algorithm = "mean"
    ended = write(script, SHOW).run()
    assert "Additional properties are not allowed ('sagemaker_program' was unexpected)" in ended.failure
