"""Which logins come from where the user never is? Accounts that somebody else took over, found by their addresses.

    python examples/ipinsights_stolen_accounts.py [--picture stolen.png]

Learns a week of drawn web logins (ipinsights_logins.py) and judges the three days after it, among them stolen accounts:
half are used from the network of another user, half from an address of chance. The score is minus the dot product, as
in SageMaker's samples: the larger, the stranger.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ipinsights_logins import Logins, dotted, logins, split

from sagesmith.algorithms import IPInsights


def auc(stolen: np.ndarray, usual: np.ndarray) -> float:
    """How often a stolen login scores higher than a usual one."""
    ordered = np.sort(usual)
    below = np.searchsorted(ordered, stolen, "left") + np.searchsorted(ordered, stolen, "right")
    return float(below.mean() / 2 / len(usual))


def thieves(test: Logins, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 2) pairs each: users of the test with another user's address, and with an address of chance."""
    random = np.random.default_rng(2)
    names = test.names[random.integers(0, len(test), count)]
    others = test.addresses[random.integers(0, len(test), count)]
    chance = dotted(random.integers(0, 1 << 32, count, np.uint32))
    return np.column_stack([names, others]), np.column_stack([names, chance])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    train, test = split(logins(users=1000))
    model = IPInsights(
        num_entity_vectors=2000, vector_dim=64, epochs=5, mini_batch_size=1000, learning_rate=0.01,
        random_negative_sampling_rate=2, shuffled_negative_sampling_rate=2, batch_metrics_publish_interval=10_000,
    )  # fmt: skip
    model.fit(train.table())
    usual = -model.predict(test.table())
    borrowed, chance = (-model.predict(pairs) for pairs in thieves(test, 20_000))
    print(f"learnt from {len(train)} logins of {len(np.unique(train.user))} users, judged {len(test)} later ones")
    print(f"AUC {auc(chance, usual):.4f} for addresses of chance, {auc(borrowed, usual):.4f} for another user's")
    above = [(scores > 0).mean() for scores in (usual, chance, borrowed)]
    print(f"stranger than even odds: {above[0]:.1%} of usual logins, {above[1]:.1%} and {above[2]:.1%} of stolen ones")
    print("of users that were never seen the score means nothing:", model.knows(["user_3", "nobody"]))
    if given.picture:
        draw({"usual": usual, "another user's address": borrowed, "an address of chance": chance}, given.picture)


def draw(scores: dict[str, np.ndarray], picture: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    limits = np.quantile(np.concatenate(list(scores.values())), [0.001, 0.999])
    for name, values in scores.items():
        axis.hist(values, np.linspace(*limits, 80), density=True, alpha=0.6, label=name)
    axis.set_xlabel("minus dot_product: the larger, the stranger")
    axis.set_yticks([])
    axis.legend()
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    main()
