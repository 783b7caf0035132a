"""Plain parallel text into Seq2Seq's channels and back, by the command line; and the example."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sagesmith.algorithms.seq2seq.parallel import KINDS, load
from sagesmith.algorithms.seq2seq.sentences import read_pairs
from sagesmith.algorithms.seq2seq.texts import read_folder
from sagesmith.cli import main
from sagesmith.formats.channel import Channel
from tests.algorithms.test_examples import run as run_example

NUMBERS = ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht")
OTHERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    pairs = [(f"{NUMBERS[a]} und {NUMBERS[b]}.", f"{OTHERS[a]} and {OTHERS[b]}.") for a in range(8) for b in range(8)]
    for name, part in (("train", [*pairs, ("", "left out")]), ("val", pairs[:9])):
        for side, suffix in enumerate(("de", "en")):
            (tmp_path / f"{name}.{suffix}").write_text("".join(pair[side] + "\n" for pair in part), "utf-8")
    return tmp_path


def learn(texts: Path, *further: object) -> Result:
    sides = ("--source", texts / "train.de", "--target", texts / "train.en")
    held = ("--validation-source", texts / "val.de", "--validation-target", texts / "val.en")
    return run("tokenize", "learn", *sides, *held, *further, texts / "data")


@pytest.mark.parametrize("kind", KINDS)
def test_text_becomes_channels_and_comes_back(texts: Path, kind: str) -> None:
    result = learn(texts, "--units", kind, "--size", 30 if kind == "unigram" else 40, "--lowercase", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["pairs"] == {"train": 64, "validation": 9}
    data = texts / "data"
    vocabularies = read_folder(data / "vocab")
    assert [len(one) for one in vocabularies] == said["vocabularies"]
    channel = Channel.from_folder("train", data / "train", "application/x-recordio-protobuf")
    pairs = read_pairs(channel, *vocabularies)
    assert len(pairs) == 64
    units = load(data, "target")
    tokens = vocabularies[1].decode(pairs.target[9])
    assert units.text(" ".join(tokens)) == "two and two."
    assert units.tokens("Two AND two.") == " ".join(tokens)


def test_requests_and_answers(texts: Path) -> None:
    assert learn(texts, "--size", 40).exit_code == 0
    asked = run("tokenize", "encode", texts / "data", texts / "val.de").stdout.splitlines()
    units = load(texts / "data", "source")
    assert [units.text(json.loads(line)["source"]) for line in asked] == (texts / "val.de").read_text().splitlines()
    target = load(texts / "data", "target")
    answers = texts / "answers.jsonl"
    answers.write_text("".join(json.dumps({"target": target.tokens(t)}) + "\n" for t in ("one and two.", "")))
    assert run("tokenize", "decode", texts / "data", answers).stdout == "one and two.\n\n"


def test_one_vocabulary_for_both_sides(texts: Path) -> None:
    assert learn(texts, "--size", 60, "--shared").exit_code == 0
    source, target = read_folder(texts / "data" / "vocab")
    assert list(source.tokens) == list(target.tokens)


def test_what_is_prepared_trains_and_translates(texts: Path) -> None:
    assert learn(texts, "--units", "words", "--size", 40).exit_code == 0
    data, small = texts / "data", ("--num-embed-source", 8, "--num-embed-target", 8, "--rnn-num-hidden", 16)
    channels = [part for name in ("train", "validation", "vocab") for part in (f"--{name}", data / name)]
    trained = run("train", "seq2seq", *channels, *small, "--max-num-epochs", 1, "--model-dir", texts / "out", "--json")
    assert trained.exit_code == 0, trained.output
    requests = texts / "requests.jsonl"
    requests.write_text(run("tokenize", "encode", data, texts / "val.de").stdout)
    answers = run("predict", texts / "out", requests)
    assert answers.exit_code == 0, answers.output
    assert len(answers.stdout.splitlines()) == 9


def test_mistakes_are_told(texts: Path) -> None:
    assert "cannot be learnt from this text" in learn(texts, "--size", 5000).output
    (texts / "val.en").write_bytes(b"one\ntwo \xff\n")
    assert "val.en, line 2: not UTF-8" in learn(texts, "--size", 40).output
    (texts / "train.en").write_text("one\n")
    assert "train.de has more than the 1 lines of its counterpart" in learn(texts).output
    assert "is no folder of `sagesmith tokenize learn`" in run("tokenize", "encode", texts, texts / "val.de").output
    bad = texts / "answers.jsonl"
    bad.write_text('{"target": "a"}\n{"source": "a"}\n')
    assert learn(make_even(texts), "--size", 40).exit_code == 0
    assert "line 2: not of the form" in run("tokenize", "decode", texts / "data", bad).output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"one\ntwo \xff\n" + b"x\n" * 7, "val.en, line 2: not UTF-8"),
        (b"one\n", "val.de has more than the 1 lines of its counterpart"),
        (b"\n" * 9, "val.en have no line with text on both sides"),
    ],
)
def test_nothing_is_written_where_validation_text_is_wrong(texts: Path, content: bytes, words: str) -> None:
    (texts / "val.en").write_bytes(content)
    result = learn(texts, "--size", 40)
    assert (result.exit_code, words in result.output) == (1, True), result.output
    assert not (texts / "data").exists()


def make_even(texts: Path) -> Path:
    for name in ("train", "val"):
        (texts / f"{name}.en").write_text((texts / f"{name}.de").read_text("utf-8"), "utf-8")
    return texts


@pytest.mark.slow
def test_the_example_learns_to_write_dates(tmp_path: Path) -> None:
    picture = tmp_path / "dates.png"
    said = run_example("examples/seq2seq_dates.py", "--picture", str(picture))
    found = re.search(r"^(\S+)% of 300 dates right", said)
    assert found is not None
    assert float(found[1]) > 95
    assert picture.stat().st_size > 5000
