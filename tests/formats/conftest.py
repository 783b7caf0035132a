"""Fixtures of the format tests: readers forced onto their plain or compiled path."""

from __future__ import annotations

import pytest

from sagesmith.formats import compiled


@pytest.fixture
def always_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a few bytes go to the compiled readers."""
    monkeypatch.setattr(compiled, "WORTH_CALLING", 0)
    import numba  # noqa: F401


@pytest.fixture
def never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """All goes to the plain readers."""
    monkeypatch.setattr(compiled, "WORTH_CALLING", 1 << 60)
    monkeypatch.setattr(compiled, "WORTH_LOADING", 1 << 60)
