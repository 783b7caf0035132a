"""DeepAR's data: frequencies, lags, the calendar; records in JSON Lines and Parquet; what is wrong with them."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagesmith.algorithms import DeepAR
from sagesmith.algorithms.deepar.frequency import Frequency
from sagesmith.algorithms.deepar.series import Packed, Packer, records_of
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.deepar_series import SETTINGS, counts, drawn, lines


def around(*places: int, near: int = 1) -> set[int]:
    return {place + off for place in places for off in range(-near, near + 1)}


LAGS = {
    "min": {*range(1, 8), *around(60, 120, 180, near=2)},
    "5min": {*range(1, 8), *range(10, 15), *range(22, 27), *range(34, 39), *around(288, 576, 864, 1152)},
    "15min": {*range(1, 15), *around(*(96 * k for k in range(1, 8)))},
    "30min": {*range(1, 9), *around(*(48 * k for k in range(1, 8))), *around(672, 1008)},
    "H": {*range(1, 8), *around(*(24 * k for k in range(1, 8))), *around(336, 504, 672, 720)},
    "2H": {*range(1, 8), *around(*(12 * k for k in range(1, 8))), *around(168, 252, 336, 360), 672, 1008},
    "D": {*range(1, 9), *range(13, 16), *range(20, 23), *range(27, 32), 56, 84, *around(364, 728, 1092)},
    "W": {*range(1, 9), 12, *around(52, 104, 156)},
    "M": {*range(1, 8), *around(12, 24, 36)},
}


@pytest.mark.parametrize("text", LAGS)
def test_lags_are_those_of_gluonts(text: str) -> None:
    lags = Frequency.parse(text).lags()
    assert set(lags) == LAGS[text]
    assert list(lags) == sorted(lags)


@pytest.mark.parametrize("text", ["", "Q", "h", "0D", "-1H", "1.5H", "H5", "T", "5 min", "9999999D"])
def test_other_frequencies_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"time_freq.*M, W, D, H or min"):
        DeepAR(**{**SETTINGS, "time_freq": text}).validate()


@pytest.mark.parametrize(
    ("text", "step", "columns"),
    [
        ("15min", "15min", ("minute", "hour", "day_of_week", "day", "day_of_year")),
        ("2H", "2h", ("hour", "day_of_week", "day", "day_of_year")),
        ("D", "D", ("day_of_week", "day", "day_of_year")),
        ("W", "7D", ("day", "week")),
        ("3M", "3MS", ("month",)),
    ],
)
def test_the_calendar_is_pandas_s(text: str, step: str, columns: tuple[str, ...]) -> None:
    frequency = Frequency.parse(text)
    times = pandas.date_range("2019-11-01", periods=700, freq=step)
    first = frequency.ordinals(times[:1].values)[0]
    ordinals = first + frequency.step * np.arange(700)
    span = {"minute": (0, 59), "hour": (0, 23), "day_of_week": (0, 6), "day": (1, 30), "day_of_year": (1, 365)}
    span |= {"week": (1, 52), "month": (1, 11)}
    weeks = times.isocalendar()["week"].to_numpy()
    expected = [
        ((weeks if name == "week" else getattr(times, name)) - span[name][0]) / span[name][1] - 0.5 for name in columns
    ]
    calendar = frequency.calendar(int(ordinals[0]), int(ordinals[-1]))
    assert np.allclose(calendar.features(ordinals), np.column_stack(expected), atol=1e-6)


def packed_of(channel: Channel, frequency: str = "H") -> Packed:
    packer = Packer(Frequency.parse(frequency))
    for record, place in records_of(channel):
        packer.take(record, place)
    return packer.packed()


def test_json_lines_gzip_and_parquet_hold_the_same(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {
            "start": "2024-01-01 05:00:00",
            "target": [1, None, "NaN", 4.5],
            "cat": [0, 2],
            "dynamic_feat": [[1, 2, 3, 4]],
        },
        {"start": "2024-02-01", "target": [7.0], "cat": [1, 0], "dynamic_feat": [[0.5]]},
    ]
    folders = [tmp_path / name for name in ("plain", "packed", "typed", "parquet", "dated")]
    for folder in folders:
        (folder / "deeper").mkdir(parents=True)
        (folder / ".hidden").write_text("no JSON")
        (folder / "_SUCCESS").write_text("")
    (folders[0] / "_a.json").write_text(lines(records[:1]))
    (folders[0] / "deeper" / "b.json").write_text("\n" + lines(records[1:]))
    (folders[1] / "a.json.gz").write_bytes(gzip.compress(lines(records).encode()))
    (folders[2] / "part-0").write_text(lines(records))
    columns: dict[str, Any] = {name: [record[name] for record in records] for name in records[0]}
    columns["target"] = [[np.nan if x in (None, "NaN") else float(x) for x in row] for row in columns["target"]]
    pyarrow.parquet.write_table(pyarrow.table(columns), folders[3] / "a.parquet", compression="gzip")
    columns["start"] = [datetime.datetime.fromisoformat(start) for start in columns["start"]]
    pyarrow.parquet.write_table(pyarrow.table(columns), folders[4] / "part-0", compression="snappy")
    kinds = ["json", "parquet", "jsonlines", "json", "application/x-parquet"]  # an extension goes before the type
    read = [packed_of(Channel.from_folder("train", f, kind)) for f, kind in zip(folders, kinds, strict=True)]
    for packed in read:
        assert np.array_equal(packed.values, [1, np.nan, np.nan, 4.5, 7], equal_nan=True)
        assert packed.offsets.tolist() == [0, 4, 5]
        assert packed.cats.tolist() == [[0, 2], [1, 0]]
        assert packed.features.tolist() == [[1], [2], [3], [4], [0.5]]
        assert Frequency.parse("H").times(packed.ordinals).tolist() == [
            datetime.datetime(2024, 1, 1, 5), datetime.datetime(2024, 2, 1)
        ]  # fmt: skip


GOOD = {"start": "2024-01-01", "target": [1.0, 2.0], "cat": [0], "dynamic_feat": [[0.0, 1.0]]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": None}, "the field 'start' is missing"),
        ({"target": None}, "the field 'target' is missing"),
        ({"start": "01/02/2024"}, "'start' is '01/02/2024', expected a date"),
        ({"start": "2024-02-30"}, "'start' is '2024-02-30', expected a date .*day is out of range"),
        ({"start": "0000-01-01"}, "'start' is '0000-01-01'"),
        ({"start": 5}, "'start' is 5"),
        ({"start": "2024-01-01T00:00:00Z"}, "expected a date .* without a time zone"),
        ({"freq": "D"}, "'freq' is D, but the hyperparameter time_freq is H"),
        ({"time_freq": "5min"}, "'time_freq' is 5min, but"),
        ({"start": "9999-12-31 23:00:00"}, "lead beyond the year 9999"),
        ({"target": [1.0, "five"]}, "'target' holds 'five' at position 1, expected a number, null or \"NaN\""),
        ({"target": [1.0, True]}, "'target' holds True at position 1"),
        ({"target": [1.0, 1e39]}, "'target' holds 1e\\+39 at position 1; 1e\\+18 is the most"),
        ({"target": [1.0, 10**400]}, "too large"),
        ({"target": 3}, "'target' is 3, expected a list"),
        ({"cat": [0, 1]}, "'cat' has 2 entries, expected 1"),
        ({"cat": [-1]}, "'cat' is \\[-1\\], expected a list of whole numbers from 0 on"),
        ({"cat": [0.5]}, "'cat' is"),
        ({"cat": [10_000_000]}, r"'cat' is \[10000000\]: categories are below 10000000"),
        ({"cat": "a"}, "'cat' is 'a'"),
        ({"dynamic_feat": [[0.0]]}, "'dynamic_feat\\[0\\]' has 1 values, expected 2"),
        ({"dynamic_feat": [[0.0, None]]}, "'dynamic_feat\\[0\\]' holds None at position 1, expected a number$"),
        ({"dynamic_feat": [[0.0, float("nan")]]}, "missing or beyond 1e\\+18"),
        ({"dynamic_feat": [[0, 1], [0, 1]]}, "'dynamic_feat' has 2 entries, expected 1"),
        ({"dynamic_feat": None}, "'dynamic_feat' has 0 entries, expected 1"),
    ],
)
def test_a_bad_record_is_named_with_its_field(change: dict[str, Any], words: str) -> None:
    packer = Packer(Frequency.parse("H"))
    packer.take(GOOD, "series 1")
    with pytest.raises(DataError, match=f"series 2: .*{words}"):
        packer.take({**GOOD, **change}, "series 2")


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    text = lines(drawn(10)).splitlines(keepends=True)
    text[6] = text[6][:-20] + "\n"
    (tmp_path / "a.json").write_text("".join(text))
    with pytest.raises(DataError, match=r"a\.json, line 7: not JSON"):
        DeepAR(**SETTINGS).fit(tmp_path)
    (tmp_path / "a.json").write_bytes(b'{"start": "\xff"}\n')
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        DeepAR(**SETTINGS).fit(tmp_path)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["start", "target", "cat", "dynamic_feat"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("2024-01-01"),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
            max_leaves=8,
        ),
    )
)
def test_whatever_a_record_holds_it_is_taken_or_refused_in_words(record: dict[str, Any]) -> None:
    packer = Packer(Frequency.parse("D"))
    refused = ""
    try:
        packer.take(record, "here")
    except DataError as error:
        refused = str(error)
    assert refused.startswith("here: ") or len(packer.packed()) == 1


@pytest.mark.parametrize(
    ("likelihood", "value", "words"),
    [
        ("negative-binomial", -1, "negative-binomial takes whole numbers from 0 to 100000000"),
        ("negative-binomial", 1e9, "'target' holds 1e\\+09 at position 3"),
        ("negative-binomial", 2.5, "'target' holds 2.5 at position 3"),
        ("beta", 1.5, r"series 2: 'target' holds 1.5 at position 3; likelihood beta takes numbers in \[0, 1\]"),
    ],
)
def test_values_without_a_density_are_refused(likelihood: str, value: float, words: str) -> None:
    records = [{"start": "2024-01-01", "target": [0, 1] * 100} for _ in range(3)]
    records[1]["target"] = [0, 1, 0, value] + [0] * 100  # type: ignore[list-item]
    with pytest.raises(DataError, match=words):
        DeepAR(**{**SETTINGS, "likelihood": likelihood}).fit(records)


def test_an_error_names_the_line_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(lines(counts(3)))
    (tmp_path / "b.json").write_text("\n" + lines(counts(2)) + '\n{"start": "2024-01-01", "target": [1, -2]}\n')
    with pytest.raises(DataError, match=r"b\.json, line 5: 'target' holds -2 at position 1"):
        DeepAR(**{**SETTINGS, "likelihood": "negative-binomial"}).fit(tmp_path)
    (tmp_path / "b.json").write_text("\n" + lines(drawn(1)) + '\n{"start": "2024-02-31", "target": [1, -2]}\n')
    with pytest.raises(DataError, match=r"b\.json, line 4: 'start' is '2024-02-31'"):
        DeepAR(**{**SETTINGS, "cardinality": "ignore"}).fit(tmp_path)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"target": [1.0] * 40, "cat": [7]}, "series 1: 'cat' 0 is 7; the categories 0 to 1 are known"),
        ({"target": [1.0] * 11, "cat": [1]}, "holds no series of at least prediction_length 12 values"),
        ({"cat": [1]}, "series 1: the field 'target' is missing"),
    ],
)
def test_a_bad_test_channel_costs_no_training(record: dict[str, Any], words: str) -> None:
    run = RecordingRun()
    with pytest.raises(ValueError, match=words):
        DeepAR(**SETTINGS).fit(drawn(4), run=run, test=[{"start": "2024-01-01", **record}])
    assert not any("Epoch[0]" in line for line in run.lines)


def test_too_few_observations_are_refused() -> None:
    with pytest.raises(DataError, match=r"holds 240 observations .* needs 300"):
        DeepAR(**SETTINGS).fit([*drawn(2, 120), {**drawn(1, 11)[0]}])
    with pytest.raises(DataError, match="holds 0 observations"):
        DeepAR(**SETTINGS).fit([])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cardinality": [1]}, "series 2: 'cat' 0 is 1; the categories 0 to 0 are known"),
        ({"cardinality": [2, 2]}, "'cat' has 1 entries, expected 2"),
        ({"num_dynamic_feat": 1}, "'dynamic_feat' has 0 entries, expected 1"),
    ],
)
def test_what_the_hyperparameters_say_of_the_data_is_checked(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        DeepAR(**SETTINGS, **changed).fit(drawn(4))


@pytest.mark.parametrize("nothing", ["ignore", ""])
def test_categories_and_features_can_be_ignored(nothing: str) -> None:
    records = [{**record, "dynamic_feat": [[0.0] * (number + 1)]} for number, record in enumerate(drawn(4))]
    changed = {**SETTINGS, "epochs": 1, "cardinality": nothing, "num_dynamic_feat": nothing}
    model = DeepAR(**changed).fit(records)
    assert (model.cards_, model.width_) == ([], 0)
    assert model.predict(drawn(2)).shape == (2, 12)


def test_statistics_are_logged() -> None:
    run = RecordingRun()
    records = drawn(10, 100)
    records[0]["target"][5] = None
    records[1] |= {"start": "2024-01-01 00:30:00", "freq": "H", "item_id": "fields of others are let be"}
    records.append({"start": "2024-01-01", "target": [1.0] * 3, "cat": [1]})
    DeepAR(**{**SETTINGS, "epochs": 1}).fit(records, run=run)
    for line in (
        "Training set statistics:", "Real time series", "number of time series: 10", "number of observations: 999",
        "mean target length: 100.0", "contains missing values: yes",
        "[cardinality=auto] Inferred value of cardinality=[2] from dataset.",
        "[num_dynamic_feat=auto] Inferred value of num_dynamic_feat=0 from dataset.",
        "Small number of time series. Doing 128 passes over dataset with prob 1.00 per epoch.",
    ):  # fmt: skip
        assert line in run.lines, line
    assert any("1 series begin between two times of time_freq" in line for line in run.lines)
    assert any("1 series have fewer than prediction_length 12 values and are ignored" in line for line in run.lines)
    values = np.array([x for record in records[:10] for x in record["target"] if x is not None], np.float32)
    (found,) = (line for line in run.lines if line.startswith("min/mean/max target: "))
    told = [float(part) for part in found.partition(": ")[2].split("/")]
    assert told == pytest.approx([values.min(), values.mean(), values.max()], rel=1e-5)


def test_json_is_not_taken_for_python(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a list of records"):
        DeepAR(**SETTINGS).fit({"start": "2024-01-01", "target": [1.0]})
    with pytest.raises(ValueError, match="every series must be a record"):
        DeepAR(**SETTINGS).fit([[1.0, 2.0]])
    assert json.loads(lines(drawn(1)))["cat"] == [0]
