"""bleu: BLEU-4 over a corpus, as Sockeye 1 computes it.

Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation (2002), with one reference. A count of
no matches is taken for 0.01; orders for which no hypothesis is long enough are left out of the mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

ORDERS = 4
NO_MATCH = 0.01


def corpus_bleu(hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]) -> float:
    """BLEU in 0 to 1, of tokenised sentences."""
    matched, counted = [0] * ORDERS, [0] * ORDERS
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for order in range(1, ORDERS + 1):
            mine, theirs = _ngrams(hypothesis, order), _ngrams(reference, order)
            counted[order - 1] += sum(mine.values())
            matched[order - 1] += sum((mine & theirs).values())
    precisions = [max(right, NO_MATCH) / count for right, count in zip(matched, counted, strict=True) if count]
    if not precisions:
        return 0.0
    said, wanted = sum(map(len, hypotheses)), sum(map(len, references))
    mean = sum(map(math.log, precisions)) / len(precisions)
    return math.exp(mean + min(0.0, 1 - wanted / said))


def _ngrams(sentence: Sequence[Hashable], order: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(zip(*(sentence[k:] for k in range(order)), strict=False))
