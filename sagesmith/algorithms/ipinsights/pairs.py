"""Pairs: what IP Insights learns from and is asked: entities, as 64-bit hashes, each with an IPv4 address.

From CSV, from JSON instances, and from what Python callers hold (lists, arrays, frames). A pair takes twelve bytes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import numpy as np

from sagesmith.formats.channel import Channel, HeldChannel
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError, NoData
from sagesmith.formats.format import Options
from sagesmith.formats.lines import pieces
from sagesmith.formats.nesting import load_json
from sagesmith.formats.source import Source

SHORTEST = 10  # bytes of a line: a letter, a comma, 0.0.0.0 and LF; the most rows that a text can hold follow from it
SHOWN = 60  # characters of a line or value in an error
FORMS = '{"features": ["entity", "192.0.2.1"]} or {"data": {"features": {"values": ["entity", "192.0.2.1"]}}}'


@dataclass(frozen=True)
class Pairs:
    """n pairs: `entities` (n,) uint64 hashes, `ips` (n,) uint32, the first number of the address in the top byte."""

    entities: np.ndarray
    ips: np.ndarray

    def __len__(self) -> int:
        return len(self.ips)

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Self:
        """All parts one after the other; no parts give no pairs."""
        none = np.empty(0, np.uint64), np.empty(0, np.uint32)
        return cls(
            np.concatenate([none[0], *(part.entities for part in parts)]),
            np.concatenate([none[1], *(part.ips for part in parts)]),
        )

    def tobytes(self) -> bytes:
        return self.entities.astype("<u8").tobytes() + self.ips.astype("<u4").tobytes()

    @classmethod
    def frombytes(cls, data: bytes) -> Self:
        rows = len(data) // 12
        return cls(np.frombuffer(data, "<u8", rows), np.frombuffer(data, "<u4", rows, 8 * rows))


def read_channel(channel: Channel, seed: int) -> Pairs:
    """All pairs of a channel; files that begin with `.` or `_` are passed over.

    Raises:
        DataError: naming the file and the line.
    """
    if isinstance(channel, HeldChannel):
        held: Pairs = channel.held
        return held
    given = _csv(ContentType.parse(channel.content_type or "text/csv"))
    parts = []
    for path in channel.files():
        if not path.name.startswith((".", "_")):
            parts += list(_read_csv(Source.of_file(path), given, seed))
    return Pairs.joined(parts)


def read_body(seed: int, body: bytes, content_type: str) -> Pairs:
    """The pairs of a request in CSV, JSON or JSON Lines.

    Raises:
        NoData: it holds none.
        DataError: naming the line or instance.
    """
    given = ContentType.parse(content_type)
    if "jsonl" in given.name:
        values = [
            (load_json(line, place), place) for line, place in _lines(Source.of_body(body), given) if line.strip()
        ]
        pairs = _of_instances(values, seed)
    elif "json" in given.name:
        document = load_json(body, "request")
        if not isinstance(document, dict) or not isinstance(document.get("instances"), list):
            raise DataError('request: JSON without a list "instances" at its top')
        pairs = _of_instances([(i, f"instance {n}") for n, i in enumerate(document["instances"], 1)], seed)
    else:
        pairs = Pairs.joined(list(_read_csv(Source.of_body(body), _csv(given), seed)))
    if not len(pairs):
        raise NoData("the request holds no pairs")
    return pairs


def of_table(table: Any, seed: int) -> Pairs:
    """The pairs of a table of two columns: rows in a list or array, or a frame.

    Raises:
        ValueError: another shape, missing values, or something that is no IPv4 address, naming the row from 0.
    """
    if hasattr(table, "columns"):
        if len(table.columns) != 2:
            raise ValueError(f"a table of {len(table.columns)} columns; two are needed: entity and IPv4 address")
        columns = [table[name] for name in table.columns]
    else:
        array = np.asarray(table, dtype=object)
        if array.ndim != 2 or array.shape[1] != 2:
            raise ValueError(f"a table of shape {array.shape}; rows of two are needed: entity and IPv4 address")
        columns = [array[:, 0], array[:, 1]]
    if len(columns[0]) == 0:
        raise ValueError("a table without rows; a minimum of 1 is required by IPInsights")
    return Pairs(hashes_of(columns[0], seed), addresses_of(columns[1]))


def hashes_of(entities: Any, seed: int) -> np.ndarray:
    """(n,) uint64: the hashes of names, or of the decimal digits of whole numbers.

    Raises:
        ValueError: a missing, empty or other value, naming its row from 0.
    """
    from sagesmith.algorithms.ipinsights.pairs_compiled import hash_texts

    text, starts = _as_text(entities, "entity")
    lengths = np.diff(starts)
    if not lengths.all():
        raise ValueError(f"row {int(np.argmin(lengths))}: an empty entity")
    hashes = np.empty(len(lengths), np.uint64)
    hash_texts(text, starts, np.uint64(seed), hashes)
    return hashes


def addresses_of(ips: Any) -> np.ndarray:
    """(n,) uint32 of IPv4 addresses as text.

    Raises:
        ValueError: something else, naming its row from 0.
    """
    from sagesmith.algorithms.ipinsights.pairs_compiled import read_addresses

    text, starts = _as_text(ips, "IPv4 address")
    found = np.empty(len(starts) - 1, np.uint32)
    row = read_addresses(text, starts, found)
    if row < len(found):
        value = text[starts[row] : starts[row + 1]].tobytes().decode("utf-8", "replace")
        raise ValueError(f"row {row}: {_not_ipv4(value)}")
    return found


def _as_text(values: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 of all values side by side, trimmed, and where each begins, (n + 1,) int64."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        array = values.to_arrow() if hasattr(values, "to_arrow") else pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # kinds that are mixed; whole numbers stand for their digits
        array = pa.array([None if value is None else _text(value, f"row {n}") for n, value in enumerate(values)])
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    allowed = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    if array.null_count == len(array) or not any(test(array.type) for test in allowed):
        raise ValueError(f"{what}: text is needed, not {array.type}")
    if array.null_count:
        raise ValueError(f"row {int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))}: no {what}")
    array = pc.utf8_trim(array.cast(pa.large_string()), " \t")
    starts = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    data = array.buffers()[2]
    text = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[starts[0] : starts[-1]]
    return text, starts - starts[0]


def _csv(given: ContentType) -> ContentType:
    """The content type, checked: without labels, its columns parted by commas."""
    options = Options(label_size=0).of(given)
    if options.label_size:
        raise DataError(f"content type {given}: IP Insights takes no labels, label_size must be 0")
    if options.delimiter != ",":
        raise DataError(f"content type {given}: the columns must be parted by commas")
    return given


def _lines(source: Source, given: ContentType) -> Iterator[tuple[bytes, str]]:
    for text, first, _ in pieces(source, Options().of(given).charset):
        for number, line in enumerate(text.splitlines(), first):
            yield line, f"{source.name}, line {number}"


def _read_csv(source: Source, given: ContentType, seed: int) -> Iterator[Pairs]:
    from sagesmith.algorithms.ipinsights.pairs_compiled import FINE, read_lines

    for text, first, _ in pieces(source, Options().of(given).charset):
        most = len(text) // SHORTEST + 2
        hashes, ips = np.empty(most, np.uint64), np.empty(most, np.uint32)
        status, rows, lines = read_lines(np.frombuffer(text, np.uint8), np.uint64(seed), hashes, ips)
        if status != FINE:
            # splitlines of bytes ends lines where read_lines does: at LF, CR LF and CR
            line = next(islice(text.splitlines(), lines, None)).decode("utf-8", "replace")
            raise DataError(f"{source.name}, line {first + lines}: {_what_is_wrong(status, line)}")
        yield Pairs(hashes[:rows].copy(), ips[:rows].copy())


def _what_is_wrong(status: int, line: str) -> str:
    from sagesmith.algorithms.ipinsights import pairs_compiled as known

    if status == known.NOT_IPV4:
        return _not_ipv4(line.rpartition(",")[2] if line.count(",") == 1 or line.lstrip()[:1] == '"' else line)
    wrong = {
        known.ONE_COLUMN: "no second column; a line is entity, IPv4 address",
        known.NO_ENTITY: "an empty entity",
        known.MORE_COLUMNS: "more than two columns; a line is entity, IPv4 address (quote an entity that has commas)",
        known.OPEN_QUOTE: "a quote that does not end",
    }
    return f"{wrong[status]}: {line[:SHOWN]!r}"


def _not_ipv4(value: str) -> str:
    try:
        ipaddress.IPv6Address(value.strip().strip('"'))
    except ValueError:
        return f"{value.strip()[:SHOWN]!r} is no IPv4 address such as 192.0.2.1"
    return f"{value.strip()!r} is an IPv6 address; only IPv4 is supported"


def _of_instances(values: Sequence[tuple[Any, str]], seed: int) -> Pairs:
    from sagesmith.algorithms.ipinsights.pairs_compiled import hash_texts

    texts, ips = [], []
    for instance, place in values:
        entity, address = _features(instance, place)
        name = _text(entity, place).strip(" \t").encode("utf-8", "surrogatepass")
        if not name:
            raise DataError(f"{place}: an empty entity")
        texts.append(name)
        ips.append(_address(address, place))
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    hashes = np.empty(len(texts), np.uint64)
    hash_texts(np.frombuffer(b"".join(texts), np.uint8), starts, np.uint64(seed), hashes)
    return Pairs(hashes, np.array(ips, np.uint32))


def _features(instance: Any, place: str) -> tuple[Any, Any]:
    found = instance.get("features") if isinstance(instance, dict) else None
    if isinstance(instance, dict) and isinstance(instance.get("data"), dict):
        found = instance["data"].get("features")
        found = found.get("values") if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{place}: not of the form {FORMS}")
    if len(found) != 2:
        raise DataError(f"{place}: {len(found)} features; two are needed: entity and IPv4 address")
    return found[0], found[1]


def _text(value: Any, place: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{place}: the entity {str(value)[:SHOWN]!r} is neither text nor a whole number")


def _address(value: Any, place: str) -> int:
    text = value.strip(" \t") if isinstance(value, str) else str(value)
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        raise DataError(f"{place}: {_not_ipv4(text)}") from None
