"""BlazingText against gensim's and fastText's word vectors, and against fastText's classifier: speed and quality.

    python benchmarks/blazingtext.py --peers-python ENV/bin/python --text corpus.txt --only words
    python benchmarks/blazingtext.py --peers-python ENV/bin/python --train train.txt --test test.txt --only classes

ENV holds gensim and fasttext-numpy2. The corpus is lower-case words, a line a paragraph; train and test are fastText's
`__label__` lines. Contestants take turns in processes of their own, with the same threads, dimensions, epochs and
settings; each result is printed as it comes, then medians and ratios. Words per second are those of training with the
vocabulary known; vectors are judged by the same pairs of WordSim-353, and by those of `--pairs` (a pair a line: two
words, a score). Each of `--repeats` has a seed of its own. `--devices 2` trains ours as on two GPUs, on the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEER = Path(__file__).parent / "blazingtext_peers" / "peer.py"
WORDS = ["skipgram", "cbow", "batch_skipgram", "skipgram+subwords", "cbow+subwords"]


def one(given: argparse.Namespace, who: str, mode: str, seed: int, folder: Path) -> dict[str, Any]:
    """One contestant's turn."""
    name, _, subwords = mode.partition("+")
    if who == "sagesmith":
        command = [sys.executable, __file__, "--alone", mode, *_shared(given), "--seed", str(seed)]
    else:
        command = [given.peers_python, str(PEER), who, name, given.train if name == "supervised" else given.text]
        command += ["--subwords"] if subwords else []
        command += ["--out", str(folder / "vectors.txt"), "--test", given.test or "", "--threads", str(given.threads)]
        command += ["--epochs", str(given.epochs), "--rate", str(given.rate), "--min-count", str(given.min_count)]
        command += ["--dim", str(given.dim), "--ngrams", str(given.ngrams), "--seed", str(seed + 1)]
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads), "PYTHONPATH": str(ROOT)}
    # With fewer than ten threads fastText leaves a part of its tables as memory was: NaN, unless it is new.
    environment |= {"MALLOC_MMAP_THRESHOLD_": "65536"} if who == "fasttext" else {}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if name != "supervised" and who != "sagesmith" and not given.no_quality:
        result |= agreement_of(folder / "vectors.txt", given.pairs)
    return result


def _shared(given: argparse.Namespace) -> list[str]:
    names = ("text", "train", "test", "threads", "epochs", "rate", "min_count", "dim", "ngrams", "devices")
    pairs = [(f"--{name.replace('_', '-')}", getattr(given, name)) for name in names]
    shared = [part for flag, value in pairs if value is not None for part in (flag, str(value))]
    return [*shared, "--pairs", *given.pairs]


def agreement_of(path: Path, files: Sequence[str]) -> dict[str, Any]:
    """mean_rho of vectors in word2vec's text form, and Spearman's correlation for other files of pairs."""
    from sagesmith.algorithms.blazingtext import similarity
    from sagesmith.algorithms.blazingtext.model import of_text

    model = of_text(path)
    known = set(model.dictionary.names())
    rho = similarity.evaluated(model.vectors, known.__contains__)["mean_rho"]
    return {"rho": rho, "pairs": others(model.vectors, known, files)}


def others(vectors: Callable[[Sequence[str]], Any], known: set[str], files: Sequence[str]) -> list[float]:
    """Spearman's correlation of cosines with the scores of each file; pairs with an unknown word are left out."""
    import numpy as np

    from sagesmith.algorithms.blazingtext import similarity

    found = []
    for file in files:
        lines = [line.lower().split() for line in Path(file).read_text("utf-8").splitlines()]
        rows = [line for line in lines if len(line) > 2 and {line[0], line[1]} <= known]
        first, second = (vectors([row[side] for row in rows]).astype(float) for side in (0, 1))
        cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
        found.append(similarity.spearman(cosines, np.array([float(row[2]) for row in rows])))
    return found


