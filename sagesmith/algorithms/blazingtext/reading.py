"""Reading: a channel as blocks of text, one sentence or document a line.

Text (`text/plain`) is taken as it is. JSON Lines of `{"source": …, "label": …}` and augmented manifests, which come as
RecordIO frames of source and label in turn, are written out as text with `__label__` words first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from sagesmith.algorithms.blazingtext.dictionary import PREFIX, Vocabulary, label_of, one_line
from sagesmith.algorithms.run import Run
from sagesmith.formats.channel import Channel
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.errors import DataError
from sagesmith.formats.lines import BOM
from sagesmith.formats.nesting import load_json
from sagesmith.formats.source import Source

TEXT, LINES, FRAMES = "text/plain", "application/jsonlines", "application/x-recordio"
BLOCK = 1 << 20  # bytes read at once
TOLD = 10_000_000  # words, after each of which the log says how far it is
LONGEST = 64 << 20  # bytes of a word
LINE, UNKNOWN = -1, -2
BETWEEN = b" \t\n\v\f\r\0"
FIELDS = 'an object {"source": text, "label": number or list of numbers}'


class Texts(Channel):
    """A channel over texts in memory, one a line."""

    def __init__(self, name: str, lines: bytes) -> None:
        from sagesmith.formats.format import Options

        super().__init__(name, TEXT, Options())
        self.lines = lines


def of_texts(name: str, texts: Iterable[Any], labels: Sequence[Any] | None) -> Texts:
    """A channel over texts (or lists of words), with one label or a list of labels each.

    Raises:
        ValueError: something that is no text or no label, naming its row from 0, or counts that differ.
    """
    rows = [_joined(text, row) for row, text in enumerate(texts)]
    if labels is None:
        return Texts(name, b"".join(map(one_line, rows)))
    if len(labels) != len(rows):
        raise ValueError(f"{len(rows)} texts, but {len(labels)} labels")
    return Texts(
        name, b"".join(_labelled(*pair, f"row {row}") for row, pair in enumerate(zip(rows, labels, strict=True)))
    )


def _joined(text: Any, row: int) -> str:
    if isinstance(text, str):
        return text
    if isinstance(text, (list, tuple)) and all(isinstance(word, str) for word in text):
        return " ".join(text)
    raise ValueError(f"row {row}: {text!r:.80} is neither a text nor a list of words")


def _labelled(text: str, labels: Any, place: str) -> bytes:
    several = labels if isinstance(labels, (list, tuple, set, np.ndarray)) else [labels]
    marks = [label_of(label, place) for label in several]
    if not marks:
        raise DataError(f"{place}: an empty list of labels")
    return one_line(" ".join([*marks, _unmarked(text)]))


def _unmarked(text: str) -> str:
    """A text whose words that look like labels are no labels any more: they would tell what is to be learnt."""
    return " ".join(word for word in text.split(" ") if not word.startswith(PREFIX)) if PREFIX in text else text


def words_of(channel: Channel, vocabulary: Vocabulary, learn: bool, labelled: bool, run: Run) -> np.ndarray:
    """One pass over a channel: entries of the vocabulary, int32, -1 where a line ends.

    Args:
        learn: count the words.
        labelled: every line needs a label.

    Raises:
        DataError: bytes that are not UTF-8, JSON of another form, a line without a label; naming file and line.
    """
    parts: list[np.ndarray] = []
    words, told = 0, TOLD
    for name, size, blocks in _files(channel):
        if size is not None:
            run.log("Processing %s . File size: %s MB", name, size / 2**20)
        vocabulary.begin()
        ended = True
        for block in blocks:
            _check_utf8(block, name, vocabulary)
            parts.append(vocabulary.read(block, learn))
            words += int(np.count_nonzero(parts[-1] != LINE))
            if words >= told:
                run.log("Read %dM words", words // 1_000_000)
                told = words - words % TOLD + TOLD
            ended = block.endswith(b"\n")
            if labelled and vocabulary.unlabelled:
                raise DataError(f"{name}, line {vocabulary.unlabelled}: no label; every line needs a word {PREFIX}…")
        if not ended:
            parts.append(vocabulary.read(b"\n", learn))
            if labelled and vocabulary.unlabelled:
                raise DataError(f"{name}, line {vocabulary.unlabelled}: no label; every line needs a word {PREFIX}…")
    return np.concatenate(parts) if parts else np.empty(0, np.int32)


def known(words: np.ndarray, final: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """A text as numbers of words of the dictionary, int32: what it lacks, and labels, are left out."""
    numbers = np.where(vocabulary.lexicon.labels[: len(final)], UNKNOWN, np.where(final < 0, UNKNOWN, final))
    table = np.append(numbers, LINE).astype(np.int32)  # -1, the end of a line, finds the last
    found = table[words]
    return np.asarray(found[found != UNKNOWN])


def _check_utf8(block: bytes, name: str, vocabulary: Vocabulary) -> None:
    try:
        block.decode()
    except UnicodeDecodeError as error:
        line = vocabulary.line + block.count(b"\n", 0, error.start)
        raise DataError(f"{name}, line {line}: not UTF-8: {error.reason} ({block[error.start]:#04x})") from None


def _files(channel: Channel) -> Iterator[tuple[str, int | None, Iterator[bytes]]]:
    """The files of a channel by name, each with its size, if it has one, and as blocks that end between words."""
    if isinstance(channel, Texts):
        yield channel.name, None, iter([channel.lines])
    elif channel.is_arrays:
        raise DataError(f"channel {channel.name!r} holds rows of numbers, not text")
    elif channel.wrapped:
        yield f"channel {channel.name!r}", None, _gathered(_of_frames(channel))
    elif ContentType.parse(channel.content_type).name == LINES:
        yield f"channel {channel.name!r}", None, _gathered(_of_records(channel))
    else:
        for source in channel.sources():
            yield source.name, source.size(), _of_text(source)


def _of_text(source: Source) -> Iterator[bytes]:
    with source.open() as stream:
        held = stream.read(len(BOM)).removeprefix(BOM)
        while block := stream.read(BLOCK):
            block = held + block
            end = max(block.rfind(bytes([byte])) for byte in BETWEEN) + 1
            held = block[end:]
            if len(held) > LONGEST:
                raise DataError(f"{source.name}: a word of more than {LONGEST} bytes")
            if end:
                yield block[:end]
    if held:
        yield held


def _gathered(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines as blocks of about the usual size."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _of_records(channel: Channel) -> Iterator[bytes]:
    for record, place in channel.records():
        yield _of_pair(record.get("source"), record.get("label"), place)


def _of_pair(source: Any, label: Any, place: str) -> bytes:
    if not isinstance(source, str) or label is None:
        raise DataError(f"{place}: not {FIELDS}")
    return _labelled(source, label, place)


def _of_frames(channel: Channel) -> Iterator[bytes]:
    """Frames that are text with labels as they are; others in pairs, the text and its label."""
    frames = enumerate(channel.payloads(), 1)
    for number, frame in frames:
        place = f"record {number} of channel {channel.name!r}"
        if PREFIX.encode() in frame:
            yield frame if frame.endswith(b"\n") else frame + b"\n"
            continue
        _, label = next(frames, (0, None))
        if label is None:
            raise DataError(f"{place}: a source without a label; AttributeNames must be source, label")
        try:
            text = frame.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{place}: not UTF-8: {error.reason}") from None
        yield _labelled(text, _label_in(label, place), place)


def _label_in(frame: bytes, place: str) -> Any:
    """The label of an augmented manifest: JSON, or text as it is."""
    text = frame.strip()
    if text[:1] in b'["-0123456789' and text:
        return load_json(text, f"{place}, label")
    return text.decode("utf-8", "replace")
