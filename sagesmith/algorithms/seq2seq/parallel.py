"""parallel: plain parallel text, a sentence a line, into the three channels, and text into requests and back.

Words are what stands between spaces, as in SageMaker's sample. Subword units (`bpe`: Sennrich, Haddow and Birch, Neural
Machine Translation of Rare Words with Subword Units, 2016; `unigram`: Kudo, Subword Regularization, 2018) are learnt
with sentencepiece, whose models know how to put text together again and number the special tokens as SageMaker does.
A folder holds everything:

    train/train.rec  validation/validation.rec  vocab/vocab.src.json  vocab/vocab.trg.json     the channels
    units/units.json  units/source.model  units/target.model                                  for requests and answers
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from sagesmith.algorithms.seq2seq.sentences import written
from sagesmith.algorithms.seq2seq.vocabulary import BEGIN, END, PAD, SOURCE, SPECIAL, TARGET, UNKNOWN, Vocabulary
from sagesmith.formats.errors import DataError
from sagesmith.formats.nesting import load_json

KINDS = ("bpe", "unigram", "words")
SIDES = ("source", "target")
DOCUMENT = "units.json"


@dataclass(frozen=True)
class Plan:
    """How text is taken apart: `size` units per vocabulary, the four special ones included."""

    kind: str = "bpe"
    size: int = 8000
    lowercase: bool = False
    shared: bool = False  # one vocabulary for both sides


class Units:
    """The units of one side."""

    def __init__(self, plan: Plan, vocabulary: Vocabulary, processor: Any = None) -> None:
        self.plan, self.vocabulary, self._processor = plan, vocabulary, processor

    @classmethod
    def learnt(cls, plan: Plan, lines: Iterable[str]) -> Self:
        """
        Raises:
            ValueError: sentencepiece cannot learn so many units, or so few, from these lines.
        """
        lines = (line.lower() if plan.lowercase else line for line in lines)
        if plan.kind == "words":
            return cls(plan, Vocabulary.of((line.split() for line in lines), plan.size - len(SPECIAL)))
        model = io.BytesIO()
        try:
            _sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=lines, model_writer=model, model_type=plan.kind, vocab_size=plan.size,
                character_coverage=1.0, pad_id=PAD, unk_id=UNKNOWN, bos_id=BEGIN, eos_id=END, pad_piece=SPECIAL[PAD],
                num_threads=1, minloglevel=2,
            )  # fmt: skip
        except RuntimeError as error:
            raise ValueError(f"{plan.size} units cannot be learnt from this text: {_reason(error)}") from None
        return cls.of_model(plan, model.getvalue())

    @classmethod
    def of_model(cls, plan: Plan, model: bytes, where: str = "the model") -> Self:
        try:
            processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise DataError(f"{where} is no model of sentencepiece: {_reason(error)}") from None
        tokens = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
        return cls(plan, Vocabulary({token: number for number, token in enumerate(tokens)}, where), processor)

    def model(self) -> bytes | None:
        """What `of_model` takes; None for words, whose vocabulary says all."""
        return None if self._processor is None else bytes(self._processor.serialized_model_proto())

    def ids(self, line: str) -> list[int]:
        line = line.lower() if self.plan.lowercase else line
        if self._processor is None:
            ids: list[int] = self.vocabulary.encode(line.split()).tolist()
            return ids
        return list(self._processor.encode(line))

    def tokens(self, line: str) -> str:
        """The tokens of a line with spaces between them, as requests have them."""
        return " ".join(self.vocabulary.decode(self.ids(line)))

    def text(self, tokens: str) -> str:
        """A line from tokens with spaces between them."""
        return tokens if self._processor is None else str(self._processor.decode_pieces(tokens.split()))


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "subword units need sentencepiece, which is not installed: pip install 'sagesmith[neural]'", name=error.name
        ) from error
    return sentencepiece


def _reason(error: RuntimeError) -> str:
    return str(error).rpartition("] ")[2].strip() or str(error)


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text in UTF-8.

    Raises:
        DataError: a line is not UTF-8, naming it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}, line {number}: not UTF-8: {error.reason}") from None


def pairs_of(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """The lines of two texts side by side.

    Raises:
        DataError: one has more lines than the other.
    """
    sides = [iter(lines_of(source)), iter(lines_of(target))]
    count = 0
    while True:
        lines = [next(side, None) for side in sides]
        first, second = lines
        if first is None or second is None:
            if first is not second:
                longer = source if second is None else target
                raise DataError(f"{longer} has more than the {count} lines of its counterpart")
            return
        count += 1
        yield first, second


def prepare(
    folder: Path, plan: Plan, train: tuple[Path, Path], validation: tuple[Path, Path]
) -> tuple[dict[str, int], Sequence[Units]]:
    """Learns units from the training text and writes the channels; the number of pairs in each, and the units.

    Raises:
        DataError, ValueError: the text cannot be read, or not so many units learnt from it.
    """
    if plan.kind not in KINDS:
        raise ValueError(f"units {plan.kind!r} are not in [{', '.join(KINDS)}]")
    for texts in (train, validation):  # before anything is learnt or written
        if not sum(bool(source.strip() and target.strip()) for source, target in pairs_of(*texts)):
            raise DataError(f"{texts[0]} and {texts[1]} have no line with text on both sides")
    if plan.shared:
        both = Units.learnt(plan, (line for path in train for line in lines_of(path)))
        units = [both, both]
    else:
        units = [Units.learnt(plan, lines_of(path)) for path in train]
    counts = {}
    for name, texts in (("train", train), ("validation", validation)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        with (folder / name / f"{name}.rec").open("wb") as file:
            ids = ((units[0].ids(source), units[1].ids(target)) for source, target in pairs_of(*texts))
            counts[name] = 0
            for frame in written(pair for pair in ids if all(pair)):
                file.write(frame)
                counts[name] += 1
    _save(folder, plan, units)
    return counts, units


def _save(folder: Path, plan: Plan, units: Sequence[Units]) -> None:
    for name in ("vocab", "units"):
        (folder / name).mkdir(exist_ok=True)
    for side, name, one in zip(SIDES, (SOURCE, TARGET), units, strict=True):
        one.vocabulary.write(folder / "vocab" / name)
        model = one.model()
        if model is not None:
            (folder / "units" / f"{side}.model").write_bytes(model)
    (folder / "units" / DOCUMENT).write_text(json.dumps(asdict(plan)), "utf-8")


def load(folder: Path, side: str) -> Units:
    """The units of one side that `prepare` left in a folder.

    Raises:
        DataError: they are not there.
    """
    path = folder / "units" / DOCUMENT
    try:
        plan = Plan(**load_json(path.read_bytes(), str(path)))
        if plan.kind == "words":
            return Units(
                plan, Vocabulary.read(folder / "vocab" / dict(zip(SIDES, (SOURCE, TARGET), strict=True))[side])
            )
        model = folder / "units" / f"{side}.model"
        return Units.of_model(plan, model.read_bytes(), str(model))
    except (OSError, TypeError) as error:
        raise DataError(f"{folder} is no folder of `sagesmith tokenize learn`: {error}") from None


def requests_of(units: Units, text: Path) -> Iterator[str]:
    """JSON Lines with which a model is asked for the counterparts of a text."""
    for line in lines_of(text):
        yield json.dumps({"source": units.tokens(line)}, ensure_ascii=False)


def text_of(units: Units, answers: Path) -> Iterator[str]:
    """The lines of text that a model's answers in JSON Lines stand for.

    Raises:
        DataError: a line is no answer, naming it.
    """
    for number, line in enumerate(lines_of(answers), 1):
        answer = load_json(line.encode(), f"{answers}, line {number}")
        if not isinstance(answer, dict) or not isinstance(answer.get("target"), str):
            raise DataError(
                f'{answers}, line {number}: not of the form {{"target": "tokens with spaces between them"}}'
            )
        yield units.text(answer["target"])
