"""CSV: both readers agree, missing cells are NaN, and errors name the line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagesmith.formats import tabular
from sagesmith.formats.batch import Batch, DataError, NoData
from sagesmith.formats.channel import Channel
from sagesmith.formats.format import Options, read_body
from sagesmith.formats.tabular import _compiled, read_lines, sniff_delimiter

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(text: bytes, **options: object) -> Batch:
    return read_body(text, "text/csv", Options(**{"label_size": 0, **options}))  # type: ignore[arg-type]


def test_rows_and_missing_cells() -> None:
    batch = read(b"1,2.5,-3e2\n,nan,+4\n")
    assert batch.features.dtype == np.float32
    np.testing.assert_array_equal(batch.features, [[1, 2.5, -300], [np.nan, np.nan, 4]])
    assert batch.label is None


@pytest.mark.parametrize(
    "text",
    [
        b"1,2\n3,4",
        b"1,2\r\n3,4\r\n",
        b"1,2\r3,4\r",
        b"\xef\xbb\xbf1,2\n3,4\n",
        b'"1","2"\n"3","4"\n',
        b"\n1,2\n\n\n3,4\n\n",
        b" 1 ,\t2\n3 , 4 \n",
    ],
    ids=["no newline", "crlf", "cr", "bom", "quotes", "blank lines", "spaces"],
)
@pytest.mark.parametrize("path", ["always_compiled", "never_compiled"])
def test_ways_to_write_the_same_rows(text: bytes, path: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(path)
    np.testing.assert_array_equal(read(text).features, [[1, 2], [3, 4]])


def test_labels_and_weights_lead() -> None:
    batch = read(b"1,0.5,7,8\n0,2,9,10\n", label_size=1, weighted=True)
    np.testing.assert_array_equal(batch.label, [1, 0])
    np.testing.assert_array_equal(batch.weight, [0.5, 2])
    np.testing.assert_array_equal(batch.features, [[7, 8], [9, 10]])
    assert read_body(b"1,2,3\n", "text/csv;label_size=2").label.shape == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1,2\n1,2,3\n", "line 2: 3 columns, expected 2"),
        (b"1,2\n\n3\n", "line 3: 1 columns, expected 2"),
        (b"1,2\n3,x\n", "line 2, column 2: 'x' is not a number"),
        (b"a,b\n1,2\n", "line 1, column 1: 'a' is not a number"),
        (b"1,1_0\n", "'1_0' is not a number"),
        (b'1,"2\n3",4\n', "line 1, column 2"),
        ("1,\u0661\n".encode(), "column 2"),
    ],
)
@pytest.mark.parametrize("path", ["always_compiled", "never_compiled"])
def test_errors_name_line_and_cell(text: bytes, message: str, path: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(path)
    with pytest.raises(DataError, match=message):
        read(text)


def test_only_a_label_is_refused() -> None:
    with pytest.raises(DataError, match="hold label or weight"):
        read(b"1\n2\n", label_size=1)


def test_empty_body_has_no_rows() -> None:
    with pytest.raises(NoData):
        read(b"")
    with pytest.raises(NoData):
        read(b"\n\r\n")


def test_other_charsets_and_delimiters() -> None:
    np.testing.assert_array_equal(
        read_body("1;2\n".encode("utf-16"), 'text/csv;charset=utf-16;delimiter=";"').features, [[1, 2]]
    )
    np.testing.assert_array_equal(read(b"1\t2\n3\t\n", delimiter="\t").features, [[1, 2], [3, np.nan]])
    np.testing.assert_array_equal(read(b"1|2\n", delimiter="auto").features, [[1, 2]])
    with pytest.raises(DataError, match="unknown charset"):
        read_body(b"1\n", "text/csv;charset=nonsense")


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [("1,2,3", ","), ("1\t2\t3", "\t"), ("1;2;3", ";"), ("1 2 3", " "), ("5", ","), ("", ","), ("1, 2, 3", ",")],
)
def test_sniffed_delimiters(line: str, delimiter: str) -> None:
    assert sniff_delimiter(line) == delimiter
    assert sniff_delimiter(line.encode() + b"\r\n9") == delimiter


def test_lines_are_counted_across_pieces_of_a_gzip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "PIECE_BYTES", 64)
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress(b"1,2\n" * 100 + b"1,oops\n" + b"1,2\n" * 50))
    with pytest.raises(DataError, match=r"a\.csv\.gz, line 101, column 2: 'oops'"):
        Channel.from_folder("train", tmp_path, "text/csv").read()
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match="broken gzip"):
        Channel.from_folder("train", tmp_path, "text/csv").read()


def test_a_line_of_many_pieces_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "PIECE_BYTES", 16)
    for end in (b"\n", b"\r\n", b"\r"):
        batch = read(end.join([b",".join(b"%d" % cell for cell in range(500))] * 3) + end)
        np.testing.assert_array_equal(batch.features, [np.arange(500)] * 3)


def test_a_pipe_is_compiled_once_it_proves_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a gzip file, too, no size tells beforehand how much text there is."""
    monkeypatch.setattr(tabular, "PIECE_BYTES", 1000)
    monkeypatch.setattr(tabular, "worthwhile", lambda size: size > 2500)
    calls = []
    monkeypatch.setattr(tabular, "_compiled", lambda text, *rest: calls.append(len(text)))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 1250))
    assert len(Channel.from_folder("train", tmp_path, "text/csv").read()) == 1250
    assert calls == [1000] * 3


