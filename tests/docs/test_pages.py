"""What the pages must mention, and what they say about the code."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

import sagesmith
from sagesmith.algorithms import registry
from sagesmith.cli import COMMANDS
from sagesmith.core.config import Config
from tests.docs.blocks import DOCS, ROOT, blocks

PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("*/*.md"), *ROOT.glob("*.md"), ROOT / "docker" / "README.md"])
BUILT_IN = sorted(name for name, one in registry().items() if one.__module__.startswith("sagesmith."))
GETTING_STARTED = (DOCS / "getting-started.md").read_text("utf-8")
TELL_OF_OTHER_TIMES = ("architecture.md", "CHANGELOG.md")  # name files that are to come, or that were
_FILE = re.compile(r"(?<![\w/.<…])((?:sagesmith|tests|benchmarks|examples|docs|docker)/[\w./-]+\.(?:py|md|ipynb))\b")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def path_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_code() -> list[Path]:
    """The pages with Python to compile; records show sketches."""
    return [page for page in PAGES if page.parent.name != "decisions" and blocks(page, "python")]


def without_code(text: str) -> str:
    """A page without its fenced code, in which brackets are no links."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_algorithm_has_a_page_its_tables_and_an_example(name: str) -> None:
    assert (DOCS / "algorithms" / f"{name}.md").is_file()
    assert (DOCS / "algorithms" / f"{name}-hyperparameters.md").is_file()
    assert sorted((ROOT / "examples").glob(f"{name.replace('-', '_')}*.py")), f"no examples/{name}_*.py"


def test_every_setting_is_named_in_getting_started() -> None:
    for setting in fields(Config):
        assert f"`SAGESMITH_{setting.name.upper()}`" in GETTING_STARTED, setting.name


def test_settings_that_getting_started_names_exist() -> None:
    table = GETTING_STARTED.split("| variable |", 1)[1]
    named = set(re.findall(r"`SAGESMITH_([A-Z0-9_]+)`", table.split("\n\n", 1)[0]))
    assert named == {setting.name.upper() for setting in fields(Config)}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_named_in_getting_started(name: str) -> None:
    assert re.search(rf"`sagesmith {name}\b", GETTING_STARTED)


@pytest.mark.parametrize("page", with_code(), ids=path_of)
def test_python_on_a_page_compiles(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_links_on_a_page_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(without_code(page.read_text("utf-8"))):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert (page.parent / target.split("#", 1)[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in TELL_OF_OTHER_TIMES], ids=path_of)
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = _LINK.sub("", page.read_text("utf-8"))  # links are relative to their page and have a test of their own
    for name in _FILE.findall(text):
        assert (ROOT / name).exists() or "NAME" in name, f"{page.name} names {name}"


def test_every_record_has_a_number_of_its_own_and_the_four_parts() -> None:
    numbers = []
    for record in sorted((DOCS / "decisions").glob("*.md")):
        text = record.read_text("utf-8")
        numbers.append(record.name[:4])
        assert text.startswith(f"# {record.name[:4]}: "), record.name
        for part in ("Status: ", "**Context.**", "**Decision.**", "**Consequences.**"):
            assert part in text, f"{record.name} lacks {part}"
    assert len(set(numbers)) == len(numbers), "numbers are never reused"


def test_the_newest_version_in_the_changelog_is_this_one() -> None:
    newest = re.search(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] in ("Unreleased", sagesmith.__version__)
