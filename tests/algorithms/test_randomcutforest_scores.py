"""Scores against independent results: what a job of SageMaker's published, and the formula written plainly."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sagesmith.algorithms.randomcutforest import RandomCutForest
from sagesmith.algorithms.randomcutforest.forest import Forest
from sagesmith.testing.check_algorithm import RecordingRun

NAB = Path(__file__).parents[2] / "examples" / "data" / "nab"

# A public notebook's training job and endpoint of 8 February 2020, on NAB's elb_request_count_8c0756: `ForestInfo` in
# the log, and the scores that it shows, by value.
NODES = [
    107, 129, 125, 119, 109, 117, 135, 123, 103, 127, 119, 89, 93, 123, 105, 101, 137, 125, 119, 129, 123, 123, 113,
    123, 139, 127, 119, 121, 105, 113, 105, 121, 95, 93, 107, 97, 87, 93, 111, 107, 103, 121, 119, 121, 101, 121,
    123, 113, 121, 123,
]  # fmt: skip
PUBLISHED = {
    94: 0.865573, 56: 0.786471, 187: 1.613852, 95: 0.866955, 51: 0.770862, 222: 2.159113, 255: 2.594596, 232: 2.267812,
    335: 3.586372, 264: 2.710799, 303: 3.197637, 209: 2.017933, 237: 2.381542, 203: 1.910654, 252: 2.557541,
    266: 2.729446, 220: 2.150669, 280: 2.898184, 226: 2.193046, 259: 2.653464, 272: 2.830559, 231: 2.254257,
    294: 3.102726, 288: 3.019603, 381: 3.951076, 283: 2.933365, 261: 2.702431, 212: 2.105080, 210: 2.011637,
    284: 2.951369, 217: 2.098308, 234: 2.343383, 219: 2.122204, 330: 3.560200, 204: 1.916887, 245: 2.424295,
    208: 1.986095, 223: 2.163553, 207: 2.019778, 308: 3.237144, 230: 2.242455, 244: 2.404212, 656: 5.102451,
    256: 2.589191, 338: 3.578690, 235: 2.286132, 239: 2.343428, 229: 2.237990, 227: 2.187403, 301: 3.165757,
    313: 3.342713, 299: 3.205282,
}  # fmt: skip
ANOMALIES = 101  # of the 4,032 rows, above mean + 3 standard deviations


def series(name: str) -> tuple[list[str], np.ndarray]:
    """Timestamps and values (n,) of a series."""
    with gzip.open(NAB / f"{name}.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    return [row["timestamp"] for row in rows], np.array([float(row["value"]) for row in rows], np.float32)


@pytest.fixture(scope="module")
def requests() -> np.ndarray:
    return series("realAWSCloudwatch/elb_request_count_8c0756")[1][:, None]


def trained(rows: np.ndarray, **settings: Any) -> RandomCutForest:
    return RandomCutForest(**{"num_trees": 50, "num_samples_per_tree": 512, **settings}).fit(rows)


def test_the_published_jobs_forest_info_comes_out_again(requests: np.ndarray) -> None:
    run = RecordingRun()
    RandomCutForest(num_trees=50, num_samples_per_tree=512).fit(requests, run=run)
    info = next(line for line in run.lines if "ForestInfo{" in line)
    head = (
        "Random Cut Forest built: \n\nForestInfo{num_trees: 50, num_samples_in_forest: 4000, num_samples_per_tree: 80"
    )
    assert info.startswith(f"{head}, sample_dim: 1, shingle_size: 1, trees_num_nodes: [")
    assert f"trees_num_nodes: [{''.join(f'{count}, ' for count in NODES)}], trees_depth: [" in info
    assert "max_num_nodes: 139, min_num_nodes: 87, avg_num_nodes: 114, max_tree_depth: " in info
    assert "4032 samples gathered" in run.lines


def test_the_published_scores_come_out_again(requests: np.ndarray) -> None:
    values = np.array(list(PUBLISHED), np.float32)[:, None]
    models = [trained(requests, seed=seed) for seed in range(12)]
    ours = -np.mean([model.score_samples(values) for model in models], axis=0)
    ratio = np.array(list(PUBLISHED.values())) / ours
    assert abs(ratio - 1).mean() < 0.03
    assert abs(ratio - 1).max() < 0.07
    found = [np.count_nonzero(model.predict(requests) == -1) for model in models]
    assert np.mean(found) == pytest.approx(ANOMALIES, rel=0.1)


@pytest.mark.parametrize("columns", [1, 5, 8, 11])
def test_scores_are_those_of_the_formula_written_plainly(columns: int) -> None:
    random = np.random.default_rng(columns)
    rows = random.integers(-3, 4, (400, columns)).astype(np.float32)  # some rows come several times
    forest = Forest.grown(rows, 5, 80, seed=1, threads=1)
    asked = np.concatenate([rows[:40], random.normal(size=(40, columns)).astype(np.float32) * 4])
    expected = [np.mean([plainly(x, forest, tree) for tree in range(5)]) for x in asked]
    assert forest.score(asked) == pytest.approx(expected, rel=1e-5)


def plainly(x: np.ndarray, forest: Forest, tree: int) -> float:
    """The score of a row in one tree, by recursion and with boxes from the points below each node."""
    total = int(forest.trees.total[tree])

    def points(node: int) -> np.ndarray:
        if node < 0:
            return forest.trees.point[tree, ~node, None, : forest.dim].astype(float)
        return np.concatenate([points(below) for below in forest.trees.child[tree, node]])

    def score(node: int, depth: int) -> float:
        held = points(node)
        low, high = held.min(axis=0), held.max(axis=0)
        if node < 0:
            if (held[0] == x).all():
                copies = forest.trees.mass[tree, ~node]
                return float((1 - copies / (2 * total)) / (depth + math.log2(copies + 1)))
            return 1 / (depth + 1)
        right = x[forest.trees.feature[tree, node]] > forest.trees.cut[tree, node]
        below = score(int(forest.trees.child[tree, node, int(right)]), depth + 1)
        wider = (np.maximum(high, x) - np.minimum(low, x)).sum()
        cut_off = (wider - (high - low).sum()) / wider
        return cut_off / (depth + 1) + (1 - cut_off) * below

    return score(int(forest.trees.root[tree]), 0) * math.log2(total + 1)


def test_cuts_are_drawn_in_proportion_to_the_sides_and_uniformly() -> None:
    rows = np.float32([[0, 0], [1, 3]])
    forest = Forest.grown(np.tile(rows, (4000, 1)), 4000, 2, seed=3, threads=1)
    assert np.bincount(forest.trees.feature[:, 0]) / 4000 == pytest.approx([0.25, 0.75], abs=0.03)
    cuts = forest.trees.cut[forest.trees.feature[:, 0] == 1, 0] / 3
    assert np.sort(cuts) == pytest.approx(np.linspace(0, 1, len(cuts)), abs=0.04)


def test_threads_and_blocks_do_not_change_scores() -> None:
    rows = np.random.default_rng(0).normal(size=(3000, 7)).astype(np.float32)
    one = Forest.grown(rows, 50, 60, seed=0, threads=1)
    two = Forest.grown(rows, 50, 60, seed=0, threads=2)
    assert all(np.array_equal(a, b) for a, b in zip(one.trees, two.trees, strict=True))
    assert np.array_equal(one.score(rows, 1), two.score(rows, 2))


def test_the_three_sigma_rule_flags_what_happened_in_new_york() -> None:
    times, values = series("realKnownCause/nyc_taxi")
    shingles = np.lib.stride_tricks.sliding_window_view(values, 48)
    model = RandomCutForest(num_trees=50, num_samples_per_tree=200).fit(shingles)
    flagged = {times[end + 47][:10] for end in np.flatnonzero(model.predict(shingles) == -1)}
    assert {"2014-11-02", "2015-01-01", "2015-01-27"} <= flagged, sorted(flagged)
    assert len(flagged) < 22, "a tenth of the days"


def test_outliers_of_a_real_set_are_ranked_as_well_as_by_an_isolation_forest(cancer: Any) -> None:
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score

    X, y = cancer
    rows = np.concatenate([X[y == 1], X[y == 0][:25]])
    truth = np.arange(len(rows)) >= (y == 1).sum()
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    order = np.random.default_rng(0).permutation(len(rows))
    rows, truth = rows[order], truth[order]
    ours = [roc_auc_score(truth, -RandomCutForest(seed=s).fit(rows).score_samples(rows)) for s in range(3)]
    theirs = [roc_auc_score(truth, -IsolationForest(random_state=s).fit(rows).score_samples(rows)) for s in range(3)]
    assert np.mean(ours) > np.mean(theirs) - 0.02
