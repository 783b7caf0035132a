"""Seq2Seq's data: RecordIO to the byte, vocabularies by the sample's rules, buckets, bad input told by its place."""

from __future__ import annotations

import json
import struct
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.algorithms.seq2seq.buckets import Padded, assigned, batches, buckets_of, shared
from sagesmith.algorithms.seq2seq.sentences import Pairs, Sentences, _read_compiled, _read_plain, read_pairs, written
from sagesmith.algorithms.seq2seq.vocabulary import Vocabulary
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.frames import frame, frames
from sagesmith.formats.protobuf import Record, Value, encode
from tests.algorithms.seq2seq_sentences import WORDS, drawn_pairs

RECORDIO = "application/x-recordio-protobuf"
SPECIAL = {"<pad>": 0, "<unk>": 1, "<s>": 2, "</s>": 3}
IDS = st.lists(st.integers(1, 2**31 - 1) | st.integers(1, 300), max_size=6)


def small_vocabularies() -> tuple[Vocabulary, Vocabulary]:
    return Vocabulary.of([WORDS]), Vocabulary.of([WORDS[:4]])


def test_records_are_written_to_the_byte() -> None:
    """Against bytes put together by hand: frame, features["source"], features["target"], packed varints."""
    (record,) = written([([5, 300], [7])])
    source = b"\x0a\x06source\x12\x07\x3a\x05\x0a\x03\x05\xac\x02"
    target = b"\x0a\x06target\x12\x05\x3a\x03\x0a\x01\x07"
    payload = b"\x0a" + bytes([len(source)]) + source + b"\x0a" + bytes([len(target)]) + target
    assert record == struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)


@settings(deadline=None, max_examples=50)  # the first call compiles
@given(st.lists(st.tuples(IDS, IDS), max_size=5))
def test_both_readers_give_back_what_was_written(pairs: list[tuple[list[int], list[int]]]) -> None:
    data = b"".join(written(pairs))
    compiled = _read_compiled(data)
    assert compiled is not None
    for read in (compiled, of_bytes(data)):
        for side, sentences in enumerate((read.source, read.target)):
            assert [sentences[k].tolist() for k in range(len(pairs))] == [pair[side] for pair in pairs]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_the_compiled_reader_takes_nothing_that_the_plain_one_refuses(data: st.DataObject) -> None:
    content = bytearray(b"".join(written([([5, 300], [7]), ([1], [2, 3])])))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    compiled = _read_compiled(bytes(content))
    if compiled is not None:
        plain = of_bytes(bytes(content))
        for mine, theirs in ((compiled.source, plain.source), (compiled.target, plain.target)):
            assert (mine.ids.tolist(), mine.starts.tolist()) == (theirs.ids.tolist(), theirs.starts.tolist())


def of_bytes(data: bytes) -> Pairs:
    import io

    return _read_plain(frames(io.BytesIO(data)), "file")


def record(**features: Value) -> bytes:
    return frame(encode(Record(features)))


