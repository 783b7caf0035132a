"""Augmented manifests in File mode: objects and a manifest of paths in the channel's folder."""

from __future__ import annotations

import json

import pytest

from sagesmith.agent.channels import read_channels
from sagesmith.agent.connection import Server
from sagesmith.agent.failures import JobFailed
from sagesmith.agent.staging_in import stage_channels
from sagesmith.contract import JobFolder


def lines(*records: dict[str, object]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.fixture
def stage(server, paper, tmp_path):
    def begin(host="algo-1", **source):
        folder = JobFolder(tmp_path / host).create()
        given = {"S3DataType": "AugmentedManifestFile", "S3Uri": "s3://in/sets/m.manifest"}
        given |= {"AttributeNames": ["source-ref", "class"]} | source
        changed = {**paper, "host": host, "hosts": ["algo-1", "algo-2"] if host == "algo-2" else ["algo-1"]}
        changed["channels"] = [{"ChannelName": "train", "DataSource": {"S3DataSource": given}}]
        stage_channels(read_channels(changed), changed, folder, Server(changed), print)
        return folder.channel("train")

    return begin


def test_objects_lie_beside_a_manifest_of_their_paths(server, stage):
    server.objects |= {"pics/cat/a.jpg": b"AAA", "pics/b.jpg": b"B"}
    server.objects["in/sets/m.manifest"] = lines(
        {"class": [1, 0], "source-ref": "s3://pics/cat/a.jpg", "class-metadata": {}},
        {"class": "7", "source-ref": "s3://pics/b.jpg"},
        {"class": 0, "source-ref": "s3://pics/b.jpg"},
    )
    folder = stage()
    assert (folder / "pics/cat/a.jpg").read_bytes() == b"AAA"
    assert (folder / "pics/b.jpg").read_bytes() == b"B"
    assert (folder / "m.manifest").read_bytes() == lines(
        {"source-ref": "pics/cat/a.jpg", "class": "[1, 0]"},
        {"source-ref": "pics/b.jpg", "class": "7"},
        {"source-ref": "pics/b.jpg", "class": "0"},
    )


def test_a_host_of_several_gets_its_lines_alone(server, stage):
    server.objects |= {f"pics/{n}": b"x" for n in range(3)}
    server.objects["in/sets/m.manifest"] = lines(*({"source-ref": f"s3://pics/{n}", "class": n} for n in range(3)))
    folder = stage("algo-2", S3DataDistributionType="ShardedByS3Key")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["1", "m.manifest"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"source-ref": "s3://pics/../../x", "class": 0}, "would not lie in the channel's folder"),
        ({"source-ref": "s3://pics/absent", "class": 0}, "NoSuchKey"),
        ({"source-ref": "s3://m.manifest/x", "class": 0}, "is a file and s3://m.manifest/x needs a folder"),
        ({"source-ref": "s3://pics/a"}, "line 1 has no attribute 'class'"),
    ],
)
def test_what_cannot_be_laid_out_is_told(server, stage, record, said):
    server.objects |= {"pics/a": b"A"}
    server.objects["in/sets/m.manifest"] = lines(record)
    with pytest.raises(JobFailed, match=said):
        stage()
