"""Seq2Seq's training as a user sees it, beside JoeyNMT's: reading, batching, steps and lines, by their own commands.

    python benchmarks/seq2seq_whole.py FOLDER --joeynmt ENV/bin/python [--threads 2] [--updates 100]

FOLDER holds Multi30k (see seq2seq_multi30k.py). The network of seq2seq.py, 8,000 subword units a side, 64 sentences a
batch, Adam, clipped components, no dropout, no label smoothing, nothing judged meanwhile. Each shuffles the same
sentences into its own batches. Prints target tokens per second between its first line and its last, of the clock
and of processor time.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
WIDTH, SIZE, UNITS, SENTENCES = 256, 512, 8000, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--joeynmt", help="a Python with joeynmt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=("sagesmith", "joeynmt"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    channels = given.folder / f"units-{UNITS}"
    if given.child:
        print(json.dumps({"sagesmith": ours, "joeynmt": joeynmt}[given.child](channels, given.updates, given.threads)))
        return
    write_texts(given.folder, channels)
    shared = [__file__, str(given.folder), "--threads", str(given.threads), "--updates", str(given.updates), "--child"]
    commands = {"sagesmith": [sys.executable, *shared, "sagesmith"]}
    if given.joeynmt:
        commands["joeynmt"] = [given.joeynmt, *shared, "joeynmt"]
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    for _ in range(given.repeats):
        for name, command in commands.items():
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            print(name, done.stdout.splitlines()[-1] if done.returncode == 0 else done.stderr[-400:], flush=True)


def write_texts(texts: Path, channels: Path) -> None:
    """The channels, and the same sentences as lines of units for JoeyNMT."""
    from sagesmith.algorithms.seq2seq.parallel import Plan, lines_of, load, prepare
    from sagesmith.algorithms.seq2seq.vocabulary import SPECIAL

    sides = {part: (texts / f"{part}.de", texts / f"{part}.en") for part in ("train", "val")}
    if not (channels / "units" / "units.json").exists():
        prepare(channels, Plan("bpe", UNITS, lowercase=True), sides["train"], sides["val"])
    units = load(channels, "source"), load(channels, "target")
    for language, side in zip(("de", "en"), units, strict=True):
        tokens = side.vocabulary.decode(range(len(SPECIAL), UNITS))  # JoeyNMT adds its own special ones
        (channels / f"joey.{language}").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    for part, paths in sides.items():
        for path, side in zip(paths, units, strict=True):
            file = channels / f"{part}-units{path.suffix}"
            if not file.exists():
                file.write_text("".join(f"{side.tokens(line)}\n" for line in lines_of(path)), encoding="utf-8")


class Lines:
    """Counts the tokens that a training tells of between its first line and its last."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._clocks: list[tuple[float, float]] = []
        self._rates: list[float] = []

    def take(self, text: str) -> None:
        found = self._pattern.search(text)
        if found:
            self._clocks.append((time.perf_counter(), time.process_time()))
            self._rates.append(float(found[1]))

    def figures(self) -> dict[str, float]:
        wall = [b[0] - a[0] for a, b in zip(self._clocks, self._clocks[1:], strict=False)]
        tokens = sum(rate * seconds for rate, seconds in zip(self._rates[1:], wall, strict=True))
        processor = self._clocks[-1][1] - self._clocks[0][1]
        return {
            "tokens": round(tokens),
            "wall": round(tokens / sum(wall), 1),
            "processor": round(tokens / processor, 1),
        }


def ours(channels: Path, updates: int, threads: int) -> dict[str, float]:
    from sagesmith.algorithms import Seq2Seq
    from sagesmith.algorithms.run import Run

    lines = Lines(r"\t([\d.]+) target tokens/sec")

    class Told(Run):
        def log(self, message: str, *arguments: object, level: int = 20) -> None:
            lines.take(message % arguments if arguments else message)

    model = Seq2Seq(
        num_embed_source=WIDTH, num_embed_target=WIDTH, rnn_num_hidden=SIZE, batch_size=SENTENCES, learning_rate=0.001,
        max_seq_len_source=60, max_seq_len_target=60, checkpoint_frequency_num_batches=10 * updates,
        max_num_batches=updates,
    )  # fmt: skip
    model.fit(channels / "train", validation=channels / "validation", vocab=channels / "vocab", run=Told(threads))
    return lines.figures()


def joeynmt(channels: Path, updates: int, threads: int) -> dict[str, float]:
    import torch
    from joeynmt.training import train

    torch.set_num_threads(threads)
    lines = Lines(r"Tokens per Sec: +([\d.]+)")
    _listen("joeynmt.training", lines.take)
    shape: dict[str, Any] = {"rnn_type": "lstm", "num_layers": 1, "dropout": 0.0, "type": "recurrent"}
    shape["embeddings"] = {"embedding_dim": WIDTH, "scale": False, "dropout": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "name": "multi30k", "joeynmt_version": "2.3.0", "model_dir": folder, "use_cuda": False, "random_seed": 1,
            "normalization": "tokens",
            "data": {
                "train": str(channels / "train-units"), "dev": str(channels / "val-units"), "dataset_type": "plain",
                "src": {"lang": "de", "level": "word", "max_length": 60, "voc_file": str(channels / "joey.de")},
                "trg": {"lang": "en", "level": "word", "max_length": 60, "voc_file": str(channels / "joey.en")},
            },
            "testing": {},
            "training": {
                "optimizer": "adam", "learning_rate": 0.001, "learning_rate_min": 1e-9, "normalization": "tokens",
                "scheduling": "plateau", "patience": 9, "clip_grad_val": 1.0, "loss": "crossentropy",
                "batch_size": SENTENCES, "batch_type": "sentence", "epochs": 99, "updates": updates,
                "logging_freq": 10, "validation_freq": 10 * updates, "shuffle": True,
            },
            "model": {
                "initializer": "xavier", "tied_embeddings": False, "tied_softmax": False,
                "encoder": shape | {"hidden_size": SIZE // 2, "bidirectional": True},
                "decoder": shape | {
                    "hidden_size": SIZE, "hidden_dropout": 0.0, "input_feeding": True, "init_hidden": "bridge",
                    "attention": "bahdanau",
                },
            },
        }  # fmt: skip
        _without_scheduler()
        train(0, 0, settings, skip_test=True)
    return lines.figures()


def _listen(name: str, take: Callable[[str], None]) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            take(record.getMessage())

    logging.getLogger(name).addHandler(Handler())


def _without_scheduler() -> None:
    """JoeyNMT 2.3 gives its scheduler an argument that torch no longer takes."""
    import joeynmt.training

    joeynmt.training.build_scheduler = lambda *given, **named: (None, None)


if __name__ == "__main__":
    main()
