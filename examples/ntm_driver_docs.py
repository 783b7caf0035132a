"""What the documentation of Windows drivers is about: topics found by NTM, as bars of words.

    python examples/ntm_driver_docs.py [--topics 12] [--picture FILE]

Each paragraph is a document, its words counted. Prints each topic's first words and how much of the
documents it has; draws the words of eight topics by how far the topic raises them.
"""

from __future__ import annotations

import argparse
import gzip
from collections import Counter
from pathlib import Path

import numpy as np

from sagesmith.algorithms import NTM

DATA = Path(__file__).parent / "data" / "driver-docs.txt.gz"
TERMS = 1200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--topics", type=int, default=12)
    parser.add_argument("--picture", help="a file for the picture (png, svg)")
    given = parser.parse_args()
    counts, terms = corpus()
    held_out = np.arange(len(counts)) % 10 == 0
    model = NTM(num_topics=given.topics, optimizer="adam")
    model.fit(counts[~held_out], validation=counts[held_out], vocabulary=terms)
    weights = model.transform(counts)
    shares = weights.mean(axis=0)
    order = np.argsort(-shares)
    for topic in order:
        print(f"{shares[topic]:4.0%}  {' '.join(model.topics(9)[topic])}")
    print(f"topic uniqueness {model.topic_uniqueness().mean():.2f}")
    told = perplexity(model.word_probabilities(weights[held_out]), counts[held_out])
    plain = perplexity(counts[~held_out].sum(axis=0)[None, :] + 1.0, counts[held_out])
    print(f"perplexity of documents set aside {told:.0f}, by the words' frequencies {plain:.0f}")
    if given.picture:
        draw(model, order, shares, given.picture)


def corpus() -> tuple[np.ndarray, list[str]]:
    """Counts (D, V) float32 and the V terms: those in most paragraphs, except in more than one of 25."""
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        documents = [Counter(word for word in line.split() if len(word) > 2) for line in file]
    spread = Counter(word for words in documents for word in words)
    usual = [word for word, count in spread.most_common() if count <= len(documents) / 25]
    terms = sorted(usual[:TERMS])
    return np.array([[words[term] for term in terms] for words in documents], np.float32), terms


def perplexity(chances: np.ndarray, counts: np.ndarray) -> float:
    """exp of minus the mean log probability of a word."""
    chances = chances / chances.sum(axis=1, keepdims=True)
    return float(np.exp(-(counts * np.log(chances)).sum() / counts.sum()))


def draw(model: NTM, order: np.ndarray, shares: np.ndarray, file: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    assert model.vocabulary_ is not None
    figure, grid = pyplot.subplots(2, 4, figsize=(11, 5.2))
    for axes, topic in zip(grid.ravel(), order, strict=False):
        names = model.topics(8)[topic][::-1]
        columns = [model.vocabulary_.index(name) for name in names]
        axes.barh(names, model.topic_logits_[columns, topic], color="#3b6ea5")
        axes.set_title(f"{shares[topic]:.0%} of all", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
