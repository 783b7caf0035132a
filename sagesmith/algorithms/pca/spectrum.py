"""Spectrum: the leading eigenvectors of second moments, from the whole matrix or from its sketch, signed alike.

Sketch: Tropp, Yurtsever, Udell and Cevher, Fixed-Rank Approximation of a Positive-Semidefinite Matrix from Streaming
Data, NeurIPS 2017 (the Nyström approximation).
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from sagesmith.algorithms.blas import single_threaded

SEED = 2020  # of the probes: the same on every host and in every run
FULL = 256  # columns up to which all eigenvectors are found sooner than some


def probes(width: int, number: int) -> np.ndarray:
    """Random signs, (width, number) float32."""
    bits = np.random.default_rng(SEED).integers(0, 2, (width, number), dtype=np.int8)
    return (2 * bits - 1).astype(np.float32)


def leading(matrix: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The `number` largest eigenvalues, ascending, and their eigenvectors as columns, of a symmetric matrix (d, d)."""
    width = len(matrix)
    if width <= FULL or 3 * number > width or not matrix.any():
        with single_threaded() if width <= FULL else nullcontext():  # to wake others takes longer
            values, vectors = np.linalg.eigh(matrix)
        return values[-number:], vectors[:, -number:]
    if 8 * number < width:
        found = _by_lanczos(matrix, number)
        if found:
            return found
    from scipy.linalg import eigh

    wanted = (width - number, width - 1)
    return eigh(matrix, subset_by_index=wanted, driver="evr", check_finite=False)


def _by_lanczos(matrix: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The same by restarted Lanczos iterations, twice as quick; None where they did not converge or missed one.

    A single start vector may miss one of several equal eigenvalues: what is left without those found is searched from
    other vectors, and must have none that is larger.
    """
    from scipy.sparse.linalg import ArpackError, eigsh

    random = np.random.default_rng(SEED)
    try:
        values, vectors = eigsh(matrix, number, v0=random.normal(size=len(matrix)), tol=1e-14)
    except ArpackError:
        return None
    order = np.argsort(values)
    values, vectors = values[order], np.linalg.qr(vectors[:, order])[0]
    rest = random.normal(size=(len(matrix), 8))
    for _ in range(6):
        rest = np.linalg.qr(rest - vectors @ (vectors.T @ rest))[0]
        rest = matrix @ rest
    left = float(np.linalg.norm(rest - vectors @ (vectors.T @ rest), axis=0).max())
    return (values, vectors) if left <= values[0] * (1 + 1e-6) else None


def leading_of_sketch(sketch: np.ndarray, signs: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for a matrix A of which only signsᵀ A, (l, d), is known; l is at least `number`.

    A is taken to be (A Ω)(Ωᵀ A Ω)⁺(A Ω)ᵀ: exact when its rank is below l. Eigenvalues of the middle below single
    precision are noise of the products and left out.
    """
    core = sketch @ signs
    values, vectors = np.linalg.eigh((core + core.T) / 2)
    kept = values > np.finfo(np.float32).eps * max(values[-1], 0)
    root = (vectors[:, kept] / np.sqrt(values[kept])).T @ sketch  # (r, d), A is rootᵀ root
    _, singular, right = np.linalg.svd(root, full_matrices=False)
    found = min(number, len(singular))
    values = np.zeros(number)
    values[:found] = singular[:found] ** 2
    basis = right[:found].T
    if found < number:  # fewer directions in the data than asked for: any others, at right angles
        basis = np.linalg.qr(np.hstack([basis, signs]))[0][:, :number]
        basis[:, :found] = right[:found].T
    return values[::-1], basis[:, ::-1]


def signed(vectors: np.ndarray) -> np.ndarray:
    """Columns turned so that the entry of the largest magnitude, the first of equals, is positive."""
    magnitude = np.abs(vectors)
    largest = np.argmax(magnitude >= magnitude.max(axis=0) * (1 - 1e-6), axis=0)
    turn = np.where(np.take_along_axis(vectors, largest[None, :], axis=0) < 0, -1.0, 1.0)
    return vectors * turn
