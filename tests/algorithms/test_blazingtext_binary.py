"""fastText's files: read as fastText reads them, written byte for byte, refused when broken."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms import BlazingText
from sagesmith.algorithms.blazingtext import binary
from sagesmith.algorithms.blazingtext.binary import Arguments, Binary, Rows
from sagesmith.algorithms.blazingtext.dictionary import Dictionary, side_by_side
from sagesmith.algorithms.blazingtext.model import Model, Tree, of_text
from tests.algorithms.blazingtext_texts import drawn

THEIRS = Path(__file__).parent / "blazingtext_fasttext"  # written by fasttext-numpy2 0.10.4
ANSWERS: dict[str, Any] = json.loads((THEIRS / "answers.json").read_text("utf-8"))
ARGUMENTS = Arguments(2, 5, 3, 1, 5, 2, binary.SOFTMAX, binary.SUPERVISED, 4, 0, 0, 100, 1e-4)


def small() -> Binary:
    letters, starts = side_by_side(["naïve", "</s>", "__label__a"])
    dictionary = Dictionary.of(letters, starts, np.array([7, 3, 3]), 2, 13)
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    outputs = Rows(1, 2, np.array([[1, 2, 99]], np.float32))  # the third column is room that is not written
    return Binary(ARGUMENTS, dictionary, Rows(6, 2, values, np.array([0, 1, 3, 4])), outputs)


def test_every_byte_is_fasttexts(tmp_path: Path) -> None:
    binary.write(tmp_path / "model.bin", small())
    matrix = [0, 1, 2, 3, 0, 0, 4, 5, 6, 7, 0, 0]
    assert (tmp_path / "model.bin").read_bytes() == (
        struct.pack("<2i", 793712314, 12)
        + struct.pack("<12id", 2, 5, 3, 1, 5, 2, 3, 3, 4, 0, 0, 100, 1e-4)
        + struct.pack("<3i2q", 3, 2, 1, 13, -1)
        + "naïve".encode() + b"\0" + struct.pack("<qb", 7, 0)
        + b"</s>\0" + struct.pack("<qb", 3, 0)
        + b"__label__a\0" + struct.pack("<qb", 3, 1)
        + struct.pack("<?2q12f", False, 6, 2, *matrix)
        + struct.pack("<?2q2f", False, 1, 2, 1, 2)
    )  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    binary.write(tmp_path / "model.bin", small())
    model = binary.read(tmp_path / "model.bin")
    assert astuple(model.arguments) == astuple(ARGUMENTS)
    assert model.dictionary.names() == ["naïve", "</s>", "__label__a"]
    assert (model.dictionary.words, model.dictionary.labels, model.dictionary.tokens) == (2, 1, 13)
    assert model.inputs.values.tolist() == [[0, 1], [2, 3], [0, 0], [4, 5], [6, 7], [0, 0]]
    binary.write(tmp_path / "again.bin", model)
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "model.bin").read_bytes()


@pytest.mark.parametrize("name", ["softmax", "hs", "ova", "subwords"])
def test_fasttexts_classifiers_answer_as_in_fasttext(name: str) -> None:
    model, told = Model.read(THEIRS / f"{name}.bin"), ANSWERS[name]
    found = model.best(told["texts"], 3)
    for labels, chances, (their_labels, theirs) in zip(*found, told["answers"], strict=True):
        # fastText looks the logistic function up in a table of 512 numbers, and adds 1e-5 within its logarithms.
        assert chances == pytest.approx(theirs, abs=2e-5 if name in ("softmax", "subwords") else 8e-3)
        apart = np.abs(np.diff(theirs)).min() > 0.02
        assert not apart or [model.labels[label] for label in labels] == their_labels
    again = model.best(told["texts"], 2)
    assert np.array_equal(again.labels, found.labels[:, :2])


@pytest.mark.parametrize("name", ["skipgram", "cbow"])
def test_fasttexts_vectors_are_fasttexts(name: str) -> None:
    model, told = Model.read(THEIRS / f"{name}.bin"), ANSWERS[name]
    assert np.allclose(model.vectors(told["words"]), told["vectors"], atol=1e-6)


def test_a_model_of_fasttext_is_served_under_its_usual_name(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes((THEIRS / "hs.bin").read_bytes())
    model = BlazingText.load(tmp_path)
    assert model.get_params()["mode"] == "supervised"
    assert model.classes_.tolist() == ["a", "b", "c"]
    (tmp_path / "model.bin").write_bytes((THEIRS / "cbow.bin").read_bytes())
    vectors = BlazingText.load(tmp_path)
    assert vectors.get_params()["mode"] == "cbow"
    assert vectors.predict(["never seen"]).any()
    vectors.save(tmp_path / "again")
    again = Model.read(tmp_path / "again" / "vectors.bin")
    assert np.array_equal(again.vectors(["cat", "naïvety"]), vectors.predict(["cat", "naïvety"]))


def test_the_tree_of_hs_is_huffmans() -> None:
    tree = Tree.of(np.array([40, 30, 10, 5, 5]))
    lengths = np.diff(tree.ends).tolist()
    assert lengths == [1, 2, 3, 4, 4]
    scores = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.allclose(tree.leaves(scores).sum(axis=1), 1)
    assert Tree.of(np.array([3])).leaves(np.zeros((2, 0), np.float32)).tolist() == [[1], [1]]


def test_quantised_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    binary.write(path, small())
    content = bytearray(path.read_bytes())
    matrix, pruned = content.index(struct.pack("<?2q", False, 6, 2)), 8 + 56 + 12 + 8
    path.write_bytes(content[:matrix] + b"\1" + content[matrix + 1 :])
    with pytest.raises(ValueError, match=r"model\.bin is no fastText model: it is quantised"):
        Model.read(path)
    path.write_bytes(content[:pruned] + struct.pack("<q", 0) + content[pruned + 8 :])
    with pytest.raises(ValueError, match="quantised with a cut-off"):
        Model.read(path)


@pytest.mark.parametrize("name", ["softmax", "skipgram"])
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    content, path = (THEIRS / f"{name}.bin").read_bytes(), tmp_path / "model.bin"
    cuts = [0, 3, 8, 40, 80, 150, len(content) // 2, len(content) - 1]
    for broken in [*(content[:cut] for cut in cuts), b"\xff" * 64, b"\x80\x04N.", b"a" * 5000]:
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"model\.bin is no fastText model: ."):
            Model.read(path)
    with pytest.raises(ValueError, match=r"neither model\.bin nor vectors\.bin nor vectors\.txt"):
        BlazingText.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, 13, "its version is 13"),
        (8, 0, "dim 0 and model 3 make no sense"),
        (32, 9, "its loss 9 is not known"),
        (40, 0, "it has n-grams, but 0 buckets"),
        (64, 99, "99 entries, but"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, at: int, value: int, message: str) -> None:
    content = bytearray((THEIRS / "softmax.bin").read_bytes())
    content[at : at + 4] = struct.pack("<i", value)
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Model.read(tmp_path / "model.bin")


def test_vectors_in_text_are_read_to_the_last_bit(tmp_path: Path) -> None:
    texts, _ = drawn(200)
    model = BlazingText(mode="batch_skipgram", vector_dim=12, min_count=1, epochs=1, evaluation=False).fit(texts)
    model.save(tmp_path)
    read = of_text(tmp_path / "vectors.txt")
    words = read.dictionary.names()
    assert np.array_equal(read.vectors(words), model.predict(words))
    head, first = (tmp_path / "vectors.txt").read_text().splitlines()[:2]
    assert head == f"{len(words)} 12"
    assert len(first.split(" ")) == 13
    (tmp_path / "vectors.bin").unlink()
    assert np.array_equal(BlazingText.load(tmp_path).predict(words), model.predict(words))
    assert read.vectors(["never"]).tolist() == [[0.0] * 12]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no word vectors"),
        ("2 2\na 1 2\n", "line 3: 0 numbers, 2 are needed"),
        ("1 2\na 1\n", "line 2"),
        ("1 1\na x\n", "line 2"),
    ],
)
def test_broken_text_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "vectors.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        BlazingText.load(tmp_path)


READER = """
import json, sys, fasttext
model = fasttext.load_model(sys.argv[1])
asked = json.loads(sys.argv[2])
if sys.argv[1].endswith('model.bin'):
    print(json.dumps([[list(a), [float(x) for x in b]] for a, b in (model.predict(text, k=3) for text in asked)]))
else:
    print(json.dumps([model.get_word_vector(word).tolist() for word in asked]))
"""


@pytest.mark.skipif(importlib.util.find_spec("fasttext") is None, reason="needs the package fasttext")
def test_fasttext_reads_ours(tmp_path: Path) -> None:
    texts, topics = drawn(300)
    classifier = BlazingText(mode="supervised", vector_dim=10, min_count=1, buckets=500, word_ngrams=3)
    classifier.fit(texts, topics).save(tmp_path)
    vectors = BlazingText(mode="cbow", vector_dim=10, subwords=True, min_count=1, buckets=500, evaluation=False)
    vectors.fit(texts).save(tmp_path)

    def asked(file: str, values: list[str]) -> Any:
        command = [sys.executable, "-c", READER, str(tmp_path / file), json.dumps(values)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    words = ["wave", "waves", "owl"]
    assert np.allclose(asked("vectors.bin", words), vectors.predict(words), atol=1e-6)
    labels, chances = classifier.predict_labels(texts[:5], 3)
    for own_labels, own, (their_labels, theirs) in zip(labels, chances, asked("model.bin", texts[:5]), strict=True):
        assert [f"__label__{label}" for label in own_labels] == their_labels
        assert own == pytest.approx(theirs, abs=2e-5)
