"""texts: what Python callers hold (texts and lists of tokens) as ids, and the channel of vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sagesmith.algorithms.first_party import RECORDIO
from sagesmith.algorithms.seq2seq.sentences import Pairs, Sentences
from sagesmith.algorithms.seq2seq.vocabulary import SOURCE, TARGET, Vocabulary
from sagesmith.formats.channel import Channel, HeldChannel
from sagesmith.formats.errors import DataError


def channels_of(train: Any, validation: Any, vocab: Any = None) -> dict[str, Channel]:
    """The three channels, from pairs of sentences, files or channels.

    Raises:
        ValueError: something else, or no vocabularies where the training data are a file or a channel.
    """
    if vocab is None:
        if not isinstance(train, tuple):
            raise ValueError(
                "training data in a file need vocab=FOLDER, the folder of vocab.src.json and vocab.trg.json"
            )
        vocabularies = Vocabulary.of(tokenised(train[0])), Vocabulary.of(tokenised(train[1]))
    else:
        vocabularies = read_vocabularies(vocab) if isinstance(vocab, Channel) else read_folder(Path(vocab))
    given = {"train": train, "validation": validation}
    channels = {name: _channel(name, value, vocabularies) for name, value in given.items()}
    return {**channels, "vocab": HeldChannel.over("vocab", vocabularies)}


def _channel(name: str, value: Any, vocabularies: tuple[Vocabulary, Vocabulary]) -> Channel:
    if isinstance(value, Channel):
        return value
    if isinstance(value, str | Path):
        return Channel.from_folder(name, Path(value), RECORDIO)
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(
            f"{name}: (sentences, counterparts), a file or a Channel is needed, not {type(value).__name__}"
        )
    sides = [encoded(side, words) for side, words in zip(value, vocabularies, strict=True)]
    if len(sides[0]) != len(sides[1]):
        raise ValueError(f"{name}: {len(sides[0])} sentences, but {len(sides[1])} counterparts")
    return HeldChannel.over(name, Pairs(*sides))


def tokenised(sentences: Any) -> list[list[str]]:
    """Lists of tokens, from texts with spaces between tokens or from lists of tokens.

    Raises:
        ValueError: one text in place of many, or what is neither, naming the sentence from 0.
    """
    if isinstance(sentences, str | bytes) or not hasattr(sentences, "__len__"):
        raise ValueError(f"a list of sentences is needed, not {type(sentences).__name__}")
    return [_tokens(sentence, number) for number, sentence in enumerate(sentences)]


def _tokens(sentence: Any, number: int) -> list[str]:
    if isinstance(sentence, str):
        return sentence.split()
    if isinstance(sentence, Sequence) and all(isinstance(token, str) for token in sentence):
        return list(sentence)
    raise ValueError(f"sentence {number}: a text or a list of tokens is needed, not {sentence!r:.60}")


def encoded(sentences: Any, vocabulary: Vocabulary) -> Sentences:
    """The ids of texts or lists of tokens."""
    return Sentences.of([vocabulary.encode(tokens) for tokens in tokenised(sentences)])


def read_vocabularies(channel: Channel) -> tuple[Vocabulary, Vocabulary]:
    """The vocabularies of source and target in a channel of files.

    Raises:
        DataError: a file is missing or holds no vocabulary.
    """
    if isinstance(channel, HeldChannel):
        held: tuple[Vocabulary, Vocabulary] = channel.held
        return held
    if channel.folder is None:
        raise DataError(f"channel {channel.name!r} must be a folder with {SOURCE} and {TARGET}")
    return read_folder(channel.folder)


def read_folder(folder: Path) -> tuple[Vocabulary, Vocabulary]:
    """
    Raises:
        DataError: a file is missing or holds no vocabulary.
    """
    return Vocabulary.read(folder / SOURCE), Vocabulary.read(folder / TARGET)
