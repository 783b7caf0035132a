"""RecordIO-protobuf: rows as framed Records, dense or sparse, in float32, float64 or int32.

Three readers give the same rows. Frames that differ only in their numbers are a matrix with a stride, which numpy
copies (`_strided`). Others go to compiled code, and what that declines, or small bodies, to `protobuf.decode`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sagesmith.formats.batch import Batch, csr, join
from sagesmith.formats.compiled import worthwhile
from sagesmith.formats.errors import DataError
from sagesmith.formats.format import Format, Options
from sagesmith.formats.frames import HEADER, frames, payload_bytes
from sagesmith.formats.numbers import float32
from sagesmith.formats.protobuf import Record, Value, decode, encode, named
from sagesmith.formats.source import Source

PIECE_BYTES = 2 << 20
WORTH_LOADING = 4 << 20  # bytes that `decode` reads in the time that numba takes to import
TRIAL_ROWS = 16  # rows that must look alike before all are compared
LARGEST_WIDTH = 2**31 - 1


@dataclass(frozen=True)
class Layout:
    """What all rows of a file have in common, from its first."""

    sparse: bool
    width: int
    label_width: int


class RecordIO(Format):
    """`application/x-recordio-protobuf`: `features["values"]`, and `label["values"]` where there is one."""

    content_types = (
        "application/x-recordio-protobuf",
        "recordio-protobuf",
        "application/x-recordio",
        "x-recordio-protobuf",
        "protobuf",
        "application/x-labeled-vector-protobuf",
    )

    def batches(self, source: Source, options: Options) -> Iterator[Batch]:
        with source.open() as stream:
            reader = _Reader(source, options)
            data, used = b"", 0
            while True:
                rest = data[used:]
                block = stream.read(max(PIECE_BYTES, len(rest)))  # grows for a long frame as its bytes really arrive
                data, used = rest + block, 0
                if not data:
                    return
                for batch, used in reader.read(data, last=not block):  # noqa: B007
                    yield batch
                if not block:
                    return

    def records(self, source: Source, options: Options) -> Iterator[tuple[dict[str, Any], str]]:
        """Whole records as {"features": {name: Value}, "label": …, "uid": …, "metadata": …, "configuration": …}."""
        with source.open() as stream:
            for number, payload in enumerate(frames(stream, source.name), 1):
                place = f"{source.name}, record {number}"
                yield vars(_decoded(payload, place)), place


class _Reader:
    """Reads the pieces of one source; remembers the layout and counts the records."""

    def __init__(self, source: Source, options: Options) -> None:
        self.name = source.name
        self.width = options.width
        self.layout: Layout | None = None
        self.record = 1
        self.compile_it = worthwhile(source.size() or 0, WORTH_LOADING)

    def read(self, data: bytes, last: bool) -> Iterator[tuple[Batch, int]]:
        """The batches in a piece, each with where the frame after it begins."""
        at = 0
        strided = True
        while at < len(data):
            if not self._whole(data, at):
                if not last:
                    return
                data = self._padded(data, at)
            if strided and (batch := self._strided(data, at)) is not None:
                at += len(batch) * self._frame_bytes(data, at)
            else:
                strided = False
                batch, at = self._general(data, at)
            self.record += len(batch)
            yield batch, at

    def _whole(self, data: bytes, at: int, ahead: int = 0) -> bool:
        return len(data) - at >= HEADER.size and len(data) - at >= self._frame_bytes(data, at, ahead)

    def _frame_bytes(self, data: bytes, at: int, ahead: int = 0) -> int:
        length = payload_bytes(data, at, self._where(ahead))
        return HEADER.size + length + -length % 4

    def _padded(self, data: bytes, at: int) -> bytes:
        """The last piece with the padding that some writers leave off its last frame."""
        length = payload_bytes(data, at, self._where())
        held = len(data) - at - HEADER.size
        if held < length:
            raise DataError(f"{self._where()}: truncated: {held} of {length} bytes")
        return data + bytes(length + -length % 4 - held)

    def _where(self, ahead: int = 0) -> str:
        return f"{self.name}, record {self.record + ahead}"

    def _strided(self, data: bytes, at: int) -> Batch | None:
        """The frames from `at` on that are alike but for dense float32 numbers; None when the first two are not."""
        size = self._frame_bytes(data, at)
        rows = (len(data) - at) // size
        if rows < 2:
            return None
        length = payload_bytes(data, at, self._where())
        record = _decoded(data[at + HEADER.size : at + HEADER.size + length], self._where())
        end = _dense_end(record, data[at + HEADER.size : at + HEADER.size + length])
        if end is None:
            return None
        row = self._checked(record, self._where())
        width, label_width = row.width, 0 if row.label is None else row.label.size
        start = HEADER.size + end - 4 * width
        label_start = HEADER.size + length - 4 * label_width
        fixed = [(0, start), (start + 4 * width, label_start), (label_start + 4 * label_width, size)]
        table = np.ndarray((rows, size), np.uint8, data, at)
        if _alike(table[:TRIAL_ROWS], fixed) < min(rows, TRIAL_ROWS):
            return None
        rows = _alike(table, fixed)
        features = np.ndarray((rows, width), "<f4", data, at + start, (size, 4)).astype(np.float32, order="C")
        label = None
        if label_width:
            label = np.ndarray((rows, label_width), "<f4", data, at + label_start, (size, 4)).astype(np.float32)
        return Batch(features, label[:, 0] if label_width == 1 and label is not None else label)

    def _general(self, data: bytes, at: int) -> tuple[Batch, int]:
        """At least one row from `at`, where there is a whole frame."""
        if self.layout is None or not (self.compile_it or worthwhile(len(data) - at, WORTH_LOADING)):
            return self._plain(data, at)
        batch, end = _compiled(data, at, self.layout)
        return (batch, end) if batch is not None else self._plain(data, at, 1)

    def _plain(self, data: bytes, at: int, most: int = 4096) -> tuple[Batch, int]:
        """Rows by the reference decoder: one after another, as long as they are of one kind."""
        rows: list[Batch] = []
        while len(rows) < most and at < len(data) and self._whole(data, at, len(rows)):
            where = self._where(len(rows))
            length = payload_bytes(data, at, where)
            size = HEADER.size + length + -length % 4
            rows.append(self._checked(_decoded(data[at + HEADER.size : at + HEADER.size + length], where), where))
            at += size
            if self.layout is not None and self.compile_it and len(rows) == 1:
                break
        return _stacked(rows), at

    def _checked(self, record: Record, where: str) -> Batch:
        """A batch of one row that fits the layout; the first row makes it."""
        row = _row(record, where)
        label_width = 0 if row.label is None else row.label.size
        if self.width is not None and row.width != self.width:
            raise DataError(f"{where}: {row.width} features, expected {self.width}")
        if self.layout is None:
            self.layout = Layout(row.is_sparse, row.width, label_width)
        if row.width != self.layout.width:
            raise DataError(f"{where}: {row.width} features, but record 1 has {self.layout.width}")
        if label_width != self.layout.label_width:
            raise DataError(f"{where}: {label_width} label values, but record 1 has {self.layout.label_width}")
        return row


def _decoded(payload: bytes, where: str) -> Record:
    try:
        return decode(payload)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _dense_end(record: Record, payload: bytes) -> int | None:
    """Where the features' numbers end, if the record is written plainly: they and the label's end their entries."""
    features, label = record.features.get("values"), record.label.get("values")
    if features is None or features.kind != "float32" or features.keys is not None or features.shape is not None:
        return None
    if label is not None and (label.kind != "float32" or label.keys is not None or label.shape is not None):
        return None
    if encode(Record({"values": features}, {} if label is None else {"values": label})) != payload:
        return None
    return len(encode(Record({"values": features})))


def _alike(table: np.ndarray, fixed: list[tuple[int, int]]) -> int:
    """How many rows from the first on have its bytes in the `fixed` columns."""
    count = len(table)
    for start, stop in fixed:
        if start < stop:
            same = (table[:count, start:stop] == table[0, start:stop]).all(axis=1)
            if not same.all():
                count = int(same.argmin())
    return count


def _row(record: Record, where: str) -> Batch:
    try:
        features = named(record.features, "features")
        label = named(record.label, "label")
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if features is None:
        raise DataError(f"{where}: has no features")
    if label is None or (label.kind != "bytes" and not len(label.values)):
        numbers = None
    elif label.kind == "bytes" or label.keys is not None:
        raise DataError(f"{where}: label is not a dense tensor")
    else:
        numbers = float32(label.values)
    return Batch(_features(features, where), numbers)


def _features(value: Value, where: str) -> Any:
    if value.kind == "bytes":
        raise DataError(f"{where}: features are bytes, not numbers")
    if value.shape is not None and len(value.shape) != 1:
        raise DataError(f"{where}: shape {value.shape.tolist()} is not one number of columns")
    shape = None if value.shape is None else int(value.shape[0])
    if value.keys is None and len(value.values):
        if shape not in (None, len(value.values)):
            raise DataError(f"{where}: {len(value.values)} values, but shape {shape} and no keys")
        return float32(value.values)[None, :]
    if shape is None:
        raise DataError(f"{where}: " + ("keys without a shape" if value.keys is not None else "has no values"))
    if not 0 < shape <= LARGEST_WIDTH:
        raise DataError(f"{where}: shape {shape} is not between 1 and {LARGEST_WIDTH}")
    return _sparse_row(value, shape, where)


def _sparse_row(value: Value, shape: int, where: str) -> Any:
    keys = np.empty(0, np.uint64) if value.keys is None else value.keys
    if len(keys) != len(value.values):
        raise DataError(f"{where}: {len(keys)} keys, but {len(value.values)} values")
    values = float32(value.values)
    if len(keys):
        if int(keys.max()) >= shape:
            raise DataError(f"{where}: key {int(keys.max())} is not below shape {shape}")
        if (keys[1:] <= keys[:-1]).any():
            order = np.argsort(keys, kind="stable")
            keys, values = keys[order], values[order]
            if (keys[1:] == keys[:-1]).any():
                raise DataError(f"{where}: key {int(keys[1:][keys[1:] == keys[:-1]][0])} stands twice")
    return csr(values, keys.astype(np.int32), np.array([0, len(keys)], np.int32), shape)


def _stacked(rows: list[Batch]) -> Batch:
    """Rows below each other; like `join`, but made for batches of one row."""
    label = None if rows[0].label is None else np.stack([row.label for row in rows])  # type: ignore[misc]
    if label is not None and label.shape[1] == 1:
        label = label[:, 0]
    if not any(row.is_sparse for row in rows):
        return Batch(np.concatenate([row.features for row in rows]), label)
    return Batch(join([Batch(row.features) for row in rows]).features, label)


def _compiled(data: bytes, at: int, layout: Layout) -> tuple[Batch | None, int]:
    """As many rows as the compiled reader takes, and where the next frame begins."""
    from sagesmith.formats.recordio_compiled import parse

    size = len(data) - at
    most = size // (8 if layout.sparse else 8 + layout.width) + 1
    values = np.empty(size // 2 + 1 if layout.sparse else most * layout.width, np.float32)
    keys = np.empty(len(values) if layout.sparse else 1, np.int32)
    starts = np.zeros(most + 1, np.int32)
    labels = np.empty(most * max(1, layout.label_width), np.float32)
    table = np.frombuffer(data, np.uint8)
    _, rows, end = parse(table, at, layout.sparse, layout.width, layout.label_width, values, keys, starts, labels)
    if rows == 0:
        return None, at
    count = int(starts[rows])
    features: Any
    label = labels[: rows * layout.label_width].reshape(rows, layout.label_width) if layout.label_width else None
    if label is not None and layout.label_width == 1:
        label = label[:, 0]
    if layout.sparse:
        features = csr(values[:count].copy(), keys[:count].copy(), starts[: rows + 1], layout.width)
    else:
        features = values[:count].reshape(rows, layout.width)
    return Batch(features, label), end
