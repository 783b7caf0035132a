"""Sentences for the tests of Seq2Seq: words that are to be said backwards, in capitals."""

from __future__ import annotations

import json

import numpy as np

from sagesmith.algorithms.seq2seq.sentences import Pairs, Sentences, written
from sagesmith.algorithms.seq2seq.texts import encoded
from sagesmith.algorithms.seq2seq.vocabulary import Vocabulary

WORDS = [f"w{number}" for number in range(12)]
SMALL = {
    "num_embed_source": 16, "num_embed_target": 16, "rnn_num_hidden": 32, "cnn_num_hidden": 32, "batch_size": 16,
    "learning_rate": 0.01, "checkpoint_frequency_num_batches": 20,
}  # fmt: skip


def backwards(count: int, seed: int = 0, longest: int = 7) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    sources = [[WORDS[k] for k in random.integers(0, len(WORDS), random.integers(1, longest))] for _ in range(count)]
    return [" ".join(one) for one in sources], [" ".join(one[::-1]).upper() for one in sources]


def vocabularies() -> tuple[Vocabulary, Vocabulary]:
    return Vocabulary.of([WORDS]), Vocabulary.of([[word.upper() for word in WORDS]])


def vocabulary_json(vocabulary: Vocabulary) -> str:
    return json.dumps({token: number for number, token in enumerate(vocabulary.tokens)})


def recordio(sides: tuple[list[str], list[str]]) -> bytes:
    source, target = (encoded(side, words) for side, words in zip(sides, vocabularies(), strict=True))
    return b"".join(written((source[k].tolist(), target[k].tolist()) for k in range(len(source))))


def drawn_pairs(lengths: list[tuple[int, int]], words: int = 20, seed: int = 0) -> Pairs:
    """Pairs of random ids from 4 to words - 1 with the given lengths of source and target."""
    random = np.random.default_rng(seed)
    sides = [[random.integers(4, words, pair[side]) for pair in lengths] for side in (0, 1)]
    return Pairs(Sentences.of(sides[0]), Sentences.of(sides[1]))
