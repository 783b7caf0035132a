"""NTM on 20 Newsgroups: documents per second, NPMI, topic uniqueness, perplexity of the bound, by seed.

    python benchmarks/ntm.py FOLDER [--terms 2000] [--topics 20] [--seeds 3] [--threads 2]

FOLDER holds 20news-bydate-train and 20news-bydate-test (not part of this repository). A tenth of the training
documents validates; perplexity is exp of the bound per word, mean over the test documents. NPMI of the ten first
words of a topic, counted in all documents, as benchmarks/lda.py has it for LDA's peers. Throughput counts whole
epochs: start, validation and the log included. Every result is printed as it comes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
CONTESTANTS = {
    "defaults": {},
    "adam": {"optimizer": "adam"},
    "adam, batch_norm": {"optimizer": "adam", "batch_norm": True},
}


def main() -> None:
    from scipy import sparse

    from benchmarks.topics import newsgroups, npmi
    from sagesmith.algorithms import NTM
    from sagesmith.testing.check_algorithm import RecordingRun

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--terms", type=int, default=2000)
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    train, test, terms = newsgroups(given.folder, given.terms)
    every, held = sparse.vstack([train, test]), np.arange(train.shape[0]) % 10 == 0
    NTM(num_topics=2, epochs=1).fit(train[:300])  # loads torch
    for name, settings in CONTESTANTS.items():
        for seed in range(given.seeds):
            run = RecordingRun()
            run.threads = given.threads
            began, used = time.perf_counter(), time.process_time()
            model = NTM(num_topics=given.topics, seed=seed, **settings).fit(
                train[~held], validation=train[held], test=test, vocabulary=terms, run=run
            )
            seconds, used = time.perf_counter() - began, time.process_time() - used
            epochs = sum(line.startswith("# Finished") for line in run.lines)
            loss = float(next(line for line in run.lines if "test total_loss" in line).rsplit("=", 1)[1])
            speed = epochs * int((~held).sum())
            print(
                f"{name}, seed {seed}: {epochs} epochs, {seconds:.1f} s, {speed / seconds:.0f} documents/s "
                f"({speed / used:.0f} per second of processors), NPMI {npmi(model.topic_logits_.T, every):.3f}, "
                f"TU {model.topic_uniqueness().mean():.2f}, perplexity {np.exp(loss):.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
