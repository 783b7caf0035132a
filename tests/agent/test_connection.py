from __future__ import annotations

import socket
import threading
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


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: 500\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: 500\r\n\r\n<ListBucketResult>",
        b"HTTP/1.1 200 OK\r\ncontent-type: applic",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-len",
    ],
)
def test_an_answer_that_broke_off_is_asked_for_again(paper: dict[str, Any], tmp_path: Path, broken: bytes) -> None:
    """A server that is killed between headers and body has not said that a prefix is empty."""
    whole = b"<ListBucketResult><Contents><Key>train/a</Key></Contents></ListBucketResult>"
    answers = [broken, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(whole), whole)]

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / "address").write_text(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
        thread = threading.Thread(target=serve)
        thread.start()
        server = Server({**paper, "address_file": str(tmp_path / "address")})  # type: ignore[typeddict-item]
        page = server.call("s3", "list_objects_v2", Bucket="bucket", Prefix="train/")
        thread.join()
    assert [entry["Key"] for entry in page["Contents"]] == ["train/a"]
