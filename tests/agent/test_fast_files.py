"""FastFile channels of an agent: links that the job cannot write through, else copies and a line that says why."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from sagesmith.agent import namespace
from sagesmith.store.local_objects import LocalObjects
from tests.agent.test_training import PRELUDE, members

CHANNELS = [
    {
        "ChannelName": "train",
        "InputMode": "FastFile",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in"}},
    }
]
SCRIPT = (
    PRELUDE + "data = base / 'input/data/train'\n"
    "files = sorted(p for p in data.rglob('*') if p.is_file())\n"
    "seen = {str(p.relative_to(data)): [p.read_text(), p.stat().st_ino] for p in files}\n"
    "(base / 'model/seen.json').write_text(json.dumps(seen))\n"
)
# Every way to change a file or its folder; what succeeded is written down.
WRITING = (
    SCRIPT + "import shutil\n"
    "done, victim = [], files[0]\n"
    "ways = {'append': lambda: victim.open('ab').write(b'x'), 'truncate': lambda: victim.write_bytes(b''),\n"
    "  'in place': lambda: os.pwrite(os.open(victim, os.O_RDWR), b'x', 0), 'chmod': lambda: victim.chmod(0o600),\n"
    "  'time': lambda: os.utime(victim, (1, 1)), 'unlink': victim.unlink,\n"
    "  'add': lambda: (data / 'new').write_bytes(b''),\n"
    "  'rename': lambda: victim.rename(base / 'moved'), 'link': lambda: os.link(victim, base / 'linked'),\n"
    "  'again': lambda: open(f'/proc/self/fd/{os.open(victim, os.O_RDONLY)}', 'r+b').write(b'x'),\n"
    "  'relative': lambda: open(os.path.relpath(victim), 'ab').write(b'x')}\n"
    "for name, way in ways.items():\n"
    "    try:\n        way()\n    except OSError:\n        continue\n"
    "    done.append(name)\n"
    "(base / 'model/done.json').write_text(json.dumps(done))\n"
)


@pytest.fixture
def objects(tmp_path, server):
    """The server's own folder, whose objects the fake server hands out as well."""
    store = LocalObjects(tmp_path / "s3")
    store.create_bucket("bucket")
    for key, content in (("in/a.csv", b"1,2\n"), ("in/deep/é 100%.csv", b"3,4\n"), ("in/deep//tab\t", b"5")):
        store.put("bucket", key, content)
        server.objects[f"bucket/{key}"] = content
    return store


def inodes(store):
    return {info.key: store.path("bucket", info.key).stat().st_ino for info in store.list("bucket")}


def result(server, name="seen.json"):
    return json.loads(members(server.objects["out/job/output/model.tar.gz"])[name])


def said(server):
    return [line for line in server.messages("job/algo-1-1") if "FastFile" in line]


needs_namespace = pytest.mark.skipif(
    bool(namespace.obstacle([])), reason="this host allows no mount namespace, so that FastFile is copied"
)


@needs_namespace
def test_the_objects_themselves_are_the_channels_files(server, start, objects):
    agent = start(SCRIPT, channels=CHANNELS, objects=str(objects.root))
    assert agent.wait()["exit"] == 0
    seen, own = result(server), inodes(objects)
    assert seen == {
        "a.csv": ["1,2\n", own["in/a.csv"]],
        "deep/é 100%.csv": ["3,4\n", own["in/deep/é 100%.csv"]],
        "deep/tab\t": ["5", own["in/deep//tab\t"]],
    }
    assert said(server) == ["Channel 'train': FastFile: 3 files linked, not copied."]


@needs_namespace
@pytest.mark.parametrize("own_entrypoint", [False, True])
def test_no_script_can_change_an_object(server, start, objects, tmp_path, own_entrypoint):
    before = {info.key: (info.etag, info.modified, objects.get("bucket", info.key)) for info in objects.list("bucket")}
    mode = objects.path("bucket", "in/a.csv").stat().st_mode
    if own_entrypoint:
        if not namespace.OPT_ML.is_dir():
            pytest.skip("there is no /opt/ml")
        code = WRITING.replace("pathlib.Path(sys.argv[sys.argv.index('--base') + 1])", "pathlib.Path('/opt/ml')")
        command = ["python3", "-c", code]
        agent = start("", command=command, own_entrypoint=True, channels=CHANNELS, objects=str(objects.root))
    else:
        agent = start(WRITING, channels=CHANNELS, objects=str(objects.root))
    assert agent.wait()["exit"] == 0
    assert result(server, "done.json") == []
    assert len(result(server)) == 3
    after = {info.key: (info.etag, info.modified, objects.get("bucket", info.key)) for info in objects.list("bucket")}
    assert after == before
    assert objects.path("bucket", "in/a.csv").stat().st_mode == mode


