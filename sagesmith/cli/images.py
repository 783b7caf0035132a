"""`sagesmith images`: folders of pictures into the `.rec` files of the vision algorithms."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from sagesmith.cli import fail, print_json

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group("images")
def command() -> None:
    """Pack pictures into RecordIO files (.rec) for image-classification and object-detection.

    \b
    Examples:
      sagesmith images pack pictures --output packed --validation 0.2 --resize 256
      sagesmith images pack pictures --list train.lst --output packed
      sagesmith images pack pictures --annotations boxes --output packed --validation 0.1
    """


@command.command("pack")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where the files go.")
@click.option(
    "--list", "lines", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A .lst file (index TAB label TAB path) that names the pictures below FOLDER.",
)  # fmt: skip
@click.option("--annotations", type=_FOLDER, help="A folder with a JSON file of boxes for each picture below FOLDER.")
@click.option("--resize", type=click.IntRange(1), help="Pixels of the shorter side (default: as the pictures are).")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG; pictures are encoded anew (default: 95 if so).")
@click.option("--lossless", is_flag=True, help="Encode anew as PNG.")
@click.option(
    "--validation", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True,
    help="The part of the pictures, of each class, that goes into validation.",
)  # fmt: skip
@click.option("--shuffle/--no-shuffle", default=True, show_default=True, help="Write them in a random order.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order and the split.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("folder", type=_FOLDER)
def pack(
    output: Path, lines: Path | None, annotations: Path | None, resize: int | None, quality: int | None,
    lossless: bool, validation: float, shuffle: bool, seed: int, as_json: bool, folder: Path,
) -> None:  # fmt: skip
    """Write the pictures of FOLDER into OUTPUT/train/train.rec (and OUTPUT/validation/validation.rec).

    FOLDER holds a folder for each class, numbered in the order of their names, unless --list or --annotations says
    otherwise. JPEG and PNG files keep their bytes unless --resize, --quality or --lossless asks for others.
    """
    from sagesmith.algorithms.images import packing

    if lines is not None and annotations is not None:
        raise click.UsageError("give --list or --annotations, not both")
    plan = packing.Plan(resize, quality, lossless, validation, shuffle, seed)
    try:
        if lines is not None:
            given = packing.of_list(folder, lines)
        elif annotations is not None:
            given = packing.of_annotations(folder, annotations)
        else:
            given = packing.of_class_folders(folder)
        for warning in given.warnings:
            click.echo(f"Warning: {warning}", err=True)
        with Progress(console=Console(stderr=True, quiet=as_json)) as progress:
            task = progress.add_task("packing", total=len(given.lines))
            counts = packing.pack(given, output, plan, lambda done, total: progress.update(task, completed=done))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise fail(str(error)) from error
    if as_json:
        print_json({"output": str(output), "pictures": counts, "classes": given.classes})
        return
    for part, count in counts.items():
        click.echo(f"{count} pictures in {output / part / part}.rec")
    if given.classes:
        click.echo(f"{len(given.classes)} classes, named in {output / 'classes.json'}")
