"""Seq2Seq's speed against JoeyNMT, OpenNMT-py and a plain loop in PyTorch, with the same network on the same batches.

    python benchmarks/seq2seq.py FOLDER --joeynmt ENV/bin/python --opennmt ENV/bin/python [--threads 2] [--seconds 10]

FOLDER holds Multi30k (see seq2seq_multi30k.py). One layer of LSTM, embeddings of 256, 512 units, mlp attention, input
feeding, 8,000 subword units a side, Adam with clipped components, batches of 64 sentences; each contestant in turn in a
process of its own, three steps to warm up. Then three batches are translated, with a beam of 5 in 20 steps. Prints each
figure as it comes, per second of the clock and of processor time, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
PEERS = Path(__file__).with_name("seq2seq_peers.py")
BATCHES, UNITS = 40, 8000
UNIT = {"train": "target tokens", "decode": "sentences"}
SETTINGS = {"num_embed_source": 256, "num_embed_target": 256, "rnn_num_hidden": 512}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--joeynmt", help="a Python with joeynmt")
    parser.add_argument("--opennmt", help="a Python with OpenNMT-py")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of processor time, for each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ours", nargs=3, help=argparse.SUPPRESS)  # the child process: file, seconds, threads
    given = parser.parse_args()
    if given.ours:
        print(json.dumps(ours(Path(given.ours[0]), float(given.ours[1]), int(given.ours[2]))))
        return
    print(f"Python {platform.python_version()}, {given.threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "batches.npz"
        write_batches(given.folder, file)
        timing = [str(file), str(given.seconds), str(given.threads)]
        commands = {
            "sagesmith": [sys.executable, __file__, str(given.folder), "--ours", *timing],
            "plain": [sys.executable, str(PEERS), "plain", *timing],
        }
        for name, python in (("joeynmt", given.joeynmt), ("opennmt", given.opennmt)):
            if python:
                commands[name] = [python, str(PEERS), name, *timing]
        compare(commands, given.repeats, given.threads)


def compare(commands: dict[str, list[str]], repeats: int, threads: int) -> None:
    seen: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(repeats):
        for name, command in commands.items():
            environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                print(f"{name} failed: {done.stderr[-400:]}", flush=True)
                continue
            for what, figures in json.loads(done.stdout.splitlines()[-1]).items():
                for clock in ("wall", "processor"):
                    seen.setdefault((what, clock, name), []).append(figures[clock])
                rates = f"{figures['wall']:8.1f} {UNIT[what]}/s, {figures['processor']:8.1f} per processor second"
                rest = {key: round(value, 3) for key, value in figures.items() if key not in ("wall", "processor")}
                print(f"{name:10} {what:7} {rates} {rest}", flush=True)
    for (what, clock, name), values in sorted(seen.items()):
        own = statistics.median(seen[what, clock, "sagesmith"])
        median = statistics.median(values)
        print(
            f"{what:7} {clock:9} {name:10} {median:8.1f} {UNIT[what]}/s; sagesmith is {own / median:.2f} times as fast"
        )


def write_batches(texts: Path, file: Path) -> None:
    """Batches of Multi30k, the same for all."""
    from sagesmith.algorithms.seq2seq.buckets import Padded, assigned, batches, buckets_of
    from sagesmith.algorithms.seq2seq.parallel import Plan, prepare
    from sagesmith.algorithms.seq2seq.sentences import read_pairs
    from sagesmith.algorithms.seq2seq.texts import read_folder
    from sagesmith.formats.channel import Channel

    folder = texts / f"units-{UNITS}"
    if not (folder / "units" / "units.json").exists():
        sides = {part: (texts / f"{part}.de", texts / f"{part}.en") for part in ("train", "val")}
        prepare(folder, Plan("bpe", UNITS, lowercase=True), sides["train"], sides["val"])
    vocabularies = read_folder(folder / "vocab")
    channel = Channel.from_folder("train", folder / "train", "application/x-recordio-protobuf")
    pairs = read_pairs(channel, *vocabularies).usable(60, 60)
    bucket = assigned(pairs, buckets_of(60, 60, 10, 1.0))
    made = [one for one in batches(pairs, bucket, 64, np.random.default_rng(0)) if len(one) == 64][:BATCHES]
    arrays: dict[str, Any] = {"words": UNITS, "batches": len(made)}
    for number, index in enumerate(made):
        batch = Padded.of(pairs, index)
        arrays |= {f"source{number}": batch.source, f"lengths{number}": batch.source_lengths}
        arrays |= {f"labels{number}": batch.labels(), f"targets{number}": batch.target}
        arrays[f"target_lengths{number}"] = batch.target_lengths
    np.savez(file, **arrays)


def ours(file: Path, seconds: float, threads: int) -> dict[str, Any]:
    from sagesmith.algorithms import Seq2Seq, nets
    from sagesmith.algorithms.run import Run
    from sagesmith.algorithms.seq2seq.beam import translate
    from sagesmith.algorithms.seq2seq.buckets import Padded
    from sagesmith.algorithms.seq2seq.network import Network, initialise
    from sagesmith.algorithms.seq2seq.sentences import Sentences
    from sagesmith.algorithms.seq2seq.vocabulary import END

    names = ("source", "lengths", "targets", "target_lengths")
    with np.load(file) as held:
        batches = [Padded(*(held[f"{name}{k}"] for name in names)) for k in range(int(held["batches"]))]
        words = int(held["words"])
    model = Seq2Seq(**SETTINGS)
    model.validate()
    team = nets.Team(Run(threads), seed=0)
    network = Network(model.settings, words, words)
    initialise(network, model.settings)
    stepper = nets.Stepper(network, nets.optimizer("adam", network, 0.001), team, clip_value=1.0)
    losses: list[float] = []
    tokens = number = 0

    def loss_of(copy: Network, batch: Padded) -> tuple[Any, int]:
        nonlocal tokens
        loss, counted = copy(batch, False)
        losses.append(counted.loss / counted.tokens)
        tokens += counted.tokens
        return loss, counted.tokens

    started, clock = time.perf_counter(), time.process_time()
    while time.process_time() - clock < seconds or number < 4:
        if number == 3:
            started, clock, tokens = time.perf_counter(), time.process_time(), 0
        stepper.learn(loss_of, [batches[number % len(batches)]])
        number += 1
    wall, processor = time.perf_counter() - started, time.process_time() - clock
    trained = {"wall": tokens / wall, "processor": tokens / processor, "steps": number, "loss": np.mean(losses[-10:])}
    network.output.bias.data[END] = -1e9  # none may end sooner, see the peers
    started, clock, sentences = time.perf_counter(), time.process_time(), 0
    for batch in batches[:3]:
        source = Sentences.of([row[:length] for row, length in zip(batch.source, batch.source_lengths, strict=True)])
        sentences += len(translate(network, source, np.full(len(source), 20), 5, 64))
    wall, processor = time.perf_counter() - started, time.process_time() - clock
    return {"train": trained, "decode": {"wall": sentences / wall, "processor": sentences / processor}}


if __name__ == "__main__":
    main()
