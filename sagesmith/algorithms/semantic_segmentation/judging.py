"""judging: a network's confusion matrix on whole pictures, each seen as a served model would see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from sagesmith.algorithms.run import Run
from sagesmith.algorithms.semantic_segmentation.inference import logits_of, masks_of, seen_size
from sagesmith.algorithms.semantic_segmentation.metrics import confusion_on_device
from sagesmith.algorithms.semantic_segmentation.network import Segmenter
from sagesmith.algorithms.semantic_segmentation.scenes import Group, Held, Scenes, grouped

SEEN_TOGETHER = 2 << 20  # pixels that go through the network at once: about 1 GB


def judged(
    network: Segmenter, scenes: Scenes, settings: Mapping[str, Any], device: torch.device, run: Run
) -> tuple[np.ndarray, int]:
    """The confusion matrix of all pixels of all pictures, and how many pictures there were.

    Raises:
        ValueError: there were none.
    """
    classes = settings["num_classes"]
    counts = torch.zeros((classes, classes), dtype=torch.int64, device=device)
    pictures = 0
    for group, masks in predicted(network, scenes.whole(run.threads), settings, device):
        labels = torch.from_numpy(np.stack(group.others)).to(device)
        counts += confusion_on_device(labels, masks, classes)
        pictures += len(group.images)
    if not pictures:
        raise ValueError("the validation channel holds no pictures")
    return counts.cpu().numpy(), pictures


def predicted(
    network: Segmenter, held: Iterator[Held], settings: Mapping[str, Any], device: torch.device
) -> Iterator[tuple[Group, torch.Tensor]]:
    """The masks (B, H, W) uint8 of pictures of any sizes, those of one size together; their order is not kept."""
    base = settings["base_size"]
    seen = partial(seen_size, base_size=base)
    network.eval()
    torch.backends.cudnn.benchmark = False  # pictures have many sizes
    with torch.inference_mode():
        for group in grouped(held, settings["validation_mini_batch_size"], SEEN_TOGETHER, seen):
            images = torch.from_numpy(np.stack(group.images)).to(device)
            yield group, masks_of(logits_of(network, images, base), (images.shape[1], images.shape[2]))
