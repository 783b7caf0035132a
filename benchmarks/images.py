"""Pictures per second from a folder of JPEG files to batches: ours beside torchvision's transforms in a DataLoader.

    python benchmarks/images.py FOLDER [--peer PYTHON] [--resize 256] [--crop 224] [--level crop] [--rounds 5]

FOLDER holds a folder for each class. Every contestant is a process of its own that waits for its turn; each turn is
--seconds long and starts an epoch. The same files, cores (--threads), batches and augmentation: the shorter side to
--resize (0: not), a random --crop, a flip, with `crop_color` other colours too. Contestants ending in `float` give
normalised float32 (n, 3, h, w), the others uint8. --peer: the interpreter that has torchvision (else this one).
`ours kept` is a later epoch of a set whose pixels stay in memory (512 MB by default); the others decode every file in
every epoch. `decoding alone` is the limit: what one thread decodes from memory, times the threads.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OURS = ("decoding alone", "ours", "ours float", "ours kept")
PEERS = ("torchvision v1 float", "torchvision v2", "torchvision v2 float")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = {"brightness": 50 / 255, "saturation": 50 / 255, "hue": 36 / 180}


def decoding(given: argparse.Namespace) -> Callable[[], Iterator[int]]:
    """Files in memory, decoded one after another by one thread."""
    from sagesmith.algorithms.images.pictures import class_folders

    files, _ = class_folders(given.folder)
    pictures = [files.picture(i) for i in range(0, len(files), max(1, len(files) // 500))]

    def epoch() -> Iterator[int]:
        for picture in pictures:
            picture.pixels(at_least=given.resize or None)
            yield 1

    return epoch


def ours(given: argparse.Namespace, as_float: bool) -> Callable[[], Iterator[int]]:
    from sagesmith.algorithms.images.augmentation import augmented
    from sagesmith.algorithms.images.loader import Loader
    from sagesmith.algorithms.images.pictures import class_folders

    resize = given.resize or None

    def transform(picture: Any, random: Any, into: Any) -> float:
        augmented(picture.pixels(at_least=resize), into, picture.name, level=given.level, resize=resize, random=random)
        return float(picture.label[0])

    pictures, _ = class_folders(given.folder)
    shape = (given.crop, given.crop, 3)
    keep = {} if "kept" in given.contestant else {"keep": 0}
    loader = Loader(pictures, transform, given.batch, shape, threads=given.threads, shuffle=True, **keep)
    if keep == {}:
        list(loader.epoch(0))
    if not as_float:
        return lambda: map(len, loader.epoch(0))
    import torch

    mean, deviation = (255 * torch.tensor(one).view(1, 3, 1, 1) for one in (MEAN, DEVIATION))

    def epoch() -> Iterator[int]:
        for batch in loader.epoch(0):
            values = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float()  # channels_last, as networks want it
            values.sub_(mean).div_(deviation)
            yield len(batch)

    return epoch


def peers(given: argparse.Namespace, kind: str) -> Callable[[], Iterator[int]]:
    import torch
    from torchvision_peer import torchvision

    v1, v2 = torchvision.transforms, importlib.import_module("torchvision.transforms.v2")
    old, as_float = kind.startswith("torchvision v1"), kind.endswith("float")
    made = v1 if old else v2
    steps = [] if old else [v2.PILToTensor()]
    steps += [made.Resize(given.resize)] if given.resize else []
    steps += [made.RandomCrop(given.crop), made.RandomHorizontalFlip()]
    steps += [made.ColorJitter(**JITTER)] if given.level == "crop_color" else []
    if as_float:
        steps += [v1.ToTensor()] if old else [v2.ToDtype(torch.float32, scale=True)]
        steps += [made.Normalize(MEAN, DEVIATION)]
    pictures = torchvision.datasets.ImageFolder(str(given.folder), v1.Compose(steps))
    loader = torch.utils.data.DataLoader(
        pictures, given.batch, shuffle=True, num_workers=given.threads, persistent_workers=True
    )
    return lambda: (len(labels) for _, labels in loader)


def contestant(given: argparse.Namespace) -> None:
    """A contestant's process: a turn for each line of its input."""
    if given.contestant == "decoding alone":
        epoch = decoding(given)
    elif given.contestant.startswith("ours"):
        epoch = ours(given, given.contestant.endswith("float"))
    else:
        epoch = peers(given, given.contestant)
    next(epoch())  # libraries, compiled code and workers are there
    print("ready", flush=True)
    for _ in sys.stdin:
        began, seen = time.perf_counter(), 0
        while time.perf_counter() - began < given.seconds:
            for count in epoch():
                seen += count
                if time.perf_counter() - began >= given.seconds:
                    break
        print(seen, time.perf_counter() - began, flush=True)


def started(name: str, given: argparse.Namespace) -> subprocess.Popen[str]:
    interpreter = given.peer if name in PEERS else sys.executable
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([*given.path, str(ROOT)])}
    command = [interpreter, __file__, str(given.folder), "--contestant", name]
    for option in ("resize", "crop", "level", "batch", "threads", "seconds"):
        command += [f"--{option}", str(getattr(given, option))]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """What a contestant and its workers have used so far."""
    import psutil

    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in family)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--path", action="append", default=[], help="put before PYTHONPATH, e.g. where simplejpeg is")
    parser.add_argument("--resize", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--level", choices=("crop", "crop_color"), default="crop")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="contestants, by commas")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        contestant(given)
        return
    names = given.only.split(",") if given.only else [*OURS, *PEERS]
    running = {name: started(name, given) for name in names}
    for name, process in running.items():
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{name} does not start; run it with --contestant {name!r} to see why")
    speeds: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}
    for number in range(given.rounds):
        for name, process in running.items():
            assert process.stdin is not None and process.stdout is not None  # noqa: PT018
            used = processor_seconds(process)
            process.stdin.write("go\n")
            process.stdin.flush()
            seen, seconds = map(float, process.stdout.readline().split())
            speeds[name].append(seen / seconds * (given.threads if name == OURS[0] else 1))
            costs[name].append((processor_seconds(process) - used) / seen)
            print(
                f"round {number + 1}, {name}: {speeds[name][-1]:.0f} pictures/s, "
                f"{1e6 * costs[name][-1]:.0f} us of processors each",
                flush=True,
            )
    for process in running.values():
        process.terminate()
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, median in medians.items():
        spread = f"{min(speeds[name]):.0f} to {max(speeds[name]):.0f}"
        cost = 1e6 * statistics.median(costs[name])
        print(f"{name}: median {median:.0f} pictures/s ({spread}), {cost:.0f} us of processors each")
    for mine, others in (("ours", PEERS[1:2]), ("ours float", PEERS[:1] + PEERS[2:])):
        others = tuple(other for other in others if other in medians)
        if mine in medians and others:
            best = max(medians[other] for other in others)
            cost = min(statistics.median(costs[other]) for other in others) / statistics.median(costs[mine])
            limit = medians[mine] / medians["decoding alone"]
            print(
                f"{mine}: {medians[mine] / best:.2f} times torchvision, {cost:.2f} times by processors' time, "
                f"{limit:.2f} of decoding alone"
            )


if __name__ == "__main__":
    main()
