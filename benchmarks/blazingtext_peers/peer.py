"""gensim and fastText on one task, in an environment of their own; prints a line of JSON.

    python peer.py gensim|fasttext skipgram|cbow|supervised TEXT --out FILE [--subwords] [--epochs 5] …

Word vectors go to FILE in word2vec's text form, a classifier's accuracy on --test is in the answer. `seconds` and `cpu`
are those of training with the text read and the vocabulary built; `whole` is all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import TypeAlias

Trained: TypeAlias = tuple[object, float, float]  # a model, seconds on the clock and of the processor


def word2vec_by_gensim(given: argparse.Namespace) -> dict[str, float]:
    from gensim.models import FastText, Word2Vec

    settings = {"vector_size": given.dim, "window": 5, "negative": 5, "alpha": given.rate, "sample": 1e-4}
    settings |= {"min_count": given.min_count, "workers": given.threads, "sg": int(given.mode == "skipgram")}
    settings |= {"min_alpha": 1e-6, "seed": given.seed, "epochs": given.epochs}
    started = time.monotonic()
    model = (FastText if given.subwords else Word2Vec)(**settings)
    model.build_vocab(corpus_file=given.text)
    begun, cpu = time.monotonic(), time.process_time()
    model.train(
        corpus_file=given.text, total_examples=model.corpus_count, total_words=model.corpus_total_words,
        epochs=given.epochs,
    )  # fmt: skip
    ended = time.monotonic()
    result = {"seconds": ended - begun, "cpu": time.process_time() - cpu, "whole": ended - started}
    result["words"] = model.corpus_total_words * given.epochs
    model.wv.save_word2vec_format(given.out)
    return result


def word2vec_by_fasttext(given: argparse.Namespace) -> dict[str, float]:
    import fasttext

    def trained(epochs: int) -> Trained:
        started, cpu = time.monotonic(), time.process_time()
        model = fasttext.train_unsupervised(
            given.text, model=given.mode, dim=given.dim, ws=5, neg=5, lr=given.rate, epoch=epochs,
            minCount=given.min_count, thread=given.threads, minn=3 if given.subwords else 0,
            maxn=6 if given.subwords else 0, verbose=0,
        )  # fmt: skip
        return model, time.monotonic() - started, time.process_time() - cpu

    # It does not tell what it spends on reading: a run with one epoch less tells what an epoch costs.
    model, whole, cpu = patiently(lambda: trained(given.epochs))
    words = int(sum(model.get_words(include_freq=True)[1])) * given.epochs
    if given.epochs > 1:
        _, less, less_cpu = patiently(lambda: trained(given.epochs - 1))
        result = {"seconds": (whole - less) * given.epochs, "cpu": (cpu - less_cpu) * given.epochs}
    else:
        result = {"seconds": whole, "cpu": cpu}
    with open(given.out, "w") as file:
        names = model.get_words()
        file.write(f"{len(names)} {given.dim}\n")
        for name in names:
            file.write(f"{name} {' '.join(f'{number:.6g}' for number in model.get_word_vector(name))}\n")
    return result | {"whole": whole, "words": words}


def classifier_by_fasttext(given: argparse.Namespace) -> dict[str, float]:
    import fasttext

    def trained(epochs: int) -> Trained:
        started, cpu = time.monotonic(), time.process_time()
        model = fasttext.train_supervised(
            given.text, dim=given.dim, lr=given.rate, epoch=epochs, minCount=given.min_count,
            wordNgrams=given.ngrams, bucket=given.buckets, thread=given.threads, verbose=0,
        )  # fmt: skip
        return model, time.monotonic() - started, time.process_time() - cpu

    model, whole, cpu = patiently(lambda: trained(given.epochs))
    _, least, least_cpu = patiently(lambda: trained(1))
    with open(given.text) as file:
        words = sum(len(line.split()) + 1 for line in file)
    share = given.epochs / max(1, given.epochs - 1)
    return {
        "seconds": (whole - least) * share, "cpu": (cpu - least_cpu) * share, "whole": whole,
        "words": words * given.epochs, "accuracy": model.test(given.test)[1],
    }  # fmt: skip


def patiently(train: Callable[[], Trained]) -> Trained:
    """With fewer than ten threads fastText leaves a part of its tables as memory was, and may find NaN there."""
    for _ in range(9):
        try:
            return train()
        except RuntimeError as error:
            if "NaN" not in str(error):
                raise
    return train()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=["gensim", "fasttext"])
    parser.add_argument("mode", choices=["skipgram", "cbow", "supervised"])
    parser.add_argument("text")
    parser.add_argument("--out", default=os.devnull)
    parser.add_argument("--test")
    parser.add_argument("--subwords", action="store_true")
    for name, kind, default in (
        ("dim", int, 100), ("epochs", int, 5), ("rate", float, 0.05), ("min-count", int, 5), ("threads", int, 2),
        ("ngrams", int, 2), ("buckets", int, 2_000_000), ("seed", int, 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    given = parser.parse_args()
    if given.mode == "supervised":
        result = classifier_by_fasttext(given)
    else:
        result = (word2vec_by_gensim if given.peer == "gensim" else word2vec_by_fasttext)(given)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
