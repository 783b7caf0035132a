"""docs/architecture.md tells the truth about the tree and the floors; files and functions stay small."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.docs.blocks import DOCS, ROOT, blocks

LONGEST_FILE = 650
LONGEST_FUNCTION = 60
PAGE = DOCS / "architecture.md"
SOURCE = ROOT / "sagesmith"
_ENTRY = re.compile(r"^( +)([\w]+/|[\w]+\.py)")


def tree() -> dict[str, set[str]]:
    """Folder → the files that the tree of the page names in it, "" for `sagesmith/` itself."""
    named: dict[str, set[str]] = {"": set()}
    path: list[tuple[int, str]] = []
    for line in blocks(PAGE, "text")[0].splitlines()[1:]:
        entry = _ENTRY.match(line)
        if line.startswith("tests/"):
            break
        if entry and entry[2].endswith("/"):
            path = [step for step in path if step[0] < len(entry[1])] + [(len(entry[1]), entry[2])]
            named.setdefault("".join(step[1] for step in path), set())
        elif entry:
            path = [step for step in path if step[0] < len(entry[1])]
        folder = "".join(step[1] for step in path)
        named[folder] |= set(re.findall(r"\b([a-z_0-9]+\.py)\b", line))
    return named


def test_the_tree_is_the_one_on_disk() -> None:
    told = {folder + name for folder, names in tree().items() for name in names}
    files = [path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if not path.name.startswith("__")]
    algorithm = SOURCE / "algorithms"  # what is inside an algorithm's own folder is its own affair
    on_disk = {file.as_posix() for file in files if (SOURCE / file).parent.parent != algorithm}
    assert sorted(on_disk - told) == [], "not in the tree of docs/architecture.md"
    assert sorted(told - on_disk) == [], "in the tree of docs/architecture.md, but not on disk"


def test_the_floors_are_those_that_import_linter_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = [
        {name.strip().removeprefix("sagesmith.") for name in layer.split("|")}
        for layer in settings["contracts"][0]["layers"]
    ]
    picture = next(block for block in blocks(PAGE, "text") if "siblings" in block)
    floors = [line[4:].split("|") for line in picture.splitlines() if not line.strip().startswith("(")]
    assert [{name.strip() for name in floor} for floor in floors] == layers


def test_states_and_steps_on_the_page_are_the_machines() -> None:
    steps = ast.parse((SOURCE / "services/sagemaker/training/steps.py").read_text("utf-8"))
    functions = {one.name for one in steps.body if isinstance(one, ast.FunctionDef)}
    story = next(block for block in blocks(PAGE, "text") if "CreateTrainingJob" in block)
    told = set(re.findall(r"^   ([a-z]+ing)  ", story, re.MULTILINE))
    assert {"launching", "watching", "finishing"} <= told <= functions


def python_files() -> Iterator[Path]:
    yield from sorted(SOURCE.rglob("*.py"))
    yield from sorted((ROOT / "tests").rglob("*.py"))


def test_no_file_is_too_long() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8").count("\n") for path in python_files()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_too_long() -> None:
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    found[f"{path.relative_to(ROOT)}:{node.name}"] = length
    assert found == {}


def test_every_file_says_what_it_is_for() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        if path.read_text("utf-8").strip() and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []
