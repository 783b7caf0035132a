"""Image Classification beside torchvision: the same pictures, the same network, the same wall time, in turn.

    PYTHONPATH=. python benchmarks/image_classification.py --data /tmp/data/cifar10 [--device cpu] [--seconds 120]
        [--parts step quality] [--depth 20] [--train 50000] [--seed 0] [--half] [--threads 2] [--picture curve.svg]

FOLDER holds train/<class>/*.jpg and test/<class>/*.jpg. Parts:

    step     seconds of one training step (forward, backward, update) of ResNet-18 and ResNet-50 at 224 x 224, and of
             ResNet-20 at 28 x 28, ours and torchvision's, this as it comes and with torch.channels_last; medians of
             rounds in turn
    quality  test accuracy after SECONDS of training on FOLDER, ours and torchvision's network of the same depth with
             its transforms in a DataLoader; --depth 20 is the network whose published error on CIFAR-10 is 8.75 %

Needs torch and torchvision beside sagesmith.algorithms. Prints every result as it comes. For a comparison on a CPU give
each of the `--contenders` a process of its own: ours makes this process keep its memory, which speeds both up.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision_peer import torchvision

from sagesmith.algorithms.image_classification import ImageClassification
from sagesmith.algorithms.run import Run

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, RATE, DECAY = 128, 0.1, 5e-4
SIDE = 28  # of the crops that both learn from
Point = tuple[float, float]  # seconds of training, test accuracy


# -- a step -----------------------------------------------------------------------------------------------------
def stepping(
    network: nn.Module, device: torch.device, batch: int, side: int, last: bool, half: bool
) -> Callable[[], None]:
    """A training step on random pixels, as each side would write it."""
    layout = torch.channels_last if last else torch.contiguous_format
    network = network.to(device, memory_format=layout).train()  # type: ignore[call-overload]
    images = torch.randn(batch, 3, side, side, device=device).to(memory_format=layout)
    labels = torch.randint(10, (batch,), device=device)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=half)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.float16, enabled=half):
            loss = nn.functional.cross_entropy(network(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def ours_stepping(depth: int, device: torch.device, batch: int, side: int, half: bool) -> Callable[[], None]:
    """The step that ImageClassification takes."""
    from sagesmith.algorithms import nets
    from sagesmith.algorithms.image_classification.network import OneClass, network_of
    from sagesmith.algorithms.image_classification.training import learning
    from sagesmith.algorithms.replicas import Precision

    run = Run(threads=torch.get_num_threads())
    team = nets.Team(run, devices=[device])
    settings = {"image_shape": f"3,{side},{side}", "num_layers": depth}
    network = team.copied(network_of(settings, 10))
    precision = Precision("float16" if half else "float32", device, run)
    stepper = nets.Stepper(network, nets.optimizer("sgd", network, 0.01, 1e-4, 0.9), team, precision=precision)
    images = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, device=device)
    labels, task = torch.randint(10, (batch,), device=device), OneClass()
    network.train()

    def step() -> None:
        stepper.learn(learning(task, []), [(images, labels)])

    return step


def steps(device: torch.device, seconds: float) -> None:
    """Medians of rounds in turn."""
    gpu = device.type == "cuda"
    for depth, batch, side, half in [
        (18, 128 if gpu else 8, 224, False), (50, 64 if gpu else 4, 224, False), (50, 64, 224, True),
        (20, BATCH, SIDE, False),
    ]:  # fmt: skip
        if half and not gpu:
            continue
        torch.manual_seed(0)
        contenders = {
            "ours": ours_stepping(depth, device, batch, side, half),
            "torchvision": stepping(stepped_peer(depth), device, batch, side, False, half),
            "torchvision, channels_last": stepping(stepped_peer(depth), device, batch, side, True, half),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for name, step in contenders.items():
            for _ in range(3 if gpu else 1):
                timed(step, device)
            print(f"  warm: {name}", flush=True)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(times["ours"]) < 3:
            for name, step in contenders.items():
                times[name].append(timed(step, device))
        middle = {name: statistics.median(found) for name, found in times.items()}
        for name, value in middle.items():
            print(
                f"step ResNet-{depth}, batch {batch}, {side} x {side}{', float16' if half else ''}: {name}: "
                f"{1000 * value:.1f} ms, {batch / value:.1f} pictures/s, {middle['ours'] / value:.2f} of ours' time "
                f"({len(times[name])} steps)", flush=True,
            )  # fmt: skip


def stepped_peer(depth: int) -> nn.Module:
    """torchvision's network of a depth: its own at 224 x 224, or of its blocks for small pictures."""
    made: nn.Module = peer(depth) if depth == 20 else getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    return made


