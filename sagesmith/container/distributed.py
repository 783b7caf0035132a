"""Hosts in resourceconfig.json become one circle: every host's bytes reach every host, over TCP, with no other service.

The master (first host) listens, the others connect to it; `gather` sends each one's state to the master and all
states back. On SageMaker hosts find each other by name on a fixed port. Under sagesmith several gangs share one
computer, so the environment says where: SAGESMITH_HOSTS (JSON, host to address), SAGESMITH_RENDEZVOUS (address:port)
and SAGESMITH_GANG_TOKEN, which both sides must prove to know before any state is taken (HMAC of random challenges).
A frame is `magic, kind, round, length, payload`, its length limited; nothing received is ever executed or unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PORT = 9099  # the port that SageMaker's own images use among themselves
JOIN_SECONDS = 600.0  # how long hosts wait for each other at the start; SAGESMITH_RENDEZVOUS_TIMEOUT overrides it
HANDSHAKE_SECONDS = 5.0  # how long a stranger may hold the master's ear
STALL_SECONDS = 300.0  # how long one frame, once begun, may stand still
LAST_WORDS_SECONDS = 0.5  # how long a host that fails listens for another's reason
STATE_BYTES = 4 << 30  # the largest state that one host may send
HELLO_BYTES = 4096

_HEADER = struct.Struct(">4sBIQ")
_MAGIC = b"SMG1"
_CHALLENGE, _HELLO, _WELCOME, _STATE, _STATES, _ABANDON = range(1, 7)


class GangError(RuntimeError):
    """The gang cannot go on: a host did not come, was lost, failed, or is not who it should be."""


@dataclass(frozen=True)
class Meeting:
    """Where and under which secret a gang meets."""

    address: str
    port: int
    listen: str  # the address that the master binds
    token: bytes
    timeout: float

    @classmethod
    def of(cls, hosts: Sequence[str], environment: Mapping[str, str]) -> Meeting:
        """From the environment of a job.

        Raises:
            GangError: a variable that cannot be understood, by name.
        """
        token = environment.get("SAGESMITH_GANG_TOKEN", "").encode()
        timeout = _seconds(environment.get("SAGESMITH_RENDEZVOUS_TIMEOUT", ""))
        text = environment.get("SAGESMITH_RENDEZVOUS", "")
        if text:
            address, _, port = text.rpartition(":")
            if not address or not port.isdigit() or not 0 < int(port) < 65536:
                raise GangError(f"SAGESMITH_RENDEZVOUS must be address:port, found {text!r}")
            return cls(address.strip("[]"), int(port), address.strip("[]"), token, timeout)
        return cls(_addresses(environment).get(hosts[0], hosts[0]), PORT, "", token, timeout)


def _seconds(text: str) -> float:
    try:
        seconds = float(text) if text else JOIN_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise GangError(f"SAGESMITH_RENDEZVOUS_TIMEOUT must be a number of seconds above 0, found {text!r}")
    return seconds


def _addresses(environment: Mapping[str, str]) -> dict[str, str]:
    text = environment.get("SAGESMITH_HOSTS", "") or "{}"
    try:
        addresses = json.loads(text)
    except ValueError:
        addresses = None
    if not isinstance(addresses, dict) or not all(isinstance(value, str) for value in addresses.values()):
        raise GangError(f"SAGESMITH_HOSTS must be a JSON object of host to address, found {text[:200]!r}")
    return addresses


class Circle:
    """The joined gang, seen from one host. `port` is free on the master for the algorithm's own use."""

    def __init__(
        self, host: str, hosts: Sequence[str], peers: dict[str, socket.socket], address: str, port: int
    ) -> None:
        self.host = host
        self.hosts = tuple(hosts)
        self.address = address
        self.port = port
        self._peers = peers  # the master: every other host; the others: only the master
        self._round = 0

    def gather(self, state: bytes) -> list[bytes]:
        """Every host's `state` in the order of hosts, on every host.

        Raises:
            GangError: a host was lost, failed or is in another round.
        """
        if len(state) > STATE_BYTES:
            raise GangError(f"the state of {self.host} has {len(state)} bytes; at most {STATE_BYTES} can be gathered")
        self._round += 1
        try:
            if self.host == self.hosts[0]:
                return self._gather_as_master(state)
            master = self._peers[self.hosts[0]]
            with contextlib.suppress(GangError):  # a master that has left may have said why: that is read next
                _send(master, self.hosts[0], _STATE, self._round, state)
            return self._split(
                _receive(master, self.hosts[0], _STATES, self._round, len(self.hosts) * (STATE_BYTES + 8))
            )
        except GangError as error:
            self.abandon(str(error))
            raise

    def _gather_as_master(self, state: bytes) -> list[bytes]:
        states = {self.host: state}
        with selectors.DefaultSelector() as selector:
            for name, peer in self._peers.items():
                selector.register(peer, selectors.EVENT_READ, name)
            while len(states) < len(self.hosts):
                for key, _ in selector.select():
                    peer = self._peers[key.data]
                    states[key.data] = _receive(peer, key.data, _STATE, self._round, STATE_BYTES)
                    selector.unregister(peer)
        ordered = [states[name] for name in self.hosts]
        payload = b"".join(struct.pack(">Q", len(part)) + part for part in ordered)
        for name, peer in self._peers.items():
            _send(peer, name, _STATES, self._round, payload)
        return ordered

    def _split(self, payload: bytes) -> list[bytes]:
        parts, position = [], 0
        for _ in self.hosts:
            if position + 8 > len(payload):
                raise GangError("the master's answer is shorter than the gang")
            (length,) = struct.unpack_from(">Q", payload, position)
            parts.append(payload[position + 8 : position + 8 + length])
            position += 8 + length
        if position != len(payload):
            raise GangError("the master's answer has another length than its parts")
        return parts

    def abandon(self, reason: str) -> None:
        """Tells the others why this host cannot go on, as far as they still listen."""
        for name, peer in self._peers.items():
            try:
                _send(peer, name, _ABANDON, self._round, f"{self.host}: {reason}".encode()[:HELLO_BYTES])
            except GangError:
                continue

    def last_words(self) -> str:
        """What another host said when it gave up; "" when none has. Explains an error that it caused on this one."""
        for name, peer in self._peers.items():
            peer.settimeout(LAST_WORDS_SECONDS)
            try:
                _receive(peer, name, _ABANDON, self._round, 0)
            except GangError as error:
                if "gave up" in str(error):
                    return str(error)
        return ""

    def close(self) -> None:
        """Leaves the circle."""
        for peer in self._peers.values():
            peer.close()


