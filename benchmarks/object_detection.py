"""Object Detection beside torchvision's SSD: quality after the same seconds, a training step, and inference with NMS.

    python benchmarks/object_detection.py --data bccd [--device cuda] [--seconds 120] [--parts quality,step,inference]

`--data` is the BCCD set (github: Shenggan/BCCD_Dataset, MIT): BCCD/{JPEGImages,Annotations,ImageSets/Main}. Both train
SSD of 300 pixels from random weights on the base network of `--base`, with the same optimiser, learning rate and batch
size, for the same seconds of the wall or of the processors (`--clock`), each with its own data pipeline, and are judged
by the same code. torchvision has SSD on VGG-16; on ResNet-50 it is put together here from its parts, with the maps that
ours has. torchvision is needed: see torchvision_peer.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as jobs have it: threads that spin would count as processor time
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from torchvision_peer import torchvision

from sagesmith.algorithms import ObjectDetection
from sagesmith.algorithms.nets import memory_kept
from sagesmith.algorithms.object_detection.default_boxes import default_boxes
from sagesmith.algorithms.object_detection.losses import loss_of
from sagesmith.algorithms.object_detection.matching import corners, match
from sagesmith.algorithms.object_detection.network import detector
from sagesmith.algorithms.object_detection.precision import coco_precision, mean_average_precision
from sagesmith.algorithms.object_detection.samples import padded
from sagesmith.algorithms.object_detection.suppression import detections
from sagesmith.algorithms.run import Run

NAMES = ("WBC", "RBC", "Platelets")
SIDE = 300
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def say(row: str, **values: Any) -> None:
    """One result, printed as it comes."""
    print(json.dumps({"row": row} | values), flush=True)


def scenes(data: Path, part: str) -> tuple[list[Path], list[np.ndarray]]:
    """Pictures of a part of BCCD, and their objects in shares of width and height."""
    root = data / "BCCD" if (data / "BCCD").is_dir() else data
    files, objects = [], []
    for stem in (root / "ImageSets" / "Main" / f"{part}.txt").read_text().split():
        tree = ET.parse(root / "Annotations" / f"{stem}.xml").getroot()
        width, height = (float(tree.findtext(f"size/{side}", "")) for side in ("width", "height"))
        rows = []
        for one in tree.iter("object"):
            box = [float(one.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            row = [NAMES.index(one.findtext("name", "")), *np.clip(box / np.array([width, height] * 2), 0, 1)]
            rows += [row] if row[3] > row[1] and row[4] > row[2] else []
        files.append(root / "JPEGImages" / f"{stem}.jpg")
        objects.append(np.array(rows, np.float32).reshape(-1, 5))
    return files, objects


class Timed(Run):
    """A run that is asked to stop after some seconds."""

    def __init__(self, given: argparse.Namespace, seconds: float) -> None:
        super().__init__(given.threads)
        self.gpus = self.gpus and 1 if given.device == "cuda" else 0
        self.clock = CLOCKS[given.clock]
        self.end = self.clock() + seconds
        self.lines: list[str] = []

    @property
    def stopping(self) -> bool:
        return self.clock() > self.end

    def metric_line(self, line: str) -> None:
        if "train" in line:
            self.lines.append(line.split("epoch=")[-1])


# -- the two contenders ------------------------------------------------------------------------------------------
def ours(given: argparse.Namespace, train: Any, seconds: float) -> tuple[ObjectDetection, int]:
    """Our model after `seconds` of training, and the pictures that it has seen."""
    from sagesmith.algorithms.images.pictures import FilePictures
    from sagesmith.algorithms.object_detection.samples import ObjectsChannel

    channel = ObjectsChannel.from_files("train", [])
    channel.pictures = FilePictures(train[0][0].parent, train[0], train[1])  # type: ignore[assignment]
    model = ObjectDetection(
        num_classes=len(NAMES), num_training_samples=len(train[0]), use_pretrained_model=0, epochs=1_000_000,
        learning_rate=given.rate, optimizer=given.optimizer, mini_batch_size=given.batch, base_network=given.base,
    )  # fmt: skip
    run = Timed(given, seconds)
    model.fit(channel, run=run)
    batches = sum(int(line.split("batch=")[1].split()[0]) for line in run.lines if "cross_entropy" in line)
    say("ours: last losses", lines=run.lines[-2:])
    return model, batches * given.batch


class Scenes(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The pictures for torchvision, with the transforms of its own SSD recipe."""

    def __init__(self, files: Sequence[Path], objects: Sequence[np.ndarray]) -> None:
        from torchvision.transforms import v2

        self.files, self.objects = files, objects
        self.transforms = v2.Compose(
            [
                v2.PILToTensor(),
                v2.RandomPhotometricDistort(),
                v2.RandomZoomOut(fill={torchvision.tv_tensors.Image: (123, 117, 104), "others": 0}),
                v2.RandomIoUCrop(),
                v2.RandomHorizontalFlip(p=0.5),
                v2.SanitizeBoundingBoxes(),
                v2.ToDtype(torch.float32, scale=True),
                v2.ToPureTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        from PIL import Image

        image, rows = Image.open(self.files[number]).convert("RGB"), self.objects[number]
        boxes = torch.from_numpy(rows[:, 1:] * np.array([image.width, image.height] * 2, np.float32))
        size = (image.height, image.width)
        target = {
            "boxes": torchvision.tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": torch.from_numpy(rows[:, 0].astype(np.int64) + 1),
        }
        return self.transforms(image, target)  # type: ignore[no-any-return]


class PeerTrunk(nn.Module):
    """torchvision's ResNet-50 in front of six maps, as `Trunk` and the layers behind it are in ours."""

    def __init__(self) -> None:
        super().__init__()
        base = torchvision.models.resnet50(weights=None)
        stem = nn.Sequential(base.conv1, base.bn1, base.relu, base.maxpool, base.layer1)
        steps = [nn.Sequential(stem, base.layer2), base.layer3, base.layer4]
        for inner, narrow, wide, stride in ((2048, 128, 256, 2), (256, 128, 256, 1), (256, 128, 256, 1)):
            layers = [nn.Conv2d(inner, narrow, 1), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(narrow, wide, 3, stride, stride - 1), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
            if len(steps) == 5:
                del layers[4]  # a single place
            steps.append(nn.Sequential(*layers))
        self.steps, self.out_channels = nn.ModuleList(steps), [512, 1024, 2048, 256, 256, 256]

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = {}
        for number, step in enumerate(self.steps):
            pictures = step(pictures)
            maps[str(number)] = pictures
        return maps


def peer_network(given: argparse.Namespace, classes: int) -> Any:
    detection = torchvision.models.detection
    made = detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes + 1)
    if given.base == "vgg-16":
        return made
    return detection.ssd.SSD(PeerTrunk(), made.anchor_generator, (SIDE, SIDE), classes + 1)


def peer_optimizer(given: argparse.Namespace, network: Any) -> torch.optim.Optimizer:
    if given.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), given.rate)
    return torch.optim.SGD(network.parameters(), given.rate, momentum=0.9, weight_decay=0.0005)


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def peer(given: argparse.Namespace, train: Any, seconds: float) -> tuple[Any, int]:
    """torchvision's model after `seconds`, and the pictures that it has seen."""
    torch.manual_seed(0)
    network = peer_network(given, len(NAMES)).to(given.device).train()
    chosen = peer_optimizer(given, network)
    loader = torch.utils.data.DataLoader(
        Scenes(*train), given.batch, shuffle=True, num_workers=given.workers, drop_last=True,
        collate_fn=lambda batch: tuple(zip(*batch, strict=True)), persistent_workers=given.workers > 0,
    )  # fmt: skip
    clock = CLOCKS[given.clock]
    seen, loss, end = 0, torch.zeros(()), clock() + seconds
    for images, targets in endless(loader):
        on = [image.to(given.device) for image in images]
        known = [{name: value.to(given.device) for name, value in target.items()} for target in targets]
        loss = sum(network(on, known).values())
        chosen.zero_grad(set_to_none=True)
        loss.backward()
        chosen.step()
        seen += len(images)
        if clock() > end:
            break
    say("torchvision: last loss", value=float(loss.detach()))
    return network.eval(), seen


