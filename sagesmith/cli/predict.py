"""`sagesmith predict`: predict with a trained model folder, without a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sagesmith.cli import fail
from sagesmith.cli.train import MARKER, content_type_of


@click.command("predict")
@click.argument("model_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--algorithm", help="The model's algorithm, when the folder was not written by `sagesmith train`.")
@click.option("--content-type", help="Content type of the rows (default: by file name).")
@click.option("--accept", default="", help="Content type of the answer (default: the algorithm's own).")
@click.option("--json", "as_json", is_flag=True, help="Short for --accept application/json.")
def command(
    model_dir: Path, data: Path, algorithm: str | None, content_type: str | None, accept: str, as_json: bool
) -> None:
    """Predict for the rows of DATA (features only, no label) and print what an endpoint would answer.

    \b
    Examples:
      sagesmith predict out rows.csv
      sagesmith predict out rows.csv --json
    """
    from sagesmith.algorithms import by_name
    from sagesmith.algorithms.base import Request, RequestError

    try:
        model = by_name(algorithm or _algorithm_of(model_dir)).load(model_dir)
        kind = content_type or content_type_of(data)
        request = Request(data.read_bytes(), kind, "application/json" if as_json else accept)
        response = model.respond(request)
    except LookupError as error:
        raise fail(str(error)) from error
    except (RequestError, ValueError, OSError) as error:
        raise fail(f"{data}: {error}") from error
    sys.stdout.buffer.write(response.body)
    if response.content_type.startswith(("text/", "application/json")) and not response.body.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")


def _algorithm_of(model_dir: Path) -> str:
    try:
        return str(json.loads((model_dir / MARKER).read_text("utf-8"))["algorithm"])
    except FileNotFoundError:
        raise fail(f"{model_dir} was not written by `sagesmith train`: name its algorithm with --algorithm") from None
    except (ValueError, KeyError, TypeError):
        raise fail(f"{model_dir / MARKER} is damaged: name the algorithm with --algorithm") from None
