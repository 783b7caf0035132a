"""Access keys: `keys.json` in the data folder, readable by its owner alone; temporary keys derived from them.

Temporary keys are not stored. Their session token carries who asked, the role and the end, sealed with a secret of
this server; the secret access key is derived from the token, so that they outlive a restart and end by themselves.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import string
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from sagesmith.contract import write_private
from sagesmith.core.clock import Clock, SystemClock
from sagesmith.core.operation import TemporaryKey

_LETTERS = string.ascii_uppercase + string.digits
AGENT = "agent"  # the name of the pair that agents sign with
FIRST = "default"  # the name of the pair that the first start makes


@dataclass(frozen=True)
class Key:
    """One access key."""

    id: str
    secret: str
    name: str
    read_only: bool = False
    role: str = ""  # the ARN of the role a temporary key has assumed


class Keys:
    """The keys of one server; safe to use from several threads. Another process's changes are seen at once."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._name = str(path)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        self._master = b""
        self._stamp: tuple[int, int] = (0, 0)
        self._load()

    @property
    def first(self) -> Key:
        """The pair that `sagesmith env` exports."""
        return self._named(FIRST)

    @property
    def agent(self) -> Key:
        """The pair that agents sign with."""
        return self._named(AGENT)

    def all(self) -> list[Key]:
        """Every stored key, the first one first."""
        return list(self._keys.values())

    def find(self, key_id: str, token: str = "") -> Key | None:
        """The key of that id; None when there is none. Temporary keys need their session token.

        Raises:
            PermissionError: the temporary key has ended.
        """
        if self._stat() != self._stamp:
            self._load()
        return self._temporary(key_id, token) if token else self._keys.get(key_id)

    def add(self, name: str, *, read_only: bool = False) -> Key:
        """Makes and stores a new pair.

        Raises:
            ValueError: the name is taken.
        """
        with self._lock:
            self._read()
            if any(key.name == name for key in self._keys.values()):
                raise ValueError(f"there is already a key named {name!r}")
            key = _fresh(name, read_only)
            self._keys[key.id] = key
            self._write()
        return key

    def remove(self, name_or_id: str) -> None:
        """Deletes a pair; requests signed with it are refused from now on.

        Raises:
            KeyError: there is none, or it is the agents'.
        """
        with self._lock:
            self._read()
            found = [key for key in self._keys.values() if name_or_id in (key.id, key.name) and key.name != AGENT]
            if not found:
                raise KeyError(f"there is no key {name_or_id!r}")
            del self._keys[found[0].id]
            self._write()

    def issue(self, principal: str, role: str, expires: float) -> TemporaryKey:
        """Makes a temporary key with the rights of `principal`'s.

        Args:
            principal: the access key id that asks.
            role: the ARN of the assumed role's session; "" for GetSessionToken.
            expires: epoch seconds.
        """
        parent = self._keys.get(principal)
        claim = {
            "id": "ASIA" + "".join(secrets.choice(_LETTERS) for _ in range(16)),
            "parent": principal,
            "role": role,
            "expires": expires,
            "read_only": parent.read_only if parent is not None else False,
        }
        content = base64.urlsafe_b64encode(json.dumps(claim, separators=(",", ":")).encode()).decode()
        token = f"{content}.{self._seal('token', content)}"
        return TemporaryKey(str(claim["id"]), self._seal("secret", content), token, expires)

    def _temporary(self, key_id: str, token: str) -> Key | None:
        content, _, seal = token.partition(".")
        if not hmac.compare_digest(seal.encode(), self._seal("token", content).encode()):
            return self._keys.get(key_id)  # a stored key may carry any token: it is not looked at
        claim = json.loads(base64.urlsafe_b64decode(content))
        if claim["id"] != key_id or (claim["parent"] not in self._keys and claim["parent"]):
            return None
        if claim["expires"] < self._clock.now():
            raise PermissionError("The security token included in the request is expired")
        return Key(key_id, self._seal("secret", content), claim["parent"], claim["read_only"], claim["role"])

    def _seal(self, purpose: str, content: str) -> str:
        digest = hmac.new(self._master, f"{purpose}:{content}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _named(self, name: str) -> Key:
        return next(key for key in self._keys.values() if key.name == name)

    def _stat(self) -> tuple[int, int]:
        try:
            status = os.stat(self._name)  # once a request; Path.stat costs more
        except FileNotFoundError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)

    def _load(self) -> None:
        with self._lock:
            self._read()
            missing = [name for name in (FIRST, AGENT) if not any(key.name == name for key in self._keys.values())]
            for name in missing:
                key = _fresh(name, read_only=False)
                self._keys[key.id] = key
            if missing or not self._master:
                self._master = self._master or secrets.token_bytes(32)
                self._write()

    def _read(self) -> None:
        try:
            content = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return
        except ValueError as error:
            raise ValueError(f"{self._path} is not valid JSON: {error}") from None
        self._stamp = self._stat()
        self._master = base64.b64decode(content["master"])
        self._keys = {item["id"]: Key(**item) for item in content["keys"]}

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        stored = [{name: value for name, value in asdict(key).items() if name != "role"} for key in self._keys.values()]
        content = {"master": base64.b64encode(self._master).decode(), "keys": stored}
        write_private(self._path, json.dumps(content, indent=2) + "\n")
        self._stamp = self._stat()


def _fresh(name: str, read_only: bool) -> Key:
    key_id = "AKIA" + "".join(secrets.choice(_LETTERS) for _ in range(16))
    return Key(key_id, base64.b64encode(secrets.token_bytes(30)).decode(), name, read_only)