@torch.inference_mode()
def found_by_peer(network: Any, files: Sequence[Path], device: str) -> list[np.ndarray]:
    """torchvision's detections in our form."""
    from PIL import Image

    found = []
    for file in files:
        image = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1).float().to(device) / 255
        said = {name: value.cpu().numpy() for name, value in network([image])[0].items()}
        shares = said["boxes"] / np.array([image.shape[2], image.shape[1]] * 2)
        found.append(np.column_stack([said["labels"] - 1, said["scores"], shares]))
    return found


def judged(name: str, objects: Sequence[np.ndarray], found: Sequence[np.ndarray], seen: int) -> None:
    values = {"mAP50_voc": mean_average_precision(objects, found)}
    try:
        values |= {key: value for key, value in coco_precision(objects, found).items() if key in ("AP", "AP50", "AP75")}
    except ModuleNotFoundError:
        values["coco"] = float("nan")
    say(f"quality: {name}", pictures_seen=seen, **{key: round(value, 4) for key, value in values.items()})


def quality(given: argparse.Namespace) -> None:
    """mAP in BCCD's test pictures after the same seconds."""
    train, test = scenes(given.data, "trainval"), scenes(given.data, "test")
    for contender in given.order.split(","):
        if contender == "ours":
            model, seen = ours(given, train, given.seconds)
            judged("ours", test[1], model.predict(test[0]), seen)
        else:
            network, seen = peer(given, train, given.seconds)
            judged("torchvision", test[1], found_by_peer(network, test[0], given.device), seen)


