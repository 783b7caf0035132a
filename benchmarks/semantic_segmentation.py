"""Semantic Segmentation beside torchvision's fcn_resnet50 and deeplabv3_resnet50: same pictures, crops, batches, time.

    python benchmarks/semantic_segmentation.py --data CAMVID [--device cuda] [--epochs 10] [--peer PYTHON]

CAMVID holds train, trainannot, val and valannot (PNG, classes 0 to 10, 11: no label). Three parts (--parts):

    step       seconds of a training step on a batch that is on the device, both losses, backwards, SGD
    inference  seconds for the mask of one picture, from its pixels in memory to classes in memory
    quality    mIOU and pixel accuracy on val in the course of training from random weights, pipeline included

Contestants are processes of their own that take turns, so that only one works at a time. For `quality` ours trains
--epochs whole epochs with its own polynomial schedule; torchvision's then trains for exactly as many seconds, the same
schedule laid over them. Both are judged by the same code on whole pictures, which does not count as training.
--clock processor: seconds of all processors, where others work too; torchvision's pictures then come from its own
process. --side: pictures are reduced to this longer side first. --curve: an SVG of the learning curves.
--peer: the interpreter that has torchvision (else this one). --tiny: crops of 64 and batches of 2, to try the script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CLASSES, VOID, IGNORED = 11, 11, 255
DECAY, MOMENTUM, AUXILIARY, POWER = 1e-4, 0.9, 0.5, 0.9
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


# -- ours ------------------------------------------------------------------------------------------------------------
class Ours:
    """sagesmith's own training, as a job runs it."""

    def __init__(self, given: argparse.Namespace) -> None:
        from sagesmith.algorithms.run import Run

        self.given = given
        self.run = Run(threads=given.threads)
        self.run.gpus = 1 if given.device == "cuda" else 0
        self.kept = ExitStack()

    def estimator(self, epochs: int) -> Any:
        from sagesmith.algorithms.semantic_segmentation import SemanticSegmentation

        given = self.given
        return SemanticSegmentation(
            algorithm=given.network, num_classes=CLASSES, use_pretrained_model=False, base_size=given.base,
            crop_size=given.crop, mini_batch_size=given.batch, learning_rate=given.rate, epochs=epochs, seed=given.seed,
        )  # fmt: skip

    def step(self) -> Callable[[], None]:
        import torch

        from sagesmith.algorithms.nets import Stepper, Team, every_device, memory_kept
        from sagesmith.algorithms.semantic_segmentation.network import Segmenter, laid_out
        from sagesmith.algorithms.semantic_segmentation.training import optimizer_of

        self.kept.enter_context(memory_kept())  # as Training does

        settings = {**self.estimator(1).settings}
        team = Team(self.run, 0, every_device(self.run)[:1])
        network = laid_out(team.copied(Segmenter.of("resnet-50", self.given.network, CLASSES))).train()
        stepper = Stepper(network, optimizer_of(settings, network), team)
        images, labels = (part.to(team.device) for part in random_batch(self.given))
        loss = self.compiled(network.loss)  # one device: the stepper's copy is the network itself

        def once() -> None:
            stepper.learn(lambda own, part: (loss(*part), len(part[0])), [(images, labels)])
            if team.device.type == "cuda":
                torch.cuda.synchronize()

        return once

    def inference(self) -> Callable[[], None]:
        model = self.estimator(1)
        model.validate()
        from sagesmith.algorithms.nets import Team, every_device
        from sagesmith.algorithms.semantic_segmentation.network import Segmenter, laid_out

        team = Team(self.run, 0, every_device(self.run)[:1])
        network = laid_out(team.copied(Segmenter.of("resnet-50", self.given.network, CLASSES))).eval()
        model.network_ = self.compiled(network)
        image = random_batch(self.given, (360, 480))[0][0].numpy()
        return lambda: model.mask_of(image)

    def compiled(self, function: Any) -> Any:
        return function

    def quality(self, epochs: int, seconds: float) -> Curve:
        from sagesmith.algorithms.semantic_segmentation import training

        images, labels = (part.numpy() for part in random_batch(self.given))
        self.estimator(1).fit(images, labels, run=self.run)  # libraries, compiled code, the choice of convolutions
        judged, curve = training.judged, Curve(self.given.clock)

        def noted(*given: Any) -> Any:
            with curve.judging():
                found = judged(*given)
                curve.take(found[0])
            return found

        training.judged = noted
        data, map_ = self.given.data, label_map()
        held = data / "val", data / "valannot"
        self.estimator(epochs).fit(data / "train", data / "trainannot", validation=held, label_map=map_, run=self.run)
        return curve


