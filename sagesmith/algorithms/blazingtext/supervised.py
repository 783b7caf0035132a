"""supervised: text classification as fastText does it (Joulin et al., arXiv 1607.01759), with early stopping.

A line is the mean of the rows of its words and of its hashed n-grams of words; a softmax over labels is learnt from it.
Unlike fastText, lines are shuffled in each epoch: a file sorted by label is learnt as well as any other. Only n-grams
that occur have a row here; in the model file all others are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sagesmith.algorithms.blazingtext import binary, slices, words_compiled
from sagesmith.algorithms.blazingtext.binary import Arguments, Rows
from sagesmith.algorithms.blazingtext.dictionary import Dictionary, Vocabulary
from sagesmith.algorithms.blazingtext.lanes_compiled import table
from sagesmith.algorithms.blazingtext.model import Model
from sagesmith.algorithms.blazingtext.supervised_compiled import Lines, best, softmax
from sagesmith.algorithms.checkpoints import Checkpoints
from sagesmith.algorithms.run import Run

LEAST = 100  # lines of a slice
LINE = "##### Alpha: %.4f  Progress: %.2f%%  Million Words/sec: %.2f #####"


def arguments_of(settings: Mapping[str, Any]) -> Arguments:
    """What a model file says of the settings."""
    buckets = settings["buckets"] if settings["word_ngrams"] > 1 else 0
    return Arguments(
        settings["vector_dim"], 5, settings["epochs"], settings["min_count"], 5, settings["word_ngrams"],
        binary.SOFTMAX, binary.SUPERVISED, buckets, 0, 0, 100, 1e-4,
    )  # fmt: skip


def lines_of(words: np.ndarray, vocabulary: Vocabulary, final: np.ndarray, arguments: Arguments, known: int) -> Lines:
    """A text as lines of rows of a model file; words and labels that came after the dictionary was made are unknown."""
    size = int(vocabulary.lexicon.size[0])
    numbers = np.concatenate([final, np.full(size - len(final), -1)])
    labels = vocabulary.lexicon.labels[:size]
    count = int(np.count_nonzero(words == words_compiled.LINE))
    marks = int(np.count_nonzero(labels[words[words >= 0]]))
    rows = np.empty((len(words) - marks) * arguments.wordNgrams, np.int64)
    ends, label_ends, targets = np.empty(count + 1, np.int64), np.empty(count + 1, np.int64), np.empty(marks, np.int64)
    given = (words, numbers, vocabulary.lexicon.hashes, labels, arguments.grams(known), ends, rows, label_ends, targets)
    _, used, marked = words_compiled.lines_of(*given)
    return Lines(ends, rows[:used], label_ends, targets[:marked])


@dataclass
class Learner:
    """The tables, and the lines as rows of them."""

    arguments: Arguments
    lines: Lines
    kept: np.ndarray  # the rows that a model file has for those of `inputs`
    inputs: np.ndarray
    outputs: np.ndarray

    @classmethod
    def drawn(cls, lines: Lines, dictionary: Dictionary, arguments: Arguments, seed: int) -> Learner:
        """Before anything is learnt: rows at random, labels 0."""
        places = np.zeros(dictionary.words + arguments.bucket, np.int32)
        places[lines.rows] = 1
        places[: dictionary.words] = 1
        kept = np.flatnonzero(places)
        places[kept] = np.arange(len(kept), dtype=np.int32)
        inputs, width = table(len(kept), arguments.dim), arguments.dim
        random = np.random.default_rng(seed)
        for begin in range(0, len(kept), 1 << 16):
            part = inputs[begin : begin + (1 << 16), :width]
            part[:] = (2 * random.random(part.shape, np.float32) - 1) / width
        lines = lines._replace(rows=places[lines.rows])
        return cls(arguments, lines, kept, inputs, table(dictionary.labels, width))

    def own(self, lines: Lines) -> Lines:
        """Other lines as rows of the tables; rows that none was learnt for are 0 and left out."""
        rows = Rows(0, 0, self.inputs, self.kept).places(lines.rows)
        known = rows >= 0
        ends = np.concatenate([[0], np.cumsum(known)])[lines.ends]
        return lines._replace(ends=ends, rows=rows[known].astype(np.int32))

    def accuracy(self, lines: Lines, team: slices.Team) -> float:
        """The share of lines whose likeliest label is one of their own."""
        count = len(lines.ends) - 1
        right = team.map(lambda begin, end: best(begin, end, lines, self.inputs, self.outputs), count)
        return float(sum(right) / max(1, count))

    def model(self, dictionary: Dictionary) -> Model:
        width = self.arguments.dim
        inputs = Rows(dictionary.words + self.arguments.bucket, width, self.inputs, self.kept)
        return Model(self.arguments, dictionary, inputs, Rows(dictionary.labels, width, self.outputs))


class Watch:
    """Early stopping: looks at the validation accuracy after each epoch and keeps the best tables.

    Without early stopping it keeps nothing and never stops.
    """

    def __init__(self, learner: Learner, validation: Lines | None, settings: Mapping[str, Any]) -> None:
        self._learner = learner
        self._lines = validation if settings["early_stopping"] else None
        self._least, self._patience = settings["min_epochs"], settings["patience"]
        self.best, self.waited = -1.0, 0
        self._kept: tuple[np.ndarray, np.ndarray] | None = None

    def over(self, epoch: int, team: slices.Team, run: Run) -> bool:
        """Whether `patience` epochs from `min_epochs` on were no better; `epoch` counts from 1."""
        if self._lines is None:
            return False
        run.log("Using %d threads for prediction!", run.threads)
        accuracy = self._learner.accuracy(self._lines, team)
        run.log("Validation accuracy: %g", accuracy)
        if accuracy > self.best:
            run.log("Validation accuracy improved! Storing best weights...")
            self.best, self.waited = accuracy, 0
            self._kept = self._learner.inputs.copy(), self._learner.outputs.copy()
            return False
        self.waited += epoch > self._least
        run.log("Validation accuracy has not improved for %d epochs.", self.waited)
        if self.waited < self._patience:
            return False
        run.log("Validation accuracy hasn't improved in last %d epochs. Stopping early!", self._patience)
        return True

    def restore_best(self) -> None:
        """The learner's tables become the best that were seen."""
        if self._kept is not None:
            self._learner.inputs[:], self._learner.outputs[:] = self._kept

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it."""
        return {} if self._kept is None else {"best_inputs": self._kept[0], "best_outputs": self._kept[1]}

    def resume(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Goes on where a checkpoint was written."""
        self.best, self.waited = facts["best"], facts["waited"]
        if "best_inputs" in arrays:
            self._kept = arrays["best_inputs"], arrays["best_outputs"]


