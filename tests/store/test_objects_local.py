from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.store.local_objects import LocalObjects
from sagesmith.store.object_paths import names_of
from sagesmith.store.objects import BucketNotEmpty, CommonPrefix, NoSuchObject, check_key
from sagesmith.testing.check_objects import CHECKS, check_neighbours, check_objects, rolled_up

parts = st.sampled_from(
    ["a", "b", "", ".", "..", "%", "a%.object", "x" * 250, "x" * 248, "é" * 130, "x" * 247, "~", "-"]
)
keys = st.one_of(
    st.lists(parts, min_size=1, max_size=4).map("/".join),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
).filter(lambda key: 0 < len(key.encode()) <= 1024)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(tmp_path: Path, check) -> None:
    objects = LocalObjects(tmp_path)
    objects.create_bucket("check-objects")
    check(objects)


def test_folders_that_come_and_go_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round in thirty met an object that went away while it was being moved aside for a folder."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # the disk would take most of the time
    objects = LocalObjects(tmp_path)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for number in range(100):
            objects.create_bucket(f"check-objects-{number}")
            check_neighbours(objects, f"check-objects-{number}")
    finally:
        sys.setswitchinterval(before)


def test_conforms_one_after_the_other(tmp_path: Path) -> None:
    check_objects(LocalObjects(tmp_path))


@settings(max_examples=60, deadline=None)
@given(
    written=st.lists(keys, max_size=12),
    deleted=st.lists(keys, max_size=4),
    prefix=st.text("ax/.", max_size=3),
    after=st.one_of(st.just(""), keys),
    delimiter=st.sampled_from(["", "/", "a", "x/"]),
)
def test_behaves_like_a_dict(tmp_path_factory, written, deleted, prefix, after, delimiter) -> None:
    root = tmp_path_factory.mktemp("objects")
    objects = LocalObjects(root)
    objects.create_bucket("bucket")
    expected: dict[str, bytes] = {}
    for number, key in enumerate(written):
        expected[key] = str(number).encode()
        objects.put("bucket", key, expected[key])
    for key in [*deleted, *written[::3]]:
        expected.pop(key, None)
        objects.delete("bucket", key)
    assert {key: objects.get("bucket", key) for key in expected} == expected
    assert [info.key for info in objects.list("bucket")] == sorted(expected, key=str.encode)
    listed = [
        item.prefix if isinstance(item, CommonPrefix) else item.key
        for item in objects.list_folders("bucket", prefix, delimiter, after)
    ]
    assert listed == rolled_up(list(expected), prefix, delimiter, after)
    outside = {path.name for path in root.iterdir()}
    assert outside <= {"bucket", ".meta", ".tmp"}
    for key in list(expected):
        objects.delete("bucket", key)
    objects.delete_bucket("bucket")


@given(keys)
def test_names_never_leave_the_folder(key: str) -> None:
    names = names_of(key)
    assert not {"", ".", ".."} & set(names)
    assert all("/" not in name and "\0" not in name and len(name.encode()) <= 255 for name in names)


