"""word2vec: what is learnt in the modes skipgram, cbow and batch_skipgram, epoch by epoch.

Papers: Mikolov et al., arXiv 1310.4546 (negative sampling, subsampling); Bojanowski et al., arXiv 1607.04606 (n-grams);
Ji et al., arXiv 1604.04661 (shared negatives as matrix products).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sagesmith.algorithms.blazingtext import binary, hosts, slices, word2vec_compiled, words_compiled
from sagesmith.algorithms.blazingtext.binary import Arguments, Rows
from sagesmith.algorithms.blazingtext.chance_compiled import noise_of
from sagesmith.algorithms.blazingtext.dictionary import Dictionary
from sagesmith.algorithms.blazingtext.lanes_compiled import table
from sagesmith.algorithms.blazingtext.model import Model
from sagesmith.algorithms.blazingtext.word2vec_compiled import Plan
from sagesmith.algorithms.checkpoints import Checkpoints
from sagesmith.algorithms.run import Run

NOISE = 0.75  # the power of counts that words of noise are drawn by
LEAST = 20_000  # words of a slice
LOT = 1 << 16  # rows drawn at once
LINE = "Alpha: %.4f  Progress: %.2f%%  Million Words/sec: %.2f"


@dataclass
class Tables:
    """What is learnt, and which rows make a word."""

    inputs: np.ndarray  # (words + n-grams that occur, padded)
    outputs: np.ndarray  # (words, padded)
    starts: np.ndarray  # (words + 1,)
    rows: np.ndarray  # rows of inputs
    kept: np.ndarray  # (rows of inputs,): the rows that they have in a model file


def arguments_of(settings: Mapping[str, Any]) -> Arguments:
    """What a model file says of the settings. A mode of three has two names in it: batch_skipgram is skipgram."""
    model = binary.CBOW if settings["mode"] == "cbow" else binary.SKIPGRAM
    least, most = (settings["min_char"], settings["max_char"]) if settings["subwords"] else (0, 0)
    return Arguments(
        settings["vector_dim"], settings["window_size"], settings["epochs"], settings["min_count"],
        settings["negative_samples"], 1, binary.NS, model, settings["buckets"] if most else 0, least, most, 100,
        settings["sampling_threshold"],
    )  # fmt: skip


def drawn(dictionary: Dictionary, arguments: Arguments, seed: int) -> Tables:
    """Tables before anything is learnt: inputs at random, outputs 0. Only n-grams that occur have a row.

    Words of one row begin as wide as in word2vec. Those that are means of several begin as wide as fastText's without
    n-grams, so that their rows begin wider by the square root of how many make a word.
    """
    words, lexicon = dictionary.words, dictionary.lexicon
    grams = arguments.grams(words)
    ends = np.empty(words + 1, np.int64)
    given = (lexicon.letters, lexicon.starts[: words + 1], np.arange(words), grams, ends)
    rows = np.empty(words_compiled.subwords(*given, np.empty(0, np.int64)), np.int64)
    words_compiled.subwords(*given, rows)
    kept = np.union1d(np.arange(words), rows)
    inputs, width = table(len(kept), arguments.dim), arguments.dim
    wide = 2 * math.sqrt(len(rows) / words) if arguments.bucket else 1.0
    random = np.random.default_rng(seed)
    for begin in range(0, len(kept), LOT):
        part = inputs[begin : begin + LOT, :width]
        part[:] = (random.random(part.shape, np.float32) - np.float32(0.5)) * wide / width
    return Tables(inputs, table(words, width), ends, np.searchsorted(kept, rows), kept)


def chances(dictionary: Dictionary, threshold: float) -> np.ndarray:
    """The chance of each word to be kept, sqrt(t / f) + t / f at most 1, times 2**32; (words,) uint64."""
    share = threshold * dictionary.tokens / np.maximum(1, dictionary.counts[: dictionary.words])
    chance = np.minimum(1.0, np.sqrt(share) + share) * float(word2vec_compiled.SURE)
    return np.asarray(chance.astype(np.uint64))


def train(
    words: np.ndarray, dictionary: Dictionary, settings: Mapping[str, Any], run: Run, devices: Sequence[Any] = ()
) -> Model:
    """Learns from a text (numbers of words, int32, -1 where a line ends), of which this host takes its share.

    Args:
        devices: torch.devices to learn on, in the modes skipgram and cbow; none: the processors.

    Raises:
        ValueError: what is learnt on devices is no number any more.
    """
    arguments = arguments_of(settings)
    tables = drawn(dictionary, arguments, settings["seed"])
    plan = Plan(
        chances(dictionary, settings["sampling_threshold"]), noise_of(dictionary.counts[: dictionary.words], NOISE),
        settings["window_size"], settings["negative_samples"], tables.starts, tables.rows, tables.inputs,
        tables.outputs, settings["batch_size"],
    )  # fmt: skip
    with slices.Team(run, settings["seed"]) as team:
        _epochs(team, words, plan, settings, run, devices)
    width = arguments.dim
    inputs = Rows(dictionary.words + arguments.bucket, width, tables.inputs, tables.kept if arguments.bucket else None)
    return Model(arguments, dictionary, inputs, Rows(dictionary.words, width, tables.outputs))


def _epochs(
    team: slices.Team, words: np.ndarray, plan: Plan, settings: Mapping[str, Any], run: Run, devices: Sequence[Any]
) -> None:
    epochs, own = settings["epochs"], hosts.share_of(words, run)
    progress = slices.Progress(run, settings["learning_rate"], len(own) * epochs, LINE)
    checkpoints, begun = Checkpoints(run, "blazingtext", settings), 0
    if (found := checkpoints.newest()) is not None and _restored(found.arrays, plan):
        begun = found.number
        progress.resume(begun * len(own))
    cuts = slices.cuts_of(len(own), run.threads, LEAST)
    meetings = hosts.meetings(len(words), len(plan.outputs), run)
    together = hosts.Together(run, plan.inputs, plan.outputs)
    learn = _learning(team, own, plan, settings, devices)
    for epoch in range(begun, epochs):
        for lap, part in enumerate(hosts.laps(cuts, meetings)):
            learn(part, epoch * hosts.LAPS + lap, progress)
            if stopping := together.meet():
                break
        if stopping:
            break
        if checkpoints.wanted and epoch + 1 < epochs:
            checkpoints.write(epoch + 1, {"inputs": plan.inputs, "outputs": plan.outputs})
        run.progress(epoch + 1, epochs, 1e6 * progress.speed)
    progress.tell(at_once=True)
    run.log("Training finished!")
    run.log("Average throughput in Million words/sec: %.2f", progress.speed)
    run.log("Total training time in seconds: %.2f", progress.seconds)


def _learning(
    team: slices.Team, own: np.ndarray, plan: Plan, settings: Mapping[str, Any], devices: Sequence[Any]
) -> Callable[[list[int], int, slices.Progress], None]:
    """What learns from the text between the cuts of a part, with random numbers of a stream, into the plan's tables."""
    if devices:
        from sagesmith.algorithms.blazingtext.devices_torch import Devices

        tables = Devices(plan, settings["mode"], settings["vector_dim"], settings["seed"], devices)

        def on_devices(part: list[int], stream: int, progress: slices.Progress) -> None:
            tables.epoch(own[part[0] : part[-1]], stream, progress)
            if not tables.give_back():
                raise ValueError(f"training diverged: learning_rate {settings['learning_rate']} is too large")

        return on_devices
    loop = getattr(word2vec_compiled, settings["mode"] + ("_subwords" if settings["subwords"] else ""))

    def learn(begin: int, end: int, rates: tuple[float, float], state: np.ndarray) -> None:
        loop(own, begin, end, rates, plan, state)

    def on_processors(part: list[int], stream: int, progress: slices.Progress) -> None:
        team.epoch(learn, part, [cut - part[0] for cut in part], stream, progress)

    return on_processors


def _restored(arrays: Mapping[str, np.ndarray], plan: Plan) -> bool:
    """Takes up a checkpoint, if it is of the same vocabulary."""
    for name in ("inputs", "outputs"):
        if name not in arrays or arrays[name].shape != getattr(plan, name).shape:
            return False
    for name in ("inputs", "outputs"):
        getattr(plan, name)[:] = arrays[name]
    return True
