"""IP Insights keeps the contract of algorithms on pairs of entity and address, in every kind of table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pytest

from sagesmith.algorithms import IPInsights
from sagesmith.algorithms.base import HyperparameterError
from sagesmith.formats.channel import Channel
from sagesmith.testing.check_algorithm import CHECKS, RecordingRun, Sample
from tests.algorithms.ipinsights_pairs import NETWORKS, drawn

TABLE = drawn(120)
ON_ROWS = ("check_kinds_of_arrays",)  # turns rows into numbers; see test_kinds_of_tables


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check.__name__ not in ON_ROWS], ids=lambda check: str(check.__name__)
)
def test_the_contract_holds_on_pairs(check: Any) -> None:
    check(IPInsights, Sample(TABLE, None))


def test_kinds_of_tables() -> None:
    expected = IPInsights(**IPInsights.example).fit(TABLE).predict(TABLE)
    columns = {"user": TABLE[:, 0].tolist(), "ip": TABLE[:, 1].tolist()}
    categories = pandas.DataFrame({name: pandas.Categorical(values) for name, values in columns.items()})
    forms = [
        TABLE.tolist(), TABLE.astype(str), pandas.DataFrame(columns), polars.DataFrame(columns), categories,
        [tuple(row) for row in TABLE],
    ]  # fmt: skip
    for form in forms:
        model = IPInsights(**IPInsights.example).fit(form)
        assert np.array_equal(model.predict(form), expected), type(form)


def test_whole_numbers_stand_for_their_digits(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"account": np.arange(100) % 7, "ip": TABLE[:100, 1]})
    frame.to_csv(tmp_path / "a.csv", header=False, index=False)
    by_frame = IPInsights(**IPInsights.example).fit(frame)
    by_file = IPInsights(**IPInsights.example).fit(Channel.from_folder("train", tmp_path, "text/csv"))
    assert np.array_equal(by_frame.predict(frame), by_file.predict(frame))
    mixed = [[3, "192.0.2.1"], ["3", "192.0.2.1"]]
    assert np.ptp(by_frame.predict(mixed)) == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([["a", "1.2.3.4"], ["b", "1.2.3.256"]], "row 1: '1.2.3.256' is no IPv4 address"),
        ([["a", "2001:db8::1"]], "IPv6 address; only IPv4"),
        ([["", "1.2.3.4"]], "row 0: an empty entity"),
        ([["a", "1.2.3.4"], [None, "1.2.3.4"]], "row 1: no entity"),
        ([["a", "1.2.3.4"], ["b", None]], "row 1: no IPv4 address"),
        ([["a"]], "shape"),
        ([[1.5, "1.2.3.4"]], "text is needed, not double"),
        ([["a", "1.2.3.4\n5.6.7.8"]], "no IPv4 address"),
        ([], "shape"),
        (pandas.DataFrame({"a": ["x"], "b": ["1.2.3.4"], "c": [1]}), "a table of 3 columns"),
        (pandas.DataFrame({"a": [], "b": []}, dtype=str), "without rows"),
    ],
)
def test_bad_tables_are_refused_in_words(table: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IPInsights(**IPInsights.example).fit(table)


def test_entities_that_were_not_seen_can_be_told_apart() -> None:
    model = IPInsights(**IPInsights.example).fit(TABLE)
    assert model.knows(TABLE[:, 0]).all()
    assert not model.knows([f"stranger_{number}" for number in range(1000)]).any()


def test_in_python_the_data_tell_the_sizes() -> None:
    model = IPInsights(epochs=1).fit(TABLE)
    assert model.network_.entities.shape == (2 * len(set(TABLE[:, 0])), 128)
    assert model.get_params()["num_entity_vectors"] is None


def test_embeddings_multiply_to_the_score() -> None:
    model = IPInsights(**IPInsights.example).fit(TABLE)
    product = (model.entity_embedding(TABLE[:, 0]) * model.ip_embedding(TABLE[:, 1])).sum(axis=1)
    assert np.allclose(product, model.predict(TABLE), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"random_negative_sampling_rate": 0, "shuffled_negative_sampling_rate": 0}, r"must be in \[1, 500\], found 0"),
        ({"random_negative_sampling_rate": 500, "shuffled_negative_sampling_rate": 1}, "found 501"),
        ({"num_entity_vectors": 250_000_000, "vector_dim": 128}, "119.2 GiB; a model may have 8 GiB"),
        ({"num_entity_vectors": 250_000_001}, "num_entity_vectors: 250000001 is not in"),
    ],
)
def test_settings_that_cannot_go_together(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        IPInsights(**{**IPInsights.example, **settings}).validate()


def test_the_largest_table_is_allowed() -> None:
    IPInsights(num_entity_vectors=250_000_000, vector_dim=8).validate()


def test_the_log_says_what_the_batches_were_like() -> None:
    run = RecordingRun()
    settings = {**IPInsights.example, "batch_metrics_publish_interval": 2}
    IPInsights(**settings).fit(TABLE, validation=TABLE[:40], run=run)
    batches = [line for line in run.lines if "batch=" in line and "cross_entropy" in line]
    assert [line.split(" train")[0] for line in batches] == [
        f"#quality_metric: host=algo-1, epoch={epoch}, batch={batch}" for epoch in (0, 1) for batch in (0, 2)
    ]
    assert sum("samples/sec" in line for line in run.lines) == 4
    assert sum("validation discriminator_auc <score>=" in line for line in run.lines) == 2
    assert run.lines[-1].startswith("#validation_score (algo-1) : ('discriminator_auc', 0.")


def test_feature_dim_is_said_to_have_no_effect() -> None:
    run = RecordingRun()
    with_it = IPInsights(**IPInsights.example, feature_dim=2).fit(TABLE, run=run)
    assert "Hyperparameter feature_dim is taken for compatibility and has no effect" in run.lines
    assert np.array_equal(with_it.predict(TABLE), IPInsights(**IPInsights.example).fit(TABLE).predict(TABLE))


def test_it_learns_where_everyone_is_at_home() -> None:
    train, test = drawn(4000), drawn(1000, seed=9)
    run = RecordingRun()
    IPInsights(num_entity_vectors=80, vector_dim=16, epochs=4, learning_rate=0.02, mini_batch_size=200).fit(
        train, validation=test, run=run
    )
    aucs = [float(line.rpartition("=")[2]) for line in run.lines if "discriminator_auc <score>" in line]
    # Shuffled negatives hit a user's own network once in NETWORKS: no model can be better than this.
    best = 1 - 0.5 * 0.5 / NETWORKS
    assert best - 0.01 < aucs[-1] < best + 0.01