cells = st.one_of(
    st.floats(width=32).map(repr),
    st.floats().map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.from_regex(r"[+-]?[0-9]{0,22}\.?[0-9]{0,22}([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.from_regex(r"-?0{0,12}[0-9]{0,12}\.0{0,20}[0-9]{0,20}", fullmatch=True),
    st.floats(width=32).map("{:.18e}".format),
    st.sampled_from(
        ["", " ", "NaN", "nan", '"1"', '""', " 2", "3 ", "inf", "-Infinity", "x", "1_0", ".", "-", "1e", "1.2.3"]
    ),
)


def assert_same_bits(text: bytes, width: int) -> None:
    """Both readers agree on a text, or the compiled one leaves it to the plain one, which refuses it."""
    compiled = _compiled(text, text.count(b"\n"), ",", width)
    try:
        plain = read_lines(text, ",", width)
    except DataError:
        assert compiled is None
        return
    assert compiled is not None
    np.testing.assert_array_equal(
        compiled.view(np.uint32) | nan_bits(compiled), plain.view(np.uint32) | nan_bits(plain)
    )


@quick
@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=12)))
def test_compiled_and_plain_reader_agree_to_the_bit(rows: list[list[str]]) -> None:
    """As the last rows of a text, read with care for its end, and with so much after them that words are read."""
    text = "\n".join(",".join(row) for row in rows).encode()
    if len(rows[0]) <= len(text):
        assert_same_bits(text, len(rows[0]))
    assert_same_bits(text + b"\n" + AFTER[len(rows[0])], len(rows[0]))


AFTER = {width: b"\n".join([b",".join([b"5"] * width)] * 64) for width in range(1, 5)}
DIGITS = "12345678901234567890123456789"
AWKWARD = (
    *(f"{sign}{DIGITS[:whole]}.{DIGITS[:places]}" for sign in ("", "-") for whole in range(21) for places in range(26)),
    *(f"0.{'0' * zeros}{DIGITS[:places]}" for zeros in range(22) for places in (0, 1, 8, 16, 17, 19)),
    *(f"{DIGITS[:digits]}e{power}" for digits in (1, 8, 17, 19) for power in (*range(-70, 45), 99999, -99999)),
    *("1.401298464324817e-45", "7e-46", "7.006492321624085e-46", "7.006492321624086e-46", "1.1754943508222875e-38"),
    *("3.4028235e38", "3.4028235677973366e38", "3.4028235677973362e38", "3.5e38", "1e39", "-1e400", "1e-400"),
    *("9007199254740993", "18446744073709551615", "18446744073709551616", "99999999999999999999", "16777217"),
    *("0", "-0", "-0.0", "0e5", "+1", "1.", ".5", "-.5", "5.e3", "1e+5", "1E-05", "1e+0000005", "00000000000001"),
)


def test_awkward_numbers_agree_to_the_bit() -> None:
    """Long mantissas, subnormal and overflowing ones, exponents: each in a text long enough for words to be read."""
    for first in range(0, len(AWKWARD), 40):  # few hard ones among many easy ones, or Python would read them all
        lines = [f"{cell},1,{cell},2" for cell in AWKWARD[first : first + 40]]
        assert_same_bits("\n".join(lines).encode() + b"\n" + AFTER[4], 4)


@pytest.mark.parametrize("form", ["{!r}", "{:.18e}", "{:.9g}", "{:.3f}", "{:.16f}"])
def test_random_floats_agree_to_the_bit(form: str) -> None:
    rng = np.random.default_rng(3)
    usual = rng.normal(size=4000) * 10.0 ** rng.integers(-6, 7, 4000)
    bits = rng.integers(0, 1 << 32, 1000, np.uint32).view(np.float32)
    values = np.concatenate([usual, usual.astype(np.float32), bits[np.isfinite(bits)]])
    rows = ["1," * 5 + form.format(value) for value in values.tolist()]
    text = "\n".join(rows).encode()
    assert_same_bits(text, 6)


@pytest.mark.parametrize("bad", [b"-", b"1e", b"1e+", b"--1", b"1.2.3", b"1 2", b"12345678x", b"0x10", b".", b"\xff"])
def test_what_is_no_number_is_refused_wherever_it_stands(always_compiled: None, bad: bytes) -> None:
    with pytest.raises(DataError, match=r"line 2, column 2: .* is not a number"):
        read(b"1,2,3\n4," + bad + b",6\n" + b"7,8,9\n" * 40)


def nan_bits(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), np.uint32(0xFFFFFFFF), np.uint32(0))


def test_decimals_close_to_the_midpoint_of_two_floats_round_as_in_python() -> None:
    rng = np.random.default_rng(1)
    low = rng.normal(size=2000).astype(np.float32)
    middles = (low.astype(np.float64) + np.nextafter(low, np.float32(9)).astype(np.float64)) / 2
    for form in ("{!r}", "{:.25f}", "{:.17e}"):  # six easy cells beside each, or all would be left to Python
        text = "\n".join(form.format(value) + ",1,2,3,4,5,6" for value in middles.tolist()).encode()
        np.testing.assert_array_equal(_compiled(text, text.count(b"\n"), ",", 7), read_lines(text, ",", 7))


@quick
@given(st.one_of(st.binary(max_size=80), st.text('0123456789.,-+e\n\r" \tnaif_', max_size=80).map(str.encode)))
def test_any_bytes_give_rows_or_a_data_error(always_compiled: None, text: bytes) -> None:
    for delimiter in (",", "auto"):
        try:
            batch = read(text, delimiter=delimiter)
        except DataError:
            continue
        assert len(batch) >= 1
