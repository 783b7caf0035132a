"""together: what `augmentation.augmented` does, for many pictures of one size at once."""

from __future__ import annotations

import numpy as np

from sagesmith.algorithms.images.augmentation import HUE, LIGHTNESS, SATURATION

LEVELS = (None, "crop", "crop_color")


class Together:
    """Crops, and changes colours as far as `level` says, in the numbers that `augmented` draws.

    Args:
        level, resize: as those of `augmented`.
    """

    def __init__(self, level: str | None, resize: int | None) -> None:
        self._level, self._resize = level, resize

    def takes(self, shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
        """Whether pictures of a shape (H, W, C) become those of another so; else they are taken one by one."""
        fits = shape[0] >= into[0] and shape[1] >= into[1] and shape[2] == into[2]
        return fits and self._level in LEVELS and self._resize in (None, min(shape[:2]))

    def __call__(self, store: np.ndarray, numbers: np.ndarray, key: int, into: np.ndarray) -> None:
        """Writes `into`, (n, h, w, C) uint8, from the pictures `store[numbers]`, (H, W, C) uint8 each.

        Args:
            key: of seed and epoch, the same that each picture alone would get.
        """
        from sagesmith.algorithms.images.together_compiled import cut_all

        coloured = self._level == "crop_color" and into.shape[3] == 3
        largest = (HUE / 30, SATURATION / 255, LIGHTNESS / 255) if coloured else (0.0, 0.0, 0.0)
        rows = store.reshape(*store.shape[:2], -1)
        cut_all(rows, numbers, np.uint64(key), self._level is not None, np.array(largest), into)
