"""backbones: shapes and sizes of the networks, published weights by their several names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sagesmith.algorithms.backbones import weights
from sagesmith.algorithms.backbones.depths import LARGE, SMALL
from sagesmith.algorithms.backbones.pixels import standardized
from sagesmith.algorithms.backbones.resnet import ResNet
from sagesmith.algorithms.backbones.vgg import VGG16
from sagesmith.formats.errors import DataError
from sagesmith.testing.check_algorithm import RecordingRun

# what torchvision's models of 1000 classes and He et al.'s table 6 have, in numbers
PARAMETERS = {18: 11689512, 34: 21797672, 50: 25557032, 101: 44549160, 152: 60192808}
CIFAR_MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_networks_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):  # shapes alone
        counts = {depth: count(ResNet(depth, classes=1000)) for depth in PARAMETERS}
        millions = {depth: count(ResNet(depth, small=True, classes=10)) / 1e6 for depth in SMALL}
        deepest = ResNet(200)
    assert counts == PARAMETERS
    assert millions == pytest.approx(CIFAR_MILLIONS, abs=0.035)  # theirs has shortcuts without weights
    assert sum(isinstance(m, nn.Conv2d) for m in deepest.modules()) == 199 + 4  # and the four shortcuts


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize(("stride", "sides"), [(32, [16, 8, 4, 2]), (16, [16, 8, 4, 4]), (8, [16, 8, 8, 8])])
def test_dilation_keeps_the_features_large(depth: int, stride: int, sides: list[int]) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        network = ResNet(depth, output_stride=stride)
        features = network.features(torch.zeros(1, 3, 64, 64))
    assert [tuple(one.shape[1:]) for one in features] == [
        (width, side, side) for width, side in zip(network.widths, sides, strict=True)
    ]


def test_dilated_weights_are_the_plain_ones() -> None:
    plain, dilated = ResNet(50), ResNet(50, output_stride=8)
    dilated.load_state_dict(plain.state_dict())


def test_small_pictures_go_through_networks_of_both_kinds() -> None:
    for depth, side in [(20, 32), (18, 28), (50, 8)]:
        network = ResNet(depth, small=True, classes=3)
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 3)
    assert [one.shape[2] for one in ResNet(20, small=True).features(torch.zeros(1, 3, 32, 32))] == [32, 16, 8]


def test_strange_depths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"20 layers: there are those of \[18, 34, 50, 101, 152, 200\]"):
        ResNet(20)
    with pytest.raises(ValueError, match=r"19 layers: there are those of \[18, 20, 32, 34"):
        ResNet(19, small=True)
    with pytest.raises(ValueError, match="output stride 4"):
        ResNet(18, output_stride=4)


def test_pixels_are_standardized() -> None:
    pictures = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    found = standardized(pictures)
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = (pictures[1, 2, 3].double() / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(found[1, :, 2, 3].double(), expected, atol=1e-5, rtol=0)
    grey = standardized(torch.full((1, 2, 2, 1), 255, dtype=torch.uint8))
    assert grey.shape == (1, 1, 2, 2)
    assert float(grey[0, 0, 0, 0]) == pytest.approx((1 - 0.449) / 0.226)


def test_vgg_has_ssds_maps_and_names() -> None:
    with torch.device("meta"):
        network = VGG16()
        first, second = network(torch.zeros(1, 3, 300, 300))
    assert (first.shape, second.shape) == ((1, 512, 38, 38), (1, 1024, 19, 19))
    names = [name for name, _ in network.named_children()]
    assert (names[0], names[12], names[13:]) == ("conv1_1", "conv5_3", ["fc6", "fc7"])


# -- published weights ------------------------------------------------------------------------------------------
def hugging_face(state: dict[str, Tensor], prefix: str = "resnet.") -> dict[str, Tensor]:
    """A state dict in the names of transformers' ResNetForImageClassification."""
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if name.startswith(("conv1", "bn1")):
            new = f"embedder.embedder.{'convolution' if parts[0] == 'conv1' else 'normalization'}.{parts[-1]}"
        elif name.startswith("layer"):
            where = f"encoder.stages.{int(parts[0][5:]) - 1}.layers.{parts[1]}"
            if parts[2] == "downsample":
                new = f"{where}.shortcut.{'convolution' if parts[3] == '0' else 'normalization'}.{parts[-1]}"
            else:
                kind = "convolution" if parts[2].startswith("conv") else "normalization"
                new = f"{where}.layer.{int(parts[2][-1]) - 1}.{kind}.{parts[-1]}"
        else:
            renamed[f"classifier.1.{parts[-1]}"] = tensor
            continue
        renamed[prefix + new] = tensor
    return renamed


