"""torchvision as a peer: imported where its compiled operators load, and without them beside a CPU build of torch.

The published wheel is linked against CUDA. Beside a CPU build its operators are missing, among them `nms` (here greedy,
in plain torch, slower than torchvision's own: say so where it is timed) and its JPEG decoder.

    from torchvision_peer import torchvision
"""

from __future__ import annotations

import torch


def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """The numbers of the boxes (n, 4) that are kept, best first."""
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    corner = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    sides = (torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - corner).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    near = (shared > threshold * (areas[:, None] + areas[None] - shared)).triu(1)
    kept = torch.ones(len(boxes), dtype=torch.bool)
    for at in near.any(1).nonzero().ravel().tolist():
        if kept[at]:
            kept &= ~near[at]
    return order[kept]


def _loaded():  # type: ignore[no-untyped-def]
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    else:
        return torchvision
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    library.impl("nms", nms, "CPU")
    import torchvision
    import torchvision.ops.boxes

    torchvision.ops.boxes._assert_has_ops = lambda: None
    torchvision._defined = library  # the definitions end with the library
    return torchvision


torchvision = _loaded()
