"""Topics: a corpus as counts, and measures of topic models that no library under test works out itself.

NPMI: sagesmith/algorithms/lda/coherence.py. Diversity: Dieng et al., Topic Modeling in Embedding Spaces, TACL 8 (2020).
Document completion: Wallach et al., Evaluation Methods for Topic Models, ICML 2009.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

FOLD_IN = 50  # turns of EM for a document's mixture
STOP = """
a about above across after again against all almost alone along already also although always am
among an and another any anybody anyone anything anywhere are around as ask at away back be became
because become been before behind being below between both but by came can cannot come could did do
does doing done down during each either else enough etc even ever every everyone everything few find
first for from further get give given go goes going got had has have having he her here hers herself
him himself his how however if in instead into is isn it its itself just keep know last least less
let like likely long look made make makes many may maybe me might mine more most mostly much must my
myself never next no nobody non none nor not nothing now of off often on once one only onto or other
others our ours out over own per perhaps put quite rather really right said same saw say says see
seem seemed seems seen several shall she should show since so some somebody someone something
sometimes somewhere still such sure take than that the their theirs them themselves then there
therefore these they thing things think this those though through thus to together too toward try
two under until up upon us use used using very want was way we well went were what whatever when
where whether which while who whole whom whose why will with within without would yes yet you your
yours yourself don didn doesn isn wasn couldn wouldn shouldn ain aren hasn haven won ve ll re
"""
STOP_WORDS = frozenset(STOP.split())


def newsgroups(folder: Path, terms: int) -> tuple[Any, Any, list[str]]:
    """20 Newsgroups by date: counts (D, terms) to train and to test, CSR float32, and the terms.

    `folder` holds 20news-bydate-train and 20news-bydate-test. Headers are cut off; words of three letters or more that
    are no stop words; the terms in most training documents, except those in more than 30% of them. Documents of fewer
    than ten words are dropped.
    """
    texts = {part: _texts(folder / f"20news-bydate-{part}") for part in ("train", "test")}
    return counted(texts["train"], texts["test"], terms)


def counted(train: list[list[str]], test: list[list[str]], terms: int) -> tuple[Any, Any, list[str]]:
    """Counts of lists of words, as `newsgroups` says."""
    from scipy import sparse

    held = Counter(word for words in train for word in set(words))
    usual = [(-count, word) for word, count in held.items() if count <= 0.3 * len(train)]
    vocabulary = sorted(word for _, word in sorted(usual)[:terms])
    column = {word: number for number, word in enumerate(vocabulary)}

    def matrix(documents: list[list[str]]) -> Any:
        counts = [Counter(column[word] for word in words if word in column) for words in documents]
        rows = [sorted(count.items()) for count in counts if count.total() >= 10]
        starts = np.cumsum([0, *(len(row) for row in rows)])
        entries = np.array([entry for row in rows for entry in row], np.int64).reshape(-1, 2)
        shape = (len(rows), len(vocabulary))
        return sparse.csr_matrix((entries[:, 1].astype(np.float32), entries[:, 0], starts), shape)

    return matrix(train), matrix(test), vocabulary


def _texts(folder: Path) -> list[list[str]]:
    files = sorted(folder.glob("*/*"))
    if not files:
        raise SystemExit(f"{folder} holds no documents: it should be a part of 20 Newsgroups by date")
    return [list(words_of(file.read_text("latin-1").partition("\n\n")[2])) for file in files]


def words_of(text: str) -> Iterable[str]:
    """The words of a text that tell of its topic, in lower case."""
    return (word for word in re.findall(r"[a-z]{3,}", text.lower()) if word not in STOP_WORDS)


def completion(counts: Any, seed: int = 0) -> tuple[Any, Any]:
    """Each document's words drawn into two halves: one to infer mixtures from, one to be predicted."""
    from scipy import sparse

    seen = counts.copy()
    seen.data = np.random.default_rng(seed).binomial(counts.data.astype(np.int64), 0.5).astype(np.float32)
    asked = sparse.csr_matrix(counts - seen)
    for half in (seen, asked):
        half.eliminate_zeros()
    both = (np.diff(seen.indptr) > 0) & (np.diff(asked.indptr) > 0)
    return seen[both], asked[both]


def folded_in(alpha: np.ndarray, beta: np.ndarray, seen: Any) -> np.ndarray:
    """Mixtures (D, K) of documents under a model's alpha (K,) and beta (K, V): EM, the same for all models."""
    from scipy import sparse

    words = np.ascontiguousarray(beta.T)
    mixtures = np.tile(alpha / alpha.sum(), (seen.shape[0], 1))
    rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
    for _ in range(FOLD_IN):
        chance = np.einsum("ik,ik->i", mixtures[rows], words[seen.indices])
        share = sparse.csr_matrix((seen.data / np.maximum(chance, 1e-30), seen.indices, seen.indptr), seen.shape)
        weights = mixtures * (share @ words) + alpha
        mixtures = weights / weights.sum(axis=1, keepdims=True)
    return mixtures


def perplexity(mixtures: np.ndarray, beta: np.ndarray, asked: Any) -> float:
    """exp of minus the mean log-probability of the words in `asked`."""
    rows = np.repeat(np.arange(asked.shape[0]), np.diff(asked.indptr))
    chance = np.einsum("ik,ik->i", mixtures[rows], np.ascontiguousarray(beta.T)[asked.indices])
    return float(np.exp(-(asked.data @ np.log(np.maximum(chance, 1e-30))) / asked.data.sum()))


def surprise(answer: Callable[[Any], np.ndarray], seen: Any, asked: Any, part: int = 1000) -> float:
    """The perplexity of the words in `asked` (D, V), whose probabilities (n, V) `answer` tells from `seen`."""
    total = 0.0
    for at in range(0, asked.shape[0], part):
        rows = asked[at : at + part].tocoo()
        chances = answer(seen[at : at + part])[rows.row, rows.col]
        total += float(rows.data @ np.log(np.maximum(chances, 1e-30)))
    return float(np.exp(-total / asked.data.sum()))


def npmi(beta: np.ndarray, reference: Any) -> float:
    """The mean over topics of the NPMI of their ten likeliest terms in the documents `reference` (D, V)."""
    from sagesmith.algorithms.lda import coherence

    return float(coherence.npmi(beta, reference).mean())


def diversity(beta: np.ndarray, top: int = 25) -> float:
    """The share of distinct terms among the `top` likeliest of all topics, 0 to 1."""
    chosen = np.argsort(-beta, axis=1, kind="stable")[:, :top]
    return len(np.unique(chosen)) / chosen.size
