"""Series: what DeepAR learns from and is asked: time series in one packed array, with categories and features.

From JSON Lines, Parquet, JSON requests and lists of Python dicts, all through the same checks of one record.
"""

from __future__ import annotations

import datetime
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.deepar.frequency import Frequency
from sagesmith.formats.channel import Channel, HeldChannel
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError
from sagesmith.formats.format import Options, format_of
from sagesmith.formats.source import Source

FIELDS = ("start", "target", "cat", "dynamic_feat")
LINES, PARQUET = "application/jsonlines", "application/x-parquet"
LARGEST = 1e18  # of a value: float32 still holds its square
MOST_COUNTED = 100_000_000  # a count: beyond, draws would be cut off (draws_compiled.LARGEST_MEAN)
MOST_CATEGORIES = 10_000_000  # of one `cat`: their vectors fill a gigabyte
_DATE = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?$")
_ZONE = re.compile(r":[0-9.]+ *(Z|UTC|[+-][0-9]{2}:?[0-9]{2})$")
_SHOWN = 60
_TRUTHS = {bool, np.bool_}


@dataclass(frozen=True)
class Shape:
    """What all series of a model have in common; None: they have no such field."""

    cats: int | None
    features: int | None


@dataclass(frozen=True)
class Packed:
    """n series. `values` (N,) float32, NaN where missing, those of series i from `offsets[i]` to `offsets[i + 1]`.

    Attributes:
        ordinals: (n,) int64, when each begins (Frequency.ordinals).
        cats: (n, C) int64.
        features: (M, F) float32, those of series i from `places[i]` on: as many as its values, or, where a forecast is
            asked for, as many more as are forecast.
    """

    values: np.ndarray
    offsets: np.ndarray
    ordinals: np.ndarray
    cats: np.ndarray
    features: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.ordinals)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def some(self, chosen: np.ndarray) -> Packed:
        """The series of these numbers."""
        values, offsets = _taken(self.values, self.offsets[chosen], self.lengths[chosen])
        features, places = _taken(self.features, self.places[:-1][chosen], np.diff(self.places)[chosen])
        return Packed(values, offsets, self.ordinals[chosen], self.cats[chosen], features, places)

    def without_last(self, steps: int) -> tuple[Packed, np.ndarray]:
        """The series without their last `steps` values, which are the second result, (n, steps); features stay."""
        ends = self.offsets[1:]
        hidden = self.values[ends[:, None] - steps + np.arange(steps)]
        values, offsets = _taken(self.values, self.offsets[:-1], self.lengths - steps)
        return Packed(values, offsets, self.ordinals, self.cats, self.features, self.places), hidden


