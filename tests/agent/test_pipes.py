"""Pipe channels, read as a job reads them."""

from __future__ import annotations

import gzip
import json
import struct

import pytest

from sagesmith.agent.channels import read_channels
from sagesmith.agent.connection import Server
from sagesmith.agent.failures import JobFailed
from sagesmith.agent.pipes import PipeFeeder, augmented_records
from sagesmith.contract import JobFolder


@pytest.fixture
def feed(server, paper, tmp_path):
    folder = JobFolder(tmp_path / "ml").create()

    def begin(source=None, **entry):
        given = {"S3Uri": "s3://in/d/"} | (source or {})
        entry = {"ChannelName": "c", "InputMode": "Pipe", "DataSource": {"S3DataSource": given}, **entry}
        changed = {**paper, "channels": [entry]}
        feeder = PipeFeeder(read_channels(changed)[0], Server(changed), changed, folder)
        feeder.start()
        return feeder, lambda epoch: folder.pipe("c", epoch).read_bytes()

    return begin


def records(data):
    while data:
        magic, length = struct.unpack_from("<II", data)
        assert magic == 0xCED7230A
        yield data[8 : 8 + length]
        data = data[8 + length + -length % 4 :]


def test_each_epoch_is_a_fifo_of_its_own(server, feed):
    server.objects |= {"in/d/1": b"one\n", "in/d/2": b"two\n"}
    _, read = feed()
    assert [read(epoch) for epoch in range(3)] == [b"one\ntwo\n"] * 3


def test_the_index_of_a_rec_file_is_no_part_of_the_stream(server, feed):
    server.objects |= {"in/d/a.rec": b"one", "in/d/a.idx": b"0\t0\n", "in/d/b.idx": b"alone"}
    _, read = feed()
    assert read(0) == b"onealone"
    assert read(1) == b"onealone"


def test_a_reader_may_close_early(server, feed, tmp_path):
    server.objects["in/d/1"] = b"x" * 5_000_000
    _, read = feed()
    with (tmp_path / "ml/input/data/c_0").open("rb") as pipe:
        assert pipe.read(10) == b"x" * 10
    assert len(read(1)) == 5_000_000


def test_gzip_is_unpacked_on_the_way(server, feed):
    content = b"0123456789" * 1_000_000
    server.objects |= {"in/d/1": gzip.compress(content), "in/d/2": gzip.compress(b"a") + gzip.compress(b"b")}
    _, read = feed(CompressionType="Gzip")
    assert read(0) == content + b"ab"


@pytest.mark.parametrize(
    ("data", "text"), [(b"plain", "not a gzip file"), (gzip.compress(b"x" * 99)[:-9], "truncated")]
)
def test_bad_gzip_ends_the_pipe_with_a_reason(server, feed, data, text):
    server.objects["in/d/1"] = data
    feeder, read = feed(CompressionType="Gzip")
    read(0)
    feeder._thread.join(10)
    assert text in feeder.failure
    assert feeder.failure.startswith("ClientError: Data download failed: channel 'c': s3://in/d/1")


def test_recordio_wraps_each_object(server, feed):
    server.objects |= {"in/d/1": b"abc", "in/d/2": b"", "in/d/3": b"12345678"}
    _, read = feed(RecordWrapperType="RecordIO")
    assert list(records(read(0))) == [b"abc", b"", b"12345678"]


def test_a_frame_has_the_documented_bytes(server, feed):
    server.objects["in/d/1"] = b"abcde"
    _, read = feed(RecordWrapperType="RecordIO")
    assert read(0).hex() == "0a23d7ce050000006162636465000000"


def test_an_object_too_long_for_a_frame_ends_the_pipe_with_its_name(server, feed, monkeypatch):
    monkeypatch.setattr("sagesmith.formats.frames.LONGEST_FRAME", 4)
    server.objects |= {"in/d/1": b"abc", "in/d/2": b"abcd"}
    feeder, read = feed(RecordWrapperType="RecordIO")
    assert list(records(read(0))) == [b"abc"]
    feeder._thread.join(10)
    assert "s3://in/d/2: a RecordIO frame holds less than 4 bytes, not 4" in feeder.failure


def test_augmented_manifests_stream_attributes_in_order(server, feed):
    lines = [
        {"label": [1, 0], "source-ref": "s3://pics/a.jpg", "other": 1},
        {"label": "7", "source-ref": "s3://pics/b.jpg"},
    ]
    server.objects |= {"pics/a.jpg": b"AAA", "pics/b.jpg": b"B"}
    server.objects["in/m"] = "\n".join(json.dumps(line) for line in lines).encode() + b"\n"
    source = {"S3DataType": "AugmentedManifestFile", "S3Uri": "s3://in/m", "AttributeNames": ["source-ref", "label"]}
    _, read = feed(source, RecordWrapperType="RecordIO")
    assert list(records(read(0))) == [b"AAA", b"[1, 0]", b"B", b"7"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "has no lines"),
        (b'{"a": 1}\n{', "line 2 is not JSON"),
        (b"[1]", "line 1 must be a JSON object, found list"),
        (b'{"b": 1}', "line 1 has no attribute 'a-ref'"),
        (b'{"a-ref": 1}', "attribute 'a-ref' must be an S3 URI, found 1"),
        (b'{"a-ref": "http://x"}', "'http://x' is not an S3 URI"),
    ],
)
def test_bad_augmented_manifests_name_the_line(server, paper, content, text):
    server.objects["in/m"] = content
    source = {"S3DataType": "AugmentedManifestFile", "S3Uri": "s3://in/m", "AttributeNames": ["a-ref"]}
    entry = {"ChannelName": "c", "InputMode": "Pipe", "DataSource": {"S3DataSource": source}}
    channel = read_channels({**paper, "channels": [entry]})[0]
    if "line 2" in text:
        server.objects["in/m"] = b'{"a-ref": "s3://x/y"}\n{'
    with pytest.raises(JobFailed, match=text):
        augmented_records(channel, Server(paper))


def test_no_data_is_found_out_before_the_job_starts(feed):
    with pytest.raises(JobFailed, match="no objects found"):
        feed()