def join(host: str, hosts: Sequence[str], meeting: Meeting) -> Circle:
    """Meets the other hosts; returns once all are there.

    Raises:
        GangError: somebody did not come in time, the port is taken, or the secrets differ.
    """
    if host == hosts[0]:
        return _await_others(host, hosts, meeting)
    return _find_master(host, hosts, meeting)


def _await_others(host: str, hosts: Sequence[str], meeting: Meeting) -> Circle:
    port = _free_port(meeting.listen)
    deadline = time.monotonic() + meeting.timeout
    peers: dict[str, socket.socket] = {}
    try:
        listener = socket.create_server((meeting.listen, meeting.port), backlog=128)
    except OSError as error:
        raise GangError(f"{host} cannot listen on {meeting.listen}:{meeting.port}: {error.strerror}") from None
    with listener:
        while missing := [name for name in hosts[1:] if name not in peers]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise GangError(f"{', '.join(missing)} did not join within {meeting.timeout:g} seconds")
            listener.settimeout(left)
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                continue
            name = _admit(peer, missing, meeting, port)
            if name:
                peers[name] = peer
    return Circle(host, hosts, peers, _numeric(meeting.address), port)


def _admit(peer: socket.socket, missing: Sequence[str], meeting: Meeting, port: int) -> str:
    """The name of the host that has just connected; "" for a stranger, who is sent away."""
    peer.settimeout(HANDSHAKE_SECONDS)
    challenge = secrets.token_bytes(32)
    try:
        _send(peer, "a stranger", _CHALLENGE, 0, challenge)
        hello = _receive(peer, "a stranger", _HELLO, 0, HELLO_BYTES)
        answer, proof, name = hello[:32], hello[32:64], hello[64:].decode("utf-8", "replace")
        if not hmac.compare_digest(proof, _proof(meeting.token, b"host", challenge, answer, name)):
            _send(peer, name, _ABANDON, 0, b"its token is not this gang's")
        elif name not in missing:
            _send(peer, name, _ABANDON, 0, f"{name!r} is not awaited here".encode())
        else:
            welcome = _proof(meeting.token, b"master", answer, challenge, name) + struct.pack(">H", port)
            _send(peer, name, _WELCOME, 0, welcome)
            _prepare(peer)
            return name
    except GangError:
        pass
    peer.close()
    return ""


