"""Streams: trees under insertion and deletion are those of a fresh forest, and scores find what is strange."""

from __future__ import annotations

import copy
import csv
import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.algorithms.randomcutforest import RandomCutForest, StreamingForest
from sagesmith.algorithms.randomcutforest.forest import Forest
from sagesmith.algorithms.randomcutforest.trees import EMPTY

TAXI = Path(__file__).parents[2] / "examples" / "data" / "nab" / "realKnownCause" / "nyc_taxi.csv.gz"


@pytest.fixture(scope="module")
def taxi() -> tuple[list[str], np.ndarray]:
    with gzip.open(TAXI, "rt") as file:
        rows = list(csv.DictReader(file))
    return [row["timestamp"] for row in rows], np.array([float(row["value"]) for row in rows], np.float32)


def check_trees(stream: StreamingForest) -> None:
    """Masses, boxes, sides and cuts are those of the points that the trees hold."""
    stream._check_trees()
    forest = stream._forest
    for tree in range(len(forest.trees.root)):
        if forest.trees.root[tree] != EMPTY:
            check_node(forest, tree, int(forest.trees.root[tree]))


def check_node(forest: Forest, tree: int, node: int) -> np.ndarray:
    """The points below a node."""
    if node < 0:
        return forest.trees.point[tree, ~node, None]
    left, right = (check_node(forest, tree, int(below)) for below in forest.trees.child[tree, node])
    at, cut = forest.trees.feature[tree, node], forest.trees.cut[tree, node]
    assert (left[:, at] <= cut).all()
    assert (right[:, at] > cut).all()
    points = np.concatenate([left, right])
    low, high = points.min(axis=0), points.max(axis=0)
    assert np.array_equal(forest.trees.box[tree, node], [low, high])
    assert forest.trees.sides[tree, node] == pytest.approx((high - low).sum(), rel=1e-5)
    return points


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=60),
    st.integers(1, 4),
    st.integers(1, 7),
    st.sampled_from([0.0, 0.5, None]),
)
def test_trees_hold_together_whatever_comes(values: list[int], shingle: int, size: int, decay: float | None) -> None:
    stream = StreamingForest(shingle_size=shingle, num_trees=3, num_samples_per_tree=size, time_decay=decay)
    for value in values:
        assert np.isfinite(stream.update(value))
    check_trees(stream)
    assert (stream._forest.trees.total == min(size, max(0, len(values) - shingle + 1))).all()


def test_a_streamed_tree_is_distributed_as_a_grown_one() -> None:
    points = np.float32([[0.0], [1.0], [3.0], [7.0]])
    grown = Forest.grown(np.tile(points, (3000, 1)), 3000, 4, seed=0, threads=1)
    streamed = StreamingForest(num_trees=3000, num_samples_per_tree=4, time_decay=50.0, seed=1)
    streamed.update_many(np.float32([5, -2, 9, 4]))  # a decay that leaves no one a choice: the last four stay
    streamed.update_many(points)
    asked = np.float32([[0.0], [1.0], [3.0], [7.0], [2.0], [10.0], [-4.0]])
    assert streamed._forest.score(asked) == pytest.approx(grown.score(asked), rel=0.02)
    roots = [forest.trees.feature.shape and cut_sizes(forest) for forest in (grown, streamed._forest)]
    assert roots[1] == pytest.approx(roots[0], abs=0.04)


def cut_sizes(forest: Forest) -> list[float]:
    """How often the first cut leaves 1, 2 and 3 points on the left."""
    values = np.array([forest.trees.cut[tree, forest.trees.root[tree]] for tree in range(len(forest.trees.root))])
    return [float(np.mean((values >= low) & (values < high))) for low, high in ((0, 1), (1, 3), (3, 7))]


