"""`python -m sagesmith.agent.nursery FD RUNS`: forks agents that have their imports behind them.

An engine starts one nursery and keeps the other end of the socket FD. A request is a line of JSON with two
descriptors: the agent's lock and its log; the answer is the agent's pid. The nursery ends when the engine closes its
end or dies; agents do not: they are forked twice, into sessions of their own. RUNS only tells people, in a list of
processes, whose nursery it is.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import traceback

REQUEST_BYTES = 1 << 16
WARM = ("host", "training", "endpoint")  # what is imported before the first request
SERVICES = ("s3", "logs", "cloudwatch")  # whose models are read before the first request


def main(descriptor: int) -> None:
    """Answers requests until the engine is gone."""
    _warm()
    with socket.socket(fileno=descriptor) as channel:
        os.set_inheritable(descriptor, False)
        while True:
            data, descriptors, _, _ = socket.recv_fds(channel, REQUEST_BYTES, 2)
            if not data:
                return
            try:
                pid = _fork(json.loads(data)["paper"], descriptors, channel)
            finally:
                for received in descriptors:
                    os.close(received)
            channel.sendall(json.dumps({"pid": pid}).encode())


def _warm() -> None:
    for name in WARM:
        importlib.import_module(f"sagesmith.agent.{name}")
    from sagesmith.agent.connection import create_client

    for service in SERVICES:
        create_client(service, "us-east-1", "http://127.0.0.1:1", "none", "none").close()


def _fork(paper: str, descriptors: list[int], channel: socket.socket) -> int:
    """Forks an agent whose parent is gone at once, and returns its pid."""
    read, write = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until the agent can take it
    child = os.fork()
    if child == 0:
        os.setsid()
        grandchild = os.fork()
        if grandchild:
            os.write(write, str(grandchild).encode())
            os._exit(0)
        _be_agent(paper, descriptors, (read, write, channel.fileno()))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.close(write)
    os.waitpid(child, 0)
    pid = int(os.read(read, 32))
    os.close(read)
    return pid


def _be_agent(paper: str, descriptors: list[int], unwanted: tuple[int, ...]) -> None:
    """What the forked process does instead of returning."""
    status = 70
    try:
        lock, log = descriptors
        os.dup2(log, 1)
        os.dup2(log, 2)
        for descriptor in (*unwanted, log):
            os.close(descriptor)
        asked: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.set_inheritable(lock, False)
        from pathlib import Path

        from sagesmith.agent.host import live

        status = live(Path(paper), lambda: bool(asked))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
