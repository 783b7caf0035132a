"""loader: batches of augmented pictures, made by threads ahead of the network that takes them.

Decoding, resizing and colouring release the GIL, so threads suffice and nothing is copied between processes. What is
random about a picture hangs on (seed, epoch, its number) alone: neither threads nor hosts change it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from sagesmith.algorithms.images.keeping import KEPT_BYTES, Keeper
from sagesmith.algorithms.images.pictures import Picture, Pictures
from sagesmith.algorithms.images.streams import PictureStream, shuffled
from sagesmith.algorithms.images.together import Together
from sagesmith.formats.ahead import processors
from sagesmith.formats.errors import NoData

Transform = Callable[[Picture, np.random.Generator, np.ndarray], Any]
CHUNK = 8  # pictures that a thread takes at a time,
SMALL_CHUNK = 32  # and of small ones
SMALL = 4096  # bytes of a small picture: most of its time is Python's, and threads that hand the GIL to and fro for it
# are slower together than one is alone, so they take turns
AHEAD = 2  # batches that are ready or in work, besides those that keep the threads busy


class Skipped(Exception):
    """Raised by a transform for a picture that is to be left out of its batch; its message says why."""


@dataclass(frozen=True)
class Batch:
    """Pictures that are learnt together."""

    images: np.ndarray  # (n, H, W, C) uint8
    targets: list[Any]  # what the transform returned for each
    numbers: np.ndarray  # (n,) of the pictures in their collection, or in the stream

    def __len__(self) -> int:
        return len(self.targets)


class Loader:
    """Batches of a collection or a stream, epoch by epoch.

    Args:
        transform: called as `transform(picture, random, into)`; writes a picture's pixels into `into`, (H, W, C)
            uint8, and returns what else the batch needs of it. Raises Skipped to leave the picture out.
        batch_size: of this host. The hosts' batches of one step are, together, one of `size` times as many.
        shape: (H, W, C) of all pictures.
        threads: that decode; None: as many as there are processors.
        shuffle: another order in each epoch: of all pictures, or for streams within a bounded buffer.
        rank, size: this host's number and how many there are; each host takes its share of the same pictures.
        drop_last: leave out a last batch that is not full.
        skipped: told of each picture that is left out, with the reason.
        keep: bytes of a collection's decoded pixels that may stay in memory from one epoch to the next.
        patient: where pictures are small, make all batches of a pass, of up to 512 MB, before the first is given.
            Their decoding is Python's for the most part, and threads that need the GIL for it hold up the one that
            starts a GPU's kernels, which loses more time than it gains. Not for streams, nor once pixels are kept.
        together: does for many kept pictures of one size what `transform` does for one, of which only the target is
            then used: it must be the same in each epoch.
    """

    def __init__(
        self,
        pictures: Pictures | PictureStream,
        transform: Transform,
        batch_size: int,
        shape: tuple[int, int, int],
        *,
        threads: int | None = None,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        size: int = 1,
        drop_last: bool = False,
        skipped: Callable[[str], None] = lambda reason: None,
        keep: int = KEPT_BYTES,
        patient: bool = False,
        together: Together | None = None,
    ) -> None:
        self.pictures, self.transform, self.batch_size, self.shape = pictures, transform, batch_size, shape
        self.threads = threads or processors()
        self.seed, self.shuffle, self.rank, self.size = seed, shuffle, rank, size
        self.drop_last, self.skipped = drop_last, skipped
        self.keeper = Keeper(pictures, keep) if isinstance(pictures, Pictures) else None
        self.patient, self.together = patient, together
        self.targets: dict[int, Any] = {}  # by number, where there is `together`
        self.small = False  # as far as seen
        self.turn = threading.Lock()

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass.

        Raises:
            DataError: a picture that cannot be read, by name.
            NoData: a stream without a picture.
        """
        if isinstance(self.pictures, PictureStream):
            return self._made(self._from_stream(self.pictures, number), number)
        return self._made(self._from_collection(self.pictures, number), number)

    def _from_collection(self, pictures: Pictures, epoch: int) -> Iterator[np.ndarray]:
        """The numbers of this host's pictures, batch by batch."""
        count, step = len(pictures), self.batch_size * self.size
        order = np.random.default_rng((self.seed, epoch)).permutation(count) if self.shuffle else np.arange(count)
        for at in range(0, count, step):
            together = order[at : at + step]
            if len(together) == step:
                yield together[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            elif not self.drop_last:
                yield np.array_split(together, self.size)[self.rank]

    def _from_stream(self, stream: PictureStream, epoch: int) -> Iterator[Sequence[tuple[int, Picture]]]:
        """This host's numbered pictures, batch by batch."""
        numbered: Iterator[tuple[int, Picture]] = islice(enumerate(stream), self.rank, None, self.size)
        if self.shuffle:
            numbered = shuffled(numbered, np.random.default_rng((self.seed, epoch)))
        first = True
        while batch := list(islice(numbered, self.batch_size)):
            first = False
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch
        if first and self.rank == 0:
            raise NoData("the channel holds no pictures")

    def _made(self, given: Iterator[Sequence[Any] | np.ndarray], epoch: int) -> Iterator[Batch]:
        """Batches in order, some of them in work before they are asked for."""
        waiting: deque[tuple[_Work, list[Future[None]]]] = deque()
        pool = ThreadPoolExecutor(self.threads, "pictures")
        most = AHEAD + -(-2 * self.threads * CHUNK // self.batch_size)
        store = self._store()
        patient = self.patient and self.keeper is not None and store is None
        try:
            for items in given:
                work, chunk = _Work(self, epoch, items), SMALL_CHUNK if self.small else CHUNK
                if store is not None:
                    waiting.append((work, [pool.submit(work.do_together, store)]))
                else:
                    parts = range(0, len(items), chunk)
                    waiting.append((work, [pool.submit(work.do, at, chunk) for at in parts]))
                if len(waiting) >= most and patient:
                    wait(waiting[0][1])
                    patient = False
                    most = max(most, KEPT_BYTES // (self.batch_size * math.prod(self.shape))) if self.small else most
                if len(waiting) >= most:
                    yield from self._finished(*waiting.popleft())
            if self.patient and self.keeper is not None:
                wait([part for _, parts in waiting for part in parts])
            while waiting:
                yield from self._finished(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _store(self) -> np.ndarray | None:
        """All pictures, if their batches can be made in one go."""
        if self.together is None or self.keeper is None or len(self.targets) < len(self.keeper.pictures):
            return None
        store = self.keeper.whole()
        return store if store is not None and self.together.takes(store.shape[1:], self.shape) else None

    def _finished(self, work: _Work, parts: list[Future[None]]) -> Iterator[Batch]:
        for part in parts:
            part.result()
        for reason in work.reasons:
            self.skipped(reason)
        if len(work.kept):
            yield work.batch()


class _Work:
    """One batch in the making."""

    def __init__(self, loader: Loader, epoch: int, items: Sequence[Any] | np.ndarray) -> None:
        self._loader, self._epoch, self._items = loader, epoch, items
        self._images = np.empty((len(items), *loader.shape), np.uint8)
        self._targets: list[Any] = [None] * len(items)
        self._reasons: dict[int, str] = {}

    def do(self, start: int, count: int) -> None:
        """The pictures that one thread takes."""
        loader, size = self._loader, 0
        places = range(start, min(start + count, len(self._items)))
        with loader.turn if loader.small else nullcontext():
            for at in places:
                number, picture = self._numbered(at)
                size += picture.data.nbytes if isinstance(picture.data, np.ndarray) else len(picture.data)
                random = _dice.of(loader.seed, self._epoch, number)
                try:
                    self._targets[at] = loader.transform(picture, random, self._images[at])
                    if loader.together is not None:
                        loader.targets[number] = self._targets[at]
                except Skipped as reason:
                    self._reasons[at] = str(reason)
        loader.small = size < SMALL * len(places)

    def do_together(self, store: np.ndarray) -> None:
        """All pictures at once, from an array of all that there are."""
        loader, numbers = self._loader, np.asarray(self._items, np.int64)
        assert loader.together is not None
        loader.together(store, numbers, _key(loader.seed, self._epoch), self._images)
        self._targets = [loader.targets[number] for number in numbers.tolist()]

    def _numbered(self, at: int) -> tuple[int, Picture]:
        if self._loader.keeper is None:
            return self._items[at]  # type: ignore[no-any-return]
        number = int(self._items[at])
        return number, self._loader.keeper.picture(number)

    @property
    def reasons(self) -> list[str]:
        return [self._reasons[at] for at in sorted(self._reasons)]

    @property
    def kept(self) -> list[int]:
        return [at for at in range(len(self._items)) if at not in self._reasons]

    def batch(self) -> Batch:
        numbers = np.array([item[0] if isinstance(item, tuple) else item for item in self._items], np.int64)
        if not self._reasons:
            return Batch(self._images, self._targets, numbers)
        kept = self.kept
        return Batch(self._images[kept], [self._targets[at] for at in kept], numbers[kept])


def _key(seed: int, epoch: int) -> int:
    return (seed << 32 | epoch) & 0xFFFFFFFFFFFFFFFF


class _Dice(threading.local):
    """A generator for each thread, set to what is random about one picture in one epoch."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(0)
        self._state = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def of(self, seed: int, epoch: int, number: int) -> np.random.Generator:
        """Philox keyed by all three; setting its state takes a fraction of the time of a new generator."""
        inner = self._state["state"]
        inner["key"][:] = _key(seed, epoch), number
        inner["counter"][:] = 0
        self._state |= {"buffer_pos": 4, "has_uint32": 0}
        self._bits.state = self._state
        return self._generator


_dice = _Dice()
