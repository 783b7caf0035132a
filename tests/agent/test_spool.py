"""Log lines on disk."""

from __future__ import annotations

import errno
import io

from hypothesis import given
from hypothesis import strategies as st

from sagesmith.agent.spool import EVENT_BYTES, Spool, SpoolReader, collect


def read_all(spool):
    reader = SpoolReader(spool.path)
    events = reader.read(10**6, 10**9)
    reader.close()
    spool.close()
    return events


def test_lines_become_events_as_the_log_shows_them(tmp_path):
    spool, seen = Spool(tmp_path / "log"), []
    collect(io.BytesIO(b"a\tb\r\n\n  \nlast \xff"), spool, seen.append)
    assert [event.message for event in read_all(spool)] == ["a#011b", "last \N{REPLACEMENT CHARACTER}"]
    assert seen[0] == "a#011b"


def test_long_lines_are_split_between_characters(tmp_path):
    spool = Spool(tmp_path / "log")
    text = "\N{EURO SIGN}" * 300_000
    collect(io.BytesIO(text.encode()), spool, lambda _: None)
    messages = [event.message for event in read_all(spool)]
    assert all(len(message.encode()) <= EVENT_BYTES for message in messages)
    assert len(messages) > 2


@given(st.lists(st.binary(max_size=50)))
def test_any_output_is_read_back_in_order(tmp_path_factory, lines):
    spool = Spool(tmp_path_factory.mktemp("spool") / "log")
    collect(io.BytesIO(b"\n".join(lines)), spool, lambda _: None)
    expected = [
        part.rstrip(b"\r").replace(b"\t", b"#011").decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        for line in lines
        for part in line.split(b"\n")
    ]
    events = read_all(spool)
    assert [event.message for event in events] == [text for text in expected if text.encode().strip()]
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)


def test_batches_keep_to_their_limits_and_lose_nothing(tmp_path):
    spool = Spool(tmp_path / "log")
    for number in range(100):
        spool.say(f"{number:074}")
    reader = SpoolReader(spool.path)
    batches = []
    while batch := reader.read(7, 350):
        batches.append(batch)
    reader.close()
    spool.close()
    assert [int(event.message) for batch in batches for event in batch] == list(range(100))
    assert max(sum(len(event.message) + 26 for event in batch) for batch in batches) <= 350


class Disk:
    """A file on a disk with so many bytes of room left."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if data and not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return self.file.write(part)

    def close(self):
        self.file.close()


def test_a_full_disk_costs_lines_and_tears_none(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "log")
    spool.say("first")
    monkeypatch.setattr(spool, "_file", Disk(spool._file, room=20))
    for number in range(4):
        spool.say(f"line {number}")
    spool._file.room = 10**6
    spool.say("last")
    assert [event.message for event in read_all(spool)] == [
        "first",
        "line 0",
        "3 lines were lost here: the disk was full.",
        "last",
    ]
