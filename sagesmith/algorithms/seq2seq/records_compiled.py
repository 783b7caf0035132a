"""records_compiled: RecordIO files of pairs to arrays, compiled. It gives up at whatever it does not know.

It knows frames whose payload is a Record with features["source"] and features["target"], each once, in any order, as
packed int32 tensors without keys; other fields and names are left to the reference decoder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.formats.compiled import compiled
from sagesmith.formats.recordio_compiled import length_at

NOT_MINE = -1
SOURCE_KEY = np.frombuffer(b"\x0a\x06source\x12", np.uint8)  # how an entry begins, up to its value's length
TARGET_KEY = np.frombuffer(b"\x0a\x06target\x12", np.uint8)
MAGIC = np.frombuffer(b"\x0a\x23\xd7\xce", np.uint8)
INT32 = 0x3A  # tag of Value.int32_tensor


@compiled
def _begins(data: np.ndarray, at: int, stop: int, with_: np.ndarray) -> Any:
    if stop - at < len(with_):
        return False
    same = True
    for k in range(len(with_)):
        same &= data[at + k] == with_[k]
    return same


@compiled
def _payload(data: np.ndarray, at: int) -> tuple[Any, Any, Any]:
    """Where the payload of the frame at `at` begins and ends, and where the next frame begins; -1: no such frame."""
    stop = len(data)
    if stop - at < 8 or not _begins(data, at, stop, MAGIC):
        return -1, -1, -1
    length = np.int64(data[at + 4]) | np.int64(data[at + 5]) << 8 | np.int64(data[at + 6]) << 16
    length |= np.int64(data[at + 7]) << 24
    begin = at + 8
    end = begin + length
    if length >> 29 or end > stop:
        return -1, -1, -1
    return begin, end, min(stop, end + (-length) % 4)


@compiled
def _values(data: np.ndarray, at: int, stop: int) -> tuple[Any, Any]:
    """Where the packed values of a Value's int32 tensor begin and end; -1: something else."""
    if at == stop:
        return -1, -1
    if data[at] != INT32:
        return -1, -1
    begin, end = length_at(data, at + 1, stop)
    if begin < 0 or end != stop:
        return -1, -1
    if begin == end:
        return begin, end
    if data[begin] != 0x0A:
        return -1, -1
    first, last = length_at(data, begin + 1, end)
    if first < 0 or last != end:
        return -1, -1
    return first, last


@compiled
def _sides(data: np.ndarray, at: int, stop: int, places: np.ndarray) -> Any:
    """Notes in `places` where the packed ids of source and target begin and end; False: not mine."""
    places[:] = -1
    while at < stop:
        if data[at] != 0x0A:  # Record.features
            return False
        entry, end = length_at(data, at + 1, stop)
        if entry < 0:
            return False
        if _begins(data, entry, end, SOURCE_KEY):
            side = 0
        elif _begins(data, entry, end, TARGET_KEY):
            side = 2
        else:
            return False
        value, last = length_at(data, entry + len(SOURCE_KEY), end)
        if value < 0 or last != end or places[side] >= 0:
            return False
        places[side], places[side + 1] = _values(data, value, last)
        if places[side] < 0:
            return False
        at = end
    return places[0] >= 0 and places[2] >= 0


@compiled
def _count_ids(data: np.ndarray, at: int, stop: int) -> Any:
    """How many packed integers there are; -1: the last is cut, or one has more than ten bytes."""
    count = run = 0
    for k in range(at, stop):
        if data[k] < 128:
            count += 1
            run = 0
        else:
            run += 1
            if run == 10:
                return -1
    return count if run == 0 else -1


@compiled
def count(data: np.ndarray) -> tuple[Any, Any, Any]:
    """The numbers of records, source ids and target ids of a file; -1 for the first: not mine."""
    places = np.empty(4, np.int64)
    records = source = target = 0
    at = 0
    while at < len(data):
        begin, end, following = _payload(data, at)
        if begin < 0 or not _sides(data, begin, end, places):
            return NOT_MINE, 0, 0
        a = _count_ids(data, places[0], places[1])
        b = _count_ids(data, places[2], places[3])
        if a < 0 or b < 0:
            return NOT_MINE, 0, 0
        source += a
        target += b
        records += 1
        at = following
    return records, source, target


@compiled
def _unpack(data: np.ndarray, at: int, stop: int, out: np.ndarray, start: int) -> Any:
    """Writes packed int32s from `start` on; returns where the next begins. Wider integers keep their lower 32 bits."""
    while at < stop:
        wide = np.uint64(0)
        shift = np.uint64(0)
        while True:
            byte = np.uint64(data[at])
            at += 1
            wide |= (byte & np.uint64(127)) << shift
            shift += np.uint64(7)
            if byte < 128:
                break
        out[start] = np.int32(np.uint32(wide & np.uint64(0xFFFFFFFF)))
        start += 1
    return start


@compiled
def fill(
    data: np.ndarray, source: np.ndarray, source_starts: np.ndarray, target: np.ndarray, target_starts: Any
) -> None:
    """Writes the ids of a file that `count` has counted, and where each record's begin."""
    places = np.empty(4, np.int64)
    at = 0
    record = 0
    while at < len(data):
        begin, end, following = _payload(data, at)
        _sides(data, begin, end, places)
        source_starts[record + 1] = _unpack(data, places[0], places[1], source, source_starts[record])
        target_starts[record + 1] = _unpack(data, places[2], places[3], target, target_starts[record])
        record += 1
        at = following
