"""LDA against tomotopy, scikit-learn and gensim on 20 Newsgroups: time, held-out perplexity, coherence.

    python benchmarks/lda.py FOLDER [--peers-python /path/to/python] [--only NAME;NAME] [--seeds 3] [--topics 20]
        [--terms 5000]
    python benchmarks/lda.py FOLDER --growth [--plot FILE]

FOLDER holds 20news-bydate-train and 20news-bydate-test (not part of this repository). Contestants in turn, each
training in a process of its own on the same counts; loading and compiling are not timed, their own preparation of the
counts (gensim's lists, tomotopy's words) is not either. Perplexity is document completion on the test documents: half
of each document's words (drawn once, the same for all) tells its mixture, the other half is predicted. Two columns:
mixtures by the contestant's own inference, and by one EM for all from its alpha and beta. NPMI of the ten likeliest
terms, counted in all documents, and in those of the test alone, by which nobody chose. Every result is printed as it
comes, and kept in FOLDER/results for the table at the end, so that a run may be split by --only.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import resource
import statistics
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
TERMS = 5000
# name → (what trains, its amount of work)
CONTESTANTS = {
    "sagesmith": ("sagesmith", 300),
    "sagesmith, 20 turns": ("sagesmith", 20),
    "sagesmith, spectral only": ("sagesmith", 0),
    "tomotopy, 200 iterations": ("tomotopy", 200),
    "tomotopy, 1000 iterations": ("tomotopy", 1000),
    "scikit-learn batch, 10": ("sklearn", 10),
    "scikit-learn batch, 30": ("sklearn", 30),
    "gensim auto, 10 passes": ("gensim", 10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--terms", type=int, default=TERMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--peers-python", default=os.environ.get("SAGESMITH_PEERS_PYTHON", sys.executable))
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--plot", type=Path, help="draw growth into this file (needs matplotlib)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)  # contestant, seed, file of the model
    given = parser.parse_args()
    if given.child:
        trained(given, given.child[0], int(given.child[1]), Path(given.child[2]))
        return
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, {len(os.sched_getaffinity(0))} threads, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    if given.growth:
        growth(given.folder, given.plot)
        return
    from benchmarks.topics import completion

    train, test, _ = corpus(given.folder, given.terms)
    print(f"{train.shape[0]} documents, {train.sum():.0f} words to train; {test.shape[0]} documents to test")
    halves = completion(test)
    chosen = [name for name in CONTESTANTS if not given.only or name in given.only.split(";")]
    for seed in range(given.seeds):
        for name in chosen:
            compare(given, name, seed, train, test, halves)
    table(given.folder / "results", f"{given.terms}-{given.topics}")


def corpus(folder: Path, width: int = TERMS) -> tuple[Any, Any, list[str]]:
    """The counts of `width` terms, read from text once and then from FOLDER/counts."""
    from scipy import sparse

    from benchmarks.topics import newsgroups

    kept = folder / ("counts" if width == TERMS else f"counts-{width}")
    if not kept.exists():
        train, test, terms = newsgroups(folder, width)
        kept.mkdir()
        for part, counts in (("train", train), ("test", test)):
            sparse.save_npz(kept / f"{part}.npz", counts)
        (kept / "terms.json").write_text(json.dumps(terms))
    parts = [sparse.load_npz(kept / f"{part}.npz") for part in ("train", "test")]
    return parts[0], parts[1], json.loads((kept / "terms.json").read_text())


def compare(given: Any, name: str, seed: int, train: Any, test: Any, halves: tuple[Any, Any]) -> None:
    """Trains in a child process, measures, prints, keeps."""
    from scipy import sparse

    from benchmarks.topics import diversity, folded_in, npmi, perplexity

    python = sys.executable if CONTESTANTS[name][0] == "sagesmith" else given.peers_python
    results = given.folder / "results"
    results.mkdir(exist_ok=True)
    model = results / "model.npz"
    command = [python, __file__, str(given.folder), "--terms", str(given.terms), "--topics", str(given.topics)]
    command += ["--child", name, str(seed), str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name}: did not run: {done.stderr.strip().splitlines()[-1:]}")
        return
    told = json.loads(done.stdout.strip().splitlines()[-1])
    with np.load(model) as arrays:
        alpha, beta, own = arrays["alpha"], arrays["beta"], arrays["own"]
    told |= {
        "name": name,
        "topics": given.topics,
        "seed": seed,
        "own": perplexity(own, beta, halves[1]),
        "common": perplexity(folded_in(alpha, beta, halves[0]), beta, halves[1]),
        "npmi": npmi(beta, sparse.vstack([train, test])),
        "npmi, test": npmi(beta, test),
        "diversity": diversity(beta),
    }
    (results / f"{name.replace(' ', '_')}-{given.terms}-{given.topics}-{seed}.json").write_text(json.dumps(told))
    print(
        f"{name}, seed {seed}: {told['seconds']:.2f} s ({told['processor']:.1f} s of processors, {told['memory']:.0f} "
        f"MB), perplexity {told['own']:.0f} own, {told['common']:.0f} common, NPMI {told['npmi']:.3f} "
        f"({told['npmi, test']:.3f} in test documents), diversity "
        f"{told['diversity']:.2f}",
        flush=True,
    )


def table(results: Path, case: str) -> None:
    """Medians over seeds of all that is kept."""
    print(
        "\n| | s | processor, s | peak MB | perplexity, own | common | NPMI | NPMI, test | diversity |\n"
        + "|---" * 9
        + "|"
    )
    for name in CONTESTANTS:
        runs = [json.loads(file.read_text()) for file in results.glob(f"{name.replace(' ', '_')}-{case}-*.json")]
        if runs:
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "name"}
            print(
                f"| {name} | {middle['seconds']:.2f} | {middle['processor']:.1f} | {middle['memory']:.0f} | "
                f"{middle['own']:.0f} | {middle['common']:.0f} | {middle['npmi']:.3f} | {middle['npmi, test']:.3f} | "
                f"{middle['diversity']:.2f} |"
            )


def growth(folder: Path, plot: Path | None) -> None:
    """Time and memory of sagesmith by documents, by topics and by terms, one after the other."""
    documents = corpus(folder)[0].shape[0]
    print("| documents | terms | topics | spectral only, s | in all, s | peak MB |\n" + "|---" * 6 + "|")
    found = {
        "documents": [(times * documents, *grown(folder, TERMS, times, 20)) for times in (1, 2, 4)],
        "topics": [(topics, *grown(folder, TERMS, 1, topics)) for topics in (10, 20, 40, 80, 150)],
        "terms": [(width, *grown(folder, width, 1, 20)) for width in (TERMS, 20000, 50000)],
    }
    if plot:
        draw(found, plot)


@functools.cache
def grown(folder: Path, width: int, times: int, topics: int) -> tuple[float, float]:
    """Seconds of the spectral method and of all, on the training documents `times` over; printed as a row."""
    corpus(folder, width)
    program = (
        "import sys, time, resource; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom scipy import sparse\nfrom benchmarks.lda import corpus\n"
        "from sagesmith.algorithms import LDA\nfrom sagesmith.algorithms.run import Run\n"
        "class Told(Run):\n"
        "    def metrics(self, operation, values, **more): self.values = values\n"
        "counts = corpus(Path(sys.argv[2]), int(sys.argv[3]))[0]\n"
        "LDA(num_topics=10, max_restarts=2).fit(counts[:300])\n"
        "counts = sparse.vstack([counts] * int(sys.argv[4]), format='csr')\nbegun = time.perf_counter()\n"
        "run = Told()\nLDA(num_topics=int(sys.argv[5])).fit(counts, run=run)\nended = time.perf_counter()\n"
        "print(counts.shape[0], run.values['spectral.time'] / 1000, ended - begun,\n"
        "      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    arguments = [str(ROOT), str(folder), str(width), str(times), str(topics)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    documents, spectral, whole, memory = map(float, done.stdout.split()[-4:])
    print(f"| {documents:,.0f} | {width:,} | {topics} | {spectral:.2f} | {whole:.2f} | {memory:.0f} |", flush=True)
    return spectral, whole


def draw(found: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    _, axes = pyplot.subplots(1, len(found), figsize=(9, 3.2), sharey=True)
    for axis, (what, points) in zip(axes, found.items(), strict=True):
        for column, label in ((1, "spectral only"), (2, "in all")):
            axis.loglog([point[0] for point in points], [point[column] for point in points], "o-", label=label)
        axis.set_xlabel(what)
        axis.grid(True, which="major", alpha=0.3)
    axes[0].set_ylabel("seconds")
    axes[0].legend()
    pyplot.tight_layout()
    pyplot.savefig(path)


def trained(given: Any, name: str, seed: int, file: Path) -> None:
    """The child process: trains, infers the seen halves, saves alpha, beta and mixtures, prints its times."""
    from benchmarks.topics import completion

    kind, work = CONTESTANTS[name]
    train, test, _ = corpus(given.folder, given.terms)
    ready = {"sagesmith": ours, "tomotopy": tomotopy, "sklearn": sklearn, "gensim": gensim}[kind]
    learn, answer = ready(train, given.topics, work, seed)
    wall, used = time.perf_counter(), time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    learn()
    wall, used = time.perf_counter() - wall, time.process_time() - used
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used += after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    alpha, beta, own = answer(completion(test)[0])
    np.savez(file, alpha=alpha, beta=beta, own=own)
    print(json.dumps({"seconds": wall, "processor": used, "memory": memory}))


Ready = tuple[Callable[[], Any], Callable[[Any], tuple[np.ndarray, np.ndarray, np.ndarray]]]


def ours(train: Any, topics: int, work: int, seed: int) -> Ready:
    import logging

    from sagesmith.algorithms import LDA

    logging.disable()
    LDA(num_topics=10, max_restarts=2).fit(train[:300])  # loads the compiled code
    model = LDA(num_topics=topics, refine_iterations=work, seed=seed)
    return lambda: model.fit(train), lambda seen: (model.alpha_, model.beta_, model.transform(seen))


def tomotopy(train: Any, topics: int, work: int, seed: int) -> Ready:
    import tomotopy as library

    model = library.LDAModel(k=topics, seed=seed + 1)
    for words in _words(train):
        model.add_doc(words)

    def answer(seen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        beta = np.full((topics, train.shape[1]), 1e-12)
        beta[:, [int(word) for word in model.used_vocabs]] = [model.get_topic_word_dist(k) for k in range(topics)]
        mixtures, _ = model.infer([model.make_doc(words) for words in _words(seen)], workers=_threads())
        return np.array(model.alpha), beta, np.array(mixtures)

    return lambda: model.train(work, workers=_threads(), show_progress=False), answer


def sklearn(train: Any, topics: int, work: int, seed: int) -> Ready:
    from sklearn.decomposition import LatentDirichletAllocation

    model = LatentDirichletAllocation(
        topics, learning_method="batch", max_iter=work, random_state=seed, n_jobs=_threads()
    )

    def answer(seen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        beta = model.components_ / model.components_.sum(axis=1, keepdims=True)
        return np.full(topics, 1 / topics), beta, model.transform(seen)

    return lambda: model.fit(train), answer


def gensim(train: Any, topics: int, work: int, seed: int) -> Ready:
    from gensim.models import LdaModel

    names = {number: str(number) for number in range(train.shape[1])}
    bags, models = _bags(train), []

    def learn() -> None:
        models.append(LdaModel(bags, topics, names, passes=work, alpha="auto", eta="auto", random_state=seed))

    def answer(seen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weights = models[0].inference(_bags(seen))[0]
        return np.array(models[0].alpha), models[0].get_topics(), weights / weights.sum(axis=1, keepdims=True)

    return learn, answer


def _threads() -> int:
    return len(os.sched_getaffinity(0))


def _bags(counts: Any) -> list[list[tuple[int, float]]]:
    ends = list(zip(counts.indptr, counts.indptr[1:], strict=False))
    return [list(zip(counts.indices[a:b].tolist(), counts.data[a:b].tolist(), strict=True)) for a, b in ends]


def _words(counts: Any) -> list[list[str]]:
    return [[str(term) for term, count in bag for _ in range(int(count))] for bag in _bags(counts)]


if __name__ == "__main__":
    main()
