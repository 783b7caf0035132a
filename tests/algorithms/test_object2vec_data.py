"""Object2Vec's data: JSON Lines, packed lists, batches, negatives, pretrained vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.algorithms import Object2Vec
from sagesmith.algorithms.object2vec.batches import Negatives, Part, order_of
from sagesmith.algorithms.object2vec.pairs import (
    TOKENS_TOGETHER,
    Pairs,
    Tokens,
    check_rows,
    check_vocabulary,
    of_python,
)
from sagesmith.algorithms.object2vec.reading import read_source
from sagesmith.formats.errors import DataError
from sagesmith.formats.source import Source
from sagesmith.testing.check_algorithm import RecordingRun
from tests.algorithms.object2vec_pairs import SMALL, drawn, jsonlines

LISTS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5)
FINE = '{"label": 1, "in0": [6, 17], "in1": [16]}\n'


def lists(tokens: Tokens) -> list[list[int]]:
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


def read(text: str) -> Pairs:
    return Pairs.joined(list(read_source(Source.of_body(text.encode(), "a.jsonl"))))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), LISTS, LISTS), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_lines_are_read_as_json_reads_them(rows: list[Any], blank: bool, final: bool) -> None:
    lines = [json.dumps({"in1": b, "more": {"x": [1]}, "in0": a, "label": label}) for label, a, b in rows]
    pairs = read(("\n\n" if blank else "\n").join(lines) + ("\n" if final else ""))
    assert (lists(pairs.sides[0]), lists(pairs.sides[1])) == ([a for _, a, _ in rows], [b for _, _, b in rows])
    assert pairs.label is not None
    assert pairs.label.tolist() == [label for label, _, _ in rows]
    assert pairs.sides[0].ids.dtype == np.int32


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"label": 1, "in0": [6, "in1": [1]}', "not JSON"),
        ('{"label": 1, "in0": [6]}', "no 'in1'"),
        ('{"in0": [6], "in1": [1]}', "no 'label'"),
        ('{"label": "1", "in0": [6], "in1": [1]}', 'the label "1" is not a finite number'),
        ('{"label": NaN, "in0": [6], "in1": [1]}', "the label NaN is not a finite number"),
        ('{"label": true, "in0": [6], "in1": [1]}', "the label true"),
        (f'{{"label": 1{"0" * 400}, "in0": [6], "in1": [1]}}', "the label 1000*0 is not a finite number"),
        ('{"label": 1, "in0": 6, "in1": [1]}', r"in0 is 6, not a list of token ids; a single token is written \[10\]"),
        ('{"label": 1, "in0": [6, null], "in1": [1]}', "in0 holds 'None'"),
        ('{"label": 1, "in0": null, "in1": [1]}', "in0 is null"),
        ('{"label": 1, "in0": [6.5], "in1": [1]}', "in0 holds '6.5'"),
        ('{"label": 1, "in0": [6], "in1": [-1]}', "in1 holds '-1'"),
        ('{"label": 1, "in0": [6], "in1": [4294967296]}', "in1 holds '4294967296'"),
        ('{"label": 1, "in0": [6], "in1": []}', "in1 is an empty list"),
        ("[1, [2], [3]]", "not a JSON object"),
        ('{"label": 1, "in0": [6], "in1": [1]} {"label": 1, "in0": [6], "in1": [1]}', "not JSON"),
    ],
)
def test_a_broken_line_is_named(line: str, words: str) -> None:
    with pytest.raises(DataError, match="a.jsonl, line 7: .*" + words):
        read(FINE * 6 + line + "\n" + FINE * 3)


def test_broken_utf8_is_named() -> None:
    body = FINE.encode() * 6 + b'{"label": 1, "in0": [6], "in1": [1], "note": "\xff"}\n'
    with pytest.raises(DataError, match="line 7: not UTF-8"):
        list(read_source(Source.of_body(body, "a.jsonl")))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 9))
def test_the_first_row_that_does_not_fit_is_named(ids: list[int], size: int) -> None:
    def check() -> None:
        check_rows(
            Pairs(Tokens.of([[k] for k in ids]), None), lambda p: check_vocabulary(p, (size, 1)), "row {}".format
        )

    bad = [row for row, token in enumerate(ids) if token >= size]
    if not bad:
        check()
        return
    with pytest.raises(DataError, match=rf'Vocab id "{ids[bad[0]]}" is not .*=\d \(row {bad[0]}\)$'):
        check()


@settings(max_examples=40, deadline=None)
@given(st.lists(LISTS, min_size=1, max_size=8), st.integers(1, 5), st.randoms())
def test_rows_and_cuts_are_those_of_lists(given_lists: list[list[int]], longest: int, random: Any) -> None:
    tokens = Tokens.of(given_lists)
    index = np.array([random.randrange(len(given_lists)) for _ in range(5)])
    assert lists(tokens.rows(index)) == [given_lists[k] for k in index]
    assert lists(tokens.cut(longest)) == [one[:longest] for one in given_lists]
    assert lists(Tokens.joined([tokens, tokens])) == given_lists * 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=12), st.integers(1, 5))
def test_a_network_is_asked_about_few_long_lists_at_once(lengths: list[tuple[int, int]], size: int) -> None:
    sides = [Tokens.of([np.arange(pair[side]) for pair in lengths]) for side in (0, 1)]
    for pairs in (Pairs(*sides), Pairs(sides[0], None), Pairs(None, sides[1])):
        parts = list(pairs.parts(size))
        whole = Pairs.joined(parts)
        assert [t and lists(t) for t in (whole.in0, whole.in1)] == [t and lists(t) for t in (pairs.in0, pairs.in1)]
        for part in parts:
            given_sides = [t for t in (part.in0, part.in1) if t is not None]
            assert len(part) <= size
            assert len(part) == 1 or all(len(t) * t.lengths.max() <= TOKENS_TOGETHER for t in given_sides)
    assert len(list(Pairs(Tokens.of([[1]] * 1025), None).parts())) == 2


def test_batches_hold_every_pair_once_and_buckets_keep_to_their_lengths() -> None:
    pairs = of_python(*drawn(200))
    for width in (0, 2, 3):
        batches = order_of(pairs, 16, width, np.random.default_rng(0))
        assert sorted(np.concatenate(batches)) == list(range(200))
        assert max(map(len, batches)) == 16
        if width:
            for batch in batches:
                for side in pairs.sides:
                    assert len(set((side.lengths[batch] - 1) // width)) == 1
    again = order_of(pairs, 16, 2, np.random.default_rng(0))
    assert all(
        np.array_equal(a, b) for a, b in zip(again, order_of(pairs, 16, 2, np.random.default_rng(0)), strict=True)
    )
    assert len(order_of(pairs, 16, 0, np.random.default_rng(0))) == 13


@pytest.mark.parametrize("size", [1, 3, 10])
def test_negatives_pair_with_others_and_only_positives_get_them(size: int) -> None:
    negatives = Negatives(4, 50, np.random.default_rng(0))
    index = np.arange(size) + 7
    label = np.ones(size)
    label[0] = 0 if size > 1 else 1
    others = negatives.others(index)
    assert len(set(index) | set(others)) == max(size, 5)
    first, second, labels = negatives.drawn(label, size + len(others))
    assert np.array_equal(first[:size], second[:size])
    assert np.array_equal(labels[:size], label)
    assert len(first) == size + 4 * int(label.sum())
    assert (first[size:] != second[size:]).all()
    assert not labels[size:].any()
    assert len(set(zip(first[size:], second[size:], strict=True))) == len(first) - size
    assert label[first[size:]].all()


def test_devices_take_whole_positives_with_their_negatives() -> None:
    index, label = np.arange(7) + 20, np.array([1, 0, 1, 1, 0, 0, 1])
    batch = Negatives(8, 50, np.random.default_rng(0)).batch(index, label)
    assert (len(batch), len(batch.in1)) == (7 + 4 * 8, 9)
    shares = [batch.share(rows) for rows in np.array_split(np.arange(7), 3)]
    assert [share.in0.tolist() for share in shares] == [[20, 21, 22], [23, 24], [25, 26]]
    assert [len(share) for share in shares] == [3 + 16, 2 + 8, 2 + 8]

    def triples(part: Part) -> list[tuple[int, int, float]]:
        assert part.first is not None
        assert part.second is not None
        return list(zip(part.in0[part.first], part.in1[part.second], part.label, strict=True))

    assert sorted(triple for share in shares for triple in triples(share)) == sorted(triples(batch))
    assert all(len(set(share.in1[share.second])) == len(share.in1) for share in shares)


def test_a_batch_without_positives_needs_no_others() -> None:
    index = np.arange(3) + 20
    batch = Negatives(8, 50, np.random.default_rng(0)).batch(index, np.zeros(3))
    assert (batch.in1.tolist(), len(batch)) == (index.tolist(), 3)


def test_two_pairs_are_enough_for_negatives() -> None:
    Object2Vec(**{**SMALL, "negative_sampling_rate": 5, "epochs": 1}).fit([[[1], [2]], [[3], [4]]], [1, 1])
    Object2Vec(**{**SMALL, "negative_sampling_rate": 5, "epochs": 1}).fit([[[1], [2]]], [1])


# -- pretrained vectors ------------------------------------------------------------------------------------------
def auxiliary(folder: Path, size: int = 8) -> np.ndarray:
    """A vocabulary of 20 tokens, of which a file knows the first 15, and a stranger."""
    folder.mkdir(exist_ok=True)
    vectors = np.random.default_rng(0).normal(size=(15, size)).round(4)
    known = "".join(f"w{k} {' '.join(map(str, vector))}\n" for k, vector in enumerate(vectors.tolist()))
    (folder / "glove.txt").write_text(known + "stranger " + " ".join(["1"] * size) + "\n")
    (folder / "vocab.json").write_text(json.dumps({f"w{k}": k for k in range(20)}))
    return vectors


FILES = {"enc0_pretrained_embedding_file": "glove.txt", "enc0_vocab_file": "vocab.json", "enc_dim": 8}


@pytest.mark.parametrize("storage", ["dense", "row_sparse"])
@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_pretrained_vectors_are_taken_and_frozen(tmp_path: Path, storage: str, freeze: bool, tied: bool) -> None:
    vectors = auxiliary(tmp_path)
    run = RecordingRun()
    more = {"enc0_freeze_pretrained_embedding": freeze, "tied_token_embedding_weight": tied, "epochs": 1}
    model = Object2Vec(**{**SMALL, **FILES, **more, "token_embedding_storage_type": storage})
    model.fit(*drawn(60), auxiliary=tmp_path, run=run)
    arrays = model.arrays()
    assert ("tables.1.weight" in arrays) != tied
    same = np.allclose(arrays["tables.0.weight"][:15], vectors, atol=1e-6)
    assert same == freeze
    assert np.allclose(arrays["tables.0.weight"][:15], vectors, atol=0.2)
    assert "enc0: 15 of 20 token vectors are pretrained" in run.lines


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "glove.txt").unlink(), "has no file 'glove.txt'; it has vocab.json"),
        (lambda f: (f / "vocab.json").write_text('{"a": 20}'), 'Vocab id "20" is not less than vocab_size=20'),
        (lambda f: (f / "vocab.json").write_text('{"a": "b"}'), "the id of 'a' is 'b'"),
        (lambda f: (f / "vocab.json").write_text("[]"), "not a JSON object"),
        (lambda f: (f / "vocab.json").write_text('{"other": 1}'), "none of its tokens"),
        (lambda f: (f / "glove.txt").write_text("w1 1 2 3 4 5 6 7 8 9\n"), "line 1: a vector of 9 numbers"),
        (lambda f: (f / "glove.txt").write_text("w1 1 2 3\n"), "glove.txt, line 1: a vector of 3 numbers"),
        (lambda f: (f / "glove.txt").write_text("w1 1 2 3 4 5 6 7 x\n"), "line 1: not a vector"),
        (lambda f: (f / "glove.txt").write_text("w1 1 2 3 4 5 6 7 nan\n"), "NaN or infinity"),
    ],
)
def test_broken_auxiliary_files_are_told(tmp_path: Path, change: Any, words: str) -> None:
    auxiliary(tmp_path)
    change(tmp_path)
    with pytest.raises(ValueError, match=words):
        Object2Vec(**{**SMALL, **FILES}).fit(*drawn(20), auxiliary=tmp_path)


def test_pretrained_vectors_need_the_channel() -> None:
    with pytest.raises(ValueError, match="there is no channel 'auxiliary'"):
        Object2Vec(**{**SMALL, **FILES}).fit(*drawn(20))


def test_a_first_line_with_count_and_size_is_passed_over(tmp_path: Path) -> None:
    vectors = auxiliary(tmp_path)
    path = tmp_path / "glove.txt"
    path.write_text("16 8\n" + path.read_text())
    model = Object2Vec(**{**SMALL, **FILES, "epochs": 1}).fit(*drawn(20), auxiliary=tmp_path)
    assert np.allclose(model.arrays()["tables.0.weight"][:15], vectors, atol=1e-6)


def test_tokens_may_hold_spaces_as_gloves_do(tmp_path: Path) -> None:
    vectors = auxiliary(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({".": 0, "at home": 1, "w0": 2}))
    lines = [f"{token} {' '.join(map(str, vectors[k].tolist()))}" for k, token in enumerate([".", ". . .", "at home"])]
    (tmp_path / "glove.txt").write_text("\n".join(lines))
    model = Object2Vec(**{**SMALL, **FILES, "epochs": 1}).fit(*drawn(20), auxiliary=tmp_path)
    for name in ("tables.0.weight", "tables.1.weight"):
        assert np.allclose(model.arrays()[name][:2], vectors[[0, 2]], atol=1e-6)


def test_jsonlines_of_the_helper_are_read() -> None:
    pairs, labels = drawn(10)
    found = read(jsonlines(pairs, labels))
    assert lists(found.sides[0]) == [a for a, _ in pairs]