# -- speed -------------------------------------------------------------------------------------------------------
def timed(work: Callable[[], Any], given: argparse.Namespace) -> float:
    """Median seconds of some calls, after some that warm up: of the wall, or of all processors."""
    clock, values = CLOCKS[given.clock], []
    for number in range(given.warm + given.repeats):
        begun = clock()
        work()
        if given.device == "cuda":
            torch.cuda.synchronize()
        if number >= given.warm:
            values.append(clock() - begun)
    return float(np.median(values))


def step(given: argparse.Namespace) -> None:
    """A training step on a batch that lies on the device."""
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 255, (given.batch, SIDE, SIDE, 3)).astype(np.uint8)).to(given.device)
    low = random.uniform(0, 0.6, (given.batch, 12, 2))
    boxes = np.concatenate([low, low + random.uniform(0.1, 0.4, low.shape)], axis=2).astype(np.float32)
    objects = [np.column_stack([random.integers(0, 3, 12), row]) for row in boxes]
    network = detector(given.base, 3, SIDE).to(memory_format=torch.channels_last).to(given.device).train()
    chosen = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9, weight_decay=0.0005)
    together = torch.from_numpy(padded(objects).astype(np.float32)).to(given.device)

    def ours_once() -> None:
        with torch.no_grad():
            wanted, owner = match(network.defaults, together[..., 1:], together[..., 0])
        logits, offsets = network(pixels)
        chosen.zero_grad(set_to_none=True)
        loss_of(logits, offsets, wanted, owner, together[..., 1:], network.defaults).value.backward()
        chosen.step()

    theirs = peer_network(given, 3).to(given.device).train()
    other = torch.optim.SGD(theirs.parameters(), 1e-6, momentum=0.9, weight_decay=0.0005)
    images = list((pixels.permute(0, 3, 1, 2).float() / 255).unbind())
    targets = [
        {
            "boxes": torch.from_numpy(one[:, 1:].astype(np.float32) * SIDE).to(given.device),
            "labels": torch.from_numpy(one[:, 0].astype(np.int64) + 1).to(given.device),
        }
        for one in objects
    ]

    def theirs_once() -> None:
        loss = sum(theirs(images, targets).values())
        other.zero_grad(set_to_none=True)
        loss.backward()
        other.step()

    with memory_kept():  # as our jobs do; torchvision's step in the same process has it too
        compared("training step", ours_once, theirs_once, given, given.batch)


def compared(
    row: str, ours_once: Callable[[], Any], theirs_once: Callable[[], Any], given: argparse.Namespace, pictures: int
) -> None:
    mine, theirs = timed(ours_once, given), timed(theirs_once, given)
    say(
        row, ours_ms=round(1000 * mine, 2), torchvision_ms=round(1000 * theirs, 2), ratio=round(theirs / mine, 2),
        ours_pictures_per_second=round(pictures / mine, 1),
    )  # fmt: skip


