"""BlazingText reads text, counts words and hashes n-grams as fastText does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.algorithms.blazingtext import reading, supervised, words_compiled
from sagesmith.algorithms.blazingtext.dictionary import Vocabulary, side_by_side
from sagesmith.algorithms.blazingtext.words_compiled import Grams
from sagesmith.algorithms.run import Run
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.frames import frame
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.blazingtext_texts import character_rows, fnv, word_rows

WORDS = st.text(st.characters(codec="utf-8", exclude_characters=" \t\n\v\f\r\0"), min_size=1, max_size=8)
LINES = st.lists(st.lists(WORDS.filter(lambda word: word != "</s>"), max_size=6), max_size=8)


def stream_of(content: str | bytes, folder: Path, labelled: bool = False) -> tuple[Vocabulary, np.ndarray]:
    (folder / "part.txt").write_bytes(content.encode() if isinstance(content, str) else content)
    vocabulary = Vocabulary()
    channel = Channel.from_folder("train", folder, "text/plain")
    return vocabulary, reading.words_of(channel, vocabulary, learn=True, labelled=labelled, run=Run())


@settings(max_examples=60, deadline=None)
@given(LINES, st.sampled_from([1, 3, 7, 1 << 20]))
def test_words_are_numbered_and_counted(
    tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]], block: int
) -> None:
    folder = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        patch.setattr(reading, "_check_utf8", lambda *_: None)  # of blocks that cut characters apart in this test only
        vocabulary, stream = stream_of("\n".join(" ".join(line) for line in lines), folder)
    dictionary, final = vocabulary.dictionary(1, with_line_end=True)
    names = [*dictionary.names(), "?"]
    labels = dictionary.words
    read: list[list[str]] = [[]]
    for entry in stream.tolist():
        if entry == -1:
            read.append([])
        else:
            is_label = vocabulary.lexicon.labels[entry]
            read[-1].append(names[final[entry] + (labels if is_label else 0)])
    assert read[:-1] == [line for line in lines if line]
    counts = Counter(word for line in lines for word in line)
    counts["</s>"] = sum(1 for line in lines if line)
    found = dict(zip(dictionary.names(), dictionary.counts.tolist(), strict=True))
    assert found == {word: count for word, count in counts.items() if count}


def test_files_and_millions_of_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 100)
    monkeypatch.setattr(reading, "TOLD", 30)
    for name in ("a", "b"):
        (tmp_path / name).write_text("one two three four\n" * 10)
    run = RecordingRun()
    reading.words_of(Channel.from_folder("train", tmp_path, "text/plain"), Vocabulary(), True, False, run)
    names = [line for line in run.lines if line.startswith("Processing")]
    assert names == [f"Processing {tmp_path}/{name} . File size: {190 / 2**20} MB" for name in "ab"]
    assert run.lines.count("Read 0M words") == 2, "of eighty words"


def test_a_byte_order_mark_is_no_letter(tmp_path: Path) -> None:
    vocabulary, _ = stream_of("\ufeff__label__a b\n", tmp_path, labelled=True)
    assert vocabulary.dictionary(1, with_line_end=False)[0].names() == ["b", "__label__a"]


def test_rare_words_are_left_out_and_the_rest_sorted() -> None:
    vocabulary = Vocabulary()
    vocabulary.read(b"b a a c c c __label__y a b\n__label__y x\n__label__x d\n")
    dictionary, final = vocabulary.dictionary(2, with_line_end=True)
    assert dictionary.names() == ["</s>", "a", "c", "b", "__label__y", "__label__x"]
    assert dictionary.counts.tolist() == [3, 3, 3, 2, 2, 1]
    assert (dictionary.words, dictionary.labels, dictionary.tokens) == (4, 2, 16)
    assert vocabulary.dictionary(2, with_line_end=False)[0].names()[0] == "a"
    assert sorted(final.tolist()) == [-1, -1, 0, 0, 1, 1, 2, 3]


def test_a_lexicon_grows_with_its_words() -> None:
    words = [f"w{number}" for number in range(20_000)] + ["x" * 300_000]
    vocabulary = Vocabulary()
    stream = vocabulary.read(" ".join([*words, *words]).encode() + b"\n")
    dictionary, _ = vocabulary.dictionary(2, with_line_end=False)
    assert dictionary.names() == words
    assert np.array_equal(stream[: len(words)], stream[len(words) : -1])
    rows, _, _ = dictionary.find(["w19999", "w20000", "x" * 300_000, ""])
    assert rows.tolist() == [19_999, -1, 20_000, -1]


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 1000))
def test_ngrams_of_characters_have_fasttexts_rows(words: list[str], least: int, most: int, buckets: int) -> None:
    letters, starts = side_by_side(words)
    grams, ends = Grams(100, buckets, least, most, 1), np.empty(len(words) + 1, np.int64)
    own = np.arange(len(words))
    own[0] = -1
    rows = np.empty(2000, np.int64)
    count = words_compiled.subwords(letters, starts, own, grams, ends, rows)
    for number, word in enumerate(words):
        expected = [100 + row for row in character_rows(word, least, most, buckets)] if word != "</s>" else []
        assert rows[ends[number] : ends[number + 1]].tolist() == ([number] if number else []) + expected
    assert count == ends[-1]


def test_the_hash_is_of_signed_bytes() -> None:
    assert fnv(b"cat") == 108289031
    assert fnv("ï".encode()) != (((((2166136261 ^ 0xC3) * 16777619) & 0xFFFFFFFF) ^ 0xAF) * 16777619) & 0xFFFFFFFF


@settings(max_examples=60, deadline=None)
@given(
    st.lists(WORDS.filter(lambda w: not w.startswith("__label__") and w != "</s>"), max_size=7),
    st.integers(1, 4),
    st.integers(1, 10**6),
)
def test_ngrams_of_words_have_fasttexts_rows(words: list[str], longest: int, buckets: int) -> None:
    vocabulary = Vocabulary()
    stream = vocabulary.read(f"__label__a {' '.join(words)}\n".encode())
    dictionary, final = vocabulary.dictionary(1, with_line_end=True)
    given_ = supervised.arguments_of(
        {"word_ngrams": longest, "buckets": buckets, "vector_dim": 2, "epochs": 1, "min_count": 1}
    )
    lines = supervised.lines_of(stream, vocabulary, final, given_, dictionary.words)
    line = [*words, "</s>"]
    own = dictionary.find(line)[0].tolist()
    expected = own + [dictionary.words + row for row in word_rows(line, longest, buckets)]
    assert lines.rows.tolist() == expected
    assert lines.labels.tolist() == [0]
    ends, rows = dictionary.rows_of_texts([" ".join(words)], given_.grams(dictionary.words))
    assert (ends.tolist(), rows.tolist()) == ([0, len(expected)], expected)


def test_words_too_rare_still_make_ngrams() -> None:
    vocabulary = Vocabulary()
    stream = vocabulary.read(b"__label__a common common rare\n" * 1 + b"__label__b common\n")
    dictionary, final = vocabulary.dictionary(2, with_line_end=True)
    given_ = supervised.arguments_of({"word_ngrams": 2, "buckets": 97, "vector_dim": 2, "epochs": 1, "min_count": 2})
    lines = supervised.lines_of(stream, vocabulary, final, given_, dictionary.words)
    first = lines.rows[: lines.ends[1]].tolist()
    names = dictionary.names()
    assert [names[row] for row in first if row < dictionary.words] == ["common", "common", "</s>"]
    assert [row - dictionary.words for row in first if row >= dictionary.words] == word_rows(
        ["common", "common", "rare", "</s>"], 2, 97
    )


@pytest.mark.parametrize(
    ("content", "labelled", "message"),
    [
        (b"fine\nalso fine\nbroken \xff here\n", False, "part.txt, line 3: not UTF-8: invalid start byte (0xff)"),
        (b"__label__a x\n\n  \nno label here\n", True, "part.txt, line 4: no label; every line needs a word __label__"),
        (b"__label__a x\nlast line", True, "part.txt, line 2: no label"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, labelled: bool, message: str) -> None:
    with pytest.raises(DataError) as caught:
        stream_of(content, tmp_path, labelled)
    assert message in str(caught.value)


def test_lines_are_counted_over_blocks_and_anew_in_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 5)
    (tmp_path / "a.txt").write_text("__label__a one two three\n" * 4)
    with pytest.raises(DataError, match=r"part\.txt, line 3: no label"):
        stream_of("__label__a a\n__label__a a\nb\n", tmp_path, labelled=True)


def channel_of(folder: Path, content: bytes, content_type: str, wrapper: str = "None") -> Channel:
    (folder / "part").write_bytes(content)
    return Channel.from_folder("train", folder, content_type, record_wrapper=wrapper)


def names_in(channel: Channel) -> list[str]:
    vocabulary = Vocabulary()
    stream = reading.words_of(channel, vocabulary, learn=True, labelled=True, run=Run())
    starts, text = vocabulary.lexicon.starts, vocabulary.lexicon.letters.tobytes()
    return ["\n" if e < 0 else text[starts[e] : starts[e + 1]].decode() for e in stream.tolist()]


def test_json_lines_are_text_with_labels(tmp_path: Path) -> None:
    content = b'{"source": "linux ready", "label": 1}\n\n{"source": "two\\nlines __label__9", "label": [1, 3]}\n'
    expected = ["__label__1", "linux", "ready", "\n", "__label__1", "__label__3", "two", "lines", "\n"]
    assert names_in(channel_of(tmp_path, content, "application/jsonlines")) == expected


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-recordio"])
def test_augmented_manifests_are_sources_and_labels_in_turn(tmp_path: Path, content_type: str) -> None:
    records = [b"linux ready", b"1", "naïve".encode(), b"[1, 3]", b"sport today", b"sport", b"__label__7 a whole line"]
    content = b"".join(map(frame, records))
    expected = "__label__1 linux ready \n __label__1 __label__3 naïve \n __label__sport sport today \n"
    assert " ".join(names_in(channel_of(tmp_path, content, content_type, "RecordIO"))).replace(" \n ", "\n").replace(
        " \n", "\n"
    ) == (expected + " __label__7 a whole line \n").replace(" \n ", "\n").replace(" \n", "\n")


@pytest.mark.parametrize(
    ("records", "content_type", "wrapper", "message"),
    [
        (
            [b'{"source": "a", "label": 1}\n\n{"source": "a"}\n'],
            "application/jsonlines",
            "None",
            "part, line 3: not an",
        ),
        ([b'{"source": "a", "label": 1.5}\n'], "application/jsonlines", "None", "neither a whole number nor text"),
        ([b'{"source": "a", "label": []}\n'], "application/jsonlines", "None", "an empty list of labels"),
        ([b'{"source": "a", "label": "x y"}\n'], "application/jsonlines", "None", "holds white space"),
        ([b'{"source": "a", "label": 1}\n{"sou\n'], "application/jsonlines", "None", "line 2: not JSON"),
        ([frame(b"a"), frame(b"1"), frame(b"b")], "text/plain", "RecordIO", "AttributeNames must be source, label"),
        ([frame(b"a"), frame(b"[1")], "text/plain", "RecordIO", "record 1 of channel 'train', label: not JSON"),
        ([frame(b"\xff"), frame(b"1")], "text/plain", "RecordIO", "record 1 of channel 'train': not UTF-8"),
    ],
)
def test_bad_records_are_named(
    tmp_path: Path, records: list[bytes], content_type: str, wrapper: str, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        names_in(channel_of(tmp_path, b"".join(records), content_type, wrapper))
    assert message in str(caught.value)
