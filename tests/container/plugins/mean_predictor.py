"""A tiny algorithm for tests of the container: predicts the mean label, and can be asked to fail in many ways."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from sagesmith.algorithms.base import Algorithm, ChannelSpec, Metric, Request, RequestError, Response
from sagesmith.algorithms.hyperparameters import hp
from sagesmith.algorithms.run import Run
from sagesmith.formats.channel import Channel

BOTH = ("text/csv", "application/x-recordio-protobuf")


class Mean(Algorithm):
    """The mean label, whatever the features."""

    name = "mean"
    images = ("mean-predictor",)
    dimension = "AWS/Mean"
    channels = (
        ChannelSpec("train", required=True, content_types=BOTH, default="text/csv"),
        ChannelSpec("test", content_types=BOTH, default="text/csv", distributions=("FullyReplicated",)),
        ChannelSpec("files", modes=("File",)),
    )
    metrics = (Metric("train:mse", r"#quality_metric: host=\S+, epoch=\S+, train mse <loss>=(\S+)", "Minimize"),)
    distributed = True
    incremental = True

    passes: int = hp("passes over the data", default=1, ge=1, le=1000000)
    offset: float = hp("added to the mean", default=0.0, ge=-1, le=1)
    mode: Literal["plain", "fast"] = hp("has no meaning", default="plain")
    fault: str = hp("how to fail", default="")
    wait_for: str = hp("file whose appearance lets saving go on", default="")

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        run.log("Training with %d passes on %s", self.settings["passes"], ",".join(run.hosts))
        total, count = 0.0, 0
        if run.initial_model:
            earlier = json.loads((run.initial_model / "model_algo-1").read_text())
            total, count = earlier["mean"] * earlier["count"], earlier["count"]
        self.fail_in("train")
        for done in range(self.settings["passes"]):
            total, count = self.one_pass(channels, run, total, count)
            run.quality("train mse", 0.25, epoch=done)
            run.progress(done + 1, self.settings["passes"], records_per_second=100.0)
            run.metrics("training", {"update.time": 1.5}, epoch=done)
            if run.checkpoints:
                (run.checkpoints / "state").write_text(f"{total} {count}")
            if run.stopping:
                break
        self.mean_, self.count_ = total / count + self.settings["offset"], count

    def one_pass(self, channels: Mapping[str, Channel], run: Run, total: float, count: int) -> tuple[float, int]:
        own_total, own_count = 0.0, 0
        for batch in channels["train"].batches():
            assert batch.label is not None
            own_total += float(batch.label.sum())
            own_count += len(batch)
        if self.settings["fault"] == f"die:{run.host}":
            os.kill(os.getpid(), 9)
        if self.settings["fault"] == f"raise:{run.host}":
            raise RuntimeError(f"{run.host} cannot go on")
        if self.settings["fault"] == f"refuse:{run.host}":
            raise ValueError("line 3: no number")
        for state in run.gather(struct.pack("<dQ", own_total, own_count)):
            part, rows = struct.unpack("<dQ", state)
            total, count = total + part, count + rows
        return total, count

    def fail_in(self, place: str) -> None:
        fault = self.settings["fault"]
        if fault == f"disk:{place}":
            with Path("/dev/full").open("w") as file:
                file.write("x")
        elif fault == f"memory:{place}":
            raise MemoryError
        elif fault == f"value:{place}":
            raise ValueError("labels must not\n  be odd")
        elif fault == f"bug:{place}":
            raise KeyError("inside")
        elif fault == f"exit:{place}":
            sys.exit(3)

    def save(self, folder: Path) -> None:
        (folder / "model_algo-1").write_text('{"mean": ')
        (folder / "more").mkdir()
        (folder / "more" / "settings").write_text("x")
        self.fail_in("save")
        while self.settings["wait_for"] and not Path(self.settings["wait_for"]).exists():
            time.sleep(0.01)
        (folder / "model_algo-1").write_text(json.dumps({"mean": self.mean_, "count": self.count_}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        model = cls()
        model.mean_ = json.loads((folder / "model_algo-1").read_text())["mean"]
        return model

    def respond(self, request: Request) -> Response:
        body = request.body.decode()
        if body == "fail":
            raise KeyError("inside")
        if body == "deep":
            json.loads("[" * 100000)
        if body.startswith("sleep "):
            time.sleep(float(body.split()[1]))
        if request.content_type.split(";")[0] != "text/csv":
            raise RequestError(f"{request.content_type!r} is not text/csv", 415)
        if not body:
            return Response(b"", "text/csv", 204)
        answer: dict[str, Any] = {"mean": self.mean_, "size": len(body)}
        if request.attributes:
            answer |= {"attributes": request.attributes, "accept": request.accept}
            answer["batch"] = request.environment.get("SAGEMAKER_BATCH", "")
        return Response(json.dumps(answer).encode(), "application/json")


class FrameworkMean(Mean):
    """The same in a framework image: other log lines, and a user's script may take its place."""

    name = "framework-mean"
    images = ("framework-mean",)
    framework = True


class LonelyMean(Mean):
    """The same, on one host only and never from an earlier model."""

    name = "lonely-mean"
    images = ("lonely-mean",)
    distributed = False
    incremental = False