def timed(step: Callable[[], None], device: torch.device) -> float:
    begun = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


# -- quality for the same time ----------------------------------------------------------------------------------
class Limited(Run):
    """Stops after some seconds of training, and keeps the time of each epoch's validation accuracy."""

    def __init__(self, seconds: float, threads: int) -> None:
        super().__init__(threads)
        self.points: list[Point] = []
        self._seconds, self._began, self._judging, self._since = seconds, time.perf_counter(), 0.0, 0.0

    @property
    def trained(self) -> float:
        return time.perf_counter() - self._began - self._judging

    @property
    def stopping(self) -> bool:
        return self.trained >= self._seconds

    def log(self, message: str, *arguments: object, level: int = 20) -> None:
        line = message % arguments if arguments else message
        if line.startswith("Final configuration"):  # the folder is listed; neither side's clock counts that
            self._began = time.perf_counter()
        if "Time cost" in line:
            self._since = self.trained
        if match := re.search(r"Validation-accuracy=(\S+)", line):
            self._judging += self.trained - self._since  # judging is not training
            self.points.append((self._since, float(match[1])))
            print(f"  sagesmith: {self._since:.0f} s, test accuracy {float(match[1]):.4f}", flush=True)


def ours(given: argparse.Namespace, pictures: int, epochs: int) -> list[Point]:
    run = Limited(given.seconds * 1.5, given.threads)
    model = ImageClassification(
        image_shape=f"3,{SIDE},{SIDE}", num_layers=given.depth, epochs=epochs, mini_batch_size=BATCH,
        learning_rate=RATE, weight_decay=DECAY, augmentation_type="crop", lr_scheduler_step=stepped(epochs),
        num_training_samples=pictures, optimizer="nag", precision_dtype="float16" if given.half else "float32",
        seed=given.seed,
    )  # fmt: skip
    model.fit(given.data / "train", validation=given.data / "test", run=run)
    return run.points


def stepped(epochs: int) -> str | None:
    """The learning rate falls after 60 and 85 % of the epochs."""
    at = sorted({max(1, round(epochs * part)) for part in (0.6, 0.85)})
    return ",".join(map(str, at)) if epochs > 2 else None


