from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sagesmith.core.config import Config
from sagesmith.core.operation import ApiError
from sagesmith.services.catalogue import Catalogue, catalogue_of, install

KMEANS: dict[str, Any] = {"name": "kmeans", "images": ["kmeans", "kmeans-gpu"]}


def printing(text: str) -> list[str]:
    return [sys.executable, "-c", f"print({text!r})"]


def test_algorithms_are_found_by_each_of_their_repositories() -> None:
    catalogue = Catalogue(None, printing(json.dumps([KMEANS])))
    catalogue.start()
    assert catalogue.find("kmeans") == catalogue.find("kmeans-gpu") == KMEANS
    assert catalogue.find("nothing") is None
    assert catalogue.repositories() == ["kmeans", "kmeans-gpu"]


def test_the_answer_is_kept_for_the_next_start(tmp_path: Path) -> None:
    cache = tmp_path / "algorithms.json"
    first = Catalogue(cache, printing(json.dumps([KMEANS])))
    first.start()
    first.find("kmeans")
    for thread in threading.enumerate():
        if thread.name == "catalogue":
            thread.join()
    second = Catalogue(cache, [sys.executable, "-c", "import time; time.sleep(60)"])
    second.install([])  # what `start` must replace without waiting for the child
    second._renew = lambda: None  # type: ignore[method-assign]
    second.start()
    assert second.find("kmeans", patience=0) == KMEANS


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "raise SystemExit('no torch here')"],
        printing("{}"),
        printing("[1]"),
        printing("no JSON"),
        ["/no/such/program"],
    ],
)
def test_a_child_that_fails_is_told_to_whoever_asks(command: list[str]) -> None:
    catalogue = Catalogue(None, command)
    catalogue.start()
    with pytest.raises(ApiError, match="The list of algorithms is not available") as caught:
        catalogue.find("kmeans")
    assert (caught.value.code, caught.value.status) == ("InternalFailure", 500)


def test_a_child_that_takes_too_long_is_not_waited_for() -> None:
    with pytest.raises(ApiError, match="has not answered within 0 s"):
        Catalogue(None, ["true"]).find("kmeans", patience=0.01)


def test_a_damaged_cache_is_not_used(tmp_path: Path) -> None:
    cache = tmp_path / "algorithms.json"
    cache.write_text('[{"images": ["km')
    catalogue = Catalogue(cache, printing(json.dumps([KMEANS])))
    catalogue.start()
    assert catalogue.find("kmeans") == KMEANS


def test_each_server_has_its_own(tmp_path: Path) -> None:
    one, two = Config(data=tmp_path / "1"), Config(data=tmp_path / "2")
    install(one, [KMEANS])
    install(two, [])
    assert catalogue_of(one).find("kmeans") == KMEANS
    assert catalogue_of(two).find("kmeans") is None