def _taken(source: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs of `source` one after the other, and where each begins there (one more: the end)."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], lengths)
    return source[places], offsets


def channel_over(name: str, value: Any) -> Channel:
    """A channel from what a Python caller passed: records, a path of files, or a Channel.

    Raises:
        ValueError: something else.
    """
    if isinstance(value, Channel):
        return value
    if isinstance(value, (str, Path)):
        return Channel.from_folder(name, Path(value), "json")
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise ValueError(f"{name}: expected a list of records with start and target, or a path, found {type(value)}")
    records = list(value)
    if not all(isinstance(record, Mapping) for record in records):
        raise ValueError(f'{name}: every series must be a record such as {{"start": "2024-01-01", "target": [1, 2]}}')
    return HeldChannel.over(name, [(record, f"series {number}") for number, record in enumerate(records, 1)])


# -- reading ---------------------------------------------------------------------------------------------------
def records_of(channel: Channel) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The records of a channel, each with its place for errors.

    A file's format is told by its extension, then by the channel's content type. Files whose names begin with `.` and
    those named `_SUCCESS` are passed over.

    Raises:
        DataError: naming the file and the line or record.
    """
    if isinstance(channel, HeldChannel):
        yield from channel.held
        return
    for path in channel.files():
        if path.name.startswith(".") or path.name == "_SUCCESS":
            continue
        kind = ContentType.parse(_kind(path.name, channel.content_type))
        yield from format_of(kind).records(Source.of_file(path), Options().of(kind))


def _kind(name: str, content_type: str) -> str:
    if name.endswith((".json", ".json.gz", ".jsonl", ".jsonl.gz")):
        return LINES
    if name.endswith(".parquet"):
        return PARQUET
    return PARQUET if "parquet" in content_type.lower() else LINES


class Packer:
    """Takes records, checks them against each other, and packs them.

    Args:
        cards: how many categories there are of each `cat`; None: as many `cat` as the first record has, of any size.
        features: how many `dynamic_feat` each record must have; None: what the first one has.
        ahead: by how many values the features outlast the target (`prediction_length` where a forecast is asked for).
        ignored: of "cat" and "dynamic_feat" those that are dropped.
        likelihood: what must have a density for every value; "" is content with any number.

    Attributes:
        between: how many series begin at a time that is finer than the frequency's unit, which is cut off.
    """

    def __init__(
        self,
        frequency: Frequency,
        cards: Sequence[int] | None = None,
        features: int | None = None,
        ahead: int = 0,
        ignored: Collection[str] = (),
        likelihood: str = "",
    ) -> None:
        self._frequency, self._ahead, self._ignored = frequency, ahead, ignored
        self._cards, self._likelihood = cards, likelihood
        self._wanted = {"cat": None if cards is None else len(cards), "dynamic_feat": features}
        self._starts: list[np.datetime64] = []
        self._targets: list[np.ndarray] = []
        self._cats: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        self._bounds = frequency.bounds()
        self.between = 0

    def take(self, record: Mapping[str, Any], place: str) -> None:
        """Raises DataError naming the place and the field."""
        for field in ("start", "target"):
            if record.get(field) is None:
                raise DataError(f"{place}: the field {field!r} is missing")
        self._check_frequency(record, place)
        start = _start(record["start"], place)
        self.between += self._frequency.between(start)
        target = _target(record["target"], place)
        _check_density(target, self._likelihood, place)
        self._check_dates(start, len(target), record["start"], place)
        cat = self._counted("cat", _cat(self._given(record, "cat"), place), place)
        self._check_known(cat, place)
        self._cats.append(cat)
        features = _features(self._given(record, "dynamic_feat"), len(target) + self._ahead, self._ahead, place)
        self._features.append(self._counted("dynamic_feat", features, place).T)
        self._starts.append(start)
        self._targets.append(target)

    def packed(self) -> Packed:
        starts = np.array(self._starts, "datetime64[m]")
        offsets = np.concatenate([[0], np.cumsum([len(target) for target in self._targets], dtype=np.int64)])
        places = np.concatenate([[0], np.cumsum([len(part) for part in self._features], dtype=np.int64)])
        cats = np.array(self._cats, np.int64).reshape(len(starts), -1 if self._cats and len(starts) else 0)
        features = np.concatenate(self._features) if self._features else np.empty((0, 0), np.float32)
        values = np.concatenate([np.empty(0, np.float32), *self._targets])
        return Packed(values, offsets, self._frequency.ordinals(starts), cats, features, places)

    def _given(self, record: Mapping[str, Any], field: str) -> Any:
        return None if field in self._ignored else record.get(field)

    def _counted(self, field: str, found: np.ndarray, place: str) -> np.ndarray:
        if self._wanted[field] is None:
            self._wanted[field] = len(found)
        if len(found) != self._wanted[field]:
            raise DataError(
                f"{place}: {field!r} has {len(found)} entries, expected {self._wanted[field]}: every series must have "
                "as many"
            )
        return found

    def _check_known(self, cat: np.ndarray, place: str) -> None:
        for number, (value, count) in enumerate(zip(cat, self._cards or (), strict=False)):
            if value >= count:
                raise DataError(f"{place}: 'cat' {number} is {value}; the categories 0 to {count - 1} are known")

    def _check_frequency(self, record: Mapping[str, Any], place: str) -> None:
        for field in ("freq", "time_freq"):  # no fields of DeepAR's, but a series that has one may not belong here
            try:
                other = Frequency.parse(str(record.get(field)))
            except ValueError:  # none, or another library's name
                continue
            if other != self._frequency:
                raise DataError(
                    f"{place}: {field!r} is {other}, but the hyperparameter time_freq is {self._frequency}: all series "
                    "of a model have one frequency"
                )

    def _check_dates(self, start: np.datetime64, length: int, given: Any, place: str) -> None:
        first = int(self._frequency.ordinals(np.array([start]))[0])
        last = first + (length + self._ahead) * self._frequency.step
        if last > self._bounds[1]:
            raise DataError(f"{place}: 'start' {_shown(given)} and {length} values lead beyond the year 9999")


def _start(value: Any, place: str) -> np.datetime64:
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            raise DataError(f"{place}: 'start' {value} has a time zone; it must have none")
        return np.datetime64(value, "m")
    if isinstance(value, datetime.date):
        return np.datetime64(value.isoformat(), "m")
    if isinstance(value, np.datetime64) and not np.isnat(value):
        return np.datetime64(str(value.astype("datetime64[m]")), "m")
    why = ""
    if isinstance(value, str) and _DATE.match(value.strip()):
        try:
            return np.datetime64(datetime.datetime.fromisoformat(value.strip()), "m")
        except ValueError as error:
            why = f" ({error})"
    elif isinstance(value, str) and _ZONE.search(value):
        why = " without a time zone"
    raise DataError(f"{place}: 'start' is {_shown(value)}, expected a date such as '2024-01-31 00:00:00'{why}")


def _target(value: Any, place: str) -> np.ndarray:
    numbers = _numbers(value, place, "target", missing=True)
    if (large := np.abs(numbers) > LARGEST).any():
        at = int(np.argmax(large))
        raise DataError(f"{place}: 'target' holds {value[at]!r:.{_SHOWN}} at position {at}; {LARGEST:g} is the most")
    return numbers


def _check_density(target: np.ndarray, likelihood: str, place: str) -> None:
    if likelihood not in ("negative-binomial", "beta"):
        return
    if likelihood == "negative-binomial":
        wrong = (target < 0) | (np.floor(target) < target) | (target > MOST_COUNTED)
        allowed = f"whole numbers from 0 to {MOST_COUNTED}"
    else:
        wrong, allowed = (target < 0) | (target > 1), "numbers in [0, 1]"
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(
            f"{place}: 'target' holds {target[at]:g} at position {at}; likelihood {likelihood} takes {allowed}"
        )


def _cat(value: Any, place: str) -> np.ndarray:
    if value is None:
        return np.empty(0, np.int64)
    found = np.asarray(value, object)
    if found.ndim != 1 or not all(_is_whole(entry) and entry >= 0 for entry in found):
        raise DataError(f"{place}: 'cat' is {_shown(value)}, expected a list of whole numbers from 0 on")
    if any(entry >= MOST_CATEGORIES for entry in found):
        raise DataError(f"{place}: 'cat' is {_shown(value)}: categories are below {MOST_CATEGORIES}")
    return found.astype(np.int64)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def _features(value: Any, length: int, ahead: int, place: str) -> np.ndarray:
    """(F, length) float32."""
    if value is None:
        return np.empty((0, length), np.float32)
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise DataError(f"{place}: 'dynamic_feat' is {_shown(value)}, expected a list of lists of numbers")
    rows = [_numbers(row, place, f"dynamic_feat[{number}]", missing=False) for number, row in enumerate(value)]
    for number, row in enumerate(rows):
        if len(row) != length:
            what = "the length of 'target'" + (f" and prediction_length {ahead} more" if ahead else "")
            raise DataError(f"{place}: 'dynamic_feat[{number}]' has {len(row)} values, expected {length}: {what}")
        if not (np.abs(row) <= LARGEST).all():
            raise DataError(f"{place}: 'dynamic_feat[{number}]' holds a value that is missing or beyond {LARGEST:g}")
    return np.array(rows, np.float32).reshape(len(rows), length)


def _numbers(value: Any, place: str, field: str, missing: bool) -> np.ndarray:
    """(n,) float32 of a list of numbers; null and "NaN" are NaN."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "fiu":
        return _narrowed(value)
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise DataError(f"{place}: {field!r} is {_shown(value)}, expected a list of numbers")
    try:  # a few times as fast as numpy, which asks every number for its type; true would be 1
        found = np.frombuffer(struct.pack(f"{len(value)}d", *value))
    except struct.error:
        found = None
    if found is None or (((found == 0) | (found == 1)).any() and not _TRUTHS.isdisjoint(map(type, value))):
        found = _checked(value, place, field, missing)
    return _narrowed(found)


def _checked(value: Any, place: str, field: str, missing: bool) -> np.ndarray:
    """(n,) float64: as `_numbers`, each entry by itself."""
    for at, entry in enumerate(value):
        absent = missing and (entry is None or (isinstance(entry, str) and entry.lower() == "nan"))
        if not absent and (type(entry) in _TRUTHS or not isinstance(entry, (Real, Decimal))):
            also = ', null or "NaN"' if missing else ""
            raise DataError(f"{place}: {field!r} holds {_shown(entry)} at position {at}, expected a number{also}")
    try:
        return np.array([np.nan if entry is None or isinstance(entry, str) else entry for entry in value], np.float64)
    except OverflowError:
        raise DataError(f"{place}: {field!r} holds a whole number that is too large") from None


def _narrowed(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