class Compiled(Ours):
    """What torch.compile would bring; `ours` does without it."""

    def compiled(self, function: Any) -> Any:
        import torch

        return torch.compile(function, dynamic=False)


# -- torchvision's ---------------------------------------------------------------------------------------------------
class Torchvision:
    """The reference scripts' way: transforms v2 in a DataLoader, SGD, cross-entropy of both heads."""

    def __init__(self, given: argparse.Namespace) -> None:
        import torch

        self.given, self.device = given, torch.device(given.device)
        torch.set_num_threads(given.threads)
        torch.backends.cudnn.benchmark = True

    def network(self) -> Any:
        import torch
        from torchvision_peer import torchvision

        torch.manual_seed(self.given.seed)
        name = {"fcn": "fcn_resnet50", "deeplab": "deeplabv3_resnet50"}[self.given.network]
        make = getattr(torchvision.models.segmentation, name)
        network = make(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True).to(self.device)
        return network.to(memory_format=torch.channels_last) if self.given.layout == "channels_last" else network

    def normalized(self, images: Any) -> Any:
        """(B, 3, H, W) float32 of (B, H, W, 3) bytes."""
        import torch

        mean, deviation = (torch.tensor(one, device=images.device) for one in (MEAN, DEVIATION))
        values = ((images.float() / 255 - mean) / deviation).permute(0, 3, 1, 2)
        return values if self.given.layout == "channels_last" else values.contiguous()

    def optimizer(self, network: Any) -> Any:
        import torch

        return torch.optim.SGD(network.parameters(), self.given.rate, MOMENTUM, weight_decay=DECAY)

    def learn(self, network: Any, optimizer: Any, images: Any, labels: Any) -> None:
        from torch.nn.functional import cross_entropy

        found = network(images)
        loss = cross_entropy(found["out"], labels, ignore_index=IGNORED)
        loss = loss + AUXILIARY * cross_entropy(found["aux"], labels, ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def step(self) -> Callable[[], None]:
        import torch

        network = self.network().train()
        optimizer = self.optimizer(network)
        images, labels = (part.to(self.device) for part in random_batch(self.given))
        images, labels = self.normalized(images), labels.long()

        def once() -> None:
            self.learn(network, optimizer, images, labels)
            if self.given.device == "cuda":
                torch.cuda.synchronize()

        return once

    def inference(self) -> Callable[[], None]:
        import torch

        network = self.network().eval()
        image = random_batch(self.given, (360, 480))[0][:1]

        @torch.inference_mode()
        def once() -> None:
            network(self.normalized(image.to(self.device)))["out"].argmax(dim=1).to(torch.uint8).cpu().numpy()

        return once

    def quality(self, epochs: int, seconds: float) -> Curve:
        network = self.network().train()
        optimizer, batches = self.optimizer(network), self.batches()
        self.learn(network, optimizer, *self.on_device(next(batches)))  # libraries, the choice of convolutions
        network = self.network().train()
        optimizer, curve = self.optimizer(network), Curve(self.given.clock)
        while (share := curve.seconds / seconds) < 1:
            for group in optimizer.param_groups:
                group["lr"] = self.given.rate * (1 - share) ** POWER
            self.learn(network, optimizer, *self.on_device(next(batches)))
            if curve.seconds >= seconds * (len(curve.points) + 1) / epochs:
                self.judge(network, curve)
        return curve

    def judge(self, network: Any, curve: Curve) -> None:
        import torch

        from sagesmith.algorithms.run import Run
        from sagesmith.algorithms.semantic_segmentation import judging, opening

        class Answers(torch.nn.Module):
            def forward(self, images: Any) -> Any:
                return network(normalized(images))["out"]

        normalized, data = self.normalized, self.given.data
        with curve.judging():
            scenes = opening.given(data / "val", data / "valannot", None, label_map(), CLASSES)[0]
            network.eval()
            settings = {"num_classes": CLASSES, "base_size": self.given.base, "validation_mini_batch_size": 16}
            curve.take(judging.judged(Answers(), scenes, settings, self.device, Run(self.given.threads))[0])
            network.train()
            torch.backends.cudnn.benchmark = True

    def on_device(self, batch: Any) -> tuple[Any, Any]:
        import torch

        images, labels = (part.to(self.device, non_blocking=True) for part in batch)
        if self.given.layout == "channels_last":
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels

    def batches(self) -> Iterator[Any]:
        import torch

        scenes = Scenes(self.given.data, self.given.base, self.given.crop)
        workers = 0 if self.given.clock == "processor" else self.given.threads
        loader = torch.utils.data.DataLoader(
            scenes, self.given.batch, shuffle=True, num_workers=workers, drop_last=True,
            persistent_workers=workers > 0, pin_memory=self.given.device == "cuda",
        )  # fmt: skip
        while True:
            yield from loader


class Scenes:
    """CamVid's training pictures through transforms v2: the longer side to base x U(0.5, 2), a crop, a flip."""

    def __init__(self, folder: Path, base: int, crop: int) -> None:
        self.files = [
            (path, folder / "trainannot" / f"{path.stem}.png") for path in sorted((folder / "train").iterdir())
        ]
        self.base, self.crop = base, crop

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        import importlib

        import torch
        from torchvision_peer import torchvision

        v2 = importlib.import_module("torchvision.transforms.v2")
        image, mask = opened(*self.files[number])
        scale = self.base * float(torch.empty(()).uniform_(0.5, 2.0)) / max(image.size)
        sides = [max(1, round(side * scale)) for side in (image.size[1], image.size[0])]
        given = torchvision.tv_tensors.Image(image), torchvision.tv_tensors.Mask(mask)
        fill = {torchvision.tv_tensors.Image: 0, torchvision.tv_tensors.Mask: VOID}
        steps = v2.Compose(
            [v2.Resize(sides, antialias=True), v2.RandomCrop(self.crop, pad_if_needed=True, fill=fill),
             v2.RandomHorizontalFlip(), v2.ToDtype({torchvision.tv_tensors.Image: torch.float32, "others": None}, True),
             v2.Normalize(MEAN, DEVIATION)]
        )  # fmt: skip
        pixels, classes = steps(*given)
        classes = classes[0] if classes.ndim == 3 else classes
        return pixels.as_subclass(torch.Tensor), torch.where(classes == VOID, IGNORED, classes.long()).as_subclass(
            torch.Tensor
        )


# -- what both use -----------------------------------------------------------------------------------------------------
def opened(picture: Path, mask: Path) -> tuple[Any, Any]:
    from PIL import Image

    return Image.open(picture).convert("RGB"), Image.open(mask)


def label_map() -> dict[str, Any]:
    return {"map": {str(number): number for number in range(CLASSES)} | {str(IGNORED): VOID}}


def random_batch(given: argparse.Namespace, size: tuple[int, int] | None = None) -> tuple[Any, Any]:
    """Pictures (B, H, W, 3) and classes (B, H, W), bytes."""
    import torch

    torch.manual_seed(0)
    height, width = size or (given.crop, given.crop)
    images = torch.randint(256, (given.batch, height, width, 3), dtype=torch.uint8)
    return images, torch.randint(CLASSES, (given.batch, height, width), dtype=torch.uint8)


class Curve:
    """What a network was worth after how many seconds of training; judging it takes none of them."""

    def __init__(self, clock: str) -> None:
        self.clock = time.process_time if clock == "processor" else time.perf_counter
        self.began, self.trained = self.clock(), 0.0
        self.points: list[dict[str, float]] = []

    @property
    def seconds(self) -> float:
        return self.clock() - self.began

    @contextmanager
    def judging(self) -> Iterator[None]:
        self.trained, begin = self.seconds, self.clock()
        yield
        self.began += self.clock() - begin

    def take(self, counts: np.ndarray) -> None:
        from sagesmith.algorithms.semantic_segmentation.metrics import mean_iou, pixel_accuracy

        values = {"mIOU": mean_iou(counts), "pixel accuracy": pixel_accuracy(counts)}
        self.points.append({"seconds": self.trained} | values)
        print(self.points[-1], file=sys.stderr, flush=True)


@contextmanager
def reduced(folder: Path, side: int) -> Iterator[Path]:
    """The pictures and masks with `side` pixels along the longer side."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as temporary:
        for part in ("train", "trainannot", "val", "valannot"):
            (Path(temporary) / part).mkdir()
            for path in (folder / part).iterdir():
                image = Image.open(path)
                size = [max(1, round(length * side / max(image.size))) for length in image.size]
                how = Image.Resampling.NEAREST if part.endswith("annot") else Image.Resampling.BICUBIC
                image.resize(size, how).save(Path(temporary) / part / f"{path.stem}.png")
        yield Path(temporary)


# -- turns -------------------------------------------------------------------------------------------------------------
CONTESTANTS = {
    "ours": Ours,
    "ours compiled": Compiled,
    "torchvision": Torchvision,
    "torchvision channels_last": Torchvision,
}


def contestant(given: argparse.Namespace) -> None:
    """A contestant's process: a turn for each line of its input, a JSON value for each turn."""
    given.layout = "channels_last" if given.contestant.endswith("channels_last") else ""
    made = CONTESTANTS[given.contestant](given)
    if given.part == "quality":
        print("ready", flush=True)
        print(json.dumps(made.quality(given.epochs, float(sys.stdin.readline())).points), flush=True)
        return
    once = getattr(made, given.part)()
    begin = time.perf_counter()
    once()
    print(f"{given.contestant}: the first {given.part} took {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    once()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        once()
        print(json.dumps(time.perf_counter() - began), flush=True)


def started(name: str, part: str, given: argparse.Namespace) -> subprocess.Popen[str]:
    interpreter = sys.executable if name == "ours" else given.peer
    paths = [*given.path, str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(given.threads),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),  # as jobs have it; the same for all
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [interpreter, __file__, "--contestant", name, "--part", part]
    for option in ("data", "device", "network", "base", "crop", "batch", "threads", "rate", "seed", "epochs", "clock"):
        command += [f"--{option}", str(getattr(given, option))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def asked(process: subprocess.Popen[str], line: str = "") -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def raced(part: str, given: argparse.Namespace) -> None:
    """Turns of one call each; medians and ratios."""
    names = given.only.split(",")
    running = {name: started(name, part, given) for name in names}
    for process in running.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "a contestant failed; its words are above"
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(given.rounds):
        for name, process in running.items():
            times[name].append(asked(process))
    for process in running.values():
        process.communicate()
    ours = statistics.median(times[names[0]])
    for name, seen in times.items():
        middle = statistics.median(seen)
        print(f"{part:10} {given.network:8} {name:26} {middle:9.4f} s, {middle / ours:5.2f} x {names[0]}", flush=True)


def trained(given: argparse.Namespace) -> None:
    """Ours for --epochs, torchvision's for as many seconds."""
    seconds, curves = given.seconds, {}
    for name in given.only.split(","):
        process = started(name, "quality", given)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "a contestant failed; its words are above"
        curves[name] = asked(process, str(seconds))
        process.communicate()
        if name == "ours":
            seconds = curves[name][-1]["seconds"]
        told = ", ".join(f"{key} {value:.4g}" for key, value in curves[name][-1].items())
        print(f"quality    {given.network:8} {name:26} {told}", flush=True)
    if given.curve:
        drawn(curves, given)


def drawn(curves: dict[str, list[dict[str, float]]], given: argparse.Namespace) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    figure, pair = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for axes, value in zip(pair, ("mIOU", "pixel accuracy"), strict=True):
        for name, points in curves.items():
            axes.plot([point["seconds"] for point in points], [point[value] for point in points], ".-", label=name)
        axes.set(xlabel=f"{given.clock} seconds of training", ylabel=f"{value}, validation", ylim=(0, None))
        axes.grid(alpha=0.3)
    pair[0].legend(title={"fcn": "FCN", "deeplab": "DeepLabV3"}[given.network])
    figure.savefig(given.curve, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--epochs", type=int, default=10, help="of ours; torchvision's trains for as many seconds")
    parser.add_argument("--seconds", type=float, default=60.0, help="of torchvision's training, where ours is left out")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--side", type=int, help="pixels of the longer side that pictures are reduced to")
    parser.add_argument("--curve", type=Path)
    parser.add_argument("--network", choices=("fcn", "deeplab"), default="fcn")
    parser.add_argument("--parts", default="step,inference,quality")
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--path", action="append", default=[], help="put before PYTHONPATH")
    parser.add_argument("--base", type=int, default=480)
    parser.add_argument("--crop", type=int, default=240)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument(
        "--only", default="ours,torchvision,torchvision channels_last", help="contestants, by commas, ours first"
    )
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        contestant(given)
        return
    if given.tiny:
        given.crop, given.batch = 64, 2
    with ExitStack() as kept:
        if given.side:
            given.data = kept.enter_context(reduced(given.data, given.side))
        for part in given.parts.split(","):
            trained(given) if part == "quality" else raced(part, given)


if __name__ == "__main__":
    main()