@torch.inference_mode()
def inference(given: argparse.Namespace) -> None:
    """Pictures to detections; and the part behind the network alone, on the same numbers."""
    if given.device == "cpu":
        torchvision.ops.boxes.nms = compiled_nms  # torchvision's own is not there beside a CPU build
    network = detector(given.base, 3, SIDE).to(memory_format=torch.channels_last).to(given.device).eval()
    theirs = peer_network(given, 3).to(given.device).eval()
    defaults = default_boxes(SIDE)
    threads = given.threads or torch.get_num_threads()
    for count in (1, given.batch):
        pixels = torch.randint(0, 255, (count, SIDE, SIDE, 3), dtype=torch.uint8, device=given.device)
        images = list((pixels.permute(0, 3, 1, 2).float() / 255).unbind())

        def ours_once(pixels: torch.Tensor = pixels) -> None:
            detections(*network(pixels), defaults, 0.45, 400, threads)

        def theirs_once(images: list[torch.Tensor] = images) -> None:
            theirs(images)

        compared(f"inference with NMS, {count} pictures", ours_once, theirs_once, given, count)
        for kind, spread in (("few", 8.0), ("many", 1.0)):
            logits, offsets = behind(count, spread, given.device)
            anchors = [corners(torch.from_numpy(defaults)).to(given.device) * SIDE] * count
            said = {"bbox_regression": offsets, "cls_logits": logits}

            def ours_behind(logits: torch.Tensor = logits, offsets: torch.Tensor = offsets) -> None:
                detections(logits, offsets, defaults, 0.45, 400, threads)

            def theirs_behind(said: Any = said, anchors: Any = anchors, count: int = count) -> None:
                theirs.postprocess_detections(said, anchors, [(SIDE, SIDE)] * count)

            compared(
                f"behind the network, {count} pictures of 20 classes, {kind} candidates", ours_behind, theirs_behind,
                given, count,
            )  # fmt: skip


def behind(count: int, spread: float, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 20 classes and offsets: `spread` 8 leaves about 1400 candidates in a picture, 1 most scores."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, len(default_boxes(SIDE)), 21, generator=generator)
    logits[..., 0] += spread
    return logits.to(device), torch.randn(*logits.shape[:2], 4, generator=generator).to(device)


def compiled_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Stands for torchvision's compiled operator on the CPU."""
    order = np.argsort(-scores.numpy(), kind="stable")
    return torch.from_numpy(_kept(boxes.numpy(), order, threshold))


def _kept(boxes: np.ndarray, order: np.ndarray, threshold: float) -> np.ndarray:
    global _compiled
    if _compiled is None:
        import numba

        _compiled = numba.njit(_plain_nms)
    return _compiled(boxes, order, threshold)  # type: ignore[no-any-return]


_compiled: Any = None


def _plain_nms(boxes: np.ndarray, order: np.ndarray, threshold: float) -> np.ndarray:
    alive = np.ones(len(order), np.bool_)
    kept = np.empty(len(order), np.int64)
    count = 0
    for i in range(len(order)):
        if not alive[i]:
            continue
        a = boxes[order[i]]
        kept[count] = order[i]
        count += 1
        for j in range(i + 1, len(order)):
            b = boxes[order[j]]
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            if width > 0 and height > 0:
                common = width * height
                both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
                if common > threshold * both:
                    alive[j] = False
    return kept[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the folder of BCCD; for `quality`")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=120.0, help="of training, each")
    parser.add_argument("--parts", default="quality,step,inference")
    parser.add_argument("--order", default="ours,torchvision", help="of the contenders in `quality`")
    parser.add_argument("--base", default="vgg-16", choices=("vgg-16", "resnet-50"), help="base network of both")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=8, help="processes of torchvision's DataLoader")
    parser.add_argument(
        "--clock", choices=("wall", "processor"), default="wall", help="processor: where others work too"
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warm", type=int, default=3)
    given = parser.parse_args()
    if given.clock == "processor":
        given.workers = 0  # their time would be another process's
    if given.threads:
        torch.set_num_threads(given.threads)
    gpu = torch.cuda.get_device_name() if given.device == "cuda" else ""
    say("machine", torch=torch.__version__, torchvision=torchvision.__version__, system=platform.platform(), gpu=gpu)
    for part in given.parts.split(","):
        {"quality": quality, "step": step, "inference": inference}[part](given)


if __name__ == "__main__":
    main()