def alone(given: argparse.Namespace) -> None:
    """sagesmith's turn; the compiled code is made, or read from its cache, before the clock starts."""
    from sagesmith.algorithms import BlazingText
    from sagesmith.testing.check_algorithm import RecordingRun

    mode, _, subwords = given.alone.partition("+")
    settings: dict[str, Any] = {
        "mode": mode, "epochs": given.epochs, "learning_rate": given.rate, "min_count": given.min_count,
        "vector_dim": given.dim, "seed": given.seed,
    }  # fmt: skip
    settings |= {"word_ngrams": given.ngrams} if mode == "supervised" else {"subwords": bool(subwords)}
    if given.devices:
        import torch

        from sagesmith.algorithms.blazingtext import gpu

        gpu.devices_of = lambda run, mode: (torch.device("cpu"),) * given.devices
    small = ["a few words to compile by", "and a few more words"] * 60
    BlazingText(**settings | {"min_count": 1}).fit(small, ["a", "b"] * 60 if mode == "supervised" else None)
    run = RecordingRun()
    run.threads = given.threads
    started, cpu = time.monotonic(), time.process_time()
    model = BlazingText(**settings).fit(Path(given.train if mode == "supervised" else given.text), run=run)
    whole, cpu = time.monotonic() - started, time.process_time() - cpu
    seconds = next(float(line.split()[-1]) for line in run.lines if line.startswith("Total training time"))
    speed = next(float(line.split()[-1]) for line in run.lines if line.startswith("Average throughput"))
    result = {"seconds": seconds, "cpu": cpu, "whole": whole, "words": speed * seconds * 1e6}
    if mode == "supervised":
        with open(given.test, encoding="utf-8") as file:
            pairs = [line.split(" ", 1) for line in file]
        result["accuracy"] = model.score(
            [text for _, text in pairs], [label.removeprefix("__label__") for label, _ in pairs]
        )
    else:
        result["rho"] = model.evaluation_["mean_rho"]
        result["pairs"] = others(model.predict, set(model.words), given.pairs)
    print(json.dumps(result))


def turns(given: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    modes = ["supervised"] if given.only == "classes" else given.modes or WORDS
    for number in range(given.repeats):
        for mode in modes:
            for who in given.who or ("sagesmith", "fasttext", "gensim"):
                if who == "sagesmith" or (mode != "batch_skipgram" and (mode, who) != ("supervised", "gensim")):
                    yield mode, who, given.seed + number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--peers-python")
    parser.add_argument("--only", choices=["words", "classes"], default="words")
    parser.add_argument("--modes", nargs="*", choices=WORDS)
    parser.add_argument("--who", nargs="*", choices=["sagesmith", "fasttext", "gensim"])
    parser.add_argument("--no-quality", action="store_true", help="do not judge the peers' vectors")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--pairs", nargs="*", default=[], help="files of word pairs to judge vectors by as well")
    parser.add_argument("--devices", type=int, help="train as on so many GPUs")
    for name in ("text", "train", "test"):
        parser.add_argument(f"--{name}")
    for name, kind, default in (
        ("repeats", int, 1), ("threads", int, 2), ("epochs", int, 5), ("rate", float, 0.05), ("min-count", int, 5),
        ("dim", int, 100), ("ngrams", int, 2), ("seed", int, 0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    given = parser.parse_args()
    if given.alone:
        alone(given)
        return
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode, who, seed in turns(given):
            result = one(given, who, mode, seed, Path(folder))
            result["speed"] = result["words"] / result["seconds"] / 1e6
            found.setdefault((mode, who), []).append(result)
            quality = result.get("rho", result.get("accuracy", float("nan")))
            print(
                f"{mode:18} {who:10} {result['speed']:7.2f} M words/s, whole {result['whole']:6.1f} s, "
                f"processor {result['cpu']:6.1f} s, quality {quality:.4f}",
                *(f"{other:.4f}" for other in result.get("pairs", ())), flush=True,
            )  # fmt: skip
    for (mode, who), results in found.items():
        own = (
            statistics.median(result["speed"] for result in found[mode, "sagesmith"])
            if (mode, "sagesmith") in found
            else 0
        )
        speed = statistics.median(result["speed"] for result in results)
        print(f"median {mode:18} {who:10} {speed:7.2f} M words/s; sagesmith is {own / speed:.2f} times as fast")


if __name__ == "__main__":
    main()
