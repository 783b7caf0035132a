"""Settings of one server: defaults, overridden by the environment (`SAGESMITH_*`), then by the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


def _default_data() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "sagesmith"


@dataclass(frozen=True)
class Config:
    """All settings; every field `x` can be given as the environment variable `SAGESMITH_X`."""

    data: Path = field(default_factory=_default_data)  # everything the server keeps lies below this folder
    host: str = "127.0.0.1"
    port: int = 8777  # 0: any free port
    account: str = "123456789012"
    region: str = "us-east-1"  # what `sagesmith env` exports; the server answers for every region
    auth: bool = True  # False accepts any key, on loopback only
    database: str = ""  # SQLAlchemy URL; empty: SQLite below `data`
    s3_endpoint: str = ""  # another S3 server to keep the objects in; empty: plain files below `data`
    engine: str = "local"  # file name in sagesmith/engines
    max_body: int = 5 * 2**30  # bytes of one request body (S3's own limit for one PUT)
    stop_grace: float = 120.0  # seconds between SIGTERM and SIGKILL of a stopped job

    def __post_init__(self) -> None:
        if not (len(self.account) == 12 and self.account.isdigit()):
            raise ValueError(f"account must be 12 digits, got {self.account!r}")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must be between 0 and 65535, got {self.port}")

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data / 'sagesmith.db'}"

    @property
    def runs(self) -> Path:
        """One folder per gang: the agents' work folders and reports."""
        return self.data / "runs"

    @property
    def objects(self) -> Path:
        """Buckets and objects as plain files; with `s3_endpoint` only what is on its way."""
        return self.data / "s3"

    @property
    def address_file(self) -> Path:
        """Where a running server writes its URL, so that agents find it again after a restart."""
        return self.data / "address"

    @property
    def keys_file(self) -> Path:
        return self.data / "keys.json"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Config:
        """Defaults, then `SAGESMITH_*` variables, then `overrides` that are not None.

        Raises:
            ValueError: a value that cannot be what its setting needs, naming it.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for setting in fields(cls):
            text = environ.get(f"SAGESMITH_{setting.name.upper()}")
            if text is not None:
                values[setting.name] = _parse(setting.name, str(setting.type), text)
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)


def _parse(name: str, type_name: str, text: str) -> Any:
    try:
        if type_name == "bool":
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        parsers: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
        return Path(text).expanduser() if type_name == "Path" else parsers[type_name](text)
    except (KeyError, ValueError):
        raise ValueError(f"SAGESMITH_{name.upper()}={text!r} is not a valid {type_name}") from None