def ints(*ids: int) -> Value:
    return Value("int32", np.array(ids, np.int32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (record(source=ints(4)), "record 2: features has no entry 'target', only 'source'"),
        (record(source=ints(4), target=Value("float32", np.ones(2, np.float32))), "target is a tensor of float32, it"),
        (
            record(source=ints(4), target=Value("int32", ints(4).values, np.array([1], np.uint64))),
            "record 2: target is a tensor of sparse int32, it must be dense int32",
        ),
        (record(source=ints(4), target=ints(5, 99)), "record 2: target holds the id 99; the vocabulary has 1 to 7"),
        (record(source=ints(16), target=ints(5)), "record 2: source holds the id 16; the vocabulary has 1 to 15"),
        (record(source=ints(-4), target=ints(5)), "record 2: source holds the id -4"),
        (record(source=ints(4, 0), target=ints(5)), "record 2: source holds the id 0, which is <pad>'s"),
        (record(source=ints(4), target=ints(5))[:-5], "record 2: truncated"),
        (b"nonsense", "record 2: begins with"),
        (frame(b"\xff\xff"), "record 2: a varint runs over the end"),
    ],
)
def test_bad_records_are_told_by_file_and_number(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train.rec"
    path.write_bytes(record(source=ints(4), target=ints(5)) + content)
    with pytest.raises(DataError) as error:
        read_pairs(Channel.from_folder("train", tmp_path, RECORDIO), *small_vocabularies())
    assert message in str(error.value)
    assert "train.rec" in str(error.value)


def test_files_are_read_in_order_and_markers_passed_over(tmp_path: Path) -> None:
    (tmp_path / "b.rec").write_bytes(b"".join(written([([5], [6])])))
    (tmp_path / "a.rec").write_bytes(b"".join(written([([4], [5]), ([], [4])])))
    (tmp_path / "_SUCCESS").write_bytes(b"")
    pairs = read_pairs(Channel.from_folder("train", tmp_path, RECORDIO), *small_vocabularies())
    assert [pairs.source[k].tolist() for k in range(3)] == [[4], [], [5]]
    usable = pairs.usable(9, 9)
    assert [usable.target[k].tolist() for k in range(len(usable))] == [[5], [6]]


def test_long_sentences_are_cut() -> None:
    pairs = Pairs(Sentences.of([[4, 5, 6], [7]]), Sentences.of([[8], [9, 10, 11, 12]])).usable(2, 3)
    assert [pairs.source[k].tolist() for k in range(2)] == [[4, 5], [7]]
    assert [pairs.target[k].tolist() for k in range(2)] == [[8], [9, 10, 11]]


def test_words_are_numbered_by_count_and_then_in_reverse_order() -> None:
    made = Vocabulary.of([["b", "a", "c"], ["a", "d"], ["</s>", "c"]], most=3)
    assert list(made.tokens) == ["<pad>", "<unk>", "<s>", "</s>", "c", "a", "d"]
    assert made.encode(["a", "b", "d", "<s>"]).tolist() == [5, 1, 6, 2]
    assert made.decode([4, 1]) == ["c", "<unk>"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "a vocabulary is a JSON object of token and id"),
        ("{", "not JSON"),
        (json.dumps({**SPECIAL, "<pad>": 1}), "the id of '<pad>' must be 0, found 1"),
        (json.dumps({"<pad>": 0, "a": 1}), "the id of '<unk>' must be 1, found None"),
        (json.dumps({**SPECIAL, "a": 5}), "the id of 'a' is 5, not one of 0 to 4"),
        (json.dumps({**SPECIAL, "a": "4"}), "the id of 'a' is '4'"),
        (json.dumps({**SPECIAL, "a": 4, "b": 4}), "'a' and 'b' both have the id 4"),
        (b'{"<pad>": 0, "\xff": 1}', "not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_bad_vocabularies_are_told(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    path = tmp_path / "vocab.src.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        Vocabulary.read(path)
    assert message in str(error.value)
    assert "vocab.src.json" in str(error.value)


def test_a_word_that_reads_like_padding_is_unknown() -> None:
    assert Vocabulary({**SPECIAL, "a": 4}).encode(["a", "<pad>", "b", "</s>"]).tolist() == [4, 1, 1, 3]


def test_a_vocabulary_comes_back_from_its_file(tmp_path: Path) -> None:
    made = Vocabulary.of([["grüße", '"', "\u2581"]])
    made.write(tmp_path / "vocab.src.json")
    assert list(Vocabulary.read(tmp_path / "vocab.src.json").tokens) == list(made.tokens)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((30, 30, 10, 1.0), [(10, 10), (20, 20), (30, 30)]),
        ((30, 30, 10, 1.25), [(8, 10), (16, 20), (24, 30), (30, 30)]),
        ((30, 30, 10, 0.5), [(10, 5), (20, 10), (30, 15), (30, 20), (30, 25), (30, 30)]),
        ((25, 12, 10, 1.0), [(10, 10), (20, 12), (25, 12)]),
        ((3, 4, 1, 1.0), [(2, 2), (3, 3), (3, 4)]),
        ((20, 20, 10, 40.0), [(2, 10), (2, 20), *((n, 20) for n in range(3, 21))]),
    ],
)
def test_buckets_are_sockeyes(arguments: tuple[int, int, int, float], expected: list[tuple[int, int]]) -> None:
    assert buckets_of(*arguments) == expected


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 25)), min_size=1, max_size=60),
    st.integers(1, 12),
    st.floats(0.2, 5.0),
)
def test_a_pair_goes_to_the_first_bucket_that_holds_it(
    lengths: list[tuple[int, int]], width: int, ratio: float
) -> None:
    pairs, buckets = drawn_pairs(lengths), buckets_of(30, 25, width, ratio)
    for pair, number in zip(lengths, assigned(pairs, buckets), strict=True):
        holding = [k for k, bucket in enumerate(buckets) if pair[0] <= bucket[0] and pair[1] <= bucket[1]]
        assert number == holding[0]


def test_a_pass_holds_every_pair_once_in_batches_of_one_bucket() -> None:
    lengths = [(int(a), int(b)) for a, b in np.random.default_rng(0).integers(1, 30, (500, 2))]
    pairs, buckets = drawn_pairs(lengths), buckets_of(30, 30, 10, 1.0)
    bucket = assigned(pairs, buckets)
    made = batches(pairs, bucket, 16, np.random.default_rng(1))
    assert sorted(np.concatenate(made)) == list(range(500))
    assert all(len(set(bucket[one])) == 1 for one in made)
    assert sum(len(one) < 16 for one in made) <= len(buckets)
    again, other = (batches(pairs, bucket, 16, np.random.default_rng(seed)) for seed in (1, 2))
    assert [one.tolist() for one in made] == [one.tolist() for one in again]
    assert [one.tolist() for one in made] != [one.tolist() for one in other]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(1, 4))
def test_the_largest_part_of_a_batch_is_as_small_as_can_be(lengths: list[int], parts: int) -> None:
    """Against all ways to cut it: a part costs its pairs times its longest sentences."""
    pairs = drawn_pairs([(length, length) for length in sorted(lengths)])
    found = shared(pairs, np.arange(len(lengths)), parts)
    assert np.concatenate(found).tolist() == list(range(len(lengths)))
    assert len(found) == min(parts, len(lengths))

    def cost(cut: list[np.ndarray]) -> int:
        return max(len(part) * int(pairs.source.lengths[part].max()) for part in cut)

    ways = combinations(range(1, len(lengths)), len(found) - 1)
    assert cost(found) == min(cost(np.split(np.arange(len(lengths)), way)) for way in ways)


def test_a_batch_is_padded_behind_and_ends_its_labels() -> None:
    pairs = Pairs(Sentences.of([[4, 5], [6]]), Sentences.of([[7], [8, 9]]))
    batch = Padded.of(pairs, np.array([1, 0]))
    assert batch.source.tolist() == [[6, 0], [4, 5]]
    assert batch.source_lengths.tolist() == [1, 2]
    assert batch.labels().tolist() == [[8, 9, 3], [7, 3, 0]]
