"""words: the loops over the words of documents, in compiled code; every document's result has one writer.

Numbers of a topic lie in eight lanes each (`lanes_compiled`): arrays of topics have K8 columns, a multiple of 8, those
beyond K zero throughout. `starts`, `terms`, `counts`: documents as CSR. D documents, V terms.
"""

from __future__ import annotations

from math import log

import numpy as np

from sagesmith.algorithms.lanes_compiled import LANES, larger, load, spread, store, total
from sagesmith.formats.compiled import compiled, inlined

TINY = np.float32(1e-30)


@compiled
def mix(
    begin: int,
    end: int,
    starts: np.ndarray,
    terms: np.ndarray,
    counts: np.ndarray,
    topics: np.ndarray,
    prior: np.ndarray,
    turns: int,
    tol: float,
    mixtures: np.ndarray,
) -> None:
    """Sets mixtures[d] = N + prior, (D, K8), where N (sum: the document's words) is how many words each topic has.

    That is the mixture theta ∝ N + prior at the maximum of Σ_w c_w log(Σ_k theta_k topics[w, k]) + Σ_k prior_k log
    theta_k, which is concave, found by EM: at most `turns`, fewer when N moves by less than `tol` of a word per word.
    `topics` (V, K8), `prior` (1, K8). Words that no topic has are passed over.
    """
    width = topics.shape[1]
    sums = np.empty((1, width), np.float32)
    for d in range(begin, end):
        length = np.float32(0)
        for at in range(starts[d], starts[d + 1]):
            length += counts[at]
        for k in range(width):
            mixtures[d, k] = prior[0, k] * (1 + length)
        for _ in range(turns):
            for j in range(0, width, LANES):
                store(sums, 0, j, spread(np.float32(0)))
            for at in range(starts[d], starts[d + 1]):
                term = terms[at]
                likely = spread(np.float32(0))
                for j in range(0, width, LANES):
                    likely = likely + load(mixtures, d, j) * load(topics, term, j)
                chance = total(likely)
                if chance > TINY:
                    share = spread(counts[at] / chance)
                    for j in range(0, width, LANES):
                        store(sums, 0, j, load(sums, 0, j) + share * load(topics, term, j))
            moved = 0.0
            for k in range(width):
                new = mixtures[d, k] * sums[0, k] + prior[0, k]
                moved += abs(new - mixtures[d, k])
                mixtures[d, k] = new
            if moved <= tol * length:
                break


@compiled
def likelihood(
    begin: int,
    end: int,
    starts: np.ndarray,
    terms: np.ndarray,
    counts: np.ndarray,
    topics: np.ndarray,
    mixtures: np.ndarray,
    least: float,
    sums: np.ndarray,
) -> None:
    """sums[d] = Σ_w c_w log p(w) in double precision, for mixtures (D, K8) of any scale; p is `least` at least."""
    width = topics.shape[1]
    for d in range(begin, end):
        size = 0.0
        for k in range(width):
            size += mixtures[d, k]
        found = 0.0
        for at in range(starts[d], starts[d + 1]):
            chance = 0.0
            for k in range(width):
                chance += np.float64(mixtures[d, k]) * np.float64(topics[terms[at], k])
            found += counts[at] * log(max(chance / size, least))
        sums[d] = found


@compiled
def collapse(
    begin: int,
    end: int,
    first: int,
    starts: np.ndarray,
    terms: np.ndarray,
    counts: np.ndarray,
    places: np.ndarray,
    words: np.ndarray,
    shares: np.ndarray,
    prior: np.ndarray,
    turns: int,
    mixtures: np.ndarray,
    added: np.ndarray,
) -> None:
    """Collapsed variational Bayes of order zero over documents: moves mixtures[d] = N + prior, (D, K8), and adds to
    added (U, K8) how many of each term's words every topic has: row `places` of each count, those of document `first`
    at the beginning.

    Asuncion et al., On Smoothing and Inference for Topic Models, UAI 2009, equation 10: a word's topics are ∝
    (N_dk - own + prior_k) words[w, k] shares[k], where `own` is the word's own part in N. That part is worked out
    anew from N rather than kept, so that memory does not grow with words times topics. `words` (V, K8) are counts of
    words plus their prior, `shares` (1, K8) one over their sums, 0 beyond K; `turns` rounds over a document's words.
    """
    width = words.shape[1]
    sums, scaled, part = (
        np.empty((1, width), np.float32),
        np.empty((1, width), np.float32),
        np.empty((1, width), np.float32),
    )
    least = spread(TINY)
    for d in range(begin, end):
        for turn in range(turns):
            for j in range(0, width, LANES):
                store(sums, 0, j, spread(np.float32(0)))
                store(scaled, 0, j, load(mixtures, d, j) * load(shares, 0, j))
            for at in range(starts[d], starts[d + 1]):
                term, place = terms[at], places[at - starts[first]]
                likely = spread(np.float32(0))
                for j in range(0, width, LANES):
                    likely = likely + load(scaled, 0, j) * load(words, term, j)
                own = spread(np.float32(1) / max(total(likely), TINY))
                rest = spread(np.float32(0))
                for j in range(0, width, LANES):
                    weight = load(words, term, j) * load(shares, 0, j)
                    mine = load(mixtures, d, j)
                    weight = larger(mine - own * (mine * weight), least) * weight
                    store(part, 0, j, weight)
                    rest = rest + weight
                scale = spread(counts[at] / max(total(rest), TINY))
                for j in range(0, width, LANES):
                    gained = scale * load(part, 0, j)
                    store(sums, 0, j, load(sums, 0, j) + gained)
                    if turn == turns - 1:
                        store(added, place, j, load(added, place, j) + gained)
            for j in range(0, width, LANES):
                store(mixtures, d, j, load(sums, 0, j) + load(prior, 0, j))