def _find_master(host: str, hosts: Sequence[str], meeting: Meeting) -> Circle:
    master = _connect(host, meeting)
    master.settimeout(max(HANDSHAKE_SECONDS, meeting.timeout))
    try:
        challenge = _receive(master, hosts[0], _CHALLENGE, 0, HELLO_BYTES)
        answer = secrets.token_bytes(32)
        hello = answer + _proof(meeting.token, b"host", challenge, answer, host) + host.encode()
        _send(master, hosts[0], _HELLO, 0, hello)
        welcome = _receive(master, hosts[0], _WELCOME, 0, HELLO_BYTES)
        if len(welcome) != 34:
            raise GangError(f"{hosts[0]} sent a welcome of {len(welcome)} bytes, expected 34")
        if not hmac.compare_digest(welcome[:32], _proof(meeting.token, b"master", answer, challenge, host)):
            raise GangError(f"whoever listens on {meeting.address}:{meeting.port} does not know this gang's token")
    except GangError:
        master.close()
        raise
    _prepare(master)
    address = str(master.getpeername()[0])
    return Circle(host, hosts, {hosts[0]: master}, address, int.from_bytes(welcome[32:], "big"))


def _connect(host: str, meeting: Meeting) -> socket.socket:
    deadline = time.monotonic() + meeting.timeout
    pause = 0.05
    while True:
        try:
            return socket.create_connection((meeting.address, meeting.port), timeout=HANDSHAKE_SECONDS)
        except OSError as error:  # the master is not there yet, or its name is not known yet
            if time.monotonic() + pause > deadline:
                where = f"{meeting.address}:{meeting.port}"
                problem = f"{host} could not reach the master at {where} within {meeting.timeout:g} seconds"
                raise GangError(f"{problem}: {error.strerror or error}") from None
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _proof(token: bytes, role: bytes, first: bytes, second: bytes, name: str) -> bytes:
    return hmac.digest(token or b"no token", b"|".join((role, first, second, name.encode())), hashlib.sha256)


def _prepare(peer: socket.socket) -> None:
    """A computer that dies without a word is noticed after about a minute, however long a round takes."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    peer.settimeout(None)


def _numeric(address: str) -> str:
    """The address behind a name: what libraries such as xgboost's tracker want to bind."""
    try:
        return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise GangError(f"the master's own name {address!r} has no address: {error}") from None


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def _send(peer: socket.socket, name: str, kind: int, round_: int, payload: bytes) -> None:
    try:
        peer.sendall(_HEADER.pack(_MAGIC, kind, round_, len(payload)))
        peer.sendall(payload)
    except OSError as error:
        raise GangError(f"lost {name}: {error.strerror or error}") from None


def _receive(peer: socket.socket, name: str, kind: int, round_: int, limit: int) -> bytes:
    """One frame of the awaited kind and round."""
    magic, found, number, length = _HEADER.unpack(_read(peer, name, _HEADER.size))
    if magic != _MAGIC:
        raise GangError(f"{name} does not speak sagesmith's protocol")
    if found == _ABANDON and length <= HELLO_BYTES:
        raise GangError(f"{name} gave up: {_read(peer, name, length).decode('utf-8', 'replace')}")
    if (found, number) != (kind, round_):
        raise GangError(f"{name} is in round {number} (message {found}), expected round {round_} (message {kind})")
    if length > limit:
        raise GangError(f"{name} announces {length} bytes; at most {limit} are taken")
    waiting = peer.gettimeout()
    if waiting is None:
        peer.settimeout(STALL_SECONDS)
    try:
        return _read(peer, name, length)
    finally:
        peer.settimeout(waiting)


def _read(peer: socket.socket, name: str, count: int) -> bytes:
    buffer = bytearray(count)
    view, position = memoryview(buffer), 0
    while position < count:
        try:
            received = peer.recv_into(view[position:])
        except TimeoutError:
            raise GangError(f"{name} fell silent") from None
        except OSError as error:
            raise GangError(f"lost {name}: {error.strerror or error}") from None
        if not received:
            raise GangError(f"lost {name}: it closed the connection")
        position += received
    return bytes(buffer)
