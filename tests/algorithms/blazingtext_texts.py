"""Texts with a known truth, and what fastText does, written down in plain Python from its description."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOPICS = {
    "sea": ["wave", "ship", "sailor", "harbour", "anchor", "tide", "gull", "deck", "mast", "reef"],
    "city": ["street", "tram", "market", "office", "bridge", "crowd", "tower", "lamp", "square", "metro"],
    "wood": ["oak", "moss", "fern", "owl", "deer", "bark", "path", "mushroom", "pine", "brook"],
}
COMMON = ["the", "a", "of", "and", "in", "it"]


def drawn(lines: int, seed: int = 0, words: int = 12) -> tuple[list[str], list[str]]:
    """Lines of words of one topic each, half of them common to all topics; and the topics."""
    random = np.random.default_rng(seed)
    names = sorted(TOPICS)
    topics = [names[number] for number in random.integers(0, len(names), lines)]
    texts = []
    for topic in topics:
        own = [TOPICS[topic][number] for number in random.integers(0, 10, words // 2)]
        mixed = own + [COMMON[number] for number in random.integers(0, len(COMMON), words - len(own))]
        texts.append(" ".join(random.permutation(mixed).tolist()))
    return texts, topics


def labelled(texts: Sequence[str], topics: Sequence[str]) -> str:
    """The same as a file."""
    return "".join(f"__label__{topic} {text}\n" for text, topic in zip(texts, topics, strict=True))


def fnv(word: bytes) -> int:
    """The hash of a word: FNV-1a, 32 bits, of signed bytes."""
    value = 2166136261
    for byte in word:
        signed = byte - 256 if byte > 127 else byte
        value = ((value ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return value


def character_rows(word: str, least: int, most: int, buckets: int) -> list[int]:
    """Buckets of the n-grams of `<word>`, in the order of fastText."""
    whole = f"<{word}>"
    rows = []
    for begin in range(len(whole)):
        for end in range(begin + 1, min(len(whole), begin + most) + 1):
            if end - begin >= least and not (end - begin == 1 and (begin == 0 or end == len(whole))):
                rows.append(fnv(whole[begin:end].encode()) % buckets)
    return rows


def word_rows(words: Sequence[str], longest: int, buckets: int) -> list[int]:
    """Buckets of the n-grams of a line's words, of two words and more, "</s>" among them."""
    hashes = [fnv(word.encode()) for word in words]
    signed = [value - (1 << 32) if value >= 1 << 31 else value for value in hashes]
    rows = []
    for begin in range(len(signed)):
        value = signed[begin] % (1 << 64)
        for other in signed[begin + 1 : begin + longest]:
            value = (value * 116049371 + other) % (1 << 64)
            rows.append(value % buckets)
    return rows
