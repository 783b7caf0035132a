"""Two power transformers, hour by hour: what will the next day bring, and how sure is that?

python examples/deepar_transformers.py [--data FOLDER] [--epochs 15] [--picture fan.png]

FOLDER holds ETTh1.csv and ETTh2.csv (https://github.com/zhouhaoyi/ETDataset, CC BY-ND 4.0). Without it, series of the
same kind are drawn: a daily and a weekly wave, noise that depends on the hour, and a drifting level.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms import DeepAR

DAY, WEEK = 24, 168
HELD_OUT = 7  # days at the end that are forecast, each from all that is before it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a fan of forecasts")
    given = parser.parse_args()
    series = read(given.data) if given.data else drawn()
    print(f"{len(series)} series of {len(series[0]['target'])} hours from {series[0]['start']}")

    train = [{**one, "target": one["target"][: -HELD_OUT * DAY]} for one in series]
    model = DeepAR(
        context_length=2 * DAY, prediction_length=DAY, time_freq="H", epochs=given.epochs, learning_rate=0.003
    ).fit(train)

    ends = [len(series[0]["target"]) - DAY * (HELD_OUT - 1 - day) for day in range(HELD_OUT)]
    test = [{**one, "target": one["target"][:end]} for end in ends for one in series]
    scores = model.evaluate(test)
    print(f"mean weighted quantile loss {scores['mean_wQuantileLoss']:.4f}")
    print(f"seasonal naive (a day ago)  {naive(test):.4f}")

    known = {**series[0], "target": series[0]["target"][:-DAY]}
    forecast = model.forecast([known], num_samples=300, quantiles=("0.05", "0.25", "0.5", "0.75", "0.95"))
    truth = np.array(series[0]["target"][-DAY:])
    inside = (forecast.quantiles["0.05"][0] <= truth) & (truth <= forecast.quantiles["0.95"][0])
    print(f"of the last day of the first series {inside.sum()} of {DAY} hours lie in the 90% band")
    if given.picture:
        draw(given.picture, np.array(known["target"]), truth, forecast.quantiles)


def read(folder: Path) -> list[dict[str, Any]]:
    """Each column of ETTh1.csv and ETTh2.csv as a series; its category is its number."""
    series: list[dict[str, Any]] = []
    for name in ("ETTh1.csv", "ETTh2.csv"):
        with (folder / name).open() as file:
            rows = list(csv.reader(file))[1:]
        table = np.array([row[1:] for row in rows], float)
        series += [
            {"start": rows[0][0], "target": column.tolist(), "cat": [len(series) + number]}
            for number, column in enumerate(table.T)
        ]
    return series


def drawn(count: int = 12, weeks: int = 20) -> list[dict[str, Any]]:
    """Series that look like loads."""
    random = np.random.default_rng(3)
    hours = np.arange(weeks * WEEK)
    series = []
    for number in range(count):
        daily = np.sin(2 * np.pi * (hours / DAY - random.uniform(0.2, 0.4)))
        weekend = (hours % WEEK) >= 5 * DAY
        noise = random.normal(size=len(hours)) * (0.05 + 0.15 * np.maximum(0, daily))
        level = 3 + 0.02 * np.cumsum(random.normal(size=len(hours)))
        load = level + (1 - 0.5 * weekend) * daily + noise
        series.append({"start": "2024-01-01 00:00:00", "target": load.round(3).tolist(), "cat": [number]})
    return series


def naive(test: list[dict[str, Any]]) -> float:
    """The weighted quantile loss of yesterday's values as every quantile: |error| summed over |value| summed."""
    last = np.array([one["target"][-2 * DAY :] for one in test])
    return float(np.abs(last[:, DAY:] - last[:, :DAY]).sum() / np.abs(last[:, DAY:]).sum())


def draw(file: Path, known: np.ndarray, truth: np.ndarray, quantiles: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3))
    past, ahead = np.arange(-3 * DAY, 0), np.arange(DAY)
    axes.plot(past, known[-3 * DAY :], color="0.35", linewidth=1)
    for low, high, shade in (("0.05", "0.95", 0.2), ("0.25", "0.75", 0.35)):
        axes.fill_between(
            ahead, quantiles[low][0], quantiles[high][0], color="C0", alpha=shade, linewidth=0,
            label=f"{round(100 * (float(high) - float(low)))}% of the sample paths",
        )  # fmt: skip
    axes.plot(ahead, quantiles["0.5"][0], color="C0", linewidth=1.5, label="median forecast")
    axes.plot(ahead, truth, color="C3", linewidth=1, linestyle="--", label="what came")
    axes.axvline(-0.5, color="0.7", linewidth=0.8)
    axes.set_xlabel("hours from the forecast's start")
    axes.set_ylabel("load")
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