@compiled
def settle(
    begin: int, end: int, terms: np.ndarray, saying: np.ndarray, said: np.ndarray, sums: np.ndarray, words: np.ndarray,
    told: int, prior: float,
) -> None:  # fmt: skip
    """What shares say, saying (S U, K8), becomes what was said (U, K8), and silence; sums (V, K8) float64 change by as
    much, and so do the first `told` topics of words (V, K8), which have `prior` more. Rows `begin` to `end` of U, of
    `terms`.
    """
    width, kinds, change = words.shape[1], len(terms), np.empty((1, words.shape[1]), np.float32)
    for row in range(begin, end):
        for j in range(0, width, LANES):
            whole = load(saying, row, j)
            store(saying, row, j, spread(np.float32(0)))
            for other in range(row + kinds, len(saying), kinds):
                whole = whole + load(saying, other, j)
                store(saying, other, j, spread(np.float32(0)))
            store(change, 0, j, whole - load(said, row, j))
            store(said, row, j, whole)
        term = terms[row]
        for k in range(width):
            sums[term, k] += change[0, k]
        for k in range(told):
            words[term, k] = np.float32(max(sums[term, k], 0.0)) + np.float32(prior)


@compiled
def column_sums(table: np.ndarray) -> np.ndarray:
    """The sums (m,) float64 of a table (n, m) float32 over its rows."""
    sums = np.zeros(table.shape[1])
    for row in range(table.shape[0]):
        for column in range(table.shape[1]):
            sums[column] += table[row, column]
    return sums


@inlined
def fallen_on(left: np.float32, part: np.ndarray, reached: np.ndarray) -> int:
    """The topic in whose share `left` falls: `part` (1, K8) are the shares, `reached` their sums up to each block."""
    block = 0
    while block < len(reached) - 1 and reached[block] <= left:
        block += 1
    if block:
        left -= reached[block - 1]
    k, last = block * LANES, block * LANES + LANES - 1
    left -= part[0, k]
    while left >= 0 and k < last:
        k += 1
        left -= part[0, k]
    while part[0, k] <= 0 and k > 0:  # rounding led past the last topic
        k -= 1
    return k


@compiled
def sample(
    begin: int, end: int, starts: np.ndarray, terms: np.ndarray, counts: np.ndarray, pieces: np.ndarray,
    words: np.ndarray, sums: np.ndarray, prior: np.ndarray, smoothing: float, state: np.ndarray, chosen: np.ndarray,
    mixtures: np.ndarray, added: np.ndarray,
) -> None:  # fmt: skip
    """One sweep of collapsed Gibbs sampling over documents, one word after another.

    Griffiths and Steyvers, Finding Scientific Topics, PNAS 101 (2004), equation 5: a word's topic is drawn ∝
    (N_dk + prior_k) (words[w, k] + smoothing) / (sums[k] + V smoothing), itself not counted. Entry `at` has the pieces
    pieces[at] to pieces[at + 1], each an equal part of its count; chosen[piece] is its topic, -1 before the first
    draw. `words` (V, K8) and mixtures[d] = N (D, K8) float32 and `sums` (K8,) float64 hold the counts of all drawn;
    `added` (V, K8) grows by what is drawn. `prior` (1, K8) is 0 beyond K. `state`: 64 bits that are not 0, of
    Marsaglia, Xorshift RNGs, J. Stat. Softw. 8 (2003).
    """
    blocks, width = words.shape[1] // LANES, words.shape[1]
    share, part = np.empty((1, width), np.float32), np.empty((1, width), np.float32)
    reached = np.empty(blocks, np.float32)
    rest, zero = spread(np.float32(smoothing)), spread(np.float32(0))
    smooth = smoothing * words.shape[0]
    for k in range(width):
        share[0, k] = 1 / (sums[k] + smooth)
    bits = state[0]
    for d in range(begin, end):
        for at in range(starts[d], starts[d + 1]):
            term = terms[at]
            weight = counts[at] / np.float32(pieces[at + 1] - pieces[at])
            for piece in range(pieces[at], pieces[at + 1]):
                k = chosen[piece]
                if k >= 0:
                    mixtures[d, k] -= weight
                    words[term, k] -= weight
                    sums[k] -= weight
                    share[0, k] = 1 / (sums[k] + smooth)
                whole = np.float32(0)
                for block in range(blocks):
                    j = block * LANES
                    one = larger(load(mixtures, d, j) + load(prior, 0, j), zero)
                    one = one * larger(load(words, term, j) + rest, zero) * load(share, 0, j)
                    store(part, 0, j, one)
                    whole += total(one)
                    reached[block] = whole
                bits ^= bits << np.uint64(13)
                bits ^= bits >> np.uint64(7)
                bits ^= bits << np.uint64(17)
                left = np.float32(np.int64(bits >> np.uint64(40))) * np.float32(2.0**-24) * whole
                k = fallen_on(left, part, reached)
                chosen[piece] = k
                mixtures[d, k] += weight
                words[term, k] += weight
                added[term, k] += weight
                sums[k] += weight
                share[0, k] = 1 / (sums[k] + smooth)
    state[0] = bits
