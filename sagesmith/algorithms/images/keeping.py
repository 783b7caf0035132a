"""keeping: the pixels of a small collection stay in memory once they are decoded, so that later epochs need not."""

from __future__ import annotations

from typing import Any

import numpy as np

from sagesmith.algorithms.images.pictures import ArrayPictures, Picture, Pictures

KEPT_BYTES = 512 << 20


class Keeper:
    """The pictures of a collection, with pixels that are kept as they come until `room` bytes are full.

    What `Picture.pixels` gives is then shared by all who ask for it in the same way, and is not to be written to.
    """

    def __init__(self, pictures: Pictures, room: int = KEPT_BYTES) -> None:
        self.pictures, self.room = pictures, room
        self.kept: dict[int, _Keeping] = {}
        self._whole: np.ndarray | None = None

    def whole(self) -> np.ndarray | None:
        """All pictures as one array (n, H, W, C), once all are in memory and if they are of one size; else None."""
        if self._whole is None:
            pixels = self._pixels()
            if pixels and all(one is not None and one.shape == pixels[0].shape for one in pixels):
                self._whole = np.stack(pixels)
                for number, keeping in self.kept.items():
                    keeping.found = self._whole[number]  # the only copy
        return self._whole

    def _pixels(self) -> list[Any]:
        """Of all pictures, in their order; none if some are not in memory."""
        if isinstance(self.pictures, ArrayPictures):
            return (
                [self.pictures.data(i) for i in range(len(self.pictures))] if self.pictures.nbytes <= self.room else []
            )
        return [self.kept[i].found for i in range(len(self.kept))] if len(self.kept) == len(self.pictures) else []

    def picture(self, i: int) -> Picture:
        """Raises DataError: as `Pictures.picture`."""
        found = self.kept.get(i)
        if found is not None:
            return found
        picture = self.pictures.picture(i)
        if self.room <= 0 or isinstance(picture.data, np.ndarray):
            return picture
        keeping = _Keeping(*picture)
        keeping.keeper, keeping.number = self, i
        return keeping


class _Keeping(Picture):
    """A picture whose pixels are kept if there is room."""

    keeper: Keeper
    number: int
    found: np.ndarray | None = None
    how: tuple[int | None, bool] = (None, False)

    def pixels(self, *, at_least: int | None = None, grey: bool = False) -> np.ndarray:
        if self.found is not None and self.how == (at_least, grey):
            return self.found
        pixels = super().pixels(at_least=at_least, grey=grey)
        size = pixels.nbytes + len(self.data)
        if self.found is None and size <= self.keeper.room:
            self.keeper.room -= size
            self.found, self.how = pixels, (at_least, grey)
            self.keeper.kept[self.number] = self
        return pixels
