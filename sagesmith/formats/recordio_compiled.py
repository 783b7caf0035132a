"""parse: frames of Records to arrays, compiled. It stops at whatever it does not know, and recordio.py sees to that.

It knows the fields of a row in any order: features["values"] and label["values"] as float32, float64 or int32 tensors,
dense or sparse with rising keys, every field at most once and packed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.formats.compiled import compiled

FINE, INCOMPLETE, NOT_MINE = 0, 1, 2
FLOAT32, FLOAT64, INT32 = 0x12, 0x1A, 0x3A  # tags of the fields of Value
KEY_VALUES = np.frombuffer(b"\x0a\x06values\x12", np.uint8)  # how an entry begins, up to its value's length
LARGEST_WIDTH = 2**31 - 1


@compiled
def varint(data: np.ndarray, at: int, stop: int) -> tuple[Any, Any]:
    """An integer, and where it ends; -1 when it runs over `stop` or has more than nine bytes (left to Python)."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < stop and shift < 63:
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(127)) << shift
        if byte < 128:
            return value, at
        shift += np.uint64(7)
    return value, -1


@compiled
def length_at(data: np.ndarray, at: int, stop: int) -> tuple[Any, Any]:
    """Where a length-delimited content begins and ends, from its length at `at`; -1 when it runs over `stop`."""
    if at < stop and data[at] < 128:
        begin = at + 1
        end = begin + np.int64(data[at])
    else:
        length, begin = varint(data, at, stop)
        if begin < 0 or length > np.uint64(stop - begin):
            return -1, -1
        end = begin + np.int64(length)
    if end > stop:
        return -1, -1
    return begin, end


@compiled
def numbers(data: np.ndarray, kind: int, at: int, stop: int, out: np.ndarray, start: int, most: int) -> Any:
    """Copies the packed numbers to `out` as float32; returns how many, or -1 when they are not whole or too many."""
    count = 0
    if kind == INT32:
        while at < stop:
            if data[at] < 128:
                value = np.int32(data[at])
                at += 1
            else:
                wide = np.uint64(0)
                shift = np.uint64(0)
                while True:
                    if at == stop or shift > 63:
                        return -1
                    byte = np.uint64(data[at])
                    at += 1
                    wide |= (byte & np.uint64(127)) << shift
                    shift += np.uint64(7)
                    if byte < 128:
                        break
                value = np.int32(np.uint32(wide & np.uint64(0xFFFFFFFF)))
            if count == most:
                return -1
            out[start + count] = np.float32(value)
            count += 1
        return count
    width = 4 if kind == FLOAT32 else 8
    count = (stop - at) // width
    if count * width != stop - at or count > most:
        return -1
    if kind == FLOAT32:  # byte by byte, since numbers need not be aligned in a frame
        out.view(np.uint8)[4 * start : 4 * (start + count)] = data[at:stop]
    else:
        aligned = np.empty(count, np.float64)
        aligned.view(np.uint8)[:] = data[at:stop]
        for i in range(count):
            out[start + i] = np.float32(aligned[i])
    return count


@compiled
def rising_keys(data: np.ndarray, at: int, stop: int, out: np.ndarray, start: int, most: int) -> Any:
    """Copies packed keys to `out`; returns how many, or -1 when they do not rise or there is no room for them."""
    count = 0
    most = min(most, len(out) - start)
    before = np.int64(-1)
    while at < stop:
        if data[at] < 128:
            key = np.int64(data[at])
            at += 1
        else:
            wide, at = varint(data, at, stop)
            if at < 0 or wide >= np.uint64(LARGEST_WIDTH):
                return -1
            key = np.int64(wide)
        if key <= before or count >= most:
            return -1
        out[start + count] = key
        before = key
        count += 1
    return count


