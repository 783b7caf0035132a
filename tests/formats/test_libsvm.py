"""libsvm: both readers agree, and errors name the line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagesmith.formats.batch import Batch, DataError
from sagesmith.formats.format import Options, read_body
from sagesmith.formats.libsvm import _compiled, read_lines

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(text: bytes, **options: object) -> Batch:
    return read_body(text, "text/libsvm", Options(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["always_compiled", "never_compiled"])
def test_rows(path: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(path)
    batch = read(b"1 0:1.5 3:-2\n0\n-1 2:7\r\n")
    np.testing.assert_array_equal(batch.label, [1, 0, -1])
    np.testing.assert_array_equal(batch.features.toarray(), [[1.5, 0, 0, -2], [0] * 4, [0, 0, 7, 0]])
    assert batch.weight is None
    assert batch.group is None


def test_weights_groups_and_comments() -> None:
    batch = read(b"# head\n1:0.5 qid:3 1:2 # tail\n0 qid:4 0:1\n")
    np.testing.assert_array_equal(batch.label, [1, 0])
    np.testing.assert_array_equal(batch.weight, [0.5, 1])
    np.testing.assert_array_equal(batch.group, [3, 4])
    np.testing.assert_array_equal(batch.features.toarray(), [[0, 2], [1, 0]])


def test_indices_in_any_order_are_sorted() -> None:
    assert read(b"1 3:3 1:1\n").features.indices.tolist() == [1, 3]


@pytest.mark.parametrize(("first", "columns"), [(0, [1, 2]), (1, [0, 1]), (None, [0, 1])])
def test_numbering_of_columns(first: int | None, columns: list[int]) -> None:
    batch = read(b"1 1:5 2:6\n", first_index=first)
    assert batch.features.indices.tolist() == columns
    assert batch.width == columns[-1] + 1


def test_index_zero_keeps_numbering_from_zero() -> None:
    assert read(b"1 0:5 2:6\n", first_index=None).features.indices.tolist() == [0, 2]
    with pytest.raises(DataError, match="index 0"):
        read(b"1 0:5\n", first_index=1)


def test_requests_need_no_label() -> None:
    batch = read_body(b"0:1 2:3\n5 1:2\n", "text/x-libsvm")
    assert batch.label is None
    np.testing.assert_array_equal(batch.features.toarray(), [[1, 0, 3], [0, 2, 0]])


def test_a_known_width_is_kept() -> None:
    assert read(b"1 0:1\n", width=10).width == 10
    with pytest.raises(DataError, match="index 10 is beyond the 10 columns"):
        read(b"1 10:1\n", width=10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 1:2\nx 1:2\n", "line 2: label 'x'"),
        (b"1 2\n", "line 1: '2' is not of the form index:value"),
        (b"1 -1:2\n", "'-1:2'"),
        (b"1 1:\n", "value of index 1"),
        (b"1 1:2 1:3\n", "index 1 stands twice"),
        (b"1 99999999999:1\n", "is over"),
        (b"1 qid:x 1:1\n", "qid 'x'"),
        (b"1 qid:1 1:1\n1 1:1\n", "some rows have a qid"),
        (b":1 1:1\n", "label ''"),
    ],
)
@pytest.mark.parametrize("path", ["always_compiled", "never_compiled"])
def test_errors_name_line_and_token(text: bytes, message: str, path: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(path)
    with pytest.raises(DataError, match=message):
        read(text)


pairs = st.dictionaries(st.integers(0, 50), st.floats(width=32), max_size=6)


@quick
@given(st.lists(st.tuples(st.integers(-100, 100).map(lambda n: n / 8), pairs), min_size=1, max_size=10))
def test_compiled_and_plain_reader_agree(rows: list[tuple[float, dict[int, float]]]) -> None:
    lines = [" ".join([repr(label), *(f"{k}:{v!r}" for k, v in sorted(found.items()))]) for label, found in rows]
    text = "\n".join(lines).encode()
    plain, compiled = read_lines(text, True), _compiled(text, text.count(b"\n"))
    assert compiled is not None
    np.testing.assert_array_equal(compiled.label, plain.label)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(compiled.features, part), getattr(plain.features, part))


@quick
@given(st.one_of(st.binary(max_size=80), st.text("0123456789.:- \n#qide", max_size=80).map(str.encode)))
def test_any_bytes_give_rows_or_a_data_error(always_compiled: None, text: bytes) -> None:
    for size in (0, 1):
        try:
            batch = read(text, label_size=size, first_index=None)
        except DataError:
            continue
        assert len(batch) >= 1
        batch.features.check_format()
