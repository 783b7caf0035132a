"""gpu: which GPUs a job trains on. That needs PyTorch (the extra `neural`), GPUs that it can use, a mode for them.

As in SageMaker, skipgram and cbow train on all of a host, supervised on one, and batch_skipgram on processors alone.
"""

from __future__ import annotations

from typing import Any

from sagesmith.algorithms.run import Run


def devices_of(run: Run, mode: str) -> tuple[Any, ...]:
    """The torch.device of each GPU that a job trains on; none: on its processors. Why, the log says."""
    if not run.gpus:
        return ()
    if mode == "batch_skipgram":
        run.log("Mode batch_skipgram trains on processors; the host's %d GPU(s) are not used", run.gpus)
        return ()
    try:
        from sagesmith.algorithms import nets
    except ModuleNotFoundError:
        run.log(
            "The host has %d GPU(s), but PyTorch, which would use them, is not installed "
            "(pip install 'sagesmith[neural]'); training on the CPU", run.gpus,
        )  # fmt: skip
        return ()
    found = nets.every_device(run)
    team = nets.Team(run, devices=found[:1] if mode == "supervised" else found)  # it logs what is used
    return team.devices if team.device.type == "cuda" else ()
