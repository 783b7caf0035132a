"""sentences: token ids of many sentences end to end in one array, and pairs of source and target in RecordIO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from sagesmith.algorithms.seq2seq.vocabulary import PAD, Vocabulary
from sagesmith.formats.channel import Channel, HeldChannel
from sagesmith.formats.compiled import worthwhile
from sagesmith.formats.errors import DataError
from sagesmith.formats.frames import frame, frames
from sagesmith.formats.protobuf import Record, Value, decode, encode
from sagesmith.formats.source import Source

WORTH_LOADING = 1 << 20  # bytes that `decode` reads in the time that numba takes to import


@dataclass(frozen=True)
class Sentences:
    """n sentences: `ids` int32 end to end, sentence k from `starts[k]` to `starts[k + 1]`, (n + 1,) int64."""

    ids: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, sentences: Sequence[Any]) -> Self:
        """Of lists or arrays of ids."""
        starts = np.zeros(len(sentences) + 1, np.int64)
        np.cumsum([len(sentence) for sentence in sentences], out=starts[1:])
        parts = [np.asarray(sentence, np.int32).reshape(-1) for sentence in sentences]
        return cls(np.concatenate([np.empty(0, np.int32), *parts]), starts)

    @classmethod
    def joined(cls, parts: Sequence[Sentences]) -> Self:
        ids = np.concatenate([np.empty(0, np.int32), *(part.ids for part in parts)])
        lengths = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])
        return cls(ids, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        return self.ids[self.starts[number] : self.starts[number + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def rows(self, index: np.ndarray) -> Sentences:
        """Some of the sentences, in the order of `index`."""
        lengths = self.lengths[index]
        return Sentences(self.ids[self._places(index, lengths)], np.concatenate([[0], np.cumsum(lengths)]))

    def cut(self, most: int) -> Sentences:
        """Each sentence's first `most` tokens."""
        lengths = np.minimum(self.lengths, most)
        index = np.arange(len(self))
        return Sentences(self.ids[self._places(index, lengths)], np.concatenate([[0], np.cumsum(lengths)]))

    def padded(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids (b, longest) int64, padded behind, and lengths (b,) int64."""
        lengths = self.lengths[index]
        table = np.full((len(index), max(1, int(lengths.max(initial=0)))), PAD, np.int64)
        table[np.arange(table.shape[1]) < lengths[:, None]] = self.ids[self._places(index, lengths)]
        return table, lengths

    def _places(self, index: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where in `ids` the first `lengths` tokens of the sentences stand."""
        ends = np.cumsum(lengths)
        places: np.ndarray = np.arange(int(lengths.sum())) + np.repeat(self.starts[index] - (ends - lengths), lengths)
        return places


@dataclass(frozen=True)
class Pairs:
    """n sentences and their counterparts."""

    source: Sentences
    target: Sentences

    def __len__(self) -> int:
        return len(self.source)

    def usable(self, longest_source: int, longest_target: int) -> Pairs:
        """The pairs with tokens on both sides, longer sentences cut."""
        kept = np.flatnonzero((self.source.lengths > 0) & (self.target.lengths > 0))
        source, target = (side if len(kept) == len(self) else side.rows(kept) for side in (self.source, self.target))
        return Pairs(source.cut(longest_source), target.cut(longest_target))


def read_pairs(channel: Channel, source: Vocabulary, target: Vocabulary) -> Pairs:
    """All pairs of a channel of RecordIO; files that begin with `.` or `_` are passed over.

    Raises:
        DataError: naming the file and the record: not two int32 tensors, or ids that the vocabularies do not have.
    """
    if isinstance(channel, HeldChannel):
        pairs: Pairs = channel.held
        _check_ids(pairs, f"channel {channel.name!r}", source, target)
        return pairs
    parts = []
    for path in channel.files():
        if not path.name.startswith((".", "_")):
            part = _read_file(path)
            _check_ids(part, str(path), source, target)
            parts.append(part)
    return Pairs(Sentences.joined([p.source for p in parts]), Sentences.joined([p.target for p in parts]))


def _check_ids(pairs: Pairs, where: str, source: Vocabulary, target: Vocabulary) -> None:
    for side, sentences, words in (("source", pairs.source, len(source)), ("target", pairs.target, len(target))):
        wrong = (sentences.ids <= PAD) | (sentences.ids >= words)
        if wrong.any():
            at = int(np.argmax(wrong))
            record = int(np.searchsorted(sentences.starts, at, "right"))
            meaning = ", which is <pad>'s" if sentences.ids[at] == PAD else ""
            raise DataError(
                f"{where}, record {record}: {side} holds the id {sentences.ids[at]}{meaning}; the vocabulary has 1 to "
                f"{words - 1}"
            )


def _read_file(path: Path) -> Pairs:
    source = Source.of_file(path)
    with source.open() as stream:
        if worthwhile(path.stat().st_size, WORTH_LOADING):
            found = _read_compiled(stream.read())
            if found is not None:
                return found
            with source.open() as again:
                return _read_plain(frames(again, source.name), source.name)
        return _read_plain(frames(stream, source.name), source.name)


def _read_compiled(data: bytes) -> Pairs | None:
    """The pairs of a whole file; None where the compiled reader meets what it does not know."""
    from sagesmith.algorithms.seq2seq.records_compiled import count, fill

    table = np.frombuffer(data, np.uint8)
    records, source_ids, target_ids = count(table)
    if records < 0:
        return None
    ids = [np.empty(source_ids, np.int32), np.empty(target_ids, np.int32)]
    starts = [np.zeros(records + 1, np.int64) for _ in ids]
    fill(table, ids[0], starts[0], ids[1], starts[1])
    return Pairs(Sentences(ids[0], starts[0]), Sentences(ids[1], starts[1]))


def _read_plain(payloads: Iterable[bytes], name: str) -> Pairs:
    """By the reference decoder, which words the errors."""
    sides: dict[str, list[np.ndarray]] = {"source": [], "target": []}
    for number, payload in enumerate(payloads, 1):
        where = f"{name}, record {number}"
        record = decoded(payload, where)
        for side, sentences in sides.items():
            sentences.append(ids_of(record, side, where))
    return Pairs(Sentences.of(sides["source"]), Sentences.of(sides["target"]))


def decoded(payload: bytes, where: str) -> Record:
    """
    Raises:
        DataError: not a Record, naming it.
    """
    try:
        return decode(payload)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def ids_of(record: Record, side: str, where: str) -> np.ndarray:
    """The ids of one side of a record.

    Raises:
        DataError: no dense int32 tensor of that name.
    """
    if side not in record.features:
        names = ", ".join(map(repr, record.features)) or "nothing"
        raise DataError(f"{where}: features has no entry {side!r}, only {names}")
    value = record.features[side]
    if value.kind != "int32" or value.keys is not None:
        kind = value.kind if value.keys is None else f"sparse {value.kind}"
        raise DataError(f"{where}: {side} is a tensor of {kind}, it must be dense int32")
    return value.values


def written(pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Iterable[bytes]:
    """The frames of a RecordIO file, byte for byte as SageMaker's sample writes them."""
    for source, target in pairs:
        sides = (("source", source), ("target", target))
        features = {side: Value("int32", np.asarray(ids, np.int32)) for side, ids in sides}
        yield frame(encode(Record(features)))
