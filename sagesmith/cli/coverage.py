"""`sagesmith coverage`: which AWS operations are built."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from sagesmith.cli import print_json


@click.command("coverage")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: service → built and missing operations.")
@click.option("--service", help="List the operations of one service by name.")
def command(as_json: bool, service: str | None) -> None:
    """Show, per service, how many operations of botocore's model are built; the others answer 501 by name.

    \b
    Examples:
      sagesmith coverage
      sagesmith coverage --service sagemaker
    """
    from sagesmith.gateway.coverage import coverage
    from sagesmith.services import load_rooms

    load_rooms()
    rows = coverage()
    if as_json:
        print_json(rows)
        return
    if service:
        if service not in rows:
            raise click.BadParameter(
                f"{service!r} is not served; choose from {', '.join(rows)}", param_hint="--service"
            )
        for state in ("built", "missing"):
            for name in rows[service][state]:
                click.echo(f"{state:8}{name}")
        return
    table = Table("service", "built", "in AWS's model")
    for name, row in rows.items():
        table.add_row(name, str(len(row["built"])), str(len(row["built"]) + len(row["missing"])))
    Console().print(table)
