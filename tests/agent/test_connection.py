from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sagesmith.agent.connection import Server


def test_an_agent_does_not_wait_for_a_server_whose_data_folder_is_gone(paper: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "address").write_text("http://127.0.0.1:1\n")  # nothing listens there
    tries = []

    def attempt() -> None:
        tries.append(1)
        if len(tries) == 2:
            (folder / "address").unlink()
            folder.rmdir()
        Server(connection).client("s3").list_buckets()

    connection: Any = {**paper, "address_file": str(folder / "address")}
    with pytest.raises(SystemExit, match="data folder is gone"):
        Server(connection).insist(attempt, stubborn=True)
    assert len(tries) == 2
