"""Pairs: what Object2Vec learns from and is asked: two lists of token ids each, and a label.

The ids of each side lie in one array with the places where lists begin, so that cutting, shuffling and batching are
indexing, whatever the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np

from sagesmith.formats.errors import DataError

LARGEST_ID = (1 << 31) - 1
TOGETHER = 1024  # examples that a network is asked about at once,
TOKENS_TOGETHER = 1 << 14  # and tokens of either side, were all lists as long as the longest


@dataclass(frozen=True)
class Tokens:
    """n lists of token ids: `ids` (N,) int32 side by side, `starts` (n + 1,) int64 where each begins and all end."""

    ids: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    @classmethod
    def of(cls, lists: Sequence[Any]) -> Self:
        """Of lists or arrays of whole numbers that were checked already."""
        lengths = [len(one) for one in lists]
        flat = [np.asarray(one, np.int64) for one in lists]
        ids = np.concatenate(flat) if flat else np.empty(0, np.int64)
        return cls(ids.astype(np.int32), np.cumsum([0, *lengths], dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Tokens]) -> Tokens:
        """All parts one after the other; no parts give no lists."""
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
        return cls(np.concatenate([np.empty(0, np.int32), *(part.ids for part in parts)]), np.cumsum(lengths))

    def rows(self, index: np.ndarray) -> Tokens:
        """The lists of these numbers, in their order."""
        return self._taken(self.starts[index], self.starts[index + 1] - self.starts[index])

    def cut(self, longest: int) -> Tokens:
        """Each list's first `longest` ids."""
        lengths = self.lengths
        if not len(lengths) or lengths.max() <= longest:
            return self
        return self._taken(self.starts[:-1], np.minimum(lengths, longest))

    def _taken(self, begins: np.ndarray, lengths: np.ndarray) -> Tokens:
        starts = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        places = np.arange(starts[-1]) + np.repeat(begins - starts[:-1], lengths)
        return Tokens(self.ids[places], starts)


@dataclass(frozen=True)
class Pairs:
    """n examples: either side may be absent (a request for embeddings), and `label` (n,) float64 too."""

    in0: Tokens | None
    in1: Tokens | None
    label: np.ndarray | None = None

    def __len__(self) -> int:
        side = self.in0 if self.in0 is not None else self.in1
        return 0 if side is None else len(side)

    @property
    def sides(self) -> tuple[Tokens, Tokens]:
        """Both sides, where it is known that both are there."""
        assert self.in0 is not None
        assert self.in1 is not None
        return self.in0, self.in1

    def cut(self, longest: tuple[int, int]) -> Pairs:
        """Each side's lists cut to its greatest length."""
        in0 = None if self.in0 is None else self.in0.cut(longest[0])
        in1 = None if self.in1 is None else self.in1.cut(longest[1])
        return Pairs(in0, in1, self.label)

    def rows(self, index: np.ndarray) -> Pairs:
        """The examples of these numbers, in their order."""
        in0 = None if self.in0 is None else self.in0.rows(index)
        in1 = None if self.in1 is None else self.in1.rows(index)
        return Pairs(in0, in1, None if self.label is None else self.label[index])

    def parts(self, size: int = TOGETHER) -> Iterator[Pairs]:
        """The examples in order, at most `size` at a time: fewer of long lists, so that memory stays bounded."""
        sides = [side.lengths for side in (self.in0, self.in1) if side is not None]
        longest = np.maximum.reduce(sides)
        at = 0
        while at < len(self):
            padded = np.maximum.accumulate(longest[at : at + size])
            padded = padded * np.arange(1, len(padded) + 1)
            end = at + max(1, int(np.searchsorted(padded, TOKENS_TOGETHER, side="right")))
            yield self.rows(np.arange(at, end))
            at = end

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """All parts one after the other; they must have the same sides, and labels or not."""
        if not parts:
            return cls(Tokens.of([]), Tokens.of([]), np.empty(0))
        in0 = [part.in0 for part in parts if part.in0 is not None]
        in1 = [part.in1 for part in parts if part.in1 is not None]
        label = [part.label for part in parts if part.label is not None]
        return cls(
            Tokens.joined(in0) if in0 else None,
            Tokens.joined(in1) if in1 else None,
            np.concatenate(label) if label else None,
        )