def safetensors(path: Path, state: dict[str, Tensor]) -> None:
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in state.items():
        raw = tensor.contiguous().numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}  # type: ignore[dict-item]
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    ("depth", "layout"),
    [(18, "torchvision"), (18, "hugging face trunk"), (50, "torchvision"), (50, "hugging face")],
)
def test_published_resnets_are_taken(tmp_path: Path, depth: int, layout: str) -> None:
    torch.manual_seed(depth)
    published, network = ResNet(depth, classes=7).eval(), ResNet(depth, classes=2).eval()
    state = published.state_dict()
    if layout == "torchvision":
        path = tmp_path / f"resnet{depth}-0676ba61.pth"
        torch.save(state, path)
    else:
        path = tmp_path / "model.safetensors"
        safetensors(path, hugging_face(state, "resnet." if layout == "hugging face" else ""))
    before = network.fc.weight.clone()
    weights.take_resnet(network, weights.read_weights(path), path)
    pictures = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(network.features(pictures)[-1], published.features(pictures)[-1])
    assert torch.equal(network.fc.weight, before)


@pytest.mark.parametrize(
    ("fc6", "fc7", "shape6", "shape7"),
    [
        ("classifier.0", "classifier.3", (4096, 25088), (4096, 4096)),  # torchvision's
        ("pre_logits.fc1", "pre_logits.fc2", (4096, 512, 7, 7), (4096, 4096, 1, 1)),  # timm's, on Hugging Face
    ],
)
def test_published_vgg_is_taken(fc6: str, fc7: str, shape6: tuple[int, ...], shape7: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network, source = VGG16(), VGG16()
    indices = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    state = {}
    for index, (name, layer) in zip(indices, list(source.named_children())[:13], strict=True):
        state |= {f"features.{index}.{kind}": layer.state_dict()[kind] for kind in ("weight", "bias")}
        assert name.startswith("conv")
    full6, full7 = torch.randn(64, 512, 7, 7), torch.randn(64, 64)
    assert weights._subsampled("fc6", full6.flatten(1)).equal(full6[::4, :, ::3, ::3])
    assert weights._subsampled("fc7", full7)[:, :, 0, 0].equal(full7[::4, ::4])
    big = {f"{fc6}.bias": torch.arange(4096.0), f"{fc7}.bias": torch.arange(4096.0)}
    for name, shape in ((fc6, shape6), (fc7, shape7)):
        rows = torch.arange(4096.0).reshape(-1, *[1] * (len(shape) - 1))
        big[f"{name}.weight"] = rows.expand(shape)  # no memory
    weights.take_vgg(network, state | big, "vgg16.pth")
    assert network.conv5_3.weight.equal(source.conv5_3.weight)
    assert network.fc6.bias.tolist()[:3] == network.fc7.bias.tolist()[:3] == [0, 4, 8]
    assert network.fc6.weight[:3, 5, 1, 2].tolist() == network.fc7.weight[:3, 7, 0, 0].tolist() == [0, 4, 8]
    with pytest.raises(DataError, match=r"vgg16.pth: no weights of this network: 'conv1_1.weight' is missing"):
        weights.take_vgg(network, big, "vgg16.pth")


def test_weights_of_another_depth_are_refused() -> None:
    with pytest.raises(DataError, match=r"w.pth: .*'layer1.0.conv3.weight' is missing"):
        weights.take_resnet(
            ResNet(50), ResNet(34).state_dict() | {"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}, "w.pth"
        )
    with pytest.raises(DataError, match=r"'layer1.0.conv1.weight' has shape \(64, 64, 3, 3\), this network's has"):
        weights.take_resnet(ResNet(50), ResNet(34).state_dict(), "w.pth")


def test_files_are_found_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RecordingRun()
    monkeypatch.delenv(weights.FOLDER, raising=False)
    with pytest.raises(DataError, match=r"resnet50-0676ba61.pth or resnet-50/model.safetensors, into the channel"):
        weights.find_pretrained(run, "resnet50")
    monkeypatch.setenv(weights.FOLDER, str(tmp_path))
    for name in ("resnet50-abc.pth", "resnet101.pth", "resnet-18/model.safetensors", "resnet152/other.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert weights.find_pretrained(run, "resnet50").name == "resnet50-abc.pth"
    assert weights.find_pretrained(run, "resnet18") == tmp_path / "resnet-18/model.safetensors"
    with pytest.raises(DataError, match="looked in"):
        weights.find_pretrained(run, "resnet152")
    (tmp_path / "resnet50.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="holds 2 files of weights for resnet50"):
        weights.find_pretrained(run, "resnet50")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all, whatever the name"])
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        weights.read_weights(tmp_path / name)


def test_pickled_code_is_refused(tmp_path: Path) -> None:
    torch.save({"a": Path("x")}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="no file of weights"):
        weights.read_weights(tmp_path / "w.pth")


def test_every_large_depth_has_blocks() -> None:
    assert {depth: sum(blocks) * (3 if depth >= 50 else 2) + 2 for depth, blocks in LARGE.items()} == {
        d: d for d in LARGE
    }