def test_one_by_one_and_many_at_once_are_the_same(taxi: Any) -> None:
    values = taxi[1][:1500]
    one, two, many = (StreamingForest(shingle_size=20, num_trees=20, threads=n) for n in (1, 2, 2))
    singly = np.array([one.update(value) for value in values])
    assert np.array_equal(two.update_many(values), singly)
    assert np.array_equal(np.concatenate([many.update_many(values[:7]), many.update_many(values[7:])]), singly)
    assert one.threshold == two.threshold == many.threshold
    assert (singly[:20] == 0).all(), "no shingle, then no tree with a point"
    assert (singly[20:] > 0).all()


def test_a_score_asked_for_is_the_one_that_update_gives_and_teaches_nothing(taxi: Any) -> None:
    stream = StreamingForest(shingle_size=4, num_trees=10)
    stream.update_many(taxi[1][:500])
    asked = [stream.score(99_000.0) for _ in range(2)]
    parts = stream.attribute(99_000.0)
    assert parts.shape == (4, 1, 2)
    assert parts.sum() == pytest.approx(asked[0])
    assert parts[3, 0, 0] > 0.8 * parts.sum(), "the newest value is too high"
    assert asked == [stream.update(99_000.0)] * 2


def test_time_decay_forgets() -> None:
    random = np.random.default_rng(0)
    old, new = random.normal(size=2000), random.normal(size=2000) + 30
    quick, slow = (StreamingForest(num_trees=20, num_samples_per_tree=64, time_decay=d) for d in (0.02, 0.0))
    for stream in (quick, slow):
        stream.update_many(old)
        stream.update_many(new)
    held = [float((s._forest.trees.point[s._forest.trees.mass > 0][:, 0] > 15).mean()) for s in (quick, slow)]
    assert held[0] == 1.0, "all from the last 2,000"
    assert held[1] == pytest.approx(0.5, abs=0.1), "a uniform sample of all"
    assert quick.score(0.0) > slow.score(0.0)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_sample_is_drawn_with_the_weights_that_fade(decay: float) -> None:
    trees, points, values = 4000, 3, 12
    stream = StreamingForest(num_trees=trees, num_samples_per_tree=points, time_decay=decay)
    stream.update_many(np.arange(values))
    held = stream._forest.trees.point[..., 0][stream._forest.trees.mass > 0].astype(int)
    # Weighted sampling without replacement, drawn in the plain way: the largest of u ** (1 / weight).
    weights = np.exp(decay * np.arange(values))
    keys = np.random.default_rng(0).random((trees, values)) ** (1 / weights)
    plain = np.argsort(-keys, axis=1)[:, :points]
    seen, expected = (np.bincount(each.ravel(), minlength=values) / trees for each in (held, plain))
    assert seen == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("decay", [50.0, 1e4])
def test_a_decay_that_leaves_no_choice_keeps_the_last(decay: float) -> None:
    for several in (True, False):
        stream = StreamingForest(num_trees=5, num_samples_per_tree=4, time_decay=decay)
        for value in range(40):
            stream.update_many([value]) if several else stream.update(value)
        held = stream._forest.trees.point[..., 0][stream._forest.trees.mass > 0].reshape(5, 4)
        assert (np.sort(held) == [36, 37, 38, 39]).all()


def test_the_marathon_christmas_and_the_snowstorm_stand_out(taxi: Any) -> None:
    times, values = taxi
    stream = StreamingForest(shingle_size=48)
    scores = stream.update_many(values)
    ready = 1500
    cutoff = scores[ready:].mean() + 3 * scores[ready:].std()
    days = {time[:10] for time, score in zip(times[ready:], scores[ready:], strict=True) if score > cutoff}
    assert {"2014-11-02", "2014-12-25", "2015-01-27"} <= days, sorted(days)
    assert len(days) < 25
    assert stream.threshold == pytest.approx(cutoff, rel=0.1)


