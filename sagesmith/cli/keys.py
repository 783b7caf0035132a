"""`sagesmith keys`: the access keys that the server accepts."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sagesmith.cli import fail, print_json
from sagesmith.core.config import Config
from sagesmith.gateway.keys import KeyStore

_data = click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="The server's data folder.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("keys")
def command() -> None:
    """List, add and remove the access keys that the server accepts.

    \b
    Examples:
      sagesmith keys list
      sagesmith keys add --read-only
      sagesmith keys remove AKIA...
    """


@command.command("list")
@_data
@_json
def list_keys(data: Path | None, as_json: bool) -> None:
    """List the keys, without their secrets."""
    keys = KeyStore(Config.load(data=data)).all()
    if as_json:
        print_json([{"id": key.id, "read_only": key.read_only} for key in keys])
        return
    table = Table("access key id", "may")
    for key in keys:
        table.add_row(key.id, "read" if key.read_only else "read and write")
    Console().print(table)


@command.command("add")
@click.option("--read-only", is_flag=True, help="The key may only call operations that read.")
@_data
@_json
def add_key(read_only: bool, data: Path | None, as_json: bool) -> None:
    """Make a new random key pair and print it, this once."""
    key = KeyStore(Config.load(data=data)).add(read_only=read_only)
    if as_json:
        print_json({"id": key.id, "secret": key.secret, "read_only": key.read_only})
    else:
        click.echo(f"export AWS_ACCESS_KEY_ID={key.id}\nexport AWS_SECRET_ACCESS_KEY={key.secret}")


@command.command("remove")
@click.argument("key_id")
@_data
def remove_key(key_id: str, data: Path | None) -> None:
    """Remove a key; requests signed with it are refused from then on."""
    try:
        KeyStore(Config.load(data=data)).remove(key_id)
    except LookupError as error:
        raise fail(str(error)) from error
