"""Channels to pictures: RecordIO in files and pipes, augmented manifests in both, lists, pairs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sagesmith.algorithms.images.loader import Loader
from sagesmith.algorithms.images.opening import from_list, recorded, with_files
from sagesmith.algorithms.images.pictures import Picture
from sagesmith.algorithms.images.streams import PictureStream, shuffled
from sagesmith.formats.channel import Channel
from sagesmith.formats.errors import DataError
from sagesmith.formats.frames import frame
from sagesmith.formats.image_records import ImageRecord, framed, packed
from sagesmith.formats.images import png

RECORDS = "application/x-recordio"


def picture(value: int) -> bytes:
    return png(np.full((4, 4, 3), value, np.uint8))


def rec(*labels: int) -> bytes:
    return b"".join(framed(packed(ImageRecord(np.array([label]), label, picture(label)))) for label in labels)


def piped(folder: Path, passes: list[bytes], **options: str) -> Channel:
    """A Pipe channel whose FIFOs give `passes`, one after another."""
    for number, content in enumerate(passes):
        path = folder / f"train_{number}"
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()
    return Channel.from_pipe("train", folder / "train", RECORDS, wait=5, **options)


def labels(pictures: Iterator[Picture] | PictureStream) -> list[object]:
    return [one.label if isinstance(one.label, bytes) else one.label.tolist() for one in pictures]


def test_rec_files_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.rec").write_bytes(rec(0, 1))
    (tmp_path / "2.rec").write_bytes(rec(2))
    (tmp_path / "2.idx").write_text("2\t0\n")
    found = recorded(Channel.from_folder("train", tmp_path, RECORDS))
    assert len(found) == 3
    assert sorted(labels(iter(found))) == [[0], [1], [2]]
    assert recorded(Channel.from_folder("train", tmp_path / "2.rec", RECORDS)).label(0) == [2]


def test_a_folder_without_records_tells_what_is_there(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"channel 'train': \.rec files or one augmented manifest .* there is: cat\.jpg"
    ):
        recorded(Channel.from_folder("train", tmp_path, RECORDS))
    (tmp_path / "a.rec").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.rec: is empty"):
        recorded(Channel.from_folder("train", tmp_path, RECORDS))


def test_a_pipe_gives_the_records_of_all_files_in_each_pass(tmp_path):
    stream = recorded(piped(tmp_path, [rec(0, 1) + rec(2)] * 2))
    assert labels(stream) == [[0], [1], [2]]
    assert labels(stream) == [[0], [1], [2]]


def test_a_truncated_pipe_is_named(tmp_path):
    stream = recorded(piped(tmp_path, [rec(0, 1)[:-9]]))
    with pytest.raises(DataError, match=r"train_0, record 2: truncated"):
        list(stream)


ATTRIBUTES = [picture(3), b"[1, 0]", picture(4), b"0"]


def test_attributes_of_a_manifest_come_by_twos(tmp_path):
    stream = recorded(piped(tmp_path, [b"".join(map(frame, ATTRIBUTES))], record_wrapper="RecordIO"))
    found = list(stream)
    assert labels(found) == [b"[1, 0]", b"0"]
    assert [one.pixels()[0, 0, 0] for one in found] == [3, 4]
    assert found[1].name == "channel 'train', picture 2"


def test_an_odd_number_of_attributes_is_told(tmp_path):
    stream = recorded(piped(tmp_path, [b"".join(map(frame, ATTRIBUTES[:3]))], record_wrapper="RecordIO"))
    with pytest.raises(DataError, match=r"3 attributes came, .* AttributeNames needs two"):
        list(stream)


def test_wrapped_rec_files_are_opened(tmp_path):
    stream = recorded(piped(tmp_path, [frame(rec(5, 6)) + frame(rec(7))], record_wrapper="RecordIO"))
    assert labels(stream) == [[5], [6], [7]]


def test_a_manifest_in_a_folder(tmp_path):
    (tmp_path / "pics").mkdir()
    for name in "abm":
        (tmp_path / "pics" / f"{name}.png").write_bytes(picture(ord(name)))
    lines = [
        {"source-ref": "pics/a.png", "class": [1, 0], "class-metadata": {}},
        {"source-ref": "pics/b.png", "class": "0"},
    ]
    (tmp_path / "train.manifest").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = recorded(Channel.from_folder("train", tmp_path, RECORDS))
    assert labels(iter(found)) == [b"[1, 0]", b"0"]
    assert found.picture(1).pixels()[0, 0, 0] == ord("b")
    (tmp_path / "train.manifest").write_text(json.dumps({"source-ref": "pics/a.png", "mask-ref": "pics/m.png"}))
    assert recorded(Channel.from_folder("train", tmp_path / "train.manifest", RECORDS)).label(0) == picture(ord("m"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1"),
        ('{"class": 1, "other": 2}', "record 1: needs an attribute that ends in -ref"),
        ('{"source-ref": "a.png"}', "record 1: needs an attribute that ends in -ref"),
        ('{"source-ref": "../a.png", "class": 1}', r"'\.\./a\.png' is not a path below"),
        ('{"source-ref": "s3://b/a.png", "class": 1}', "is in S3; only a job can read it"),
        ('{"source-ref": "absent.png", "class": 1}', "'absent.png': no such file beside the manifest"),
        ('{"source-ref": 7, "class": 1}', "source-ref 7 is not a path"),
        ("", "names no pictures"),
    ],
)
def test_lines_of_a_manifest_that_cannot_be_used_are_named(tmp_path, line, said):
    (tmp_path / "train.manifest").write_text(line)
    with pytest.raises(DataError, match=said):
        recorded(Channel.from_folder("train", tmp_path, RECORDS))


def channels(folder: Path, **files: dict[str, bytes]) -> list[Channel]:
    for channel, content in files.items():
        (folder / channel).mkdir(exist_ok=True)
        for name, data in content.items():
            (folder / channel / name).parent.mkdir(exist_ok=True)
            (folder / channel / name).write_bytes(data)
    return [Channel.from_folder(name, folder / name, "application/x-image") for name in files]


def test_a_list_names_the_pictures_of_a_folder(tmp_path):
    given = channels(
        tmp_path,
        train={"cat/1.png": picture(1), "dog/2.png": picture(2), "dog/unlisted.png": b""},
        train_lst={"train.lst": b"5\t1\tdog/2.png\n3\t0\tcat/1.png\n"},
    )
    found = from_list(*given)
    assert labels(iter(found)) == [[1], [0]]
    assert found.name(0) == "train/dog/2.png"
    channels(tmp_path, train_lst={"other.lst": b""})
    with pytest.raises(DataError, match=r"channel 'train_lst': 2 \.lst files; exactly one"):
        from_list(*channels(tmp_path, train={}, train_lst={}))


def test_a_list_with_missing_pictures_names_the_first(tmp_path):
    given = channels(tmp_path, train={}, train_lst={"a.lst": b"1\t0\tx.png\n2\t0\ty.png\n"})
    with pytest.raises(DataError, match=r"a\.lst: x\.png and 1 more of its pictures are not in"):
        from_list(*given)


def test_pictures_are_paired_with_files_of_their_stem(tmp_path):
    pictures = {"a/1.jpg": b"A", "2.png": b"B"}
    found = with_files(
        *channels(tmp_path, train=pictures, train_annotation={"a/1.json": b"{1}", "2.json": b"{2}"}), ".json"
    )
    assert labels(iter(found)) == [b"{2}", b"{1}"]
    assert [found.name(i) for i in range(2)] == ["train/2.png", "train/a/1.jpg"]


@pytest.mark.parametrize(
    ("train", "other", "said"),
    [
        (
            ["1.jpg", "2.jpg", "3.jpg"],
            ["1.png"],
            r"^train/2\.jpg: has no \.png of that name in channel 'masks' \(and 1",
        ),
        (["1.jpg"], ["1.png", "2.png"], r"^masks/2\.png: has no picture of that name in channel 'train'"),
        (["1.jpg", "1.png"], ["1.png"], r"train/1\.(jpg|png) and train/1\.(jpg|png): which of them is meant by '1'"),
        ([], [], "no pictures"),
    ],
)
def test_what_has_no_partner_is_named(tmp_path, train, other, said):
    given = channels(tmp_path, train=dict.fromkeys(train, b""), masks=dict.fromkeys(other, b""))
    with pytest.raises(DataError, match=said):
        with_files(*given, ".png")


def test_shuffling_holds_a_bounded_number_of_pictures_and_bytes():
    pictures = [(i, Picture(str(i), bytes(10), i)) for i in range(100)]
    taken = []

    def counted() -> Iterator[tuple[int, Picture]]:
        for one in pictures:
            taken.append(one)
            yield one

    for most, most_bytes, held in ((20, 10**9, 20), (1000, 150, 15)):
        taken.clear()
        ahead, order = 0, []
        for number, _ in shuffled(counted(), np.random.default_rng(0), most, most_bytes):
            order.append(number)
            ahead = max(ahead, len(taken) - len(order))
        assert ahead == held
        assert sorted(order) == list(range(100))
        assert order != sorted(order)


def test_an_empty_pipe_is_told(tmp_path):
    loader = Loader(recorded(piped(tmp_path, [b""])), lambda *given: None, 2, (4, 4, 3))
    with pytest.raises(DataError, match="the channel holds no pictures"):
        list(loader.epoch(0))