def of_python(X: Any, y: Any = None) -> Pairs:
    """Pairs of what a Python caller holds: rows of (in0, in1), each a list of token ids or a single id.

    Args:
        X: a sequence of pairs, or an (n, 2) array or frame of single ids.
        y: (n,) labels; None: none.

    Raises:
        ValueError: another shape, no rows, ids that are no whole numbers of 0 or more, or lengths that differ.
    """
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.dtype.kind in "iu":
        if X.ndim != 2 or X.shape[1] != 2:
            raise ValueError(f"an array of shape {X.shape}; rows of two are needed: in0 and in1")
        sides = [_single(X[:, side], f"in{side}") for side in (0, 1)]
    else:
        rows = list(X)
        for number, row in enumerate(rows):
            if not hasattr(row, "__len__") or isinstance(row, str) or len(row) != 2:
                raise ValueError(f"row {number}: not a pair of in0 and in1, lists of token ids")
        sides = [of_lists([row[side] for row in rows], f"in{side}") for side in (0, 1)]
    if not len(sides[0]):
        raise ValueError("no pairs; a minimum of 1 is required by Object2Vec")
    label = None if y is None else np.asarray(y, dtype=np.float64).reshape(-1)
    if label is not None and len(label) != len(sides[0]):
        raise ValueError(f"{len(sides[0])} pairs, but {len(label)} labels")
    if label is not None and not np.isfinite(label).all():
        bad = int(np.argmin(np.isfinite(label)))
        raise ValueError(f"row {bad}: the label is {label[bad]}; it must be a finite number")
    return Pairs(sides[0], sides[1], label)


def of_lists(lists: Sequence[Any], side: str) -> Tokens:
    """Tokens of lists of ids, or of single ids.

    Raises:
        ValueError: an empty list, or something that is no whole number of 0 or more, naming row and side.
    """
    plain = _plain(lists)
    return plain or Tokens.of([checked(one, f"row {number}", side) for number, one in enumerate(lists)])


def _plain(lists: Sequence[Any]) -> Tokens | None:
    """Tokens of lists of Python's own integers, looked at all at once; None where a closer look is needed."""
    if set(map(type, lists)) != {list}:
        return None
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    flat = list(chain.from_iterable(lists))
    if not lengths.all() or set(map(type, flat)) != {int} or not 0 <= min(flat) <= max(flat) <= LARGEST_ID:
        return None
    return Tokens(np.array(flat, np.int32), np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))


def checked(value: Any, place: str, side: str) -> np.ndarray:
    """The token ids of one example as an array.

    Raises:
        DataError: naming the place and the side.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple | np.ndarray):
        raise DataError(f"{place}: {side} {str(value)[:60]!r} is not a list of token ids")
    if not len(value):
        raise DataError(f"{place}: {side} is an empty list; at least one token id is needed")
    for one in value:
        if isinstance(one, bool) or not isinstance(one, int | np.integer) or not 0 <= one <= LARGEST_ID:
            raise DataError(f"{place}: {side} holds {str(one)[:60]!r}; token ids are whole numbers of 0 or more")
    return np.asarray(value, np.int64)


def _single(column: np.ndarray, side: str) -> Tokens:
    if len(column) and not 0 <= column.min() <= column.max() <= LARGEST_ID:
        raise ValueError(f"{side} holds {column.min()}..{column.max()}; token ids are whole numbers of 0 or more")
    return Tokens(column.astype(np.int32), np.arange(len(column) + 1, dtype=np.int64))


def check_vocabulary(pairs: Pairs, sizes: tuple[int, int]) -> None:
    """Raises DataError, in SageMaker's words, for an id that is not in the vocabulary of its encoder."""
    for side, tokens, size in (("in0", pairs.in0, sizes[0]), ("in1", pairs.in1, sizes[1])):
        if tokens is not None and len(tokens.ids) and tokens.ids.max() >= size:
            bad = tokens.ids[np.argmax(tokens.ids >= size)]
            raise DataError(f'Inconsistent vocab for {side} found. Vocab id "{bad}" is not less than vocab_size={size}')


def check_labels(pairs: Pairs, classes: int | None) -> None:
    """Raises DataError for a label that is not one of the classes 0 to `classes` - 1; without classes, no float32."""
    label = pairs.label
    assert label is not None
    if classes is None:
        beyond = abs(label) > np.finfo(np.float32).max
        if beyond.any():
            raise DataError(f"label {label[beyond][0]:g} is beyond float32, which a network calculates in")
        return
    wrong = (label < 0) | (label >= classes) | (label % 1 != 0)
    if wrong.any():
        raise DataError(
            f"label {label[wrong][0]:g} is not one of the classes 0 to {classes - 1}, as num_classes is {classes}; "
            "output_layer mean_squared_error takes any number"
        )


def check_rows(pairs: Pairs, check: Callable[[Pairs], None], place: Callable[[int], str]) -> None:
    """Raises what `check` raises, with the place of the first row that it refuses behind it, like `(a.jsonl, line 7)`.

    Args:
        check: looks at each row for itself.
        place: where a row, counted from 0, stands.
    """

    def refusal(part: Pairs) -> str:
        try:
            check(part)
        except DataError as error:
            return str(error)
        return ""

    reason, low, high = refusal(pairs), 0, len(pairs)
    if not reason:
        return
    while high - low > 1:  # rows before `low` pass, one of those before `high` does not
        middle = (low + high) // 2
        earlier = refusal(pairs.rows(np.arange(low, middle)))
        low, high, reason = (low, middle, earlier) if earlier else (middle, high, reason)
    raise DataError(f"{reason} ({place(low)})")
