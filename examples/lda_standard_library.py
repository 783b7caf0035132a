"""What Python's standard library is about: topics of its own docstrings, found by LDA.

    python examples/lda_standard_library.py [--topics 12] [--picture FILE]

Every docstring of ten words or more, of this Python's library, is a document. Prints each topic's likeliest words and
the modules that it has most of, and how well documents set aside are told, beside one topic for all; draws the words.
"""

from __future__ import annotations

import argparse
import ast
import re
import sysconfig
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import sparse

from sagesmith.algorithms import LDA

TERMS = 1200
STOP = frozenset(
    [
        "the",
        "and",
        "for",
        "that",
        "this",
        "with",
        "are",
        "from",
        "not",
        "will",
        "can",
        "has",
        "have",
        "been",
        "was",
        "which",
        "when",
        "may",
        "should",
        "any",
        "all",
        "its",
        "into",
        "than",
        "then",
        "also",
        "only",
        "other",
        "given",
        "such",
        "but",
        "use",
        "used",
        "using",
        "does",
        "you",
        "your",
        "one",
        "two",
        "they",
        "see",
        "must",
        "just",
        "more",
        "same",
        "each",
        "return",
        "returns",
        "returned",
        "true",
        "false",
        "none",
        "default",
        "optional",
        "argument",
        "arguments",
        "self",
        "value",
        "values",
        "object",
        "objects",
        "function",
        "method",
        "class",
        "type",
        "set",
        "get",
        "name",
        "instance",
        "call",
        "called",
        "new",
        "if",
        "is",
        "it",
    ]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--topics", type=int, default=12)
    parser.add_argument("--picture", help="a file for the picture (png, svg)")
    given = parser.parse_args()
    counts, terms, modules = corpus(Path(sysconfig.get_path("stdlib")))
    held_out = np.arange(counts.shape[0]) % 10 == 0
    model = LDA(num_topics=given.topics).fit(counts[~held_out])
    one = LDA(num_topics=1).fit(counts[~held_out])
    print(f"{counts.shape[0]} docstrings, {int(counts.sum())} words of {len(terms)} terms")
    mixtures = model.transform(counts)
    for topic in np.argsort(-mixtures.sum(axis=0)):
        found = Counter()  # type: Counter[str]
        for module, share in zip(modules, mixtures[:, topic], strict=True):
            found[module] += float(share)
        words = " ".join(terms[column] for column in model.top_terms(8)[topic])
        print(f"{mixtures[:, topic].mean():4.0%}  {words:70}  {', '.join(name for name, _ in found.most_common(3))}")
    told, plain = (float(np.exp(-each.score(counts[held_out]))) for each in (model, one))
    print(f"perplexity of docstrings set aside {told:.0f}, with one topic {plain:.0f}")
    if given.picture:
        draw(model, terms, mixtures, given.picture)


def corpus(library: Path) -> tuple[sparse.csr_matrix, list[str], list[str]]:
    """Counts (D, V), the V terms and the D modules of the library's docstrings."""
    documents, modules = [], []
    for file in sorted(library.rglob("*.py")):
        parts = file.relative_to(library).parts
        if {"test", "tests", "site-packages", "idlelib", "lib2to3", "idle_test"} & set(parts):
            continue
        for text in docstrings(file):
            words = [word for word in re.findall(r"[a-z]{3,}", text.lower()) if word not in STOP]
            documents.append(words)
            modules.append(parts[0].removesuffix(".py"))
    spread = Counter(word for words in documents for word in set(words))
    terms = sorted(word for word, _ in sorted(spread.items(), key=lambda item: (-item[1], item[0]))[:TERMS])
    columns = {word: number for number, word in enumerate(terms)}
    rows = [[columns[word] for word in words if word in columns] for words in documents]
    kept = [number for number, row in enumerate(rows) if len(row) >= 10]
    starts = np.cumsum([0, *(len(rows[number]) for number in kept)])
    entries = np.concatenate([rows[number] for number in kept])
    counts = sparse.csr_matrix((np.ones(len(entries), np.float32), entries, starts), (len(kept), len(terms)))
    counts.sum_duplicates()
    return counts, terms, [modules[number] for number in kept]


def docstrings(file: Path) -> list[str]:
    """The docstrings of a module, its classes and functions; none of a file that this Python cannot read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [text for node in ast.walk(tree) if isinstance(node, kinds) and (text := ast.get_docstring(node))]


def draw(model: LDA, terms: list[str], mixtures: np.ndarray, file: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(2, 4, figsize=(11, 5.2))
    for axes, topic in zip(grid.ravel(), np.argsort(-mixtures.sum(axis=0)), strict=False):
        columns = model.top_terms(8)[topic][::-1]
        axes.barh([terms[column] for column in columns], model.beta_[topic, columns], color="#3b6ea5")
        axes.set_title(f"{mixtures[:, topic].mean():.0%} of all", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
