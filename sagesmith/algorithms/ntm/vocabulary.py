"""The auxiliary channel: vocab.txt, line n the word of id n, and word embeddings where somebody put them.

Embeddings are text, one word and its numbers to a line, parted by blanks, as GloVe's files are, gzipped or not; a first
line of two numbers (word2vec's) is passed over. They are sought in the auxiliary channel as embeddings.txt or glove.*,
then in the file that SAGESMITH_WORD_EMBEDDINGS names. None are bundled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from sagesmith.formats.errors import DataError
from sagesmith.formats.source import Source

if TYPE_CHECKING:
    from sagesmith.formats.channel import Channel

VOCABULARY = "vocab.txt"
VARIABLE = "SAGESMITH_WORD_EMBEDDINGS"


def read(channel: Channel, width: int) -> list[str]:
    """The words of vocab.txt.

    Raises:
        DataError: no such file, not UTF-8, an empty line or a number of lines other than `width`.
    """
    paths = [path for path in channel.files() if path.name == VOCABULARY]
    if len(paths) != 1:
        found = ", ".join(sorted(path.name for path in channel.files())) or "no file"
        raise DataError(f"channel {channel.name!r} must hold one file named {VOCABULARY}; it holds {found}")
    content = _content(Source.of_file(paths[0]))
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{VOCABULARY}, line {line}: it is not UTF-8") from None
    if lines and not lines[-1]:
        lines.pop()
    return checked([line.removesuffix("\r") for line in lines], width, VOCABULARY)


def checked(words: Sequence[str], width: int, where: str) -> list[str]:
    """Words as a list, or a DataError: another number than `width`, or an empty one."""
    if len(words) != width:
        raise DataError(
            f"{where} has {len(words)} words, but feature_dim is {width}: there must be one for each column"
        )
    for number, word in enumerate(words, 1):
        if not isinstance(word, str) or not word.strip():
            raise DataError(f"{where}, line {number}: {word!r} is no word")
    return [str(word) for word in words]


def embeddings_file(channel: Channel | None) -> Path | None:
    """The file of embeddings, if there is one."""
    if channel is not None and not channel.is_arrays:
        for path in channel.files():
            if path.name.startswith(("embeddings.txt", "glove.")):
                return path
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def vectors(path: Path, vocabulary: Sequence[str]) -> tuple[np.ndarray, int]:
    """Vectors of the words (V, d) float32, zeros for those without, and how many these are.

    Raises:
        DataError: the file cannot be read, or a line that matters has other than numbers, or fewer or more than others.
    """
    column = {word: number for number, word in enumerate(vocabulary)}
    found: dict[int, np.ndarray] = {}
    width: int | None = None
    for line, word, rest in _lines(path):
        if word not in column:
            continue
        try:
            values = np.array(rest.split(), dtype=np.float32)
        except ValueError:
            raise DataError(f"{path.name}, line {line}: other than numbers after {word!r}") from None
        width = len(values) if width is None else width
        if len(values) != width or not np.isfinite(values).all():
            raise DataError(f"{path.name}, line {line}: {word!r} must have {width} finite numbers, as the words before")
        found.setdefault(column[word], values)
    table = np.zeros((len(vocabulary), width or 1), np.float32)
    for number, values in found.items():
        table[number] = values
    return table, len(vocabulary) - len(found)


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Number, word and the rest of every line."""
    try:
        with Source.of_file(path).open() as stream:
            for number, raw in enumerate(stream, 1):
                word, _, rest = raw.decode("utf-8", "replace").rstrip("\n").partition(" ")
                if number == 1 and word.isdigit() and rest.strip().isdigit():
                    continue
                yield number, word, rest
    except OSError as error:
        raise DataError(f"embeddings {path}: {error}") from None


def _content(source: Source) -> bytes:
    stream: IO[bytes]
    with source.open() as stream:
        return stream.read()
