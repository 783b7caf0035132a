"""Commands that need no server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sagesmith.cli import COMMANDS, main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 3)).astype(np.float32)
    label = (features[:, 0] + 0.1 * rng.normal(size=300) > 0).astype(np.float32)
    return np.column_stack([label, features])


@pytest.fixture(scope="module")
def model(rows: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    np.savetxt(folder / "train.csv", rows, delimiter=",", fmt="%.6f")
    np.savetxt(folder / "rows.csv", rows[:5, 1:], delimiter=",", fmt="%.6f")
    arguments = ("--objective", "binary:logistic", "--num-round", 5, "--train", folder / "train.csv")
    ok("train", "xgboost", *arguments, "--model-dir", folder / "out", "--quiet")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    assert "Examples:" in ok(name, "--help") or name == "train"


def test_what_is_trained_predicts(model: Path, rows: np.ndarray) -> None:
    scores = np.array([float(line) for line in ok("predict", model / "out", model / "rows.csv").split()])
    assert np.array_equal(scores > 0.5, rows[:5, 0] == 1)
    answer = json.loads(ok("predict", model / "out", model / "rows.csv", "--json"))
    assert [row["score"] for row in answer["predictions"]] == pytest.approx(scores)


def test_it_says_what_a_model_is_asked_with(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("__label__a one\n__label__b two\n" * 20)
    (tmp_path / "counts.csv").write_text("1,2,3\n3,2,1\n" * 10)
    texts = ("--mode", "supervised", "--vector-dim", 4, "--buckets", 100, "--train", tmp_path / "texts.txt")
    assert "REQUEST.json" in run("train", "blazingtext", *texts, "--model-dir", tmp_path / "a").output
    counts = ("--num-topics", 2, "--refine-iterations", 0, "--train", tmp_path / "counts.csv")
    assert "ROWS.csv" in run("train", "lda", *counts, "--model-dir", tmp_path / "b").output


def test_rows_without_labels_are_taken_whole(model: Path) -> None:
    """A job would take the first column of text/csv for a label; a file of rows on a laptop has none."""
    ok("train", "kmeans", "--k", 2, "--train", model / "rows.csv", "--model-dir", model / "kmeans", "--quiet")
    answer = json.loads(ok("predict", model / "kmeans", model / "rows.csv"))
    assert len(answer["predictions"]) == 5
    arguments = ("--train", model / "train.csv", "--content-type", "text/csv", "--model-dir", model / "labelled")
    ok("train", "kmeans", "--k", 2, *arguments, "--quiet")
    assert len(json.loads(ok("predict", model / "labelled", model / "rows.csv"))["predictions"]) == 5


def test_training_for_a_script_prints_one_json_object(model: Path) -> None:
    arguments = ("--num-round", 2, "--train", model / "train.csv", "--model-dir", model / "json", "--json")
    answer = json.loads(ok("train", "xgboost", *arguments))
    assert (answer["algorithm"], answer["model_dir"]) == ("xgboost", str(model / "json"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--num-round", "x"), "num_round"),
        (("--num-round", "0"), "num_round"),
        (("--num-round", "2", "--objective", "multi:softmax"), "num_class"),
        ((), "num_round"),
    ],
)
def test_hyperparameters_that_cannot_be_are_refused_by_name(model: Path, arguments: tuple[str, ...], text: str) -> None:
    result = run("train", "xgboost", *arguments, "--train", model / "train.csv", "--model-dir", model / "bad")
    assert result.exit_code == 1
    assert text in result.output
    assert not (model / "bad").exists()


def test_data_that_cannot_be_read_is_refused_with_file_and_line(model: Path) -> None:
    (model / "ragged.csv").write_text("1,2,3\n1,2\n")
    result = run("train", "xgboost", "--num-round", 2, "--train", model / "ragged.csv", "--model-dir", model / "bad")
    assert result.exit_code == 1
    assert "ragged.csv" in result.output
    assert "2" in result.output


def test_a_folder_of_another_origin_needs_its_algorithm_named(model: Path) -> None:
    bare = model / "bare"
    bare.mkdir(exist_ok=True)
    (bare / "xgboost-model").write_bytes((model / "out" / "xgboost-model").read_bytes())
    assert "--algorithm" in run("predict", bare, model / "rows.csv").output
    assert ok("predict", bare, model / "rows.csv", "--algorithm", "xgboost") == ok(
        "predict", model / "out", model / "rows.csv"
    )


def test_unknown_algorithms_are_answered_with_those_that_exist() -> None:
    assert "xgboost" in run("train", "nothing", "--model-dir", "x").output
    assert "xgboost" in run("algorithms", "nothing").output


def test_algorithms_are_listed_with_their_hyperparameters() -> None:
    listed = json.loads(ok("algorithms", "--json"))
    assert "xgboost" in [one["name"] for one in listed]
    assert "num_round" in ok("algorithms", "xgboost")


@pytest.mark.parametrize(
    ("word", "file"),
    [
        ("CreateTrainingJob", "sagesmith/services/sagemaker/training"),
        ("createtrainingjob", "sagesmith/services/sagemaker/training"),
        ("sagemaker-xgboost", "sagesmith/algorithms/xgboost"),
        ("PutObject", "sagesmith/services/s3/objects.py"),
        ("text/libsvm", "sagesmith/formats/libsvm.py"),
        ("validation:auc", "sagesmith/algorithms/xgboost"),
    ],
)
def test_where_finds_the_room(word: str, file: str) -> None:
    assert ok("where", word).startswith(file)


def test_where_says_when_there_is_nothing() -> None:
    assert run("where", "Nonsense").exit_code == 1


def test_coverage_counts_what_is_built() -> None:
    rows = json.loads(ok("coverage", "--json"))
    assert "CreateTrainingJob" in rows["sagemaker"]["built"]
    assert "CreateHyperParameterTuningJob" in rows["sagemaker"]["missing"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    assert "_SAGESMITH_COMPLETE" in ok("completion", shell)


def test_commands_that_need_a_server_say_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for command in (("jobs",), ("logs", "x"), ("env",)):
        result = run(*command, "--data", tmp_path)
        assert result.exit_code == 1
        assert "sagesmith up" in result.output


def test_keys_are_added_listed_and_removed(tmp_path: Path) -> None:
    added = json.loads(ok("keys", "add", "reader", "--read-only", "--data", tmp_path, "--json"))
    listed = json.loads(ok("keys", "list", "--data", tmp_path, "--json"))
    assert {"name": "reader", "id": added["id"], "read_only": True} in listed
    assert added["secret"] not in json.dumps(listed)
    ok("keys", "remove", "reader", "--data", tmp_path)
    assert "reader" not in ok("keys", "list", "--data", tmp_path, "--json")
    assert run("keys", "remove", "reader", "--data", tmp_path).exit_code == 1
