"""Archives: what comes back is what went in, and nothing hostile comes out."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagesmith.archives import ArchiveError, Limits, pack, unpack


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], zipped: bool = True) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(gzip.compress(buffer.getvalue()) if zipped else buffer.getvalue())
    return path


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def make_tree(folder: Path) -> None:
    (folder / "code" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "xgboost-model").write_bytes(bytes(range(256)) * 5000)
    (folder / "code" / "train.py").write_text("print()")
    (folder / "code" / "deep" / "é.txt").write_text("x")
    (folder / "zero").touch()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    make_tree(tmp_path / "a")
    size = pack(tmp_path / "a", tmp_path / "m.tar.gz")
    files = unpack(tmp_path / "m.tar.gz", tmp_path / "b")
    assert size == (tmp_path / "m.tar.gz").stat().st_size
    assert {f.relative_to(tmp_path / "b").as_posix() for f in files} == {
        "xgboost-model",
        "code/train.py",
        "code/deep/é.txt",
        "zero",
        "run.sh",
    }
    for file in files:
        assert file.read_bytes() == (tmp_path / "a" / file.relative_to(tmp_path / "b")).read_bytes()
    assert (tmp_path / "b" / "empty").is_dir()
    assert os.access(tmp_path / "b" / "run.sh", os.X_OK)
    assert not os.access(tmp_path / "b" / "zero", os.X_OK)


def test_packing_twice_gives_the_same_bytes_whatever_the_times(tmp_path: Path) -> None:
    make_tree(tmp_path / "a")
    pack(tmp_path / "a", tmp_path / "1.tar.gz")
    os.utime(tmp_path / "a" / "zero", (1, 1))
    pack(tmp_path / "a", tmp_path / "2.tar.gz")
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()


def test_gnu_tar_reads_what_we_pack_and_we_read_gnu_tar(tmp_path: Path) -> None:
    make_tree(tmp_path / "a")
    with tarfile.open(tmp_path / "gnu.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.add(tmp_path / "a", arcname=".")
    assert len(unpack(tmp_path / "gnu.tar.gz", tmp_path / "b")) == 5
    pack(tmp_path / "b", tmp_path / "m.tar.gz")
    with tarfile.open(tmp_path / "m.tar.gz") as tar:
        assert "code/deep/é.txt" in tar.getnames()


def test_a_plain_tar_is_read_too(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "m.tar", (named("a"), b"1"), zipped=False)
    assert unpack(archive, tmp_path / "out")[0].read_bytes() == b"1"


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (named("/etc/passwd"), "outside the folder"),
        (named("../x"), "outside the folder"),
        (named("a/../../x"), "outside the folder"),
        (named("l", tarfile.SYMTYPE, "/etc"), "is a link to '/etc'"),
        (named("l", tarfile.LNKTYPE, "a"), "is a link"),
        (named("d", tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (named("b", tarfile.BLKTYPE), "neither a plain file nor a folder"),
        (named("f", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (named("a/b"), "both a file and a folder"),
        (named("n" * 300), "File name too long"),
    ],
)
def test_hostile_members_are_refused_by_name(tmp_path: Path, member: tarfile.TarInfo, complaint: str) -> None:
    archive = tar_of(tmp_path / "m.tar.gz", (named("a"), b"1"), (member, b""))
    with pytest.raises(ArchiveError, match=complaint) as caught:
        unpack(archive, tmp_path / "out" / "in")
    assert "m.tar.gz" in str(caught.value)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "out" / "x").exists()


def test_a_link_that_was_there_before_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArchiveError, match="is a link"):
        unpack(tar_of(tmp_path / "m.tar.gz", (named("a/b"), b"1")), tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_bomb_stops_before_it_is_written(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "m.tar.gz", (named("zeros"), bytes(5 << 20)))
    with pytest.raises(ArchiveError, match="more than 1048576 bytes, at member 'zeros'"):
        unpack(archive, tmp_path / "out", Limits(size=1 << 20))
    assert not (tmp_path / "out" / "zeros").exists()


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "m.tar.gz", *((named(f"f{i}"), b"") for i in range(20)))
    with pytest.raises(ArchiveError, match="more than 10 members"):
        unpack(archive, tmp_path / "out", Limits(members=10))


def test_a_giant_extended_header_is_refused_without_reading_it(tmp_path: Path) -> None:
    header = named("pax", tarfile.XHDTYPE)
    archive = tar_of(tmp_path / "m.tar.gz", (header, bytes(8 << 20)), (named("a"), b""))
    with pytest.raises(ArchiveError, match="headers or padding"):
        unpack(archive, tmp_path / "out")


def test_endless_padding_is_refused(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "m.tar", (named("a"), b"1"), zipped=False)
    archive.write_bytes(gzip.compress(archive.read_bytes() + bytes(8 << 20)))
    with pytest.raises(ArchiveError, match="headers or padding"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 1, 9, 30, -4, -1])
def test_a_truncated_archive_is_refused(tmp_path: Path, keep: int) -> None:
    make_tree(tmp_path / "a")
    pack(tmp_path / "a", tmp_path / "m.tar.gz")
    whole = (tmp_path / "m.tar.gz").read_bytes()
    (tmp_path / "m.tar.gz").write_bytes(whole[:keep])
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "m.tar.gz", tmp_path / "b")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "m.tar", (named("a"), b"1"), (named("b"), b"2"), zipped=False)
    damaged = bytearray(archive.read_bytes())
    damaged[1024 + 150] ^= 1
    archive.write_bytes(damaged)
    with pytest.raises(ArchiveError, match="damaged header"):
        unpack(archive, tmp_path / "out")


@settings(max_examples=150, deadline=None)
@given(where=st.integers(0, 4000), value=st.integers(0, 255))
def test_any_changed_byte_gives_a_clean_error_or_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, where: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    archive = tar_of(folder / "m.tar", (named("a"), b"1" * 600), (named("b/c"), b"2"), zipped=False)
    changed = bytearray(archive.read_bytes())
    changed[where] = value
    archive.write_bytes(changed)
    try:
        files = unpack(archive, folder / "out")
    except ArchiveError:
        return
    assert all(file.is_relative_to(folder / "out") for file in files)


def _link_out(folder: Path) -> None:
    (folder / "l").symlink_to("/etc/hostname")


def _link_folder_out(folder: Path) -> None:
    (folder / "l").symlink_to("/etc")


def _link_round(folder: Path) -> None:
    (folder / "l").symlink_to(folder)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "l")


@pytest.mark.parametrize("make", [_link_out, _link_folder_out, _link_round, _pipe])
def test_what_cannot_be_packed_is_named_and_leaves_nothing(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "a").mkdir()
    make(tmp_path / "a")
    with pytest.raises(ArchiveError, match="'l'"):
        pack(tmp_path / "a", tmp_path / "m.tar.gz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_link_inside_the_folder_is_packed_as_its_target(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "best").write_text("model")
    (tmp_path / "a" / "last").symlink_to("best")
    pack(tmp_path / "a", tmp_path / "m.tar.gz")
    unpack(tmp_path / "m.tar.gz", tmp_path / "b")
    assert (tmp_path / "b" / "last").read_text() == "model"
    assert not (tmp_path / "b" / "last").is_symlink()


def test_an_archive_cannot_hold_itself(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="lies in the folder"):
        pack(tmp_path, tmp_path / "m.tar.gz")
