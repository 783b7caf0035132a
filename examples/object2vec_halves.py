"""Which halves belong to one paragraph? Vectors of texts, learnt from driver documentation with negatives drawn.

    python examples/object2vec_halves.py [--picture halves.png]

Cuts paragraphs in the middle and learns from true halves alone: Object2Vec draws the wrong ones itself. Then scores
unseen halves, true and wrong, and looks for the other half of each among a hundred.
"""

from __future__ import annotations

import argparse
import collections
import gzip
from pathlib import Path

import numpy as np

from sagesmith.algorithms import Object2Vec

DATA = Path(__file__).parent / "data" / "driver-docs.txt.gz"
WORDS = 4000  # the most frequent ones; all others are 0
HELD = 100  # paragraphs that are not learnt from


def halves() -> list[tuple[list[int], list[int]]]:
    """Every paragraph as two lists of word ids."""
    paragraphs = [line.split() for line in gzip.decompress(DATA.read_bytes()).decode().splitlines()]
    paragraphs = [words for words in paragraphs if len(words) >= 16]
    counts = collections.Counter(word for words in paragraphs for word in words)
    ids = {word: number for number, (word, _) in enumerate(counts.most_common(WORDS - 1), 1)}
    cut = [([ids.get(w, 0) for w in p[: len(p) // 2]], [ids.get(w, 0) for w in p[len(p) // 2 :]]) for p in paragraphs]
    return [cut[k] for k in np.random.default_rng(0).permutation(len(cut))]


def draw(scores: np.ndarray, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
    image = axes.imshow(scores, cmap="viridis", vmin=0, vmax=1)
    axes.set(xlabel="second half of paragraph", ylabel="first half of paragraph")
    figure.colorbar(image, label="probability that they belong together")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    pairs = halves()
    held, learnt = pairs[:HELD], pairs[HELD:]
    model = Object2Vec(
        enc0_max_seq_len=40, enc0_vocab_size=WORDS, enc0_network="pooled_embedding", enc_dim=128, mlp_dim=64,
        mlp_activation="relu", comparator_list="hadamard", tied_token_embedding_weight=True, negative_sampling_rate=5,
        token_embedding_storage_type="row_sparse", learning_rate=0.003, epochs=8, dropout=0.1,
    )  # fmt: skip
    model.fit(learnt, np.ones(len(learnt)))
    every = [(a, b) for a, _ in held for _, b in held]
    scores = model.predict_proba(every)[:, 1].reshape(HELD, HELD)  # (first half, second half)
    true = np.diag(scores)
    above = (true[:, None] > scores).sum() / (HELD * (HELD - 1))  # as the area under the ROC curve
    first = (scores.argmax(axis=1) == np.arange(HELD)).mean()
    ranks = (scores > true[:, None]).sum(axis=1) + 1
    print(f"{len(learnt)} paragraphs learnt; a true half scores above a wrong one in {above:.1%}")
    print(f"the other half among {HELD}: first in {first:.0%}, median rank {np.median(ranks):.0f}")
    print(f"a vector of a text: {model.embed(in0=[held[0][0]]).shape}")
    if given.picture:
        draw(scores[:30, :30], given.picture)


if __name__ == "__main__":
    main()
