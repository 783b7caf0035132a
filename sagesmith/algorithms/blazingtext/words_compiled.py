"""Words: text cut into words, known by their hashes; n-grams of characters and of words; all as fastText has them.

Words end at the bytes that end them in fastText. A word's hash is FNV-1a over *signed* bytes (one above 127 flips the
24 bits above it), and hashes are signed again where n-grams of words are made of them: models depend on both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sagesmith.formats.compiled import compiled, inlined

LINE = -1  # in a stream of words: the line ends here
LABEL = np.frombuffer(b"__label__", np.uint8)
END_OF_LINE = 0  # the entry of "</s>", the first of every lexicon
LONGEST = 1 << 20  # bytes of a word
START, PRIME = np.uint32(2166136261), np.uint32(16777619)
NGRAM = np.uint64(116049371)
LF = 10
NUMBER, TOKENS, LABELS, UNLABELLED = 0, 1, 2, 3  # the fields of `line`
END = np.frombuffer(b"</s>", np.uint8)
END_HASH = np.uint32(3617362777)


class Lexicon(NamedTuple):
    """Words in the order of their coming, with room for more; `slots` finds them by hash."""

    slots: np.ndarray  # (a power of 2,) int32: entry + 1, or 0
    hashes: np.ndarray  # (room,) uint32
    starts: np.ndarray  # (room + 1,) int64: where a word begins in `letters`
    counts: np.ndarray  # (room,) int64
    labels: np.ndarray  # (room,) bool: it begins with __label__
    letters: np.ndarray  # uint8
    size: np.ndarray  # (1,) int64: the number of entries


@inlined
def _parts(byte: int) -> bool:
    """Whether a byte stands between words: space, tab to carriage return, or 0."""
    return byte == 32 or (9 <= byte <= 13) or byte == 0


@inlined
def _mixed(value: np.uint32, byte: np.uint8) -> np.uint32:
    return np.uint32((value ^ np.uint32(np.int8(byte))) * PRIME)


@inlined
def _same(text: np.ndarray, begin: int, length: int, letters: np.ndarray, at: int) -> bool:
    i = 0
    while i < length and text[begin + i] == letters[at + i]:
        i += 1
    return i == length


@inlined
def _find(text: np.ndarray, begin: int, length: int, value: np.uint32, lexicon: Lexicon) -> Any:
    """(entry, slot): the entry is -1 when there is none, and the slot then free for it."""
    mask = len(lexicon.slots) - 1
    slot = np.int64(value) & mask
    while lexicon.slots[slot]:
        entry = lexicon.slots[slot] - 1
        first = lexicon.starts[entry]
        if (
            lexicon.hashes[entry] == value
            and lexicon.starts[entry + 1] - first == length
            and _same(text, begin, length, lexicon.letters, first)
        ):
            return entry, slot
        slot = (slot + 1) & mask
    return -1, slot


@inlined
def _is_label(text: np.ndarray, begin: int, length: int) -> bool:
    return length >= len(LABEL) and _same(text, begin, len(LABEL), LABEL, 0)


@inlined
def _add(text: np.ndarray, begin: int, length: int, value: np.uint32, slot: int, lexicon: Lexicon) -> Any:
    entry = lexicon.size[0]
    first = lexicon.starts[entry]
    for i in range(length):
        lexicon.letters[first + i] = text[begin + i]
    lexicon.starts[entry + 1] = first + length
    lexicon.hashes[entry], lexicon.counts[entry] = value, 0
    lexicon.labels[entry] = _is_label(text, begin, length)
    lexicon.slots[slot] = entry + 1
    lexicon.size[0] = entry + 1
    return entry


@compiled
def read(text: np.ndarray, at: int, lexicon: Lexicon, learn: bool, line: np.ndarray, words: np.ndarray) -> Any:
    """(where to go on, the number of words): entries of the words from text[at] on, and LINE where a line ends.

    Ends at the end of the text, or sooner when the lexicon has no room for the next word. New words always become
    entries; they are counted only if `learn`. `line`, (4,) int64: the line's number from 1, its words and labels so
    far, and the first line with words but no label.
    """
    count, end = 0, len(text)
    while at < end:
        byte = text[at]
        if _parts(byte):
            at += 1
            if byte == LF:
                count = _ended(lexicon, learn, line, words, count)
                line[NUMBER] += 1
            continue
        begin, value = at, START
        while at < end and not _parts(text[at]):
            value = _mixed(value, text[at])
            at += 1
        entry, slot = _find(text, begin, at - begin, value, lexicon)
        if entry < 0:
            size = lexicon.size[0]
            full = 2 * (size + 1) > len(lexicon.slots) or size + 1 >= len(lexicon.starts)
            if full or lexicon.starts[size] + at - begin > len(lexicon.letters):
                return begin, count
            entry = _add(text, begin, at - begin, value, slot, lexicon)
        if entry == END_OF_LINE:
            count = _ended(lexicon, learn, line, words, count)
            continue
        words[count] = entry
        count += 1
        line[TOKENS] += 1
        line[LABELS] += lexicon.labels[entry]
        lexicon.counts[entry] += learn
    return at, count


@inlined
def _ended(lexicon: Lexicon, learn: bool, line: np.ndarray, words: np.ndarray, count: int) -> int:
    if line[TOKENS]:
        words[count] = LINE
        count += 1
        lexicon.counts[END_OF_LINE] += learn
        if not line[LABELS] and not line[UNLABELLED]:
            line[UNLABELLED] = line[NUMBER]
    line[TOKENS] = line[LABELS] = 0
    return count


@compiled
def enter(lexicon: Lexicon, texts: np.ndarray, starts: np.ndarray) -> int:
    """Makes entries of many words, which lie side by side; the number of the first that comes a second time, or -1."""
    for word in range(len(starts) - 1):
        begin, length = starts[word], starts[word + 1] - starts[word]
        value = _hash(texts, begin, length)
        entry, slot = _find(texts, begin, length, value, lexicon)
        if entry >= 0:
            return word
        _add(texts, begin, length, value, slot, lexicon)
    return -1


@compiled
def find(lexicon: Lexicon, texts: np.ndarray, starts: np.ndarray, entries: np.ndarray) -> None:
    """The entries of many words, which lie side by side; -1 for those that are none."""
    for word in range(len(starts) - 1):
        begin, length = starts[word], starts[word + 1] - starts[word]
        entries[word] = _find(texts, begin, length, _hash(texts, begin, length), lexicon)[0]


@inlined
def _hash(text: np.ndarray, begin: int, length: int) -> np.uint32:
    value = START
    for i in range(begin, begin + length):
        value = _mixed(value, text[i])
    return value


@compiled
def slotted(hashes: np.ndarray, count: int, slots: np.ndarray) -> None:
    """Fills empty slots with the first `count` entries."""
    mask = len(slots) - 1
    for entry in range(count):
        slot = np.int64(hashes[entry]) & mask
        while slots[slot]:
            slot = (slot + 1) & mask
        slots[slot] = entry + 1


@compiled
def picked(lexicon: Lexicon, entries: np.ndarray, letters: np.ndarray, starts: np.ndarray) -> None:
    """The words of some entries side by side."""
    at = 0
    for k in range(len(entries)):
        first, last = lexicon.starts[entries[k]], lexicon.starts[entries[k] + 1]
        starts[k] = at
        for i in range(first, last):
            letters[at] = lexicon.letters[i]
            at += 1
    starts[len(entries)] = at


class Grams(NamedTuple):
    """Which n-grams there are, and which rows they have: from `first` on, `buckets` of them."""

    first: int
    buckets: int
    least: int  # characters
    most: int  # characters; 0: no n-grams of characters
    words: int  # the longest n-gram of words; 1: none but words


@inlined
def _letter(text: np.ndarray, begin: int, length: int, i: int) -> Any:
    """The byte at `i` of `<word>`."""
    if i == 0:
        return 60
    return 62 if i == length + 1 else text[begin + i - 1]


@inlined
def _characters(text: np.ndarray, begin: int, length: int, grams: Grams, rows: np.ndarray, count: int) -> int:
    """Rows of the n-grams of characters of `<word>` into rows[count:], as far as it reaches; the number after them."""
    whole = length + 2
    for i in range(whole):
        if (_letter(text, begin, length, i) & 0xC0) == 0x80:
            continue
        value, j, size = START, i, 1
        while j < whole and size <= grams.most:
            value = _mixed(value, np.uint8(_letter(text, begin, length, j)))
            j += 1
            while j < whole and (_letter(text, begin, length, j) & 0xC0) == 0x80:
                value = _mixed(value, np.uint8(_letter(text, begin, length, j)))
                j += 1
            if size >= grams.least and not (size == 1 and (i == 0 or j == whole)):
                if count < len(rows):
                    rows[count] = grams.first + np.int64(value) % grams.buckets
                count += 1
            size += 1
    return count


@compiled
def subwords(
    letters: np.ndarray, starts: np.ndarray, own: np.ndarray, grams: Grams, ends: np.ndarray, rows: np.ndarray
) -> int:
    """Rows of words that lie side by side: each one's own (where own >= 0) and those of its n-grams; (n + 1,) ends.

    "</s>" has none but its own. Returns how many there are; what `rows` has no room for is left out, so that a first
    call can tell the room.
    """
    count = 0
    ends[0] = 0
    for word in range(len(starts) - 1):
        begin, length = starts[word], starts[word + 1] - starts[word]
        if own[word] >= 0:
            if count < len(rows):
                rows[count] = own[word]
            count += 1
        if grams.most > 0 and not (length == len(END) and _same(letters, begin, length, END, 0)):
            count = _characters(letters, begin, length, grams, rows, count)
        ends[word + 1] = count
    return count


@inlined
def _word_ngrams(hashes: np.ndarray, length: int, grams: Grams, rows: np.ndarray, count: int) -> int:
    for i in range(length):
        value = np.uint64(np.int64(np.int32(hashes[i])))
        for j in range(i + 1, min(length, i + grams.words)):
            value = value * NGRAM + np.uint64(np.int64(np.int32(hashes[j])))
            rows[count] = grams.first + np.int64(value % np.uint64(grams.buckets))
            count += 1
    return count


@compiled
def lines_of(
    words: np.ndarray, final: np.ndarray, hashes: np.ndarray, labels: np.ndarray, grams: Grams,
    ends: np.ndarray, rows: np.ndarray, label_ends: np.ndarray, targets: np.ndarray,
) -> Any:  # fmt: skip
    """A stream of words as lines: rows of words and n-grams of words, and labels, line after line.

    `final`: an entry's row, or a label's number, or -1. Returns the numbers of lines, rows and labels.
    """
    line = count = marked = length = 0
    seen = np.empty(1024, np.uint32)
    ends[0] = label_ends[0] = 0
    for word in words:
        entry = END_OF_LINE if word == LINE else word
        if labels[entry]:
            if final[entry] >= 0:
                targets[marked] = final[entry]
                marked += 1
            continue
        if length == len(seen):
            larger = np.empty(2 * length, np.uint32)
            larger[:length] = seen
            seen = larger
        seen[length] = hashes[entry]
        length += 1
        if final[entry] >= 0:
            rows[count] = final[entry]
            count += 1
        if word == LINE:
            count = _word_ngrams(seen, length, grams, rows, count)
            length = 0
            line += 1
            ends[line], label_ends[line] = count, marked
    return line, count, marked


@compiled
def texts_of(
    text: np.ndarray, lexicon: Lexicon, own: np.ndarray, grams: Grams, ends: np.ndarray, rows: np.ndarray
) -> Any:
    """Lines of text, each with its end, as rows; of words that are not known their n-grams. (lines, rows) as counted.

    `own`: an entry's row, -1 for a label. What `rows` has no room for is left out, so that a first call can tell it.
    """
    line = count = length = at = 0
    hashes = np.empty(len(text) // 2 + 2, np.uint32)
    room = np.empty((len(text) // 2 + 2) * grams.words, np.int64)
    ends[0] = 0
    while at < len(text):
        byte = text[at]
        begin, value = at, START
        while at < len(text) and not _parts(text[at]):
            value = _mixed(value, text[at])
            at += 1
        if at > begin:
            entry, _ = _find(text, begin, at - begin, value, lexicon)
            if own[entry] < 0 if entry >= 0 else _is_label(text, begin, at - begin):
                continue
            hashes[length] = value
            length += 1
            if entry >= 0:
                if count < len(rows):
                    rows[count] = own[entry]
                count += 1
            if grams.most > 0:
                count = _characters(text, begin, at - begin, grams, rows, count)
            continue
        at += 1
        if byte == LF:
            entry, _ = _find(END, 0, len(END), END_HASH, lexicon)
            if entry >= 0 and own[entry] >= 0:
                if count < len(rows):
                    rows[count] = own[entry]
                count += 1
            hashes[length] = END_HASH
            more = _word_ngrams(hashes, length + 1, grams, room, 0)
            for k in range(more):
                if count < len(rows):
                    rows[count] = room[k]
                count += 1
            length = 0
            line += 1
            ends[line] = count
    return line, count
