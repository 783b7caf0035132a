"""A real access log: which user agents come from which networks?

    python examples/ipinsights_access_log.py [--pairs FILE.csv]

The entity is the user agent of a request (browser, feed reader, robot). Learns the first three quarters of a web site's
log and judges the last: real requests against the same ones with their addresses shuffled. Most addresses there are
new, and any browser may come from anywhere, so that much less can be told than of accounts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas
from ipinsights_stolen_accounts import auc

from sagesmith.algorithms import IPInsights

LOG = Path(__file__).parent / "data" / "access-log.csv.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pairs", type=Path, default=LOG, help="CSV of entity and IPv4 address, in the order of time")
    pairs = pandas.read_csv(parser.parse_args().pairs, header=None, dtype=str, keep_default_na=False)
    train, later = pairs[: len(pairs) * 3 // 4], pairs[len(pairs) * 3 // 4 :]
    model = IPInsights(
        num_entity_vectors=2 * train[0].nunique(), vector_dim=32, epochs=10, mini_batch_size=200, learning_rate=0.003
    ).fit(train)
    known = later[model.knows(later[0])]
    new = ~known[1].isin(train[1]).to_numpy()
    shuffled = known.assign(ip=np.random.default_rng(0).permutation(known[1]))[[0, "ip"]]
    real, false = -model.predict(known), -model.predict(shuffled)
    print(f"learnt from {len(train)} requests; {len(known)} of {len(later)} later ones are of known user agents,")
    print(
        f"{new.mean():.0%} of them from new addresses; AUC {auc(false, real):.3f}, {auc(false, real[~new]):.3f} without"
    )
    robot = train[train[0].str.contains("Googlebot/2.1", regex=False)].mode().head(1)
    home, elsewhere = model.predict(robot)[0], model.predict([[robot.iloc[0, 0], "203.0.113.9"]])[0]
    print(f"Googlebot at {robot.iloc[0, 1]}: {home:.1f}; at an address of nobody: {elsewhere:.1f}")


if __name__ == "__main__":
    main()