def train(
    learner: Learner, held_out: Lines | None, words: int, settings: Mapping[str, Any], run: Run, device: Any = None
) -> None:
    """Learns from lines of so many words; with early stopping the tables are then those of the best epoch.

    Args:
        device: a torch.device to learn on; None: the processors. Either way processors judge.

    Raises:
        ValueError: what is learnt is no number any more.
    """
    with slices.Team(run, settings["seed"]) as team:
        validation = None if held_out is None else learner.own(held_out)
        watch = Watch(learner, validation, settings)
        _epochs(team, learner, watch, words, settings, run, device)
        watch.restore_best()
        for name, lines in (("train", learner.lines), ("validation", validation)):
            if lines is not None:
                run.metric_line(f"#{name}_accuracy: {learner.accuracy(lines, team):.4f}")
                run.log("Number of %s examples: %d", name, len(lines.ends) - 1)


def _epochs(
    team: slices.Team, learner: Learner, watch: Watch, words: int, settings: Mapping[str, Any], run: Run, device: Any
) -> None:
    epochs, lines = settings["epochs"], len(learner.lines.ends) - 1
    progress = slices.Progress(run, settings["learning_rate"], words * epochs, LINE)
    checkpoints = Checkpoints(run, "blazingtext", settings)
    begun = _resumed(checkpoints, learner, watch)
    progress.resume(begun * words)
    learn = _learning(team, learner, words, settings["seed"], device)
    for epoch in range(begun, epochs):
        order = np.random.default_rng([settings["seed"], epoch]).permutation(lines)
        if not learn(order, epoch, progress):
            raise ValueError(
                f"training diverged in epoch {epoch}: learning_rate {settings['learning_rate']} is too large"
            )
        if run.stopping and progress.done < (epoch + 1) * words:  # an epoch of which a part was learnt
            break
        run.log("-------------- End of epoch: %d", epoch)
        run.progress(epoch + 1, epochs, 1e6 * progress.speed)
        if watch.over(epoch + 1, team, run):
            break
        if checkpoints.wanted and epoch + 1 < epochs:
            arrays = {"inputs": learner.inputs, "outputs": learner.outputs, **watch.arrays()}
            checkpoints.write(epoch + 1, arrays, {"best": watch.best, "waited": watch.waited})
    progress.tell(at_once=True)
    run.log("Training finished.")
    run.log("Average throughput in Million words/sec: %.2f", progress.speed)
    run.log("Total training time in seconds: %.2f", progress.seconds)


def _learning(
    team: slices.Team, learner: Learner, words: int, seed: int, device: Any
) -> Callable[[np.ndarray, int, slices.Progress], bool]:
    """What learns from all lines in an order in an epoch, and tells whether the tables are still numbers."""
    if device is not None:
        from sagesmith.algorithms.blazingtext.supervised_torch import OnDevice

        tables = OnDevice(learner.lines, learner.inputs, learner.outputs, learner.arguments.dim, words, device)

        def on_device(order: np.ndarray, epoch: int, progress: slices.Progress) -> bool:
            tables.epoch(order, (seed, epoch), progress)
            return tables.give_back()

        return on_device
    lines = len(learner.lines.ends) - 1
    cuts = slices.cuts_of(lines, team.threads, LEAST)
    done = [cut * words // lines for cut in cuts]

    def on_processors(order: np.ndarray, epoch: int, progress: slices.Progress) -> bool:
        def learn(begin: int, end: int, rates: tuple[float, float], state: np.ndarray) -> float:
            return softmax(order, begin, end, rates, learner.lines, learner.inputs, learner.outputs, state)

        return bool(np.isfinite(sum(team.epoch(learn, cuts, done, epoch, progress))))

    return on_processors


def _resumed(checkpoints: Checkpoints, learner: Learner, watch: Watch) -> int:
    """The number of epochs that a checkpoint of the same vocabulary had done; 0 without one."""
    found = checkpoints.newest()
    own = {"inputs": learner.inputs, "outputs": learner.outputs}
    if found is None or any(name not in found.arrays or found.arrays[name].shape != own[name].shape for name in own):
        return 0
    for name, array in own.items():
        array[:] = found.arrays[name]
    watch.resume(found.arrays, found.facts)
    return found.number
