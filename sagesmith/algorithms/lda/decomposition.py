"""Decomposition: a symmetric tensor (r, r, r) as a sum of k rank-one terms, by alternating least squares.

Kolda and Bader, Tensor Decompositions and Applications, SIAM Review 51 (2009), section 3.4. The third moment is T ≈
Σ lambda_i v_i⊗v_i⊗v_i with nearly orthogonal v_i once it is whitened: restarts begin at random orthogonal factors.
Restarts take their turns together, a few at a time: a few large products in place of many small ones.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import numpy as np

from sagesmith.algorithms.lda.packing import packed, pairs
from sagesmith.algorithms.lda.threads import Crew

TOGETHER, ROOM = 5, 1 << 21  # restarts whose products are taken at once, at most; numbers that these may be
APART = 20  # turns at the beginning in which factors are kept from falling together
TRIED, FINALISTS = 30, 2  # turns that every restart has; restarts that go on, those which leave least then
RIDGE = 1e-12  # of a Gram matrix's trace, added to its diagonal: collinear factors must not divide by zero


class Terms(NamedTuple):
    """Σ weights_i v_i⊗v_i⊗v_i: weights (k,) not negative, unit vectors as columns (r, k)."""

    weights: np.ndarray
    vectors: np.ndarray


class Fit(NamedTuple):
    """The share of the tensor's norm that is left, and factors (3, r, k) of unit columns."""

    left: float
    factors: np.ndarray


def decomposed(
    tensor: np.ndarray,
    terms: int,
    restarts: int,
    iterations: int,
    tol: float,
    random: np.random.Generator,
    threads: int = 1,
    stopping: Callable[[], bool] = lambda: False,
) -> tuple[Terms, float]:
    """The best of `restarts` fits, each of up to `iterations` turns, and what it leaves of the tensor's norm (0 to 1).

    After TRIED turns only the FINALISTS go on. A fit ends when the share it leaves changes by less than `tol` in a
    turn, and soon once `stopping` says so.
    """
    rank = len(tensor)
    together = max(1, min(TOGETHER, ROOM // max(1, terms * rank * (rank + 1) // 2)))
    whole, size = packed(tensor), float((tensor**2).sum())
    with Crew(threads) as crew:

        def fits(drawn: np.ndarray, first: int, last: int, together: int, entries: np.ndarray) -> list[Fit]:
            groups = [drawn[:, start : start + together] for start in range(0, drawn.shape[1], together)]
            turns = range(first, last)
            return [*chain(*crew.each(lambda group: _fitted(entries, size, group, turns, tol, stopping), groups))]

        tried = fits(
            _drawn(restarts, rank, terms, random), 0, min(TRIED, iterations), together, whole.astype(np.float32)
        )
        best = sorted(tried, key=lambda fit: fit.left)[:FINALISTS]
        if iterations > TRIED and not stopping():
            best = fits(np.stack([fit.factors for fit in best], axis=1), TRIED, iterations, 1, whole)
    left, factors = min(best, key=lambda fit: fit.left)
    return _symmetric(tensor, factors), left


def _drawn(restarts: int, rank: int, terms: int, random: np.random.Generator) -> np.ndarray:
    """Factors of three axes for each restart, (3, restarts, r, k), with orthogonal columns as far as k <= r."""
    drawn = random.standard_normal((3, restarts, rank, terms))
    _orthogonalise(drawn)
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    return drawn


def _orthogonalise(factors: np.ndarray) -> None:
    """Makes the first columns of factors (…, r, k) orthogonal, as many as r allows, in place."""
    most = min(factors.shape[-2:])
    factors[..., :most] = np.linalg.qr(factors[..., :most])[0]


def _fitted(
    entries: np.ndarray, size: float, factors: np.ndarray, turns: range, tol: float, stopping: Callable[[], bool]
) -> list[Fit]:
    """Restarts (3, n, r, k) after `turns`, fewer where they settle; of the tensor, `packed`, of squared norm `size`."""
    before, done = np.full(factors.shape[1], np.inf), []
    for turn in turns:
        if turn < APART:
            _orthogonalise(factors)
        square = _turn(entries, size, factors)
        left = np.sqrt(np.maximum(square, 0.0) / (size or 1.0))
        ended = (np.abs(before - left) < tol) & (turn > APART) | (turn + 1 == turns.stop or stopping())
        done += [Fit(float(left[place]), factors[:, place].copy()) for place in np.flatnonzero(ended)]
        if ended.all():
            break
        factors, before = factors[:, ~ended], left[~ended]
    return done


def _turn(entries: np.ndarray, size: float, factors: np.ndarray) -> np.ndarray:
    """Solves for each axis in turn, in place; what is then left of the squared norm, (restarts,)."""
    _, restarts, rank, terms = factors.shape
    grams = factors.transpose(0, 1, 3, 2) @ factors
    for axis in range(3):
        one, two = ((axis + 1) % 3, (axis + 2) % 3)
        rows = [factors[which].transpose(0, 2, 1).reshape(-1, rank).astype(entries.dtype) for which in (one, two)]
        seen = (pairs(*rows) @ entries.T).reshape(restarts, terms, rank).astype(np.float64)
        gram = grams[one] * grams[two]
        gram[:, range(terms), range(terms)] += RIDGE * np.trace(gram, axis1=1, axis2=2)[:, None]
        solution = np.linalg.solve(gram, seen).transpose(0, 2, 1)
        weights = np.linalg.norm(solution, axis=1, keepdims=True)
        factors[axis] = solution / np.where(weights > 0, weights, 1.0)
        grams[axis] = factors[axis].transpose(0, 2, 1) @ factors[axis]
    explained = (gram * (solution.transpose(0, 2, 1) @ solution)).sum(axis=(1, 2))
    rest: np.ndarray = size - 2 * (seen.transpose(0, 2, 1) * solution).sum(axis=(1, 2)) + explained
    return rest


def _symmetric(tensor: np.ndarray, factors: np.ndarray) -> Terms:
    """The three factors as one: their mean with signs made to agree; weights by least squares, made positive."""
    first = factors[0]
    vectors = first.copy()
    for other in factors[1:]:
        vectors += other * np.where((first * other).sum(axis=0) < 0, -1.0, 1.0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=0), np.finfo(float).tiny)
    seen = np.einsum("abc,ai,bi,ci->i", tensor, vectors, vectors, vectors, optimize=True)
    weights = np.linalg.lstsq((vectors.T @ vectors) ** 3, seen, rcond=None)[0]
    return Terms(np.abs(weights), vectors * np.where(weights < 0, -1.0, 1.0))
