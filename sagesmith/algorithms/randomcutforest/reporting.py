"""The lines of a job's log, in the words of SageMaker's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.first_party import report_scores
from sagesmith.algorithms.randomcutforest.forest import Forest
from sagesmith.algorithms.randomcutforest.trees import LANES
from sagesmith.algorithms.run import Run

EVAL_METRICS = ("accuracy", "precision_recall_fscore")
NODE = 4 + 4 + 8 + 8 + 4 + 4  # bytes of a point in a tree besides its coordinates and its node's box
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def begin(run: Run, settings: Mapping[str, Any]) -> None:
    """`Verifying hyperparamemters...` is SageMaker's spelling."""
    run.log("Verifying hyperparamemters...")
    run.log("Hyperparameters are correct.")
    if settings["ftp_port"] != 8999:
        run.log("Hyperparameter _ftp_port is taken for compatibility and has no effect")
    run.log("Validating that feature_dim agrees with dimensions in training data...")


def validate_memory(run: Run, settings: Mapping[str, Any]) -> None:
    """Raises ValueError where the sample that is asked for, and the forest over it, cannot fit into memory."""
    run.log("Validating memory limits...")
    available, columns = available_memory(), settings["feature_dim"] or 1
    points = settings["num_trees"] * settings["num_samples_per_tree"]
    sample = 4 * points * columns
    forest = points * (12 * -(-columns // LANES) * LANES + NODE)
    run.log("Available memory in bytes: %d", available)
    run.log("Estimated sample size in bytes: %d", sample)
    run.log("Estimated memory needed to build the forest in bytes: %d", forest)
    if sample + forest > available:
        raise ValueError(
            f"num_trees * num_samples_per_tree = {points} rows of {columns} columns need {sample + forest} bytes, but "
            f"{available} are available: lower num_trees or num_samples_per_tree"
        )
    run.log("Memory limits validated.")


def available_memory() -> int:
    """Bytes that this machine, or the container's limit, leaves."""
    found = []
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    for path in map(Path, MEMORY_LIMITS):
        if path.exists() and (text := path.read_text().strip()).isdigit():
            found.append(int(text))
    return min(found)


def sampled(run: Run, rows: int, seconds: float) -> None:
    """The pass is over. Progress is whole and without `of` here, as in SageMaker's log of this algorithm."""
    run.metrics("training", {"epochs": 1, "update.time": 1000 * seconds})
    run.log("Early stop condition met. Stopping training.")
    run.metric_line(f"#progress_metric: host={run.host}, completed 100 % epochs")
    rate = rows / max(1e-9, seconds)
    run.metric_line(f"#throughput_metric: host={run.host}, train throughput={rate} records/second")


def forest_info(forest: Forest) -> str:
    """`ForestInfo{num_trees: 50, ..., trees_num_nodes: [107, 129, ], ...}`."""
    nodes, depths = (2 * forest.leaves() - 1).tolist(), forest.depths()
    trees, points = forest.trees.mass.shape
    fields = {
        "num_trees": trees,
        "num_samples_in_forest": trees * points,
        "num_samples_per_tree": points,
        "sample_dim": forest.dim,
        "shingle_size": 1,
        "trees_num_nodes": _listed(nodes),
        "trees_depth": _listed(depths),
        "max_num_nodes": max(nodes),
        "min_num_nodes": min(nodes),
        "avg_num_nodes": sum(nodes) // trees,
        "max_tree_depth": max(depths),
        "min_tree_depth": min(depths),
        "avg_tree_depth": sum(depths) // trees,
        "mem_size": forest.nbytes,
    }
    return f"ForestInfo{{{', '.join(f'{name}: {value}' for name, value in fields.items())}}}"


def _listed(values: Sequence[int]) -> str:
    return f"[{''.join(f'{value}, ' for value in values)}]"


def test_scores(run: Run, called: np.ndarray, label: np.ndarray, wanted: Sequence[str]) -> None:
    """Accuracy, and precision, recall and F1 of what was called an anomaly; where nothing was, they are 0."""
    hits = int((called & label).sum())
    scores = []
    if "accuracy" in wanted:
        scores.append(("accuracy", float((called == label).mean()), "score"))
    if "precision_recall_fscore" in wanted:
        scores.append(("precision", hits / max(1, int(called.sum())), "score"))
        scores.append(("recall", hits / max(1, int(label.sum())), "score"))
        scores.append(("f1", 2 * hits / max(1, int(called.sum()) + int(label.sum())), "score"))
    report_scores(run, "test", scores)
