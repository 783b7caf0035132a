"""When was New York's taxi traffic unusual? Half a year of half-hours, once trained and once as a stream.

python examples/randomcutforest_taxi.py [--picture scores.png]
"""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path

import numpy as np

from sagesmith.algorithms.randomcutforest import RandomCutForest, StreamingForest

TAXI = Path(__file__).parent / "data" / "nab" / "realKnownCause" / "nyc_taxi.csv.gz"
DAY = 48  # half-hours
WEEK = 7 * DAY
KNOWN = {
    "2014-11-02": "marathon",
    "2014-11-27": "Thanksgiving",
    "2014-12-25": "Christmas",
    "2015-01-01": "New Year",
    "2015-01-27": "snowstorm",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw passengers and scores over time")
    picture = parser.parse_args().picture
    with gzip.open(TAXI, "rt") as file:
        rows = list(csv.DictReader(file))
    times, passengers = [row["timestamp"] for row in rows], np.float32([row["value"] for row in rows])

    # A point is one day, ending at any half-hour: how unlike are these 48 numbers to those of other days?
    days = np.lib.stride_tricks.sliding_window_view(passengers, DAY)
    model = RandomCutForest(num_trees=50, num_samples_per_tree=200).fit(days)
    scores = -model.score_samples(days)
    print(f"{len(days)} days scored; threshold (mean + 3 standard deviations) {model.threshold_:.2f}")
    flagged = days_of(times[DAY - 1 :], scores > model.threshold_)
    print("flagged:", ", ".join(f"{day} ({KNOWN[day]})" if day in KNOWN else day for day in flagged))

    # Which half-hours made the day before the snowstorm ended so strange, and were they too high or too low?
    last = times.index("2015-01-27 23:30:00") - DAY + 1
    too_high, too_low = model.attribute(days[last : last + 1])[0].sum(axis=0)
    print(f"snowstorm: score {scores[last]:.2f} = {too_high:.2f} for too many passengers + {too_low:.2f} for too few")

    # As a stream: each value is scored, then learnt; nothing is known beforehand. A holiday may look like a Sunday, but
    # not like the same weekday a week ago: so that is told at each time too. (The week after is unlike the holiday.)
    stream = StreamingForest(feature_dim=2, shingle_size=DAY, num_trees=50)
    streamed = stream.update_many(np.column_stack([passengers[WEEK:], passengers[WEEK:] - passengers[:-WEEK]]))
    streamed = np.concatenate([np.zeros(WEEK), streamed])
    found = days_of(times[2000:], streamed[2000:] > stream.threshold)
    print("as a stream:", ", ".join(f"{day} ({KNOWN[day]})" if day in KNOWN else day for day in found))
    if picture:
        draw(picture, passengers, np.concatenate([np.full(DAY - 1, np.nan), scores]), streamed, model.threshold_, times)


def days_of(times: list[str], flags: np.ndarray) -> list[str]:
    """The dates on which something was flagged."""
    return sorted({time[:10] for time, flag in zip(times, flags, strict=True) if flag})


def draw(
    file: Path, passengers: np.ndarray, scores: np.ndarray, streamed: np.ndarray, threshold: float, times: list[str]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 4.5), sharex=True, height_ratios=(1, 1.4))
    above.plot(passengers / 1000, color="0.6", linewidth=0.4)
    above.set_ylabel("thousand passengers\nin half an hour", fontsize=8)
    below.plot(scores, color="C0", linewidth=0.8, label="trained on all")
    below.plot(np.where(streamed > 0, streamed, np.nan), color="C1", linewidth=0.6, alpha=0.7, label="as a stream")
    below.axhline(threshold, color="C3", linewidth=0.8, linestyle="--", label="mean + 3 standard deviations")
    for day, name in KNOWN.items():
        at = times.index(f"{day} 12:00:00")
        height = np.nanmax(np.fmax(scores, streamed)[at - 40 : at + 60])
        height += 0.14 * (name == "Christmas")  # above New Year
        below.annotate(name, (at, height), ha="center", va="bottom", fontsize=7)
    below.set_ylim(0, 1.2 * np.nanmax(scores))
    below.set_ylabel("anomaly score", fontsize=8)
    months = [number for number, time in enumerate(times) if time.endswith("-01 00:00:00")]
    below.set_xticks(months, [times[number][:7] for number in months], fontsize=8)
    below.legend(fontsize=7, loc="upper left", frameon=False)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
