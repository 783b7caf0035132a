"""Seq2Seq's translations of Multi30k, German to English: BLEU as training goes on, and of the test set at the end.

    python benchmarks/seq2seq_multi30k.py FOLDER --minutes 24 --picture docs/benchmarks/seq2seq.png

FOLDER holds train, val and test_2016_flickr in .de and .en, a sentence a line (data/task1/raw of the repository
multi30k/dataset). Training ends after so many minutes
of processor time, which other work on the machine does not stretch, or when it no longer improves. BLEU is sacrebleu's,
of small letters. Needs the extra `neural`, sacrebleu and matplotlib.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any

from sagesmith.algorithms import Seq2Seq
from sagesmith.algorithms.run import Run
from sagesmith.algorithms.seq2seq.parallel import Plan, lines_of, load, prepare

SETTINGS: dict[str, Any] = {
    "num_embed_source": 256, "num_embed_target": 256, "rnn_num_hidden": 256, "rnn_cell_type": "gru",
    "embed_dropout_source": 0.2, "embed_dropout_target": 0.2, "rnn_decoder_hidden_dropout": 0.2, "batch_size": 64,
    "learning_rate": 0.002, "lr_scheduler_type": "fixed_rate_inv_t", "fixed_rate_lr_half_life": 8,
    "checkpoint_frequency_num_batches": 227, "checkpoint_threshold": 6, "bleu_sample_size": 200,
    "max_seq_len_source": 60, "max_seq_len_target": 60,
}  # fmt: skip


class TimedRun(Run):
    """A run that ends after some minutes of processor time, and remembers what it was told at its checkpoints."""

    def __init__(self, minutes: float, until: float | None, threads: int) -> None:
        super().__init__(threads)
        self._limit, self._until = minutes, until
        self.curve: list[dict[str, float]] = []

    @property
    def minutes(self) -> float:
        """Of processor time, which other work on the machine does not stretch."""
        return time.process_time() / 60

    @property
    def stopping(self) -> bool:
        late = self._until is not None and time.time() > self._until
        return late or self.minutes > self._limit

    def log(self, message: str, *arguments: object, level: int = 20) -> None:
        text = message % arguments if arguments else message
        print(f"{self.minutes:6.1f} min  {text}", flush=True)
        found = re.match(r"Checkpoint \[(\d+)\] Validation-(\w+)=(\S+)", text)
        if found:
            number = int(found[1])
            if len(self.curve) < number:
                self.curve.append({"minutes": self.minutes})
            self.curve[number - 1][found[2]] = float(found[3])

    def metric_line(self, line: str) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=24, help="of processor time")
    parser.add_argument("--until", type=float, help="seconds since 1970 at which training ends in any case")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--units", type=int, default=4000)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--model", type=Path, help="where the model is left")
    parser.add_argument("--set", action="append", default=[], help="another hyperparameter, name=value")
    arguments = parser.parse_args()
    texts = {part: tuple(arguments.folder / f"{part}.{side}" for side in ("de", "en")) for part in PARTS}
    channels = arguments.folder / f"units-{arguments.units}"
    prepare(channels, Plan("bpe", arguments.units, lowercase=True), texts["train"], texts["val"])
    settings = {name: str(value) for name, value in SETTINGS.items()}
    model = Seq2Seq.from_strings(settings | dict(pair.split("=", 1) for pair in arguments.set))
    run = TimedRun(arguments.minutes, arguments.until, arguments.threads)
    model.fit(channels / "train", validation=channels / "validation", vocab=channels / "vocab", run=run)
    if arguments.model:
        model.save(arguments.model)
    for part in ("val", "test_2016_flickr"):
        print(f"{part}: BLEU {bleu(model, channels, *texts[part]):.2f}", flush=True)
    if arguments.picture:
        draw(run.curve, arguments.picture)


PARTS = ("train", "val", "test_2016_flickr")


def bleu(model: Seq2Seq, channels: Path, source: Path, target: Path) -> float:
    """sacrebleu's BLEU of small letters, and how fast the sentences were translated."""
    import sacrebleu

    units = load(channels, "source"), load(channels, "target")
    asked = [units[0].tokens(line) for line in lines_of(source)]
    started = time.monotonic()
    said = model.predict(asked)
    seconds = time.monotonic() - started
    tokens = sum(len(one.split()) for one in said)
    print(f"{len(said)} sentences in {seconds:.1f} s: {tokens / seconds:.0f} target tokens/s", flush=True)
    texts = [units[1].text(one) for one in said]
    score = sacrebleu.corpus_bleu(texts, [list(lines_of(target))], lowercase=True)
    return float(score.score)


def draw(curve: list[dict[str, float]], picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    minutes = [one["minutes"] for one in curve]
    axes.plot(minutes, [100 * one["bleu"] for one in curve], "o-", color="#0a6", label="BLEU of validation sentences")
    axes.set_xlabel("minutes of processor time")
    axes.set_ylabel("BLEU")
    other = axes.twinx()
    other.plot(minutes, [one["perplexity"] for one in curve], "s--", color="#68a", label="validation perplexity")
    other.set_yscale("log")
    other.set_ylabel("perplexity")
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