@compiled
def tensor(
    data: np.ndarray, at: int, stop: int, out: np.ndarray, keys: np.ndarray, start: int, most: int
) -> tuple[Any, Any, Any]:
    """Reads an entry's value (a Value) from `at` to `stop`: (values, keys, shape); values -1 when declined."""
    declined = (-1, -1, -1)
    if at == stop:
        return declined
    kind = data[at]
    if kind != FLOAT32 and kind != FLOAT64 and kind != INT32:
        return declined
    at, end = length_at(data, at + 1, stop)
    if at < 0 or end != stop:
        return declined
    count, key_count = 0, 0
    shape: Any = -1
    last = 0
    while at < stop:
        tag = data[at]
        begin, end = length_at(data, at + 1, stop)
        if begin < 0 or tag <= last:
            return declined
        last = tag
        if tag == 0x0A:
            count = numbers(data, kind, begin, end, out, start, most)
        elif tag == 0x12:
            key_count = rising_keys(data, begin, end, keys, start, most)
        elif tag == 0x1A:
            wide, ended = varint(data, begin, end)
            if ended != end or wide > np.uint64(LARGEST_WIDTH):
                return declined
            shape = np.int64(wide)
        else:
            return declined
        if count < 0 or key_count < 0:
            return declined
        at = end
    return count, key_count, shape


@compiled
def entry(data: np.ndarray, begin: int, end: int) -> tuple[Any, Any]:
    """Where the value of a map entry with the key `values` begins and ends; -1 for other entries."""
    if begin < 0 or end - begin < 10:
        return -1, -1
    for offset in range(9):
        if data[begin + offset] != KEY_VALUES[offset]:
            return -1, -1
    begin, ended = length_at(data, begin + 9, end)
    return (begin, end) if ended == end else (-1, -1)


@compiled
def frame(data: np.ndarray, at: int) -> tuple[Any, Any, Any]:
    """The payload's end and the next frame's beginning, with FINE, INCOMPLETE or NOT_MINE before them."""
    if len(data) - at < 8:
        return INCOMPLETE, 0, 0
    if data[at] != 0x0A or data[at + 1] != 0x23 or data[at + 2] != 0xD7 or data[at + 3] != 0xCE:
        return NOT_MINE, 0, 0
    length = np.int64(data[at + 4]) | np.int64(data[at + 5]) << 8 | np.int64(data[at + 6]) << 16
    length |= np.int64(data[at + 7]) << 24
    if length >> 29:
        return NOT_MINE, 0, 0
    following = at + 8 + (length + 3) // 4 * 4
    return (FINE if following <= len(data) else INCOMPLETE), at + 8 + length, following


@compiled
def features_at(
    data: np.ndarray, begin: int, end: int, sparse: bool, width: int, values: np.ndarray, keys: np.ndarray, stored: int
) -> Any:
    """How many numbers a row's features have, once stored; -1 when they are not as `sparse` and `width` say."""
    room = min(width, len(values) - stored)
    count, key_count, shape = tensor(data, begin, end, values, keys, stored, room)
    if sparse:
        fits = key_count == count and shape == width and (count <= 0 or keys[stored + count - 1] < width)
    else:
        fits = key_count == 0 and count == width and (shape == width or shape == -1)
    return count if fits else -1


@compiled
def parse(
    data: np.ndarray,
    at: int,
    sparse: bool,
    width: int,
    label_width: int,
    values: np.ndarray,
    keys: np.ndarray,
    starts: np.ndarray,
    labels: np.ndarray,
) -> tuple[int, int, int]:
    """Reads frames from `at` on, as long as rows are as `sparse`, `width` and `label_width` say.

    `values` is flat: for dense rows row * width + column. `labels` is flat: row * label_width + i.

    Returns:
        FINE, INCOMPLETE (the last frame) or NOT_MINE; the rows read; where the next frame begins.
    """
    row, stored = 0, 0
    no_keys = np.empty(0, np.int32)  # a label has none
    while at < len(data):
        status, stop, following = frame(data, at)
        if status != FINE:
            return status, row, at
        field, count, found, labelled = at + 8, 0, 0, 0
        while field < stop:
            tag = data[field]
            begin, following_field = length_at(data, field + 1, stop)
            begin, end = entry(data, begin, following_field)
            if begin < 0:
                return NOT_MINE, row, at
            if tag == 0x0A:
                count = features_at(data, begin, end, sparse, width, values, keys, stored)
                found += 1
                if count < 0:
                    return NOT_MINE, row, at
            elif tag == 0x12:
                many, key_count, shape = tensor(data, begin, end, labels, no_keys, row * label_width, label_width)
                labelled += 1
                if many != label_width or key_count != 0 or shape != -1:
                    return NOT_MINE, row, at
            else:
                return NOT_MINE, row, at
            field = following_field
        if found != 1 or labelled != (label_width > 0):
            return NOT_MINE, row, at
        stored += count
        row += 1
        starts[row] = stored
        at = following
    return FINE, row, at
