"""`sagesmith images pack`: from folders of pictures to the files that MXNet's im2rec makes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sagesmith.algorithms.images.pictures import RecordPictures
from sagesmith.cli import main
from sagesmith.formats.image_lists import read_list
from sagesmith.formats.images import decoded, jpeg, png, size_of

# The smallest grey PNG, 67 bytes, written by hand.
DOT = bytes.fromhex(
    "89504e470d0a1a0a 0000000d4948445200000001000000010800000000 3a7e9b55"
    "0000000a49444154 789c63680000008200 81 77cd72b6 0000000049454e44 ae426082"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["images", "pack", *(str(argument) for argument in arguments)])


def ok(*arguments: object) -> dict[str, object]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    return result.output


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Five cats of 20 x 10 pixels, five dogs of 10 x 20."""
    random = np.random.default_rng(0)
    for name, shape in (("cat", (10, 20, 3)), ("dog", (20, 10, 3))):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(256, size=shape, dtype=np.uint8)
            (tmp_path / "pets" / name / f"{number}.png").write_bytes(png(pixels))
    return tmp_path / "pets"


def test_one_picture_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "in" / "dots").mkdir(parents=True)
    (tmp_path / "in" / "dots" / "dot.png").write_bytes(DOT)
    ok(tmp_path / "in", "--output", tmp_path / "out")
    frame = bytes.fromhex("0a23d7ce 5b000000") + bytes(24) + DOT + b"\0"  # 24 + 67 bytes, and one to a multiple of 4
    assert (tmp_path / "out" / "train" / "train.rec").read_bytes() == frame
    assert (tmp_path / "out" / "train.idx").read_text() == "0\t0\n"
    assert (tmp_path / "out" / "train.lst").read_text() == "0\t0.000000\tdots/dot.png\n"
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == ["dots"]


def test_class_folders_are_split_class_by_class(classes: Path, tmp_path: Path) -> None:
    told = ok(classes, "--output", tmp_path / "out", "--validation", 0.2)
    assert told == {
        "output": str(tmp_path / "out"),
        "pictures": {"train": 8, "validation": 2},
        "classes": ["cat", "dog"],
    }
    parts = {part: RecordPictures([tmp_path / "out" / part / f"{part}.rec"]) for part in ("train", "validation")}
    assert sorted(picture.label[0] for picture in parts["validation"]) == [0, 1]
    lines = read_list(tmp_path / "out" / "train.lst", labels=1)
    assert [line.path for line in lines] != sorted(line.path for line in lines)
    for line, picture in zip(lines, parts["train"], strict=True):
        assert bytes(picture.data) == (classes / line.path).read_bytes()
        assert line.label == picture.label
    again = ok(classes, "--output", tmp_path / "again", "--validation", 0.2)
    assert again["pictures"] == told["pictures"]
    assert (tmp_path / "again/train.lst").read_bytes() == (tmp_path / "out/train.lst").read_bytes()


def test_pictures_are_resized_and_encoded_anew(classes: Path, tmp_path: Path) -> None:
    ok(classes, "--output", tmp_path / "out", "--resize", 8, "--quality", 50, "--no-shuffle")
    found = RecordPictures([tmp_path / "out" / "train" / "train.rec"])
    assert [size_of(picture.data, "") for picture in found] == [(16, 8)] * 5 + [(8, 16)] * 5
    ok(classes, "--output", tmp_path / "png", "--lossless", "--no-shuffle")
    first = RecordPictures([tmp_path / "png" / "train" / "train.rec"]).picture(0)
    assert (first.pixels() == decoded((classes / "cat/0.png").read_bytes(), "")).all()


def test_a_list_gives_numbers_and_labels(classes: Path, tmp_path: Path) -> None:
    (tmp_path / "my.lst").write_text("7\t3\tdog/1.png\n9\t1\tcat/0.png\n")
    assert ok(classes, "--list", tmp_path / "my.lst", "--output", tmp_path / "out", "--no-shuffle")["classes"] == []
    assert [picture.label.tolist() for picture in RecordPictures([tmp_path / "out/train/train.rec"])] == [[3], [1]]
    assert (tmp_path / "out/train.idx").read_text().startswith("7\t0\n9\t")
    (tmp_path / "my.lst").write_text("7\t3\tdog/77.png\n")
    assert "my.lst: dog/77.png of its pictures are not in" in refused(
        classes, "--list", tmp_path / "my.lst", "--output", tmp_path / "out"
    )


def annotated(folder: Path, **changes: object) -> None:
    box = {"class_id": 1, "left": 5, "top": 2, "width": 10, "height": 4}
    content = {"file": "a/1.jpg", "image_size": [{"width": 20, "height": 10, "depth": 3}], "annotations": [box]}
    (folder / "boxes" / "a").mkdir(parents=True, exist_ok=True)
    (folder / "boxes" / "a" / "1.json").write_text(json.dumps(content | changes))


def test_annotations_become_labels(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "1.jpg").write_bytes(jpeg(np.zeros((10, 20, 3), np.uint8)))
    annotated(tmp_path)
    command = (tmp_path / "in", "--annotations", tmp_path / "boxes", "--output", tmp_path / "out")
    ok(*command)
    picture = RecordPictures([tmp_path / "out" / "train" / "train.rec"]).picture(0)
    assert picture.label.tolist() == pytest.approx([2, 5, 1, 0.25, 0.2, 0.75, 0.6])
    row = (tmp_path / "out" / "train.lst").read_text()
    assert row == "0\t2.000000\t5.000000\t1.000000\t0.250000\t0.200000\t0.750000\t0.600000\ta/1.jpg\n"
    annotated(tmp_path, annotations=[{"class_id": 0, "left": 3, "top": 3, "width": 0, "height": 4}])
    told = run(*command)
    assert told.exit_code == 0, told.output
    assert "Warning: in/a/1.jpg: a box of class 0 has no area and is left out" in told.output
    assert RecordPictures([tmp_path / "out" / "train" / "train.rec"]).label(0).tolist() == [2, 5]
    annotated(tmp_path, image_size=[{"width": 10, "height": 20}])
    assert "in/a/1.jpg: its annotation is for 10 x 20 pixels, upright it has 20 x 10" in refused(*command)
    annotated(tmp_path, file="a/2.jpg")
    assert "in/a/1.jpg: its annotation is of the file 'a/2.jpg'" in refused(*command)
    (tmp_path / "boxes" / "a" / "2.json").write_text("{}")
    assert "boxes/a/2.json: has no picture of that name" in refused(*command)
    (tmp_path / "boxes" / "a" / "1.json").unlink()
    assert "in/a/1.jpg: has no .json of that name" in refused(*command)


def test_a_broken_picture_is_named_and_leaves_nothing(classes: Path, tmp_path: Path) -> None:
    broken = jpeg(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))[:-500]
    (classes / "dog" / "5.jpg").write_bytes(broken)
    assert "pets/dog/5.jpg: cannot be decoded" in refused(classes, "--output", tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_an_empty_class_and_an_empty_folder_are_named(classes: Path, tmp_path: Path) -> None:
    (classes / "emu").mkdir()
    assert "class 'emu' has no pictures" in refused(classes, "--output", tmp_path / "out")
    assert "has no folders" in refused(classes / "emu", "--output", tmp_path / "out")


def test_a_class_of_one_picture_stays_in_training(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.png").write_bytes(DOT)
    said = refused(tmp_path / "in", "--output", tmp_path / "out", "--validation", 0.5)
    assert "0.5 of 2 pictures are none for validation" in said
