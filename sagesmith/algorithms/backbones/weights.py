"""weights: published weights of ResNet and VGG-16, from a file that the user brings, by mapping names.

Layouts: torchvision's (`layer1.0.conv1.weight`, `features.0.weight`), which timm's files of ResNet share; Hugging Face
transformers' ResNet (`resnet.encoder.stages.0.layers.0.layer.0.convolution.weight`, with or without `resnet.`); timm's
VGG (`pre_logits.fc1`). Files: state dicts of torch (read without pickled code) and safetensors. Weights of a last layer
are for other classes and left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sagesmith.algorithms.run import Run

FOLDER = "SAGESMITH_PRETRAINED"  # environment variable: a folder of published weights
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
HUGGING_FACE = ("model.safetensors", "pytorch_model.bin")  # in a folder named after the model
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}
_VGG_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # indices in torchvision's `features`
_VGG_NAMES = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3")


def find_pretrained(run: Run, name: str) -> Path:
    """The file of published weights of a network ("resnet50", "vgg16").

    Looked for in the `model` channel, then in the folder that SAGESMITH_PRETRAINED names: `resnet50.pth`,
    `resnet50-0676ba61.pth`, or `model.safetensors` in a folder `resnet-50` or `resnet50`; endings as in SUFFIXES.

    Raises:
        DataError: there is none, or there are several, saying where to put one.
    """
    places = [run.initial_model] if run.initial_model else []
    places += [Path(os.environ[FOLDER])] if os.environ.get(FOLDER) else []
    for place in places:
        found = sorted(path for path in place.rglob("*") if path.is_file() and _is_of(path, name))
        if len(found) > 1:
            raise DataError(f"{place} holds {len(found)} files of weights for {name}: {', '.join(map(str, found))}")
        if found:
            return found[0]
    looked = f" (looked in: {', '.join(map(str, places))})" if places else ""
    raise DataError(
        f"use_pretrained_model=1, but there are no published weights of {name}{looked}. Put torchvision's or Hugging "
        f"Face's file, such as {name}.pth, {name}-0676ba61.pth or {_dashed(name)}/model.safetensors, into the channel "
        f"'model' or into the folder that the environment variable {FOLDER} names"
    )


def _dashed(name: str) -> str:
    return re.sub(r"(\D)(\d)", r"\1-\2", name, count=1)


def _is_of(path: Path, name: str) -> bool:
    stems = (name, _dashed(name))
    if path.name in HUGGING_FACE:
        return any(re.match(rf"{stem}(?!\d)", path.parent.name) for stem in stems)
    return path.suffix in SUFFIXES and any(re.match(rf"{stem}(?!\d)", path.name) for stem in stems)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        DataError: it is no state dict of torch and no safetensors, or holds more than tensors.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers do
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: no file of weights that can be read: {reason}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise DataError(f"{path}: it holds no state dict (names and tensors)")
    return content


def _safetensors(path: Path) -> dict[str, Tensor]:
    """The format: length of the header (uint64, little endian), header (JSON), bytes."""
    import numpy as np
    import torch

    content = np.fromfile(path, np.uint8)
    length = int(content[:8].view("<u8")[0])
    header = json.loads(content[8 : 8 + length].tobytes())
    data, tensors = content[8 + length :], {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        dtype = getattr(torch, _DTYPES[entry["dtype"]])
        tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype).reshape(entry["shape"])
    return tensors


def take_resnet(network: nn.Module, given: Mapping[str, Tensor], source: object) -> None:
    """Gives a large ResNet published weights, all but the last layer's.

    Raises:
        DataError: tensors are missing or of another shape (another depth), by name; `source` is named.
    """
    named = {_resnet_name(name.removeprefix("module.").removeprefix("resnet.")): t for name, t in given.items()}
    wanted = [name for name in network.state_dict() if not name.startswith("fc.") and not name.endswith("_tracked")]
    _take(network, named, wanted, source)


def _resnet_name(name: str) -> str:
    """Hugging Face's name as torchvision's; others as they are."""
    name = re.sub(r"^embedder\.embedder\.convolution\.", "conv1.", name)
    name = re.sub(r"^embedder\.embedder\.normalization\.", "bn1.", name)
    found = re.match(
        r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:shortcut|layer\.(\d+))\.(convolution|normalization)\.(.+)", name
    )
    if not found:
        return name
    stage, block, number, kind, rest = found.groups()
    if number is None:
        part = f"downsample.{0 if kind == 'convolution' else 1}"
    else:
        part = f"{'conv' if kind == 'convolution' else 'bn'}{int(number) + 1}"
    return f"layer{int(stage) + 1}.{block}.{part}.{rest}"


def take_vgg(network: nn.Module, given: Mapping[str, Tensor], source: object) -> None:
    """Gives VGG16 published weights; fc6 and fc7 from those of the classifier, of which every fourth filter is kept
    and, of fc6, every third pixel (Liu et al., SSD, 2016, section 3: "subsample parameters from fc6 and fc7").

    Raises:
        DataError: tensors are missing or of another shape, by name; `source` is named.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in given.items():
        found = re.fullmatch(r"(?:module\.)?features\.(\d+)\.(weight|bias)", name)
        if found and int(found[1]) in _VGG_CONVOLUTIONS:
            named[f"conv{_VGG_NAMES[_VGG_CONVOLUTIONS.index(int(found[1]))]}.{found[2]}"] = tensor
    for layer, aliases in (("fc6", ("classifier.0", "pre_logits.fc1")), ("fc7", ("classifier.3", "pre_logits.fc2"))):
        for kind in ("weight", "bias"):
            tensors = [given[f"{alias}.{kind}"] for alias in aliases if f"{alias}.{kind}" in given]
            if tensors:
                named[f"{layer}.{kind}"] = _subsampled(layer, tensors[0])
    _take(network, named, list(network.state_dict()), source)


def _subsampled(layer: str, tensor: Tensor) -> Tensor:
    if tensor.dim() == 1:
        return tensor[::4]
    if layer == "fc6":
        return tensor.reshape(tensor.shape[0], -1, 7, 7)[::4, :, ::3, ::3]
    return tensor.reshape(*tensor.shape[:2], 1, 1)[::4, ::4]


def _take(network: nn.Module, named: Mapping[str, Tensor], wanted: Iterable[str], source: object) -> None:
    import torch

    own = network.state_dict()
    for name in wanted:
        if name not in named:
            raise DataError(f"{source}: no weights of this network: {name!r} is missing")
        if named[name].shape != own[name].shape:
            raise DataError(
                f"{source}: {name!r} has shape {tuple(named[name].shape)}, this network's has {tuple(own[name].shape)}"
            )
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(named[name])
