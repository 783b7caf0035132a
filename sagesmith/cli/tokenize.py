"""`sagesmith tokenize`: plain parallel text into Seq2Seq's channels, text into requests, and answers into text."""

from __future__ import annotations

from pathlib import Path

import click

from sagesmith.cli import fail, print_json

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group("tokenize")
def command() -> None:
    """Turn plain parallel text (a sentence a line) into the inputs of seq2seq, and its answers into text.

    \b
    Examples:
      sagesmith tokenize learn --source train.de --target train.en \\
          --validation-source val.de --validation-target val.en data
      sagesmith train seq2seq --train data/train --validation data/validation --vocab data/vocab --model-dir out
      sagesmith tokenize encode data new.de > requests.jsonl
      sagesmith predict out requests.jsonl > answers.jsonl
      sagesmith tokenize decode data answers.jsonl
    """


@command.command("learn")
@click.option("--source", type=_FILE, required=True, help="Sentences to learn from.")
@click.option("--target", type=_FILE, required=True, help="Their counterparts, line by line.")
@click.option("--validation-source", type=_FILE, required=True, help="Sentences that tell when training ends.")
@click.option("--validation-target", type=_FILE, required=True, help="Their counterparts.")
@click.option(
    "--units", type=click.Choice(("bpe", "unigram", "words")), default="bpe", show_default=True,
    help="Subword units, or what stands between spaces.",
)  # fmt: skip
@click.option(
    "--size", type=click.IntRange(5), default=8000, show_default=True,
    help="Units of a vocabulary, the four special ones included.",
)  # fmt: skip
@click.option("--lowercase", is_flag=True, help="Take capitals for small letters.")
@click.option("--shared", is_flag=True, help="One vocabulary for both sides.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("folder", type=_FOLDER)
def learn(
    source: Path, target: Path, validation_source: Path, validation_target: Path, units: str, size: int,
    lowercase: bool, shared: bool, as_json: bool, folder: Path,
) -> None:  # fmt: skip
    """Learn units from text and write the channels train, validation and vocab into FOLDER."""
    from sagesmith.algorithms.seq2seq.parallel import Plan, prepare

    plan = Plan(units, size, lowercase, shared)
    try:
        counts, learnt = prepare(folder, plan, (source, target), (validation_source, validation_target))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise fail(str(error)) from error
    sizes = [len(one.vocabulary) for one in learnt]
    if as_json:
        print_json({"folder": str(folder), "pairs": counts, "vocabularies": sizes})
        return
    click.echo(f"{counts['train']} pairs to learn from, {counts['validation']} to validate with; ", nl=False)
    click.echo(f"vocabularies of {sizes[0]} and {sizes[1]} units in {folder}")


@command.command("encode")
@click.argument("folder", type=_FOLDER)
@click.argument("text", type=_FILE)
def encode(folder: Path, text: Path) -> None:
    """Print requests in JSON Lines for the sentences of TEXT, with the units in FOLDER."""
    from sagesmith.algorithms.seq2seq.parallel import load, requests_of

    try:
        for line in requests_of(load(folder, "source"), text):
            click.echo(line)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise fail(str(error)) from error


@command.command("decode")
@click.argument("folder", type=_FOLDER)
@click.argument("answers", type=_FILE)
def decode(folder: Path, answers: Path) -> None:
    """Print the text of ANSWERS, which a model gave in JSON Lines, with the units in FOLDER."""
    from sagesmith.algorithms.seq2seq.parallel import load, text_of

    try:
        for line in text_of(load(folder, "target"), answers):
            click.echo(line)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise fail(str(error)) from error
