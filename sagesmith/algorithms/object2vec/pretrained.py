"""pretrained: vectors of tokens from the auxiliary channel, in GloVe's text form, with a vocabulary in JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sagesmith.algorithms.object2vec.configuration import Encoder
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.nesting import load_json


def read(channel: Channel, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the table that the file knows, (k,), and their vectors, (k, d) float32.

    Raises:
        DataError: a file that is missing, a vocabulary that does not fit, or a line that is no vector, by name.
    """
    vocabulary = _vocabulary(_file(channel, encoder.vocab_file), encoder.vocab_size)
    path, size = _file(channel, encoder.pretrained_embedding_file), encoder.token_embedding_dim
    spaced = any(" " in token for token in vocabulary)
    found: dict[int, np.ndarray] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            token, _, rest = line.strip().partition(b" ")
            if not rest or (number == 1 and rest.isdigit() and size > 1):  # word2vec's first line: count and size
                continue
            row = _known(token, vocabulary, path.name, number)
            if spaced or row is not None:
                token, rest = _parted(token, rest, size)
                row = _known(token, vocabulary, path.name, number)
            if row is not None:
                found[row] = _vector(rest, size, f"{path.name}, line {number}")
    if not found:
        raise DataError(f"{path.name}: none of its tokens is in {encoder.vocab_file}")
    return np.array(list(found), np.int64), np.stack(list(found.values()))


def _known(token: bytes, vocabulary: dict[str, int], name: str, number: int) -> int | None:
    try:
        return vocabulary.get(token.decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{name}, line {number}: not UTF-8: {error.reason}") from None


def _parted(token: bytes, rest: bytes, size: int) -> tuple[bytes, bytes]:
    """Token and vector, where the token may hold spaces, as some of GloVe's largest file do: `. . .` or `at home`."""
    more = len(rest.split()) - size
    if more <= 0:
        return token, rest
    *words, vector = rest.split(maxsplit=more)
    try:
        float(words[-1])
    except ValueError:
        return b" ".join([token, *words]), vector
    return token, rest  # a vector of too many numbers


def _file(channel: Channel, name: str) -> Path:
    for path in channel.files():
        if path.name == name:
            return path
    there = ", ".join(path.name for path in channel.files()) or "nothing"
    raise DataError(f"channel {channel.name!r} has no file {name!r}; it has {there}")


def _vocabulary(path: Path, size: int) -> dict[str, int]:
    content = load_json(path.read_bytes(), path.name)
    if not isinstance(content, dict):
        raise DataError(f"{path.name}: not a JSON object of tokens and ids")
    for token, row in content.items():
        if isinstance(row, bool) or not isinstance(row, int) or row < 0:
            raise DataError(f"{path.name}: the id of {token!r} is {row!r}; ids are whole numbers of 0 or more")
        if row >= size:
            raise DataError(
                f'Inconsistent vocab for {path.name} found. Vocab id "{row}" is not less than vocab_size={size}'
            )
    return content


def _vector(text: bytes, size: int, place: str) -> np.ndarray:
    try:
        vector = np.array(text.split(), np.float32)
    except ValueError as error:
        raise DataError(f"{place}: not a vector: {error}") from None
    if len(vector) != size:
        raise DataError(f"{place}: a vector of {len(vector)} numbers, but the tokens' vectors have {size}")
    if not np.isfinite(vector).all():
        raise DataError(f"{place}: the vector holds NaN or infinity")
    return vector
