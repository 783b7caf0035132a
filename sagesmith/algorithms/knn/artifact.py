"""artifact: SageMaker's three files, and a hard look at them before faiss reads one.

`model_algo-1` is what faiss.write_index writes, `model_algo-1.labels` raw float32, `model_algo-1.json` the metadata,
which users may edit (k, predictor_type). faiss trusts sizes that a file states: a torn or hostile file makes it
allocate, read beyond arrays when it searches, or end the process. So the file is walked here first, every size against
the bytes that are there, and every number of a row against the number of rows.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

INDEX, LABELS, METADATA = "model_algo-1", "model_algo-1.labels", "model_algo-1.json"
VERSION = "1.0"
_WIDEST = 1 << 31
_PIECE = 1 << 24  # bytes of an index that are looked at a time


def write(folder: Path, index: Any, labels: np.ndarray, metadata: dict[str, Any]) -> None:
    """Writes the three files."""
    import faiss

    folder.mkdir(parents=True, exist_ok=True)
    faiss.write_index(index, str(folder / INDEX))
    labels.astype("<f4").tofile(folder / LABELS)
    (folder / METADATA).write_text(json.dumps({**metadata, "version": VERSION}), "utf-8")


def read_metadata(folder: Path) -> dict[str, Any]:
    """model_algo-1.json, its keys checked; Python's False, True and None are taken, as SageMaker's guide prints them.

    Raises:
        ValueError: unreadable, of another version, or a member that is missing or makes no sense.
    """
    path = folder / METADATA
    try:
        content: dict[str, Any] = _parsed(path.read_text("utf-8"))
        _check_metadata(content)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} describes no k-NN model: {error}") from None
    return content


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        words = {"False": "false", "True": "true", "None": "null"}
        return json.loads(re.sub(r'"(?:\\.|[^"\\])*"|\b(?:False|True|None)\b', lambda m: words.get(m[0], m[0]), text))


def _check_metadata(content: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    if content.get("version", VERSION) != VERSION:
        raise ValueError(f"version is {content['version']!r}, not {VERSION!r}")
    if not _whole(content.get("k"), 1):
        raise ValueError(f"k is {content.get('k')!r}, it must be a whole number of at least 1")
    if content.get("predictor_type") not in ("classifier", "regressor"):
        raise ValueError(f"predictor_type is {content.get('predictor_type')!r}, not classifier or regressor")
    if not isinstance(content.setdefault("normalize", False), bool):
        raise ValueError(f"normalize is {content['normalize']!r}, not true or false")
    reduction = content["dimension_reduction"] = content.get("dimension_reduction") or {}
    if not isinstance(reduction, dict):
        raise ValueError(f"dimension_reduction is {reduction!r}, no object")
    if reduction:
        if reduction.get("type") not in ("sign", "fjlt"):
            raise ValueError(f"the type of dimension_reduction is {reduction.get('type')!r}, not sign or fjlt")
        for key, least in (("seed", 0), ("target_dim", 1), ("input_dim", 1)):
            if not _whole(reduction.get(key), least):
                raise ValueError(
                    f"{key} of dimension_reduction is {reduction.get(key)!r}, no whole number from {least}"
                )
    if not _whole(content.get("feature_dim", 1), 1):
        raise ValueError(f"feature_dim is {content['feature_dim']!r}, it must be a whole number of at least 1")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 63


def read_index(folder: Path) -> Any:
    """The faiss index.

    Raises:
        ValueError: the file is none of the three kinds, is torn, or states sizes that it does not have.
    """
    import faiss

    path = folder / INDEX
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _Walk(content).index()
        return faiss.read_index(str(path))
    except (OSError, ValueError, struct.error, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path} is no k-NN index: {error}") from None


def read_labels(folder: Path, count: int) -> np.ndarray:
    """(count,) float32.

    Raises:
        ValueError: not one finite number for every row of the index.
    """
    path = folder / LABELS
    try:
        size = path.stat().st_size
        if size != 4 * count:
            raise ValueError(f"it has {size} bytes, but {count} labels of 4 are needed")
        labels = np.fromfile(path, "<f4").astype(np.float32)
        if not np.isfinite(labels).all():
            raise ValueError("a label is not a finite number")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} holds no labels of this model: {error}") from None
    return labels


class _Walk:
    """Reads over an index file in the order in which faiss does; ValueError where it must not go on."""

    def __init__(self, content: Any) -> None:
        self._content = memoryview(content)
        self._at = 0

    def index(self) -> None:
        """The whole file: one index and nothing after it."""
        try:
            self._index()
            self._need(self._at == len(self._content), f"{len(self._content) - self._at} bytes follow the index")
        finally:
            self._content.release()  # or the file could not be unmapped

    def _index(self) -> None:
        kind = self._word()
        if kind in (b"IxF2", b"IxFI"):
            self._flat(self._header(kind == b"IxFI"))
        elif kind in (b"IwFl", b"IwPQ"):
            self._inverted(kind == b"IwPQ")
        else:
            raise ValueError(f"it begins with {kind!r}, no index of type faiss.Flat, faiss.IVFFlat or faiss.IVFPQ")

    def _header(self, product: bool | None = None) -> tuple[int, int, int]:
        """Dimension, rows and metric."""
        width, rows, _, _, trained, metric = self._take("<iqqqBi")
        self._need(0 < width < _WIDEST and 0 <= rows < 1 << 48, f"{rows} rows of {width} dimensions")
        self._need(trained == 1, "it is not trained")
        allowed = (0, 1) if product is None else (0,) if product else (1,)
        self._need(metric in allowed, f"metric {metric}")
        return width, rows, metric

    def _flat(self, header: tuple[int, int, int]) -> None:
        width, rows, _ = header
        self._vector(width * rows, "vectors")

    def _inverted(self, coded: bool) -> None:
        width, rows, metric = self._header()
        lists, probes = self._take("<QQ")
        self._need(1 <= lists <= len(self._content) and 1 <= probes < 1 << 31, f"{lists} lists, {probes} probed")
        kind = self._word()
        self._need(kind in (b"IxF2", b"IxFI"), f"its lists are found by {kind!r}")
        quantizer = self._header(kind == b"IxFI")
        self._need(quantizer == (width, lists, metric), f"{lists} lists are found by {quantizer[1]} centroids")
        self._flat(quantizer)
        mapped, entries = self._take("<bQ")
        self._need(mapped == 0 and entries == 0, "it has a direct map")
        size = self._quantizer(width) if coded else 4 * width
        self._lists(lists, rows, size, not coded)

    def _quantizer(self, width: int) -> int:
        """The product quantizer; returns the bytes of a code."""
        residual, size, dim, blocks, bits = self._take("<BQQQQ")
        sound = residual in (0, 1) and dim == width and bits == 8 and 0 < blocks <= width and width % blocks == 0
        self._need(sound and size == blocks, f"codes of {size} bytes for {blocks} blocks of {bits} bits")
        self._vector(width << 8, "centroids")
        return int(size)

    def _lists(self, lists: int, rows: int, size: int, floats: bool) -> None:
        word = self._word()
        self._need(word == b"ilar", f"its lists are stored as {word!r}")
        self._need(self._take("<QQ") == (lists, size), "its lists are of other sizes")
        kind = self._word()
        self._need(kind in (b"full", b"sprs"), f"sizes of lists are stored as {kind!r}")
        (entries,) = self._take("<Q")
        self._need(entries <= 2 * lists, f"{entries} sizes for {lists} lists")
        sizes = np.frombuffer(self._bytes(8 * entries), "<u8")
        if kind == b"sprs":
            self._need(len(sizes) % 2 == 0 and bool((sizes[::2] < lists).all()), "a list that is none")
            self._need(bool((np.diff(sizes[::2].astype(np.int64)) > 0).all()), "lists out of order")
            sizes = sizes[1::2]
        else:
            self._need(entries == lists, f"{entries} sizes for {lists} lists")
        self._need(bool((sizes <= rows).all()) and int(sizes.sum()) == rows, f"lists that do not hold {rows} rows")
        seen = np.zeros(rows, bool)
        for count in sizes.tolist():
            if floats:
                self._finite(count * size)
            else:
                self._bytes(count * size)
            numbers = np.frombuffer(self._bytes(8 * count), "<i8")
            self._need(bool(((numbers >= 0) & (numbers < rows)).all()), f"a row that is not in 0..{rows - 1}")
            seen[numbers] = True
        self._need(bool(seen.all()), "a row that is in no list")

    def _vector(self, count: int, what: str) -> None:
        (stated,) = self._take("<Q")
        self._need(stated == count, f"{stated} numbers as {what}, where {count} belong")
        self._finite(4 * count)

    def _finite(self, size: int) -> None:
        """Floats, a piece at a time."""
        self._enough(size)
        for start in range(0, size, _PIECE):
            with np.errstate(over="ignore", invalid="ignore"):
                total = np.frombuffer(self._bytes(min(_PIECE, size - start)), "<f4").sum(dtype=np.float64)
            self._need(bool(np.isfinite(total)), "a value that is not finite")

    def _word(self) -> bytes:
        return bytes(self._bytes(4))

    def _take(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))

    def _bytes(self, count: int) -> bytes:
        self._enough(count)
        self._at += count
        return bytes(self._content[self._at - count : self._at])

    def _enough(self, count: int) -> None:
        left = len(self._content) - self._at
        self._need(count <= left, f"it ends {count - left} bytes too early")

    @staticmethod
    def _need(holds: bool, otherwise: str) -> None:
        if not holds:
            raise ValueError(otherwise)
