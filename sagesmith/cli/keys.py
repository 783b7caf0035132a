"""`sagesmith keys`: the access keys that the server accepts."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sagesmith.cli import fail, print_json
from sagesmith.core.config import Config
from sagesmith.gateway.keys import AGENT, Keys

_data = click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The server's data folder.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("keys")
def command() -> None:
    """List, add and remove the access keys that the server accepts.

    \b
    Examples:
      sagesmith keys list
      sagesmith keys add reader --read-only
      sagesmith keys remove reader
    """


@command.command("list")
@_data
@_json
def list_keys(data: Path | None, as_json: bool) -> None:
    """List the keys, without their secrets."""
    keys = [key for key in _keys(data).all() if key.name != AGENT]
    if as_json:
        print_json([{"name": key.name, "id": key.id, "read_only": key.read_only} for key in keys])
        return
    table = Table("name", "access key id", "may")
    for key in keys:
        table.add_row(key.name, key.id, "read" if key.read_only else "read and write")
    Console().print(table)


@command.command("add")
@click.argument("name")
@click.option("--read-only", is_flag=True, help="The key may only call operations that read.")
@_data
@_json
def add_key(name: str, read_only: bool, data: Path | None, as_json: bool) -> None:
    """Make a new random key pair called NAME and print it, this once."""
    try:
        key = _keys(data).add(name, read_only=read_only)
    except ValueError as error:
        raise fail(str(error)) from error
    if as_json:
        print_json({"name": key.name, "id": key.id, "secret": key.secret, "read_only": key.read_only})
    else:
        click.echo(f"export AWS_ACCESS_KEY_ID={key.id}\nexport AWS_SECRET_ACCESS_KEY={key.secret}")


@command.command("remove")
@click.argument("name_or_id")
@_data
def remove_key(name_or_id: str, data: Path | None) -> None:
    """Remove a key by name or id; requests signed with it are refused from then on."""
    try:
        _keys(data).remove(name_or_id)
    except KeyError as error:
        raise fail(str(error.args[0])) from error


def _keys(data: Path | None) -> Keys:
    return Keys(Config.load(data=data).keys_file)
