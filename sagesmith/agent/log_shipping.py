"""Sends the job's log to CloudWatch Logs: every line once, in order, whatever happens to the server meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Any

from botocore.exceptions import ClientError

from sagesmith.agent.connection import Server, code_of, refusal
from sagesmith.agent.spool import Event, Spool, SpoolReader
from sagesmith.contract import AgentPaper

BATCH_EVENTS = 10_000  # PutLogEvents' limits
BATCH_BYTES = 1_048_576
BATCH_SPAN = 24 * 3600 * 1000 - 1  # milliseconds between the first and last event of a batch
EARLY = 10.0  # seconds during which lines are sent with little delay, for those who wait for the first ones
EARLY_PAUSE, PAUSE = 0.25, 1.0  # seconds between batches
REPEATED = {"DataAlreadyAcceptedException", "InvalidSequenceTokenException"}


class LogShipper:
    """A thread that follows the spool.

    `sequenceToken` is the number of events that the server has accepted from this stream. A batch that was accepted
    although its answer got lost is refused when it is sent again, with the number that is expected next.
    """

    def __init__(self, paper: AgentPaper, spool: Spool, server: Server) -> None:
        self._stream = {"logGroupName": paper["log_group"], "logStreamName": paper["log_stream"]}
        self._spool = spool
        self._server = server
        self._accepted = 0
        self._closing = threading.Event()
        self.refused = ""  # why the server takes no lines of this log, once it has said so
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> None:
        """Returns when every line written so far has been accepted, or the server has refused this log."""
        self._closing.set()
        with self._spool.written:
            self._spool.written.notify_all()
        self._thread.join()

    def _run(self) -> None:
        reader = SpoolReader(self._spool.path)
        began = time.monotonic()
        while not self.refused:
            closing = self._closing.is_set()  # asked before reading, so that the last lines are not missed
            events = reader.read(BATCH_EVENTS, BATCH_BYTES)
            if events:
                self._send(events)
            elif closing:
                break
            if not closing:
                self._closing.wait(EARLY_PAUSE if time.monotonic() - began < EARLY else PAUSE)
        reader.close()

    def _send(self, events: list[Event]) -> None:
        while events:
            batch = [event for event in events if event.timestamp - events[0].timestamp <= BATCH_SPAN]
            try:
                self._accepted = self._server.insist(lambda batch=batch: self._put(batch), stubborn=True)  # type: ignore[misc]
                events = events[len(batch) :]
            except ClientError as error:
                expected = str(error.response.get("expectedSequenceToken", ""))
                if code_of(error) not in REPEATED or not expected.isdigit() or int(expected) == self._accepted:
                    self.refused = refusal(error)
                    return
                events = events[max(0, int(expected) - self._accepted) :]
                self._accepted = int(expected)

    def _put(self, batch: list[Event]) -> int:
        logs = self._server.client("logs")
        request = {
            **self._stream,
            "sequenceToken": str(self._accepted),
            "logEvents": [{"timestamp": event.timestamp, "message": event.message} for event in batch],
        }
        try:
            answer = logs.put_log_events(**request)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            self._create(logs)
            answer = logs.put_log_events(**request)
        return int(answer.get("nextSequenceToken") or self._accepted + len(batch))

    def _create(self, logs: Any) -> None:
        group = {"logGroupName": self._stream["logGroupName"]}
        for create, request in (("create_log_group", group), ("create_log_stream", self._stream)):
            try:
                getattr(logs, create)(**request)
            except ClientError as error:
                if code_of(error) != "ResourceAlreadyExistsException":
                    raise
