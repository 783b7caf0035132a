"""NTM beside Pyro's ProdLDA and contextualized-topic-models on 20 Newsgroups: documents per second, NPMI, perplexity.

    python benchmarks/ntm.py FOLDER [--peers-python /path/to/python] [--terms 2000] [--topics 20] [--seeds 3]
        [--only NAME;NAME] [--epochs N]

FOLDER holds 20news-bydate-train and 20news-bydate-test (not part of this repository). Contestants in turn, each in a
process of its own, two threads, on the same counts (benchmarks/lda.py's with 5,000 terms); a tenth of the training
documents validates ours. Documents per second count whole epochs, validation and log included; loading the library,
making counts dense (for the peers) and embedding the texts (for contextualized-topic-models, which gets 300
components of a singular value decomposition in place of a language model's vectors) are not timed. NPMI of ten words
of a topic, counted in all documents and in those of the test alone, by two rankings: the words' probabilities in a
document of that topic alone, as LDA's topics are ranked, and the one by which the library lists its topics: how far a
topic raises words, in ours weighed with their own probability (TU: of the twenty first). Perplexity is LDA's: half of
a test document's words tells its topics, the other half is predicted. Every result is printed as it comes. --epochs
limits all, for a measure of speed alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# name → (what trains, its settings); peers with their own defaults
CONTESTANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sagesmith, defaults": ("sagesmith", {}),
    "sagesmith, adam": ("sagesmith", {"optimizer": "adam"}),
    "sagesmith, adam, batch_norm": ("sagesmith", {"optimizer": "adam", "batch_norm": True}),
    "Pyro ProdLDA": ("prodlda", {"epochs": 50}),
    "contextualized-topic-models": ("ctm", {"num_epochs": 50}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--terms", type=int, default=5000)
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--peers-python", default=os.environ.get("SAGESMITH_PEERS_PYTHON", sys.executable))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)  # contestant, seed, file of the topics
    given = parser.parse_args()
    if given.child:
        trained(given, given.child[0], int(given.child[1]), Path(given.child[2]))
        return
    from benchmarks.lda import corpus

    train, test, _ = corpus(given.folder, given.terms)
    print(f"{train.shape[0]} documents of {given.terms} terms, load {os.getloadavg()[0]:.1f}")
    for seed in range(given.seeds):
        for name in CONTESTANTS:
            if not given.only or name in given.only.split(";"):
                compare(given, name, seed, train, test)


def compare(given: Any, name: str, seed: int, train: Any, test: Any) -> None:
    """Trains in a child process, measures, prints."""
    from scipy import sparse

    from benchmarks.topics import diversity, npmi
    from sagesmith.algorithms.ntm.topics import top, uniqueness

    python = sys.executable if CONTESTANTS[name][0] == "sagesmith" else given.peers_python
    file = given.folder / "ntm-topics.npz"
    command = [python, __file__, str(given.folder), "--terms", str(given.terms), "--topics", str(given.topics)]
    command += ["--epochs", str(given.epochs)] if given.epochs else []
    done = subprocess.run(
        [*command, "--child", name, str(seed), str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{name}: did not run: {done.stderr.strip().splitlines()[-1:]}")
        return
    told = json.loads(done.stdout.strip().splitlines()[-1])
    every = sparse.vstack([train, test])
    with np.load(file) as arrays:
        likely, listed = arrays["likely"], arrays["listed"]
    print(
        f"{name}, seed {seed}: {told['epochs']} epochs, {told['seconds']:.1f} s, {told['speed']:.0f} documents/s "
        f"({told['speed'] * told['seconds'] / told['processor']:.0f} per second of processors), NPMI "
        f"{npmi(likely, every):.3f} of the likeliest words, {npmi(listed, every):.3f} of those listed "
        f"({npmi(listed, test):.3f} in test documents), TU {uniqueness(top(listed.T, 20)).mean():.3f}, diversity "
        f"{diversity(listed):.2f}, perplexity {told['perplexity']:.0f}",
        flush=True,
    )


def trained(given: Any, name: str, seed: int, file: Path) -> None:
    """The child process: trains, saves the topics by both rankings, prints its times and the perplexity."""
    from benchmarks.lda import corpus
    from benchmarks.topics import completion, surprise

    kind, settings = CONTESTANTS[name]
    train, test, _ = corpus(given.folder, given.terms)
    held = np.arange(train.shape[0]) % 10 == 0
    if kind == "sagesmith":
        ready = ours(train[~held], train[held], given, seed, settings)
    else:
        from benchmarks import ntm_peers

        ready = getattr(ntm_peers, kind)(train[~held], given, seed, settings)
    learn, answer, topics = ready
    wall, used = time.perf_counter(), time.process_time()
    epochs = learn()
    wall, used = time.perf_counter() - wall, time.process_time() - used
    seen, asked = completion(test)
    likely, listed = topics()
    np.savez(file, likely=likely, listed=listed)
    speed = epochs * int((~held).sum()) / wall
    found = surprise(answer, seen, asked)
    print(json.dumps({"seconds": wall, "processor": used, "epochs": epochs, "speed": speed, "perplexity": found}))


Ready = tuple[Callable[[], int], Callable[[Any], np.ndarray], Callable[[], tuple[np.ndarray, np.ndarray]]]


def ours(train: Any, validation: Any, given: Any, seed: int, settings: dict[str, Any]) -> Ready:
    from sagesmith.algorithms import NTM
    from sagesmith.algorithms.ntm.topics import relevance
    from sagesmith.testing.check_algorithm import RecordingRun

    logging.disable()
    NTM(num_topics=2, epochs=1).fit(train[:300])  # loads torch
    run = RecordingRun()
    run.threads = len(os.sched_getaffinity(0))
    limit = {"epochs": given.epochs} if given.epochs else {}
    model = NTM(num_topics=given.topics, seed=seed, **settings, **limit)

    def learn() -> int:
        model.fit(train, validation=validation, run=run)
        return sum(line.startswith("# Finished training") for line in run.lines)

    return (
        learn,
        lambda seen: model.word_probabilities(model.transform(seen)),
        lambda: (model.topic_words(), relevance(model.arrays()).T),
    )


if __name__ == "__main__":
    main()
