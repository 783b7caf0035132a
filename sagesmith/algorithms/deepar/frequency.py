"""Frequency: what `time_freq` stands for: the length of a step, lags to earlier seasons, the calendar.

Times are ordinals: whole minutes, hours, days or months since 1970, by NumPy's dates; a week is seven days. Lags are
GluonTS's: one to seven steps, and the same moment in earlier hours, days, weeks, months or years, with its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

LONGEST_LAG = 1200
NEAREST = tuple(range(1, 8))
FIRST_YEAR, LAST_YEAR = 1, 9999
_PATTERN = re.compile(r"^([0-9]*)(M|W|D|H|min)$")
_UNITS = {"min": "m", "H": "h", "D": "D", "W": "D", "M": "M"}  # NumPy's names for what ordinals count
_PER_DAY = {"min": 1440, "H": 24}
_MINUTE, _HOUR, _DAY, _WEEK = 1, 60, 60 * 24, 60 * 24 * 7


@dataclass(frozen=True)
class Frequency:
    """`count` times a `unit`: `5min`, `H`, `2W`."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Frequency:
        """Raises ValueError, saying what is allowed."""
        match = _PATTERN.match(text.strip())
        if not match or (match[1] and not 0 < int(match[1]) < 1_000_000):
            raise ValueError("M, W, D, H or min, with a whole number in front of it or none (5min, H, 2W)")
        return cls(int(match[1] or 1), match[2])

    def __str__(self) -> str:
        return f"{self.count if self.count > 1 else ''}{self.unit}"

    @property
    def step(self) -> int:
        """Ordinals from one observation to the next."""
        return self.count * (7 if self.unit == "W" else 1)

    def lags(self) -> tuple[int, ...]:
        """How many steps back the network looks, ascending."""
        seasonal = {lag for lag in self._seasonal() if NEAREST[-1] < lag <= LONGEST_LAG}
        return (*NEAREST, *sorted(seasonal))

    def _seasonal(self) -> Iterator[int]:
        if self.unit == "M":
            yield from self._around((12, 24, 36), 1)
            return
        own = {"min": _MINUTE, "H": _HOUR, "D": _DAY, "W": _WEEK}[self.unit]
        if self.unit == "min":
            yield from self._around((60, 120, 180), 2)
        if self.unit in ("min", "H"):
            yield from self._around([k * _DAY // own for k in range(1, 8)], 1)
        if self.unit in ("min", "H", "D"):
            yield from self._around([k * _WEEK // own for k in range(1, 5)] + [30 * _DAY // own], 1)
        weeks = _WEEK // own
        yield from self._around([52 * k * weeks for k in (1, 2, 3)], 1)
        yield from self._around([k * weeks for k in (4, 8, 12)], 0)

    def _around(self, distances: list[int] | tuple[int, ...], near: int) -> Iterator[int]:
        for distance in distances:
            yield from range(distance // self.count - near, distance // self.count + near + 1)

    # -- times -------------------------------------------------------------------------------------------------
    def ordinals(self, starts: np.ndarray) -> np.ndarray:
        """Ordinals (n,) int64 of datetime64 values; what is finer than the unit is cut off."""
        return np.asarray(starts.astype(f"datetime64[{_UNITS[self.unit]}]").astype(np.int64))

    def between(self, start: np.datetime64) -> bool:
        """Whether a time has a part that is finer than the unit."""
        return bool(start != start.astype(f"datetime64[{_UNITS[self.unit]}]"))

    def bounds(self) -> tuple[int, int]:
        """The first and the last ordinal that may occur, those of the years 1 and 9999."""
        ends = np.array([f"{FIRST_YEAR:04d}-01-01", f"{LAST_YEAR}-12-31"], "datetime64[m]")
        first, last = self.ordinals(ends)
        return int(first), int(last)

    def times(self, ordinals: np.ndarray) -> np.ndarray:
        """datetime64 values of ordinals."""
        return ordinals.astype(f"datetime64[{_UNITS[self.unit]}]")

    def calendar(self, first: int, last: int) -> Calendar:
        """The calendar for the ordinals from `first` to `last`."""
        per_day = _PER_DAY.get(self.unit, 1)
        low, high = first // per_day, last // per_day
        if self.unit == "M":
            months = np.arange(low, high + 1) % 12
            return Calendar(1, low, np.zeros((1, 0), np.float32), _scaled(months[:, None], (11,)))
        within = np.arange(per_day)
        fine = _scaled(within[:, None][:, : per_day > 1], (23,))
        if self.unit == "min":
            fine = _scaled(np.column_stack([within % 60, within // 60]), (59, 23))
        return Calendar(per_day, low, fine, self._days(np.arange(low, high + 1)))

    def _days(self, ordinals: np.ndarray) -> np.ndarray:
        days = ordinals.astype("datetime64[D]")
        of_month = (days - days.astype("datetime64[M]")).astype(np.int64)
        of_year = (days - days.astype("datetime64[Y]")).astype(np.int64)
        of_week = (ordinals + 3) % 7  # 1970 began on a Thursday; Monday is 0
        if self.unit == "W":
            return _scaled(np.column_stack([of_month, _iso_week(days) - 1]), (30, 52))
        return _scaled(np.column_stack([of_week, of_month, of_year]), (6, 30, 365))


@dataclass(frozen=True)
class Calendar:
    """Features of a moment, scaled to [-0.5, 0.5]: those of the time of day, then those of the day.

    Of ordinal o: `fine[o mod per_day]` and `coarse[o // per_day - first]`.
    """

    per_day: int
    first: int
    fine: np.ndarray
    coarse: np.ndarray

    @property
    def width(self) -> int:
        return int(self.fine.shape[1] + self.coarse.shape[1])

    def features(self, ordinals: np.ndarray) -> np.ndarray:
        """(n, width) float32."""
        days = ordinals // self.per_day
        return np.hstack([self.fine[ordinals - days * self.per_day], self.coarse[days - self.first]])


def _scaled(values: Any, largest: tuple[int, ...]) -> np.ndarray:
    scaled: np.ndarray = (values / np.asarray(largest[: values.shape[1]], float) - 0.5).astype(np.float32)
    return scaled


def _iso_week(days: np.ndarray) -> np.ndarray:
    """ISO 8601's week of the year, 1 to 53: that of the Thursday beside it."""
    monday_based = (days.astype(np.int64) + 3) % 7
    thursday = days + (3 - monday_based)
    return np.asarray((thursday - thursday.astype("datetime64[Y]")).astype(np.int64) // 7 + 1)
