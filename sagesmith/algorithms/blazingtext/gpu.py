"""gpu: whether a job trains on a GPU. That needs PyTorch (the extra `neural`), a GPU that it can use, a mode for it.

As in SageMaker, skipgram, cbow and supervised train on one, and batch_skipgram on processors alone.
"""

from __future__ import annotations

from typing import Any

from sagesmith.algorithms.run import Run


def device_of(run: Run, mode: str) -> Any:
    """The torch.device of the GPU that a job trains on; None: on its processors. Why, the log says."""
    if not run.gpus:
        return None
    if mode == "batch_skipgram":
        run.log("Mode batch_skipgram trains on processors; the host's %d GPU(s) are not used", run.gpus)
        return None
    try:
        from sagesmith.algorithms import nets
    except ModuleNotFoundError:
        run.log(
            "The host has %d GPU(s), but PyTorch, which would use them, is not installed "
            "(pip install 'sagesmith[neural]'); training on the CPU", run.gpus,
        )  # fmt: skip
        return None
    device = nets.Team(run).device  # it logs what is not used
    return device if device.type == "cuda" else None
