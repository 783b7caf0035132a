"""Records: splitting streams that arrive in any pieces, within a limit, with clean errors."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagesmith.agent.records import RecordError, batches, gunzip, split

LIMIT = 1000


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def recordio(payload: bytes) -> bytes:
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4)


def tfrecord(payload: bytes) -> bytes:
    return struct.pack("<QI", len(payload), 0) + payload + b"\0\0\0\0"


@given(
    st.lists(st.binary(max_size=50).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))), st.integers(1, 60)
)
def test_lines_are_found_however_the_stream_is_cut(lines: list[bytes], size: int) -> None:
    expected = [line for line in lines if line]
    assert list(split(pieces(b"\r\n".join(lines), size), "Line", LIMIT)) == expected
    assert list(split(pieces(b"".join(line + b"\n" for line in lines), size), "Line", LIMIT)) == expected


@given(st.lists(st.binary(max_size=50)), st.integers(1, 60))
def test_frames_are_found_however_the_stream_is_cut(payloads: list[bytes], size: int) -> None:
    for split_type, frame in (("RecordIO", recordio), ("TFRecord", tfrecord)):
        frames = [frame(payload) for payload in payloads]
        assert list(split(pieces(b"".join(frames), size), split_type, LIMIT)) == frames


def test_without_splitting_an_object_is_one_record() -> None:
    assert list(split([b"ab", b"c\nd"], "None", LIMIT)) == [b"abc\nd"]


@pytest.mark.parametrize("split_type", ["None", "Line"])
def test_records_may_be_as_large_as_the_limit_and_no_larger(split_type: str) -> None:
    assert list(split([b"x" * LIMIT], split_type, LIMIT)) == [b"x" * LIMIT]
    with pytest.raises(RecordError, match="MaxPayloadInMB"):
        list(split(pieces(b"x" * (LIMIT + 2), 7), split_type, LIMIT))


@pytest.mark.parametrize(
    ("split_type", "content", "words"),
    [
        ("RecordIO", b"\0" * 8, "magic"),
        ("RecordIO", recordio(b"abc")[:-2], "record 1"),
        ("RecordIO", recordio(b"abc") + b"\x0a\x23", "record 2 ends"),
        ("RecordIO", recordio(b"x" * LIMIT), "MaxPayloadInMB"),
        ("TFRecord", tfrecord(b"abc")[:5], "record 1 ends"),
        ("TFRecord", struct.pack("<QI", 2**60, 0), "MaxPayloadInMB"),
    ],
)
def test_damaged_frames_are_named(split_type: str, content: bytes, words: str) -> None:
    with pytest.raises(RecordError, match=words):
        list(split([content], split_type, LIMIT))


def test_gzip_streams_of_several_members_are_inflated_in_pieces() -> None:
    content = b"ab" * 3_000_000
    packed = gzip.compress(content) + gzip.compress(b"tail")
    inflated = list(gunzip(pieces(packed, 1000)))
    assert b"".join(inflated) == content + b"tail"
    assert max(map(len, inflated)) <= 1 << 20


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(b"abc")[:-3]])
def test_damaged_gzip_is_an_error(content: bytes) -> None:
    with pytest.raises(RecordError, match="gzip"):
        list(gunzip([content]))


def test_batches_hold_as_many_records_as_fit() -> None:
    records = [b"aaaa", b"bb", b"c", b"dddddddd"]
    assert list(batches(records, b"\n", 8, together=True)) == [[b"aaaa", b"bb"], [b"c"], [b"dddddddd"]]
    assert list(batches(records, b"\n", 8, together=False)) == [[record] for record in records]
