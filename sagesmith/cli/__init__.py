"""Floor 5: the `sagesmith` command. One file per subcommand, imported when it is used."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import click

import sagesmith

COMMANDS = {
    "up": "Run the server",
    "env": "Print what AWS clients need to find this server",
    "train": "Train a built-in algorithm on local files, without a server",
    "predict": "Predict with a trained model folder, without a server",
    "tokenize": "Turn plain parallel text into the inputs of seq2seq, and its answers into text",
    "images": "Pack pictures into the .rec files of the vision algorithms",
    "algorithms": "List the built-in algorithms, or one with its hyperparameters",
    "where": "Find the code behind an operation, algorithm, content type or metric",
    "jobs": "List training and transform jobs and endpoints of the running server",
    "logs": "Show the log of a job or an endpoint",
    "keys": "List, add and remove access keys",
    "coverage": "Show which AWS operations are built",
    "completion": "Print the completion script of a shell",
}


class LazyGroup(click.Group):
    """Subcommands are modules of this package; only the one that runs is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"sagesmith.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(sagesmith.__version__, prog_name="sagesmith")
def main() -> None:
    """SageMaker's machine learning on your own computer.

    \b
    Start a server and point any AWS client at it:
      sagesmith up
      eval "$(sagesmith env)"
      aws sagemaker list-training-jobs
    \b
    Or use the algorithms directly:
      sagesmith train xgboost --objective binary:logistic --num-round 100 --train data.csv --model-dir out
      sagesmith predict out rows.csv
    """


def print_json(value: Any) -> None:
    """Prints JSON for scripts; what JSON lacks (times) becomes text."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def fail(message: str) -> click.ClickException:
    """An error for the person at the terminal: one line, exit status 1."""
    return click.ClickException(message)
