"""Is this letter a vowel? 16 measurements of a picture as sparse 0/1 features; what pairs add to single ones.

python examples/factorization_machines_letters.py [--picture FILE]

Each measurement is a whole number of 0 to 15 and becomes 16 columns, of which one is 1: 16 ones in a row of 256. A
model that adds up what each value says for itself cannot tell vowels well: they have no look in common. A factorization
machine weighs all 30,720 pairs of values as well, with 16 numbers for each value. The picture shows those weights.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from scipy import sparse

from sagesmith.algorithms import FactorizationMachines

DATA = Path(__file__).parent / "data" / "letter-recognition.tsv.gz"
MEASURED, VALUES, TRAINED = 16, 16, 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="draw the weights of all pairs into this file")
    given = parser.parse_args()
    X, vowel = rows()
    settings = {"predictor_type": "binary_classifier", "epochs": 20, "mini_batch_size": 100, "linear_lr": 0.01}
    linear = FactorizationMachines(**settings, num_factors=1, factors_init_method="constant")  # zero, and stays so
    machine = FactorizationMachines(
        **settings, num_factors=16, factors_lr=0.003, factors_init_sigma=0.05, factors_wd=0.0001
    )
    print(f"{X.shape[0]} letters, {X.shape[1]} columns, {X.nnz // X.shape[0]} ones in a row, {vowel.mean():.0%} vowels")
    for name, model in (("single values", linear), ("values and pairs", machine)):
        model.fit(X[:TRAINED], vowel[:TRAINED])
        print(f"{name}: held-out accuracy {model.score(X[TRAINED:], vowel[TRAINED:]):.4f}")
    if given.picture:
        draw(machine, given.picture)


def rows() -> tuple[sparse.csr_matrix, np.ndarray]:
    """(20000, 256) of ones, and whether each letter is a vowel."""
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        cells = [line.rstrip("\n").split("\t") for line in file][1:]
    measured = np.array([row[:MEASURED] for row in cells], np.int64)
    keys = measured + VALUES * np.arange(MEASURED)
    starts = np.arange(0, keys.size + 1, MEASURED)
    ones = np.ones(keys.size, np.float32)
    X = sparse.csr_matrix((ones, keys.ravel(), starts), shape=(len(cells), MEASURED * VALUES))
    return X, np.isin([row[MEASURED] for row in cells], list("AEIOU"))


def draw(machine: FactorizationMachines, file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    weights = machine.v_ @ machine.v_.T  # ⟨v_i, v_j⟩
    within = np.arange(len(weights)) // VALUES
    weights[within[:, None] == within] = np.nan  # two values of one measurement never meet
    figure, axes = plt.subplots(figsize=(6.2, 5.2), layout="constrained")
    limit = np.nanquantile(abs(weights), 0.99)
    shown = axes.imshow(weights, cmap=plt.get_cmap("RdBu", 9), vmin=-limit, vmax=limit, interpolation="nearest")
    places = np.arange(0, len(weights), VALUES)
    axes.set_xticks(places - 0.5, range(MEASURED))
    axes.set_yticks(places - 0.5, range(MEASURED))
    axes.grid(color="white", linewidth=0.6)
    axes.set(xlabel="measurement, each with its 16 values", ylabel="measurement")
    axes.set_title("What a pair of values says: blue for a vowel, red against")
    figure.colorbar(shown, ax=axes, shrink=0.8)
    figure.savefig(file, dpi=64)


if __name__ == "__main__":
    main()
