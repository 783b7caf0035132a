"""What a channel consists of, and what is refused."""

from __future__ import annotations

import json
import threading
import zlib

import pytest

from sagesmith.agent.channels import below, read_channels, sources
from sagesmith.agent.connection import Server
from sagesmith.agent.failures import JobFailed
from sagesmith.agent.staging_in import download, stage_models
from sagesmith.contract import JobFolder


def plan(paper, hosts=1, host="algo-1", epoch=0, *, source=None, **entry):
    names = [f"algo-{number}" for number in range(1, hosts + 1)]
    given = {"S3Uri": "s3://in/d/"} | (source or {})
    paper = {**paper, "channels": [{"ChannelName": "c", "DataSource": {"S3DataSource": given}, **entry}]}
    found = sources(read_channels(paper)[0], Server(paper), host, names, epoch)
    return [(str(entry.uri), entry.path) for entry in found]


@pytest.mark.parametrize(
    ("prefix", "key", "path"),
    [
        ("d/train", "d/train/a/b.csv", "a/b.csv"),
        ("d/train/", "d/train/a/b.csv", "a/b.csv"),
        ("d/train.csv", "d/train.csv", "train.csv"),
        ("d/tr", "d/train/a", "train/a"),
        ("", "a/b", "a/b"),
    ],
)
def test_paths_below_the_prefix_are_kept(prefix, key, path):
    assert below(prefix, key) == path


def test_shards_part_the_sorted_objects_among_the_hosts(server, paper):
    server.objects |= {f"in/d/{name}": b"" for name in "edcba"}
    shard = {"S3DataDistributionType": "ShardedByS3Key"}
    assert [path for _, path in plan(paper, 2, "algo-1", source=shard)] == ["a", "c", "e"]
    assert [path for _, path in plan(paper, 2, "algo-2", source=shard)] == ["b", "d"]
    with pytest.raises(JobFailed, match="at least one object for each of the 6 hosts, found 5"):
        plan(paper, 6, source=shard)


def test_a_manifest_names_objects_under_its_prefix(server, paper):
    server.objects["in/m"] = json.dumps([{"prefix": "s3://other/p/"}, "x", "deep/y"]).encode()
    manifest = {"S3DataType": "ManifestFile", "S3Uri": "s3://in/m"}
    assert plan(paper, source=manifest) == [("s3://other/p/x", "x"), ("s3://other/p/deep/y", "deep/y")]


@pytest.mark.parametrize("content", [b"{}", b"[]", b'["a"]', b"not json", b"[" * 100_000, b'[{"prefix":"s3://b/"}, 1]'])
def test_a_bad_manifest_is_refused(server, paper, content):
    server.objects["in/m"] = content
    with pytest.raises(JobFailed, match=r"ClientError: Data download failed: channel 'c': manifest s3://in/m"):
        plan(paper, source={"S3DataType": "ManifestFile", "S3Uri": "s3://in/m"})


@pytest.mark.parametrize("key", ["d/../../etc/passwd", "d/a/./b", "d/x\0y"])
def test_keys_that_would_leave_the_folder_are_refused(server, paper, key):
    server.objects[f"in/{key}"] = b""
    with pytest.raises(JobFailed, match="would not lie in the channel's folder"):
        plan(paper)


def test_clashing_names_are_refused(server, paper):
    server.objects |= {"in/d": b"", "in/d/d": b""}
    with pytest.raises(JobFailed, match="would both become 'd'"):
        plan(paper, source={"S3Uri": "s3://in/d"})
    server.objects |= {"in/d/a": b"", "in/d/a/b": b""}
    with pytest.raises(JobFailed, match="is a file and s3://in/d/a/b needs a folder"):
        plan(paper, source={"S3Uri": "s3://in/d/"})


def test_shuffling_changes_the_order_per_epoch_and_repeats_with_the_seed(server, paper):
    server.objects |= {f"in/d/{number:02}": b"" for number in range(20)}
    shuffled = {"ShuffleConfig": {"Seed": 7}, "InputMode": "Pipe"}
    first, again, second = (plan(paper, epoch=epoch, **shuffled) for epoch in (0, 0, 1))
    assert first == again
    assert first != second
    assert sorted(first) == sorted(second) == plan(paper)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"source": {"S3DataType": "AugmentedManifestFile"}, "InputMode": "FastFile"}, "needs AttributeNames"),
        (
            {"source": {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["a"]}, "InputMode": "FastFile"},
            "FastFile needs S3DataType S3Prefix",
        ),
        ({"source": {"S3DataType": "ManifestFile"}, "InputMode": "FastFile"}, "FastFile needs S3DataType S3Prefix"),
        ({"source": {"S3Uri": "https://x"}}, "'https://x' is not an S3 URI"),
        ({"source": {"S3Uri": "s3://absent/x"}}, "NoSuchBucket"),
        ({"DataSource": {"FileSystemDataSource": {}}}, "has no S3DataSource"),
    ],
)
def test_what_cannot_be_read_is_refused(server, paper, entry, text):
    with pytest.raises(JobFailed, match=text):
        plan(paper, **entry)


def test_a_stopped_agent_does_not_wait_for_the_server(server, paper, tmp_path):
    server.down()
    stopping = threading.Event()
    stopping.set()
    from sagesmith.agent.failures import Stopped

    with pytest.raises(Stopped):
        list(plan_with(Server(paper, stopping), paper))


def plan_with(client, paper):
    entry = {"ChannelName": "c", "DataSource": {"S3DataSource": {"S3Uri": "s3://in/d"}}}
    return sources(read_channels({**paper, "channels": [entry]})[0], client, "algo-1", ["algo-1"])


def test_models_are_unpacked_or_copied(server, paper, tmp_path):
    from sagesmith.archives import pack

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w").write_text("weights")
    pack(tmp_path / "m", tmp_path / "model.tar.gz")
    server.objects |= {"in/model.tar.gz": (tmp_path / "model.tar.gz").read_bytes(), "in/plain/x/y": b"y"}
    folder = JobFolder(tmp_path / "ml").create()
    models = [{"url": "s3://in/model.tar.gz", "into": "model"}, {"url": "s3://in/plain/", "into": "model/plain"}]
    stage_models({**paper, "models": models}, folder, Server(paper))
    assert (folder.model / "w").read_text() == "weights"
    assert (folder.model / "plain/x/y").read_text() == "y"
    assert sorted(path.name for path in folder.base.iterdir()) == ["checkpoints", "input", "model", "output"]


@pytest.mark.parametrize("content", [None, b"", b"junk", zlib.compress(b"x")])
def test_a_bad_model_fails_with_its_url(server, paper, tmp_path, content):
    if content is not None:
        server.objects["in/model.tar.gz"] = content
    model = {"url": "s3://in/model.tar.gz", "into": "model"}
    with pytest.raises(JobFailed, match=r"ClientError: Failed to \w+ model data from s3://in/model.tar.gz: "):
        stage_models({**paper, "models": [model]}, JobFolder(tmp_path / "ml").create(), Server(paper))


def test_a_download_ends_with_its_first_error(server, paper, tmp_path):
    from botocore.exceptions import ClientError

    from sagesmith.agent.channels import Source
    from sagesmith.core.names import S3Uri

    with pytest.raises(ClientError, match="NoSuchKey"):
        download(Server(paper), [Source(S3Uri("in", f"gone-{n}"), f"{n}") for n in range(50)], tmp_path / "into")