def test_key_with_more_slashes_than_python_has_frames(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create_bucket("bucket")
    objects.put("bucket", "/" * 1024, b"deep")
    assert [info.key for info in objects.list("bucket")] == ["/" * 1024]
    objects.delete("bucket", "/" * 1024)
    objects.delete_bucket("bucket")


def test_plain_keys_are_plain_files(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create_bucket("bucket")
    objects.put("bucket", "train/data set.csv", b"1,2")
    assert (tmp_path / "bucket" / "train" / "data set.csv").read_bytes() == b"1,2"
    assert objects.path("bucket", "train/data set.csv") == tmp_path / "bucket" / "train" / "data set.csv"


def test_files_put_there_by_the_user_are_objects(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create_bucket("bucket")
    (tmp_path / "bucket" / "d").mkdir()
    (tmp_path / "bucket" / "d" / "own.csv").write_bytes(b"abc")
    assert [info.etag for info in objects.list("bucket")] == ["900150983cd24fb0d6963f7d28e17f72"]
    assert objects.head("bucket", "d/own.csv").etag == "900150983cd24fb0d6963f7d28e17f72"
    (tmp_path / "bucket" / "d" / "own.csv").write_bytes(b"changed in place")
    assert objects.head("bucket", "d/own.csv").size == 16
    assert objects.head("bucket", "d/own.csv").etag != "900150983cd24fb0d6963f7d28e17f72"


def test_links_and_names_that_no_key_has_are_no_objects(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create_bucket("bucket")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "bucket" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "bucket" / "100%.csv").write_text("s")
    assert list(objects.list("bucket")) == []
    with pytest.raises(NoSuchObject):
        objects.get("bucket", "link")
    with pytest.raises(BucketNotEmpty):
        objects.delete_bucket("bucket")


def test_large_folder_is_listed_afresh_after_each_change(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create_bucket("bucket")
    folder = tmp_path / "bucket" / "many"
    folder.mkdir()
    for number in range(600):
        (folder / f"{number:04}").touch()
    os.utime(folder, (time.time() - 60, time.time() - 60))
    assert sum(1 for _ in objects.list("bucket", "many/")) == 600
    objects.put("bucket", "many/new", b"")
    objects.delete("bucket", "many/0000")
    assert [info.key for info in objects.list("bucket", "many/", "many/0598")] == ["many/0599", "many/new"]
    assert next(iter(objects.list("bucket", "many/"))).key == "many/0001"


def test_old_leftovers_are_swept_and_fresh_ones_kept(tmp_path: Path) -> None:
    scratch = LocalObjects(tmp_path).scratch
    (scratch / "old").touch()
    (scratch / "fresh").touch()
    os.utime(scratch / "old", (1, 1))
    LocalObjects(tmp_path)
    assert [path.name for path in scratch.iterdir()] == ["fresh"]


def test_check_key_counts_bytes() -> None:
    assert check_key("ü") == "ü".encode()


WRITER = textwrap.dedent(
    """
    import itertools, sys
    from pathlib import Path
    from sagesmith.store.local_objects import LocalObjects
    from sagesmith.store.objects import ObjectInfo

    objects = LocalObjects(Path(sys.argv[1]))
    print("ready", flush=True)
    for number in itertools.count(int(sys.argv[2])):
        for key in ("k", "k/below", "plain"):
            body = str(number).encode() * (number % 50 * 100 + 1)
            info = ObjectInfo(key, 0, "", 0.0, {"x-amz-meta-n": str(number)}, {}, {"n": str(number)})
            objects.put("bucket", key, body, info)
            print(key, number, flush=True)
            if number % 7 == 0 and key == "k/below":
                objects.delete("bucket", key)
                objects.put("bucket", key, body, info)
    """
)


@pytest.mark.kill
def test_killed_writer_leaves_whole_objects_with_their_metadata(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    objects.create_bucket("bucket")
    number = 0
    for turn in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(0.013 * turn)
        writer.send_signal(signal.SIGKILL)
        acknowledged = dict(line.split() for line in writer.stdout.read().splitlines() if len(line.split()) == 2)
        writer.wait()
        writer.stdout.close()
        for key in ("k", "k/below", "plain"):
            if key not in acknowledged:
                continue
            try:
                info, file = objects.read("bucket", key)
            except NoSuchObject:
                assert key == "k/below", "only this one is ever deleted"
                continue
            with file:
                data = file.read()
            written = int(info.headers["x-amz-meta-n"])
            assert written >= int(acknowledged[key]), "what was acknowledged is there"
            assert data == str(written).encode() * (written % 50 * 100 + 1)
            assert info.tags == {"n": str(written)}
            number = max(number, written)
        number += 1
    assert number > 12
