"""`sagesmith algorithms`: the built-in algorithms and their hyperparameters."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from sagesmith.algorithms import by_name, registry
from sagesmith.cli import fail, print_json


@click.command("algorithms")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the full declarations as JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the built-in algorithms, or show one with its channels and hyperparameters.

    \b
    Examples:
      sagesmith algorithms
      sagesmith algorithms xgboost
      sagesmith algorithms --json
    """
    try:
        chosen = [by_name(name)] if name else list(registry().values())
    except LookupError as error:
        raise fail(str(error)) from error
    specifications = [algorithm.specification() for algorithm in chosen]
    if as_json:
        print_json(specifications[0] if name else specifications)
    elif name:
        _show(specifications[0])
    else:
        table = Table("name", "images", "channels", "what it is")
        for one in specifications:
            channels = ", ".join(c["name"] for c in one["channels"])
            table.add_row(one["name"], ", ".join(one["images"]), channels, one["description"])
        Console().print(table)


def _show(specification: dict[str, Any]) -> None:
    console = Console()
    console.print(specification["description"], style="bold")
    for channel in specification["channels"]:
        need = "required" if channel["required"] else "optional"
        console.print(
            f"channel {channel['name']} ({need}): {', '.join(channel['content_types']) or 'any content type'}"
        )
    table = Table("hyperparameter", "type", "default", "allowed", "meaning")
    for one in specification["hyperparameters"]:
        default = "required" if one["required"] else str(one["default"])
        table.add_row(one["name"], one["type"], default, _allowed(one), one["description"])
    console.print(table)


def _allowed(parameter: dict[str, Any]) -> str:
    if "choices" in parameter:
        return ", ".join(map(str, parameter["choices"]))
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
    return ", ".join(f"{sign} {parameter[key]:g}" for key, sign in signs if key in parameter)
