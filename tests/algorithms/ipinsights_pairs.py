"""Pairs for the tests of IP Insights: forty users, each of one network out of sixteen."""

from __future__ import annotations

import numpy as np

NETWORKS = 16


def drawn(rows: int, seed: int = 0) -> np.ndarray:
    """(rows, 2) of str: user and an address of the user's /24."""
    random = np.random.default_rng(seed)
    users = random.integers(0, 40, rows)
    hosts = random.integers(0, 256, rows)
    pairs = [[f"user_{user}", f"{20 + user % NETWORKS * 13}.{user % NETWORKS}.7.{host}"] for user, host in
             zip(users.tolist(), hosts.tolist(), strict=True)]  # fmt: skip
    return np.array(pairs, dtype=object)


def csv(pairs: np.ndarray) -> str:
    """The pairs as lines, with the space after the comma that SageMaker's pages show."""
    return "".join(f"{entity}, {ip}\n" for entity, ip in pairs)
