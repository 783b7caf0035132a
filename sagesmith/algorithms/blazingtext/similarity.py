"""similarity: how well vectors agree with people on WordSim-353, as BlazingText reports it.

Pairs: Finkelstein et al., Placing Search in Context, ACM TOIS 20 (2002); their parting into similar and related ones:
Agirre et al., NAACL 2009. wordsim353.tsv holds a pair a line: two words, the mean score, and the sets that it is in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FILES = {"EN-WS-353-ALL.txt": "A", "EN-WS-353-REL.txt": "R", "EN-WS-353-SIM.txt": "S"}
Pair = tuple[str, str, float, str]


@functools.cache
def pairs() -> tuple[Pair, ...]:
    """Two words, the score from 0 to 10, and the sets: A for all, R for related, S for similar."""
    lines = Path(__file__).with_name("wordsim353.tsv").read_text("utf-8").splitlines()
    return tuple((a, b, float(score), sets) for a, b, score, sets in (line.split("\t") for line in lines))


def evaluated(vectors: Callable[[Sequence[str]], np.ndarray], known: Callable[[str], bool]) -> dict[str, Any]:
    """What eval.json holds: Spearman's correlation for each of three sets of pairs, and the mean of the three.

    Words are looked up as they are written, else in lower case. Pairs with an unknown word are left out and counted; a
    correlation that two pairs cannot give is 0.
    """
    result: dict[str, Any] = {}
    for name, letter in FILES.items():
        chosen = [pair for pair in pairs() if letter in pair[3]]
        found = [(_known(a, known), _known(b, known), score) for a, b, score, _ in chosen]
        usable = [(a, b, score) for a, b, score in found if a and b]
        result[name] = {
            "not_found": len(chosen) - len(usable),
            "spearmans_rho": _agreement(usable, vectors),
            "total_pairs": len(chosen),
        }
    result["mean_rho"] = float(np.mean([result[name]["spearmans_rho"] for name in FILES]))
    return result


def _known(word: str, known: Callable[[str], bool]) -> str:
    return next((form for form in (word, word.lower()) if known(form)), "")


def _agreement(usable: Sequence[tuple[str, str, float]], vectors: Callable[[Sequence[str]], np.ndarray]) -> float:
    if len(usable) < 2:
        return 0.0
    first, second = (vectors(words).astype(float) for words in ([a for a, _, _ in usable], [b for _, b, _ in usable]))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return spearman(cosines, np.array([pair[2] for pair in usable]))


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one of the two does not vary."""
    ranks = [_ranks(values) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])
