"""`.rec` files: MXNet's layout to the byte, and what is broken is named."""

import io

import numpy as np
import pytest

from sagesmith.formats.errors import DataError
from sagesmith.formats.image_records import ImageRecord, RecordWriter, framed, packed, record_at, records, scan

# Written out by hand from dmlc-core's recordio.cc and MXNet's recordio.py: label 3.0, id 7, five bytes of "picture".
ONE = bytes.fromhex("0a23d7ce 1d000000 00000000 00004040 0700000000000000 0000000000000000 ffd8616263 000000")
# Labels [1.5, -2.0], id 1, and a payload with the magic on a boundary: split there into two frames, 1 and 3.
SPLIT = bytes.fromhex(
    "0a23d7ce 20000020 02000000 00000000 0100000000000000 0000000000000000 0000c03f 000000c00a23d7ce 02000060 6162 0000"
)


def test_layout_to_the_byte():
    assert framed(packed(ImageRecord(np.array([3.0]), 7, b"\xff\xd8abc"))) == ONE
    assert framed(packed(ImageRecord(np.array([1.5, -2.0]), 1, b"\x0a\x23\xd7\xceab"))) == SPLIT


def test_both_are_read(tmp_path):
    data = ONE + SPLIT
    assert scan(data, "a.rec").tolist() == [0, len(ONE), len(data)]
    one, two = (record_at(memoryview(data), start, "a.rec") for start in (0, len(ONE)))
    assert (one.label.tolist(), one.id, bytes(one.data)) == ([3.0], 7, b"\xff\xd8abc")
    assert (two.label.tolist(), two.id, bytes(two.data)) == ([1.5, -2.0], 1, b"\x0a\x23\xd7\xceab")
    assert [bytes(record.data) for record in records(io.BytesIO(data), "pipe")] == [bytes(one.data), bytes(two.data)]


def test_writer_leaves_an_index(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(ImageRecord(np.array([3.0]), 7, b"\xff\xd8abc"))
        writer.write(ImageRecord(np.array([1.0]), 9, b"x"))
    assert (tmp_path / "a.rec").read_bytes()[: len(ONE)] == ONE
    assert (tmp_path / "a.idx").read_text() == f"7\t0\n9\t{len(ONE)}\n"


@pytest.mark.parametrize("cut", [3, 9, 20, len(ONE) + 2, len(ONE) + 30, len(ONE) + 44, len(ONE) + 49])
def test_a_truncated_file_is_named(cut):
    data = (ONE + SPLIT)[:cut]
    number = 1 if cut < len(ONE) else 2
    with pytest.raises(DataError, match=rf"^a\.rec, record {number}: "):
        scan(data, "a.rec")
    with pytest.raises(DataError, match=rf"^a\.rec, record {number}: "):
        list(records(io.BytesIO(data), "a.rec"))


def test_what_is_no_record_is_named():
    with pytest.raises(DataError, match=r"^a\.rec, record 1: begins with 0x6c6c6568"):
        scan(b"hello, world", "a.rec")
    with pytest.raises(DataError, match=r"record 1: 5 bytes are too few"):
        list(records(io.BytesIO(framed(b"hello")), "a.rec"))
    many = framed((99).to_bytes(4, "little") + bytes(40))
    with pytest.raises(DataError, match=r"record 1: an image header with 99 labels takes 420 bytes"):
        list(records(io.BytesIO(many), "a.rec"))