def test_the_ways_to_write_would_be_noticed(server, start, objects):
    """The script of the test above, where files are copied: it does change them, so that test can fail."""
    agent = start(WRITING, channels=CHANNELS)
    assert agent.wait()["exit"] == 0
    assert {"append", "truncate", "unlink", "add"} <= set(result(server, "done.json"))


@needs_namespace
def test_objects_that_are_replaced_or_deleted_meanwhile_stay_as_they_were(server, start, objects):
    waiting = (
        PRELUDE + "print('ready', flush=True)\n"
        "while not (base / 'go').exists(): time.sleep(0.01)\n" + SCRIPT.removeprefix(PRELUDE)
    )
    agent = start(waiting, channels=CHANNELS, objects=str(objects.root))
    server.wait(lambda: "ready" in server.messages("job/algo-1-1"))
    objects.put("bucket", "in/a.csv", b"another")
    objects.delete("bucket", "in/deep/é 100%.csv")
    (agent.ml / "go").touch()
    assert agent.wait()["exit"] == 0
    assert [content for content, _ in result(server).values()] == ["1,2\n", "5", "3,4\n"]
    assert objects.get("bucket", "in/a.csv") == b"another"


@needs_namespace
def test_a_version_that_was_not_listed_is_copied(server, start, objects):
    objects.put("bucket", "in/a.csv", b"newer than the listing")
    agent = start(SCRIPT, channels=CHANNELS, objects=str(objects.root))
    assert agent.wait()["exit"] == 0
    assert result(server)["a.csv"][0] == "1,2\n"  # what the fake server hands out
    assert result(server)["a.csv"][1] != inodes(objects)["in/a.csv"]
    assert objects.get("bucket", "in/a.csv") == b"newer than the listing"
    assert said(server) == [
        "Channel 'train': FastFile: 2 files linked, not copied; 1 copied (it has changed since it was listed)."
    ]


def test_objects_that_are_no_files_of_this_host_are_copied(server, start, objects, tmp_path):
    for changes, reason in (
        ({}, "the objects are not files of this host"),
        ({"objects": str(tmp_path / "none")}, f"the objects' folder {tmp_path}/none is not on this host"),
        (
            {
                "objects": str(objects.root),
                "checkpoint": {"S3Uri": "s3://bucket/check", "LocalPath": "/opt/ml/input/data/train/c"},
            },
            "CheckpointConfig.LocalPath lies in the channel",
        ),
    ):
        server.logs.clear()
        agent = start(SCRIPT, channels=CHANNELS, run=f"training-{len(changes)}-{reason[-4:]}", **changes)
        assert agent.wait()["exit"] == 0
        assert [content for content, _ in result(server).values()] == ["1,2\n", "5", "3,4\n"]
        assert not {inode for _, inode in result(server).values()} & set(inodes(objects).values())
        assert said(server) == [f"Channel 'train': FastFile: its files are copied before training: {reason}."]


@pytest.fixture
def no_namespace(tmp_path, monkeypatch):
    """A host that has no unshare."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.parametrize(("hyperparameters", "linked"), [({"k": "2"}, True), ({"sagemaker_program": "x.py"}, False)])
def test_without_namespaces_only_algorithms_get_links(server, start, objects, no_namespace, hyperparameters, linked):
    agent = start(SCRIPT, channels=CHANNELS, objects=str(objects.root), hyperparameters=hyperparameters)
    assert agent.wait()["exit"] == 0
    assert ({inode for _, inode in result(server).values()} == set(inodes(objects).values())) is linked
    assert ("a script could write to the objects, as read-only mounts take" in said(server)[0]) is not linked


@needs_namespace
def test_a_folder_with_a_difficult_name_is_protected_too(tmp_path):
    folder = tmp_path / 'it\'s $HOME; `x` "q"\n'
    folder.mkdir()
    assert namespace.obstacle([folder]) == ""
    command = namespace.protected([folder], ["touch", str(folder / "new")])
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    assert os.listdir(folder) == []
    assert "mount" in namespace.obstacle([tmp_path / "none"])
