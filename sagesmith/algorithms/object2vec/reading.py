"""reading: pairs from JSON Lines and JSON.

Lines are parsed by pyarrow, a piece of a file at a time, straight into packed arrays. What it does not take, or what
looks odd, is read again line by line, so that an error names its line.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from sagesmith.algorithms.object2vec.pairs import Pairs, Tokens, check_rows, checked
from sagesmith.formats.channel import Channel, HeldChannel
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError, NoData
from sagesmith.formats.format import Options
from sagesmith.formats.lines import count, pieces
from sagesmith.formats.nesting import load_json
from sagesmith.formats.source import Source

FORM = '{"label": 1, "in0": [6, 17], "in1": [16, 21]}'
Check = Callable[[Pairs], None]  # raises DataError for rows that do not fit a model


def no_check(pairs: Pairs) -> None:
    """All rows fit."""


def read_channel(channel: Channel, check: Check = no_check) -> Pairs:
    """All labelled pairs of a channel; files that begin with `.` or `_` are passed over.

    Raises:
        DataError: naming the file and the line.
    """
    if isinstance(channel, HeldChannel):
        held: Pairs = channel.held
        check_rows(held, check, lambda row: f"channel {channel.name!r}, row {row}")
        return held
    charset = Options().of(ContentType.parse(channel.content_type or "application/jsonlines")).charset
    parts = []
    for path in channel.files():
        if not path.name.startswith((".", "_")):
            parts += list(read_source(Source.of_file(path), charset, check))
    pairs = Pairs.joined([part for part in parts if len(part)])
    if not len(pairs):
        raise NoData(f"channel {channel.name!r} holds no pairs")
    return pairs


def read_source(source: Source, charset: str = "utf-8", check: Check = no_check) -> Iterator[Pairs]:
    """Labelled pairs of JSON Lines, a piece of the text at a time."""
    for text, first, _ in pieces(source, charset):
        found = _by_arrow(text) or _by_line(text, source.name, first)
        check_rows(found, check, partial(_place, text, source.name, first))
        yield found


def _place(text: bytes, name: str, first: int, row: int) -> str:
    """Where a row of a text stands whose first line has the number `first`."""
    lines = (number for number, line in enumerate(text.splitlines(), first) if line.strip())
    return f"{name}, line {next(islice(lines, row, None))}"


def _by_arrow(text: bytes) -> Pairs | None:
    """The pairs of whole lines; None if there is anything odd about them."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    if not (text.isascii() or _is_utf8(text)):
        return None  # pyarrow does not look at what it passes over
    lists = pa.list_(pa.int32())
    schema = pa.schema([("label", pa.float64()), ("in0", lists), ("in1", lists)])
    try:
        table = arrow_json.read_json(
            io.BytesIO(text),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != count(text, 10) + (not text.endswith(b"\n")) or table.num_rows == 0:
        return None  # blank lines, or values that are not one to a line
    columns = [table.column(name).combine_chunks() for name in ("label", "in0", "in1")]
    if any(column.null_count for column in columns) or any(column.values.null_count for column in columns[1:]):
        return None
    sides = [_packed(column) for column in columns[1:]]
    label = columns[0].to_numpy(zero_copy_only=False)
    if not np.isfinite(label).all() or any((len(t.ids) and t.ids.min() < 0) or not t.lengths.all() for t in sides):
        return None
    return Pairs(sides[0], sides[1], label)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _packed(column: Any) -> Tokens:
    offsets = column.offsets.to_numpy().astype(np.int64)
    ids = column.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    return Tokens(np.ascontiguousarray(ids, np.int32), offsets - offsets[0])


def _by_line(text: bytes, name: str, first: int) -> Pairs:
    lists: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    labels = []
    for number, line in enumerate(text.splitlines(), first):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        record = load_json(line, place)
        if not isinstance(record, dict):
            raise DataError(f"{place}: not a JSON object of the form {FORM}")
        for key in ("label", "in0", "in1"):
            if key not in record:
                raise DataError(f"{place}: no {key!r}; a line is of the form {FORM}")
        labels.append(_label(record["label"], place))
        for side, key in enumerate(("in0", "in1")):
            lists[side].append(_listed(record[key], place, key))
    return Pairs(Tokens.of(lists[0]), Tokens.of(lists[1]), np.array(labels, np.float64))


def _listed(value: Any, place: str, key: str) -> np.ndarray:
    if not isinstance(value, list):
        shown = json.dumps(value)[:60]
        raise DataError(f"{place}: {key} is {shown}, not a list of token ids; a single token is written [10]")
    return checked(value, place, key)


def _label(value: Any, place: str) -> float:
    try:
        label = float("nan") if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:  # a whole number of more than 308 digits
        label = float("inf")
    if not np.isfinite(label):
        raise DataError(f"{place}: the label {json.dumps(value)[:60]} is not a finite number")
    return label


def read_body(body: bytes, lines: bool, check: Check) -> Pairs:
    """The pairs, or the one side, that a request in JSON Lines or JSON asks about.

    Raises:
        NoData: it holds none.
        DataError: naming the line or instance.
    """
    if lines:
        places = [(line, f"line {number}") for number, line in enumerate(body.splitlines(), 1)]
        values = [(load_json(line, place), place) for line, place in places if line.strip()]
    else:
        document = load_json(body, "request")
        if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
            raise DataError('request: JSON without a list "instances" at its top')
        values = [(value, f"instance {number}") for number, value in enumerate(document["instances"], 1)]
    if not values:
        raise NoData("the request holds no instances")
    pairs = _asked(values)
    check_rows(pairs, check, lambda row: values[row][1])
    return pairs


def _asked(values: Sequence[tuple[Any, str]]) -> Pairs:
    sides: list[str] = []
    lists: dict[str, list[np.ndarray]] = {"in0": [], "in1": []}
    for value, place in values:
        keys = [key for key in ("in0", "in1") if key in value] if isinstance(value, dict) else []
        if not keys:
            raise DataError(f'{place}: neither "in0" nor "in1"')
        sides = sides or keys
        if keys != sides:
            raise DataError(
                f"{place} has {' and '.join(keys)}, the ones before it {' and '.join(sides)}: a request is about "
                "pairs, or about one side"
            )
        for key in keys:
            lists[key].append(_listed(value[key], place, key))
    in0, in1 = (Tokens.of(lists[key]) if key in sides else None for key in ("in0", "in1"))
    return Pairs(in0, in1)
