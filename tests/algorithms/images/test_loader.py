"""The loader: every picture once, the same whatever the threads and hosts, errors by name."""

import numpy as np
import pytest

from sagesmith.algorithms.images.augmentation import augmented
from sagesmith.algorithms.images.keeping import Keeper
from sagesmith.algorithms.images.loader import Loader, Skipped
from sagesmith.algorithms.images.pictures import (
    ArrayPictures,
    FilePictures,
    Picture,
    Pictures,
    RecordPictures,
    class_folders,
)
from sagesmith.algorithms.images.streams import PictureStream
from sagesmith.formats.errors import DataError
from sagesmith.formats.image_records import ImageRecord, RecordWriter
from sagesmith.formats.images import jpeg, png


def pictures(count: int = 21) -> ArrayPictures:
    images = np.random.default_rng(0).integers(256, size=(count, 12, 12, 3), dtype=np.uint8)
    return ArrayPictures(images, np.arange(count, dtype=np.float32)[:, None])


def crop(picture, random, into):
    augmented(picture.pixels(), into, picture.name, level="crop_color_transform", random=random)
    return picture.label[0]


def plain(picture, random, into):
    augmented(picture.pixels(), into, picture.name)
    return picture.label[0]


def test_every_picture_once_and_another_order_in_each_epoch():
    loader = Loader(pictures(), plain, 4, (8, 8, 3), seed=3, shuffle=True, threads=2)
    orders = [np.concatenate([batch.numbers for batch in loader.epoch(epoch)]) for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == list(range(21))
    assert (orders[0] == orders[2]).all()
    assert (orders[0] != orders[1]).any()
    assert [len(batch) for batch in loader.epoch(0)] == [4, 4, 4, 4, 4, 1]


def test_threads_and_hosts_change_nothing():
    one = Loader(pictures(), crop, 6, (8, 8, 3), seed=1, shuffle=True, threads=1)
    whole = {int(n): image for batch in one.epoch(2) for n, image in zip(batch.numbers, batch.images, strict=True)}
    for rank in (0, 1):
        part = Loader(pictures(), crop, 3, (8, 8, 3), seed=1, shuffle=True, threads=3, rank=rank, size=2)
        for batch in part.epoch(2):
            for number, image in zip(batch.numbers, batch.images, strict=True):
                assert (whole[int(number)] == image).all()


def test_hosts_steps_are_together_one_steps_batch():
    one = [batch.numbers for batch in Loader(pictures(), plain, 6, (8, 8, 3), seed=1, shuffle=True).epoch(0)]
    parts = [
        [b.numbers for b in Loader(pictures(), plain, 3, (8, 8, 3), seed=1, shuffle=True, rank=r, size=2).epoch(0)]
        for r in (0, 1)
    ]
    assert [np.concatenate(pair).tolist() for pair in zip(*parts, strict=True)] == [batch.tolist() for batch in one]


def test_streams_are_shuffled_and_shared():
    given = list(pictures())
    stream = PictureStream(lambda: iter(given))
    shares = [Loader(stream, plain, 4, (8, 8, 3), shuffle=True, rank=r, size=2).epoch(0) for r in (0, 1)]
    numbers = [np.concatenate([batch.numbers for batch in share]).tolist() for share in shares]
    assert sorted(numbers[0] + numbers[1]) == list(range(21))
    assert numbers[0] != sorted(numbers[0])


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.png").write_bytes(b"no picture")
    given = FilePictures(tmp_path / "train", [tmp_path / "train" / "1.png"], np.zeros((1, 1), np.float32))
    with pytest.raises(DataError, match=r"^train/1\.png: is no picture"):
        list(Loader(given, plain, 4, (8, 8, 3)).epoch(0))


def test_a_picture_smaller_than_the_input_is_named():
    with pytest.raises(DataError, match=r"^picture 0: 12 x 12 pixels, smaller than image_shape's 16 x 16"):
        list(Loader(pictures(), plain, 4, (16, 16, 3)).epoch(0))


def test_skipped_pictures_leave_the_rest():
    def picky(picture, random, into):
        if picture.label[0] % 2:
            raise Skipped(f"{picture.name} is odd")
        return plain(picture, random, into)

    reasons: list[str] = []
    batches = list(Loader(pictures(), picky, 4, (8, 8, 3), skipped=reasons.append).epoch(0))
    assert [n for batch in batches for n in batch.numbers] == list(range(0, 21, 2))
    assert next(batch.targets for batch in batches) == [0.0, 2.0]
    assert reasons[0] == "picture 1 is odd"
    assert len(reasons) == 10


def test_records_of_several_files_are_one_collection(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    for number in (0, 1):
        with RecordWriter(tmp_path / f"{number}.rec") as writer:
            for label in range(3):
                writer.write(ImageRecord(np.array([3 * number + label]), label, png(image + label)))
    given = RecordPictures(sorted(tmp_path.glob("*.rec")))
    assert [given.label(i)[0] for i in range(len(given))] == [0, 1, 2, 3, 4, 5]
    assert given.picture(5).pixels().max() == 2
    assert given.name(5).endswith("1.rec, record 3")


def test_class_folders_are_labelled_in_order(tmp_path):
    for name in ("dog", "cat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    found, names = class_folders(tmp_path)
    assert names == ["cat", "dog"]
    assert [found.label(i)[0] for i in range(2)] == [0, 1]
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match="class 'emu' has no pictures"):
        class_folders(tmp_path)


def test_class_folders_hold_folders_and_what_is_no_picture(tmp_path):
    for name in ("cat/b/2.PNG", "cat/10.png", "cat/.hidden.png", "cat/_marker.png", "cat/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    found, _ = class_folders(tmp_path)
    assert [found.name(i).split("/", 1)[1] for i in range(len(found))] == ["cat/10.png", "cat/b/2.PNG"]


def test_a_patient_loader_decodes_small_pictures_before_its_first_batch(tmp_path):
    root = tmp_path / "train"
    root.mkdir()
    for number in range(40):
        (root / f"{number}.png").write_bytes(png(np.full((12, 12, 3), number, np.uint8)))
    given = FilePictures(root, sorted(root.iterdir()), np.arange(40, dtype=np.float32)[:, None])
    usual, patient = (Loader(given, crop, 2, (8, 8, 3), seed=1, threads=1, patient=one) for one in (False, True))
    for epoch in range(2):
        for one, other in zip(usual.epoch(epoch), patient.epoch(epoch), strict=True):
            assert (one.images == other.images).all()
            assert one.targets == other.targets
    again = Loader(given, crop, 2, (8, 8, 3), seed=1, threads=1, patient=True)
    batches = again.epoch(0)
    next(batches)
    assert len(again.keeper.kept) == 40
    batches.close()


def test_pixels_stay_in_memory_as_long_as_there_is_room(tmp_path):
    root = tmp_path / "train"
    root.mkdir()
    for number in range(10):
        (root / f"{number}.png").write_bytes(png(np.full((12, 12, 3), number, np.uint8)))
    files = sorted(root.iterdir())
    given = FilePictures(root, files, np.arange(10, dtype=np.float32)[:, None])
    encoded = len(files[0].read_bytes())
    loader = Loader(given, crop, 4, (8, 8, 3), seed=1, threads=1, keep=7 * (12 * 12 * 3 + encoded + 9))
    fresh = Loader(given, crop, 4, (8, 8, 3), seed=1, keep=0)
    wanted = [batch.images for batch in fresh.epoch(1)]
    list(loader.epoch(0))
    for path in files[:7]:
        path.unlink()  # no longer needed
    for batch, images in zip(loader.epoch(1), wanted, strict=True):
        assert (batch.images == images).all()
    (root / "9.png").unlink()
    with pytest.raises(DataError, match=r"^train/9\.png: cannot be read"):
        list(loader.epoch(2))


def test_kept_pixels_are_those_that_were_asked_for():
    class One(Pictures):
        def __len__(self):
            return 1

        def picture(self, i):
            return Picture("1.jpg", jpeg(np.full((64, 64, 3), 90, np.uint8)), None)

    keeper = Keeper(One())
    assert keeper.picture(0).pixels(at_least=20).shape == (32, 32, 3)
    assert keeper.picture(0).pixels(at_least=20) is keeper.picture(0).pixels(at_least=20)
    assert keeper.picture(0).pixels(grey=True).shape == (64, 64, 1)
    assert keeper.picture(0).pixels(at_least=20).shape == (32, 32, 3)
