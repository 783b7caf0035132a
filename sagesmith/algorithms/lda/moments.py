"""Moments: what the counts say of the topics, in products with the sparse count matrix only.

Anandkumar et al., Tensor Decompositions for Learning Latent Variable Models, JMLR 15 (2014), section 3.2 and appendix:
with alpha0 the sum of Dirichlet's parameters, alpha_i and beta_i those of topic i, and x1, x2, x3 three distinct words
of a document,

    M2 = E[x1⊗x2] - alpha0/(alpha0+1) M1⊗M1                      = Σ alpha_i/(alpha0(alpha0+1)) beta_i⊗beta_i
    M3 = E[x1⊗x2⊗x3] - … (see `third_moment`)     = Σ 2 alpha_i/(alpha0(alpha0+1)(alpha0+2)) beta_i⊗beta_i⊗beta_i

Neither M2 (V, V) nor M3 (V, V, V) is ever formed: only M2 times a thin matrix, and M3 seen through the whitening W,
(k, k, k). Memory is O(V k + k³), besides the counts. D documents, V terms, k working topics.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sagesmith.algorithms.lda.packing import pairs, unpacked

BLOCK = 1 << 21  # numbers of a block of outer products: 16 MB
POWERS = 8  # turns of subspace iteration
OVERSAMPLE = 16
FAINT = 1e-7  # eigenvalues below this share of the largest are rounding


class Whitening(NamedTuple):
    """`forth` = U L^(-1/2), so that forthᵀ M2 forth = I; `back` = U L^(1/2), its pseudo-inverse transposed. (V, k)."""

    forth: np.ndarray
    back: np.ndarray


class Moments:
    """Second and third moments of documents under an LDA of concentration alpha0.

    Args:
        counts: (D, V) CSR, not negative.
        alpha0: sum of the Dirichlet prior.
    """

    def __init__(self, counts: Any, alpha0: float) -> None:
        self.alpha0 = alpha0
        self._counts = counts.astype(np.float64)
        self._turned = self._counts.T.tocsr()
        lengths = np.asarray(self._counts.sum(axis=1)).ravel()
        self.first = self._turned @ _shares(lengths, 1)  # M1 (V,)
        self._pairs, self._triples = _shares(lengths, 2), _shares(lengths, 3)
        self._repeats = self._turned @ self._pairs  # of a word with itself, which is no pair

    def second_times(self, matrix: np.ndarray) -> np.ndarray:
        """M2 times (V, m)."""
        return self._pairs_times(matrix) - self.alpha0 / (self.alpha0 + 1) * np.outer(self.first, self.first @ matrix)

    def _pairs_times(self, matrix: np.ndarray) -> np.ndarray:
        """E[x1⊗x2] times (V, m)."""
        seen = (self._counts @ matrix) * self._pairs[:, None]
        product: np.ndarray = self._turned @ seen - self._repeats[:, None] * matrix
        return product

    def whitening(self, topics: int, random: np.random.Generator) -> Whitening:
        """From the leading eigenpairs of M2, at most `topics`, fewer where M2 has fewer that are positive.

        Randomised subspace iteration (Halko et al., SIAM Review 53, 2011) with Rayleigh's quotients at the end.
        """
        width = len(self.first)
        basis = random.standard_normal((width, min(width, topics + OVERSAMPLE)))
        for _ in range(POWERS):
            basis = np.linalg.qr(self.second_times(basis))[0]
        values, turns = np.linalg.eigh(basis.T @ self.second_times(basis))
        values, turns = values[::-1][:topics], turns[:, ::-1][:, :topics]
        real = values > FAINT * max(values[0], 0.0)
        vectors, roots = basis @ turns[:, real], np.sqrt(values[real])
        return Whitening(vectors / roots, vectors * roots)

    def third_moment(self, forth: np.ndarray) -> np.ndarray:
        """M3(W, W, W), (k, k, k), for W = `forth`.

        E[x1⊗x2⊗x3](W, W, W) is the mean over documents c, with y = Wᵀc and w_v the rows of W, of
        (y⊗y⊗y + 2 Σ c_v w_v⊗w_v⊗w_v - Σ c_v (w_v⊗w_v⊗y + w_v⊗y⊗w_v + y⊗w_v⊗w_v)) / (N(N-1)(N-2)).
        """
        alpha0, mean = self.alpha0, forth.T @ self.first
        seen = self._counts @ forth  # y (D, k)
        weighted = self._triples[:, None] * seen
        triples: np.ndarray = _outer(weighted, seen) + _outer(
            2 * (self._turned @ self._triples)[:, None] * forth, forth
        )
        triples -= _turns(_outer(self._turned @ weighted, forth))
        pairs = forth.T @ self._pairs_times(forth)
        triples -= alpha0 / (alpha0 + 2) * _turns(mean[:, None, None] * pairs)
        triples += 2 * alpha0**2 / ((alpha0 + 1) * (alpha0 + 2)) * np.multiply.outer(np.outer(mean, mean), mean)
        return triples


def _shares(lengths: np.ndarray, words: int) -> np.ndarray:
    """1 / (N (N-1) …), as many factors as words, over the number of documents with so many words; 0 for the others."""
    enough = lengths >= words
    falling = np.ones(len(lengths))
    for taken in range(words):
        falling *= np.where(enough, lengths - taken, 1.0)
    return np.where(enough, 1 / falling, 0.0) / max(1, int(enough.sum()))


def _outer(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Σ over rows of left⊗right⊗right, (k, k, k), in blocks of bounded size."""
    rows, k = right.shape
    total = np.zeros((k, k * (k + 1) // 2))
    step = max(1, BLOCK // max(1, k * k))
    for start in range(0, rows, step):
        part = right[start : start + step]
        total += left[start : start + step].T @ pairs(part, part)
    return unpacked(total, k)


def _turns(tensor: np.ndarray) -> np.ndarray:
    """A tensor plus the two that it becomes when its axes go round; enough for one symmetric in the last two."""
    turned: np.ndarray = tensor + tensor.transpose(1, 0, 2) + tensor.transpose(1, 2, 0)
    return turned
