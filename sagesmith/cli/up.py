"""`sagesmith up`: run the server in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from sagesmith.cli import fail
from sagesmith.core.config import Config


@click.command("up")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder for everything that is kept.")
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (default 8777; 0 takes a free one).")
@click.option("--no-auth", "auth", flag_value=False, default=None, help="Accept any key. Refused off loopback.")
@click.option("--s3-endpoint", help="Keep objects in this S3 server instead of plain files.")
@click.option("--database", help="SQLAlchemy URL of the database (default: SQLite in the data folder).")
def command(
    data: Path | None,
    host: str | None,
    port: int | None,
    auth: bool | None,
    s3_endpoint: str | None,
    database: str | None,
) -> None:
    """Run the server until Ctrl-C. Jobs and endpoints survive a restart.

    \b
    Examples:
      sagesmith up
      sagesmith up --port 0 --data /tmp/try
      sagesmith up --s3-endpoint http://127.0.0.1:9000
    """
    from sagesmith import server

    try:
        config = Config.load(data=data, host=host, port=port, auth=auth, s3_endpoint=s3_endpoint, database=database)
        server.serve(config)
    except (ValueError, OSError) as error:
        raise fail(str(error)) from error