def test_a_trained_forest_goes_on_as_a_stream(taxi: Any) -> None:
    values = taxi[1][:3000]
    model = RandomCutForest(num_trees=50, num_samples_per_tree=50).fit(
        np.lib.stride_tricks.sliding_window_view(values[:2000], 8)
    )
    stream = model.stream(shingle_size=8, time_decay=0.01)
    check_trees(stream)
    stream.update_many(values[1993:2000])
    shingle = values[1993:2001]
    assert stream.update(values[2000]) == pytest.approx(-model.score_samples(shingle[None])[0])
    stream.update_many(values[2001:])
    check_trees(stream)
    with pytest.raises(ValueError, match="3 values do not make rows of 8 columns"):
        model.stream(shingle_size=3)


def test_a_saved_stream_goes_on_as_if_nothing_had_happened(taxi: Any, tmp_path: Path) -> None:
    stream = StreamingForest(shingle_size=6, num_trees=5, num_samples_per_tree=32)
    stream.update_many(taxi[1][:300])
    stream.save(tmp_path)
    again = StreamingForest.load(tmp_path)
    assert again.threshold == stream.threshold
    assert np.array_equal(again.update_many(taxi[1][300:400]), stream.update_many(taxi[1][300:400]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))])
def test_a_copy_goes_its_own_way(copied: Any, taxi: Any) -> None:
    stream = StreamingForest(shingle_size=6, num_trees=5, num_samples_per_tree=32)
    for value in taxi[1][:200]:
        stream.update(value)
    other, untouched = copied(stream), copied(stream)
    scores = [stream.update(value) for value in taxi[1][200:300]]
    assert [other.update(value) for value in taxi[1][200:300]] == scores
    assert untouched.seen == 200
    assert np.array_equal(untouched.update_many(taxi[1][200:300]), scores)


@pytest.mark.parametrize("name", ["child", "cut", "holders", "free", "feature", "root", "mass", "total"])
def test_a_saved_stream_that_was_tampered_with_is_refused(name: str, tmp_path: Path) -> None:
    stream = StreamingForest(num_trees=2, num_samples_per_tree=8)
    stream.update_many(np.random.default_rng(0).normal(size=30))
    stream.save(tmp_path)
    with np.load(tmp_path / "stream_algo-1") as archive:
        arrays: dict[str, Any] = {key: archive[key].copy() for key in archive.files}
    if name == "cut":
        arrays[name] += 1e9  # all to the left
    else:
        arrays[name].flat[0] += 3
    with (tmp_path / "stream_algo-1").open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match="holds no stream"):
        StreamingForest.load(tmp_path)


def test_a_torn_stream_is_refused(tmp_path: Path) -> None:
    stream = StreamingForest(num_trees=2, num_samples_per_tree=8)
    with pytest.raises(ValueError, match="holds no stream"):
        StreamingForest.load(tmp_path)
    stream.save(tmp_path)
    for path in (tmp_path / "stream_algo-1", tmp_path / "stream.json"):
        content = path.read_bytes()
        for torn in (b"", content[: len(content) // 2], b"\x80\x04N."):
            path.write_bytes(torn)
            with pytest.raises(ValueError, match="holds no stream"):
                StreamingForest.load(tmp_path)
        path.write_bytes(content)
    document = json.loads((tmp_path / "stream.json").read_text())
    (tmp_path / "stream.json").write_text(json.dumps(document | {"version": 1}))
    with pytest.raises(ValueError, match="another version"):
        StreamingForest.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e31, [1.0, 2.0], []])
def test_values_that_cannot_be_are_refused_and_change_nothing(value: Any) -> None:
    stream = StreamingForest(num_trees=2, num_samples_per_tree=8)
    stream.update(1.0)
    with pytest.raises(ValueError, match=r"is not a number in|feature_dim is 1"):
        stream.update(value)
    assert stream.seen == 1


@pytest.mark.parametrize(
    "wrong",
    [{"num_trees": 0}, {"shingle_size": 1.5}, {"feature_dim": True}, {"time_decay": -1}, {"time_decay": np.nan}],
)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StreamingForest(**wrong)
