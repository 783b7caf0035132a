"""RecordIO-protobuf: the published vectors to the byte, three readers that agree, hostile bytes refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from sagesmith.formats import recordio
from sagesmith.formats.batch import Batch, DataError, join
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.format import Options, format_of, read_body
from sagesmith.formats.frames import frame, frames
from sagesmith.formats.protobuf import Record, Value, decode, delimited, encode, varint
from sagesmith.formats.recordio_writer import write_records, write_response
from sagesmith.formats.source import Source

TYPE = "application/x-recordio-protobuf"
DENSE = "0a23d7ce2c0000000a160a0676616c756573120c120a0a080000803f0000004012120a0676616c756573120812060a040000803f"
SPARSE = "0a23d7ce1a0000000a180a0676616c756573120e120c0a040000a0401201031a010a0000"
RESPONSE = "0a23d7ce1300000012110a0573636f7265120812060a040000803e00"
quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PATHS = ["always_compiled", "never_compiled"]


def read(data: bytes, **options: object) -> Batch:
    return read_body(data, TYPE, Options(**options))  # type: ignore[arg-type]


def record(
    kind: str, values: list[float], label: float | None = None, keys: object = None, shape: object = None
) -> bytes:
    def integers(given: object) -> np.ndarray | None:
        return None if given is None else np.array(given, np.uint64)

    one = Record({"values": Value(kind, np.array(values, kind), integers(keys), integers(shape))})  # type: ignore[arg-type]
    if label is not None:
        one.label["values"] = Value(kind, np.array([label], kind))  # type: ignore[arg-type]
    return frame(encode(one))


def same(one: Batch, two: Batch) -> None:
    assert one.is_sparse == two.is_sparse
    if one.is_sparse:
        for part in ("data", "indices", "indptr", "shape"):
            np.testing.assert_array_equal(getattr(one.features, part), getattr(two.features, part))
    else:
        np.testing.assert_array_equal(one.features, two.features)
    assert (one.label is None) == (two.label is None)
    if one.label is not None:
        np.testing.assert_array_equal(one.label, two.label)


def test_dense_vector_both_ways() -> None:
    batch = read(bytes.fromhex(DENSE))
    np.testing.assert_array_equal(batch.features, [[1, 2]])
    np.testing.assert_array_equal(batch.label, [1])
    assert write_records(batch).hex() == DENSE


def test_sparse_vector_both_ways() -> None:
    batch = read(bytes.fromhex(SPARSE))
    assert batch.label is None
    np.testing.assert_array_equal(batch.features.toarray(), [[0, 0, 0, 5, 0, 0, 0, 0, 0, 0]])
    assert write_records(batch).hex() == SPARSE


def test_response_vector_both_ways() -> None:
    assert write_response({"score": np.array([0.25])}).hex() == RESPONSE
    (payload,) = frames(io.BytesIO(bytes.fromhex(RESPONSE)))
    assert decode(payload).label["score"].values.tolist() == [0.25]


def test_response_fields_of_every_width() -> None:
    fields = {"label": np.array([1, 2]), "scores": np.array([[0.5, 0.25], [1, 0]]), "ragged": [[1.0], [2.0, 3.0]]}
    found = [decode(payload).label for payload in frames(io.BytesIO(write_response(fields)))]
    assert found[1]["scores"].values.tolist() == [1, 0]
    assert [row["ragged"].values.tolist() for row in found] == [[1], [2, 3]]
    del fields["ragged"]
    found = [decode(payload).label for payload in frames(io.BytesIO(write_response(fields)))]
    assert [row["label"].values.tolist() for row in found] == [[1], [2]]
    assert found[0]["scores"].values.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["float32", "float64", "int32"])
def test_tensor_types(kind: str, path: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(path)
    batch = read(record(kind, [1, -2, 300], 7) * 3 + record(kind, [2**31 - 1, -(2**31), 0], -1))
    expected = np.array([[1, -2, 300]] * 3 + [[2**31 - 1, -(2**31), 0]], np.float32)
    np.testing.assert_array_equal(batch.features, expected)
    np.testing.assert_array_equal(batch.label, [7, 7, 7, -1])


@pytest.mark.parametrize("path", PATHS)
def test_zero_rows_and_map_order(path: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(path)
    zero = record("float32", [], 2, [], [4])
    features, label = (
        encode(Record({"values": Value("float32", np.float32([5]), np.uint64([3]), np.uint64([4]))})),
        (encode(Record(label={"values": Value("float32", np.float32([3]))}))),
    )
    batch = read(zero + frame(label + features) + zero + frame(features + label))
    np.testing.assert_array_equal(batch.features.toarray(), [[0] * 4, [0, 0, 0, 5], [0] * 4, [0, 0, 0, 5]])
    np.testing.assert_array_equal(batch.label, [2, 3, 2, 3])


def test_unpacked_numbers_and_unknown_fields_are_legal() -> None:
    tensor = b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.0, 2.0))
    entry = delimited(1, b"values") + delimited(2, delimited(2, tensor))
    batch = read(frame(delimited(1, entry) + delimited(99, b"new") + varint(98 << 3) + varint(5)))
    np.testing.assert_array_equal(batch.features, [[1, 2]])


def test_bytes_and_strings_survive() -> None:
    one = Record({"image": Value("bytes", blobs=[b"\xff\xd8", b""], content_type="image/jpeg")})
    one.uid, one.metadata, one.configuration = "u", "m", "{}"
    again = decode(encode(one))
    assert again.features["image"].blobs == [b"\xff\xd8", b""]
    assert again.features["image"].content_type == "image/jpeg"
    assert (again.uid, again.metadata, again.configuration) == ("u", "m", "{}")


good = record("float32", [1, 2], 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (good + b"\x00" * 8, "record 2: begins with 0x00000000"),
        (good + good[:30], "record 2: truncated: 22 of 44 bytes"),
        (good + good[:5], "record 2: truncated: 5 of the 8"),
        (good + struct.pack("<II", 0xCED7230A, (1 << 29) - 1) + b"x", "record 2: truncated"),
        (good + struct.pack("<II", 0xCED7230A, 1 << 29 | 4) + b"abcd", "record 2: continuation flag 1"),
        (good + frame(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "record 2: a varint of more than ten"),
        (good + frame(b"\x0a\xff"), "record 2: a varint runs over"),
        (good + frame(b"\x0a\x50x"), "record 2: field 1 of 80 bytes runs over"),
        (good + frame(b""), "record 2: has no features"),
        (good + record("float32", [1, 2, 3], 1), "record 2: 3 features, but record 1 has 2"),
        (good + record("float32", [1, 2]), "record 2: 0 label values, but record 1 has 1"),
        (record("float32", [1.0], None, [1, 2], [4]), "record 1: 2 keys, but 1 values"),
        (record("float32", [1.0], None, [4], [4]), "record 1: key 4 is not below shape 4"),
        (record("float32", [1.0, 2.0], None, [2, 2], [4]), "record 1: key 2 stands twice"),
        (record("float32", [1.0], None, [2]), "record 1: keys without a shape"),
        (record("float32", [], None, None, [2**40]), "record 1: shape 1099511627776"),
        (record("float32", [1.0], None, None, [3]), "record 1: 1 values, but shape 3"),
        (record("float32", []), "record 1: has no values"),
        (frame(encode(Record({"x": Value()}))), "record 1: features has no entry 'values', only 'x'"),
        (frame(encode(Record({"values": Value("bytes")}))), "record 1: features are bytes"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_errors_name_file_and_record(data: bytes, message: str, path: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(path)
    with pytest.raises(DataError, match=f"request, {message}"):
        read(data)


def test_keys_where_a_label_or_dense_row_has_none_do_not_touch_other_rows(always_compiled: None) -> None:
    sparse_row = record("float32", [5.0, 6.0], 1, [1, 3], [8])
    label = delimited(2, delimited(1, b"values") + delimited(2, delimited(2, delimited(2, bytes([1, 2, 3])))))
    with pytest.raises(DataError, match="record 5"):
        read(sparse_row * 4 + frame(decode_features(sparse_row) + label))
    with pytest.raises(DataError, match="record 4"):
        read(good * 3 + record("float32", [1.0, 2.0], 1, [0, 5], [2]))


def decode_features(framed: bytes) -> bytes:
    (payload,) = frames(io.BytesIO(framed))
    return encode(Record(decode(payload).features))


def test_padding_missing_at_the_end_is_forgiven() -> None:
    np.testing.assert_array_equal(read(bytes.fromhex(SPARSE)[:-2]).features.toarray()[0, 3], 5)


def test_known_width_is_checked() -> None:
    with pytest.raises(DataError, match="2 features, expected 3"):
        read(good, width=3)


def test_frames_longer_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio, "PIECE_BYTES", 16)
    rows = np.arange(300, dtype=np.float32).reshape(3, 100)
    np.testing.assert_array_equal(read(write_records(Batch(rows))).features, rows)


dense_rows = st.tuples(st.integers(1, 5), st.sampled_from(["float32", "float64", "int32"]), st.integers(1, 40))


@quick
@given(dense_rows, st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_three_readers_agree(shape: tuple[int, str, int], labelled: bool, is_sparse: bool, seed: int) -> None:
    width, kind, rows = shape
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(rows):
        label = float(rng.integers(0, 9)) if labelled else None
        if is_sparse:
            keys = np.flatnonzero(rng.random(200) < width / 100)
            parts.append(record(kind, rng.integers(-9, 999, len(keys)).tolist(), label, keys, [200]))
        else:
            kind_now = kind if rng.random() < 0.9 else "float32"
            parts.append(record(kind_now, rng.integers(-9, 999, width).tolist(), label))
    data = b"".join(parts)
    found = []
    for compile_it in (False, True):
        reader = recordio._Reader(Source.of_body(data), Options())
        reader.compile_it = compile_it
        batches = [batch for batch, _ in reader.read(data, True)]
        found.append(join(batches))
    reader = recordio._Reader(Source.of_body(data), Options())
    plain, at = [], 0
    while at < len(data):
        batch, at = reader._plain(data, at, 7)
        plain.append(batch)
    same(found[0], join(plain))
    same(found[1], join(plain))


@quick
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255), st.booleans())
def test_any_bytes_give_rows_or_a_data_error(
    always_compiled: None, noise: bytes, position: int, byte: int, sparsely: bool
) -> None:
    base = record("float32", [1.0, 2.0], 1, [1, 3], [8]) * 4 if sparsely else good * 4
    broken = bytearray(base)
    broken[position % len(base)] = byte
    for data in (noise, base + noise, base + frame(noise), bytes(broken), bytes(broken[: len(base) - position % 40])):
        try:
            batch = read(data)
        except DataError:
            continue
        if batch.is_sparse:
            batch.features.check_format()


def test_sparse_rows_match_scipy() -> None:
    matrix = sparse.random(500, 300, density=0.05, format="csr", dtype=np.float32, random_state=3)
    labels = np.arange(500, dtype=np.float32)
    batch = read(write_records(Batch(matrix, labels)))
    assert (batch.features != matrix).nnz == 0
    np.testing.assert_array_equal(batch.label, labels)


def test_records_are_given_whole() -> None:
    ((found, place),) = format_of(ContentType.parse(TYPE)).records(Source.of_body(good), Options())
    assert place == "request, record 1"
    assert found["features"]["values"].values.tolist() == [1, 2]