def peer(depth: int) -> nn.Module:
    """torchvision's network for small pictures: ResNet-18 or -50 with a 3x3 stem, or 6n+2 layers of its blocks."""
    resnet = torchvision.models.resnet
    if (depth - 2) % 6:
        network = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        return network  # type: ignore[no-any-return]
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    inner = 16
    for outer in (16, 32, 64):
        stride = outer // inner
        shortcut = nn.Sequential(resnet.conv1x1(inner, outer, stride), nn.BatchNorm2d(outer)) if stride > 1 else None
        layers.append(resnet.BasicBlock(inner, outer, stride, shortcut))
        layers += [resnet.BasicBlock(outer, outer) for _ in range((depth - 2) // 6 - 1)]
        inner = outer
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def torchvisions(given: argparse.Namespace, pictures: int, epochs: int) -> list[Point]:
    """As torchvision's reference would do it, with the same rates, and a worker for each processor."""
    transforms = torchvision.transforms
    normal = [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
    learnt = transforms.Compose([transforms.RandomCrop(SIDE), transforms.RandomHorizontalFlip(), *normal])
    judged = transforms.Compose([transforms.CenterCrop(SIDE), *normal])
    train = torchvision.datasets.ImageFolder(given.data / "train", learnt)
    test = torchvision.datasets.ImageFolder(given.data / "test", judged)
    options: dict[str, Any] = {"num_workers": given.threads, "pin_memory": given.device == "cuda"}
    options["persistent_workers"] = True
    chosen = torch.utils.data.RandomSampler(train, num_samples=pictures)  # of all, as ours
    loader = torch.utils.data.DataLoader(train, BATCH, sampler=chosen, **options)
    judging = torch.utils.data.DataLoader(test, 500, **options)
    device = torch.device(given.device)
    torch.manual_seed(given.seed)
    network: Any = peer(given.depth).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), RATE, 0.9, weight_decay=DECAY, nesterov=True)
    points: list[Point] = []
    trained, milestones = 0.0, [int(at) for at in (stepped(epochs) or "").split(",") if at]
    scaler = torch.amp.GradScaler(given.device, enabled=given.half and given.device == "cuda")
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.1 ** sum(epoch >= at for at in milestones)
        began = time.perf_counter()
        learn_epoch(network, loader, optimizer, scaler, given)
        trained += time.perf_counter() - began
        points.append((trained, judge(network, judging, device)))
        print(f"  torchvision: {trained:.0f} s, test accuracy {points[-1][1]:.4f}", flush=True)
        if trained > given.seconds * 1.5:
            break
    return points


def learn_epoch(network: Any, loader: Any, optimizer: Any, scaler: Any, given: argparse.Namespace) -> None:
    device = torch.device(given.device)
    kind = torch.float16 if given.device == "cuda" else torch.bfloat16
    network.train()
    for images, labels in loader:
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(given.device, kind, enabled=given.half):
            loss = nn.functional.cross_entropy(network(images), labels.to(device, non_blocking=True))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    if given.device == "cuda":
        torch.cuda.synchronize()


def judge(network: Any, loader: Any, device: torch.device) -> float:
    network.eval()
    right, count = 0, 0
    with torch.inference_mode():
        for images, labels in loader:
            right += int((network(images.to(device)).argmax(1).cpu() == labels).sum())
            count += len(labels)
    return right / count


def quality(given: argparse.Namespace) -> dict[str, list[Point]]:
    """Each contender for as many epochs as fill the time, told by a short pass."""
    all_pictures = sum(1 for _ in (given.data / "train").rglob("*.jpg"))
    count, curves = given.train or all_pictures, {}
    for name, make in (("sagesmith", ours), ("torchvision", torchvisions)):
        if name not in given.contenders:
            continue
        epochs = given.epochs
        if not epochs:
            probe = min(count, 8 * BATCH if given.device == "cpu" else count)
            make(given, probe, 1)
            seconds = make(given, probe, 1)[0][0] * count / probe
            epochs = max(1, round(given.seconds / seconds))
        print(f"{name}: {epochs} epochs of {count} pictures", flush=True)
        curves[f"{name}, ResNet-{given.depth}"] = points = make(given, count, epochs)
        print(
            f"ResNet-{given.depth}, {count} pictures an epoch, seed {given.seed}: {name}: "
            f"test accuracy {points[-1][1]:.4f} (best {max(value for _, value in points):.4f}) "
            f"after {points[-1][0]:.0f} s, {len(points)} epochs, {count * len(points) / points[-1][0]:.0f} pictures/s",
            flush=True,
        )  # fmt: skip
    return curves


def draw(curves: dict[str, list[Point]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.set(xlabel="seconds of training", ylabel="test accuracy")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=120.0, help="of training, for each contender")
    parser.add_argument("--parts", nargs="+", choices=("step", "quality"), default=["step", "quality"])
    parser.add_argument("--contenders", nargs="+", default=["sagesmith", "torchvision"])
    parser.add_argument("--depth", type=int, default=20, help="of the networks of `quality`")
    parser.add_argument("--train", type=int, default=0, help="training pictures of an epoch; 0: all")
    parser.add_argument("--epochs", type=int, default=0, help="0: as many as fill the time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", action="store_true", help="mixed precision, both")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    where = torch.cuda.get_device_name() if given.device == "cuda" else f"{platform.machine()}, {given.threads} threads"
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}, {where}"
    )
    if "step" in given.parts:
        steps(torch.device(given.device), min(given.seconds, 20.0))
    if "quality" in given.parts:
        curves = quality(given)
        if given.picture:
            draw(curves, given.picture)


if __name__ == "__main__":
    main()
