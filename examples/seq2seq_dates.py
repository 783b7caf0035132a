"""Dates as people write them, into the form that computers sort: learnt letter by letter from examples.

    python examples/seq2seq_dates.py [--picture dates.png]

"Tuesday, 3 March 1998", "3.3.98" and "03/03/1998" become "1998-03-03". A sentence is a date, its tokens are letters; the
dates are drawn. The picture shows where the network looks for each letter that it writes.
"""

from __future__ import annotations

import argparse
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from sagesmith.algorithms import Seq2Seq

FORMS = ("%A, %-d %B %Y", "%-d %b %Y", "%B %-d, %Y", "%d/%m/%Y", "%-d.%-m.%y", "%b %d %Y")


def drawn(count: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Dates from 1970 to 2068 in one of the forms, and in ISO 8601, as lists of letters; a space is written `_`."""
    random = np.random.default_rng(seed)
    days = [date(1970, 1, 1) + timedelta(days=int(day)) for day in random.integers(0, 36_000, count)]
    written = [day.strftime(FORMS[form]).replace(" ", "_") for day, form in zip(days, random.integers(0, 6, count))]
    return [list(text) for text in written], [list(day.isoformat()) for day in days]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    model = Seq2Seq(
        num_embed_source=32, num_embed_target=32, rnn_num_hidden=96, learning_rate=0.005, batch_size=64,
        max_num_epochs=8, checkpoint_frequency_num_batches=100, plateau_reduce_lr_threshold=1,
    )  # fmt: skip
    model.fit(*drawn(6000, seed=0), validation=drawn(300, seed=1))
    dates, expected = drawn(300, seed=2)
    said = [text.replace(" ", "") for text in model.predict(dates)]
    right = np.mean([text == "".join(wanted) for text, wanted in zip(said, expected)])
    print(f"{right:.1%} of {len(dates)} dates right, BLEU {model.score(dates, expected):.3f}")
    for number in range(3):
        print(f"{''.join(dates[number]).replace('_', ' '):>28} -> {said[number]}")
    if given.picture:
        draw(model, "Tuesday, 3 March 1998", given.picture)


def draw(model: Seq2Seq, text: str, picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    (said, matrix) = model.translate([list(text.replace(" ", "_"))], matrix=True)[0]
    assert matrix is not None
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(text)), list(text))
    axes.set_yticks(range(len(said)), said)
    axes.tick_params(length=0)
    axes.set_xlabel("read")
    axes.set_ylabel("written")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
