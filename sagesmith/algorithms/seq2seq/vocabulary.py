"""vocabulary: tokens and their ids, as `vocab.src.json` and `vocab.trg.json` hold them: an object of token -> id.

The rules are those of SageMaker's sample: ids 0 to 3 are `<pad>`, `<unk>`, `<s>`, `</s>`; then the words by falling
count, equal ones in reverse alphabetical order. A token that is not in the vocabulary is `<unk>`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from sagesmith.formats.errors import DataError
from sagesmith.formats.nesting import load_json

PAD, UNKNOWN, BEGIN, END = range(4)
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
MOST_WORDS = 50_000
SOURCE, TARGET = "vocab.src.json", "vocab.trg.json"


class Vocabulary:
    """n tokens with the ids 0 to n - 1.

    Raises:
        DataError: `where` is not of that form, naming token and id.
    """

    def __init__(self, ids: Mapping[str, int], where: str = "the vocabulary") -> None:
        for number, token in enumerate(SPECIAL):
            if ids.get(token) != number:
                raise DataError(f"{where}: the id of {token!r} must be {number}, found {ids.get(token)!r}")
        tokens = [""] * len(ids)
        taken = [False] * len(ids)
        for token, number in ids.items():
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(ids):
                raise DataError(f"{where}: the id of {token!r:.60} is {number!r:.40}, not one of 0 to {len(ids) - 1}")
            if taken[number]:
                raise DataError(f"{where}: {tokens[number]!r:.60} and {token!r:.60} both have the id {number}")
            tokens[number], taken[number] = token, True
        self.tokens: Sequence[str] = tokens
        self._ids = dict(ids)

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], most: int = MOST_WORDS) -> Self:
        """The vocabulary of tokenised sentences: at most `most` words beside the four special ones."""
        counts = Counter(token for sentence in sentences for token in sentence)
        for token in SPECIAL:
            counts.pop(token, None)
        words = sorted(sorted(counts, reverse=True), key=lambda token: -counts[token])
        return cls({token: number for number, token in enumerate([*SPECIAL, *words[:most]])})

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            DataError: the file is missing or holds no vocabulary.
        """
        try:
            content = load_json(path.read_bytes(), str(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: a vocabulary is a JSON object of token and id")
        return cls(content, str(path))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self._ids, ensure_ascii=False, indent=0), "utf-8")

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, sentence: Sequence[str]) -> np.ndarray:
        """The ids of tokens, int32; a token that reads `<pad>` is no padding, but one that is not known."""
        return np.array([self._ids.get(token) or UNKNOWN for token in sentence], np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        return [self.tokens[number] for number in ids]
