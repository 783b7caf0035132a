"""The pages that come from the code are fresh, and hold what they are for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from botocore import xform_name

from sagesmith.core.operation import OPERATIONS
from sagesmith.services import load_rooms
from tests.docs.blocks import DOCS, ROOT


def test_every_generated_page_is_fresh() -> None:
    # In a process of its own: other tests register operations and machines.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, f"run: python docs/generate.py\n{done.stdout}{done.stderr}"


def _rows(heading: str) -> list[list[str]]:
    """The cells of the rows below a heading of docs/map.md."""
    section = (DOCS / "map.md").read_text("utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:] if "---" not in line]


def test_every_room_has_its_operations_on_the_map() -> None:
    load_rooms()
    mapped = {(service, name): file for name, service, file in _rows("Operations")}
    for (service, name), operation in OPERATIONS.items():
        if operation.function.__module__.startswith("sagesmith."):
            assert (service, name) in mapped, f"{service}.{name} is not in docs/map.md: run python docs/generate.py"


def test_a_file_on_the_map_defines_the_operation_that_it_stands_for() -> None:
    for name, _service, file in _rows("Operations"):
        if file != "sagesmith/services/s3/configuration.py":  # makes its operations from a table
            assert f"def {xform_name(name)}(" in (ROOT / file).read_text("utf-8"), f"{file} does not define {name}"


def test_every_file_that_the_map_names_is_there() -> None:
    named = set(re.findall(r"sagesmith/[\w/]+\.py", (DOCS / "map.md").read_text("utf-8")))
    assert len(named) > 20
    assert [name for name in sorted(named) if not Path(ROOT, name).is_file()] == []
