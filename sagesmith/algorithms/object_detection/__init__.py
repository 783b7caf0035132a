"""Object Detection: every object of the known classes in a picture, with its box and a score.

The single shot multibox detector, SSD (Liu et al., 2016), on VGG-16 or ResNet-50, as SageMaker's image has it.
SageMaker's names, formats, log lines and answers are followed to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.base import (
    FILES,
    Algorithm,
    ChannelSpec,
    HyperparameterError,
    Metric,
    Request,
    Response,
    not_rows,
)
from sagesmith.algorithms.first_party import JOB_METRICS
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.object_detection.network import Detector
    from sagesmith.formats.channel import Channel

RECORDS, IMAGES = "application/x-recordio", ("image/jpeg", "image/png", "application/x-image")
JSON, JSONLINES = "application/json", "application/jsonlines"
TRAINED = r"#quality_metric: host=\S+, epoch=\S+, batch=\S+ train "
EACH = ("FullyReplicated",)  # each host takes its share of the same pictures
ASKED_TOGETHER = 8  # pictures


def _pattern(value: str) -> str | None:
    try:
        re.compile(value)
    except re.error as error:
        return f"a regular expression ({error})"
    return None


def _steps(value: str) -> str | None:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return None if all(part.isdigit() and int(part) > 0 for part in parts) else "epochs such as 10,20"


class ObjectDetection(Algorithm):
    """Finds objects in pictures: their classes, boxes and scores, by SSD on VGG-16 or ResNet-50."""

    name = "object-detection"
    images = ("object-detection",)
    dimension = "AWS/Object Detection"
    whole_percents = True
    distributed = True
    incremental = True
    takes_sparse = False
    channels = (
        ChannelSpec("train", True, (RECORDS, *IMAGES), RECORDS, distributions=EACH),
        ChannelSpec("validation", False, (RECORDS, *IMAGES), RECORDS, distributions=EACH),
        ChannelSpec("train_annotation", False, (), JSON, modes=FILES, distributions=EACH),
        ChannelSpec("validation_annotation", False, (), JSON, modes=FILES, distributions=EACH),
    )
    metrics = (
        Metric("validation:mAP", r"#quality_metric: host=\S+, epoch=\S+, validation mAP <score>=\((\S+)\)", "Maximize"),
        Metric("train:cross_entropy", TRAINED + r"cross_entropy <loss>=(\S+)"),
        Metric("train:smooth_l1", TRAINED + r"smooth_l1 <loss>=(\S+)"),
        *JOB_METRICS,
    )
    accepts = IMAGES
    returns = (JSON, JSONLINES)
    example = {"num_classes": 2, "num_training_samples": 8, "use_pretrained_model": 0, "epochs": 1}
    exceptions = not_rows("pictures with objects")

    num_classes: int = hp("classes of objects; the background is one more, of the network's own", gt=0)
    num_training_samples: int = hp("pictures of the train channel", gt=0)
    base_network: str = hp("network that the detector stands on", default="vgg-16", choices=("vgg-16", "resnet-50"))
    early_stopping: bool = hp("end training when validation:mAP rises no more", default=False)
    early_stopping_min_epochs: int = hp("epochs before training may end early", default=10, gt=0)
    early_stopping_patience: int = hp("epochs without a gain that end training early", default=5, gt=0)
    early_stopping_tolerance: float = hp(
        "gain of validation:mAP, as a share of its best value, that counts as one", default=0.0, ge=0, le=1
    )
    image_shape: int = hp("side of the square that pictures are scaled to, in pixels", default=300, ge=300)
    epochs: int = hp("passes over the pictures", default=30, gt=0)
    freeze_layer_pattern: str = hp(
        "regular expression; layers of the base network whose names begin with a match are not learnt", default="",
        check=_pattern,
    )  # fmt: skip
    kv_store: str | None = hp(
        "how hosts share gradients; both make all hosts step together", default=None,
        choices=("dist_sync", "dist_async"),
    )  # fmt: skip
    label_width: int = hp(
        "most numbers of a picture's label: 2, and 5 for each object; the same for training and validation",
        default=350, gt=0,
    )  # fmt: skip
    learning_rate: float = hp("step size", default=0.001, gt=0, le=1, tunable=Tunable(1e-6, 0.5, "Logarithmic"))
    lr_scheduler_factor: float = hp("factor of the learning rate at each step", default=0.1, gt=0, lt=1)
    lr_scheduler_step: str = hp(
        "epochs after which the learning rate is multiplied, such as 10,20", default="", check=_steps
    )
    mini_batch_size: int = hp("pictures of a batch, on each host", default=32, gt=0, tunable=Tunable(8, 64))
    momentum: float = hp("momentum of sgd", default=0.9, gt=0, le=1, tunable=Tunable(0, 0.999))
    nms_threshold: float = hp(
        "overlap (IoU) above which a box is dropped for a better one of its class", default=0.45, gt=0, le=1
    )
    nms_topk: int = hp(
        "boxes of a class that are looked at, the best ones, and rows of an answer at most", default=400, gt=0
    )
    optimizer: str = hp(
        "optimiser", default="sgd", choices=("sgd", "adam", "rmsprop", "adadelta"),
        tunable=Tunable(values=("sgd", "adam", "rmsprop", "adadelta")),
    )  # fmt: skip
    overlap_threshold: float = hp("overlap (IoU) from which a detection is right, in mAP", default=0.5, gt=0, le=1)
    use_pretrained_model: int = hp(
        "1: the base network begins with weights learnt on ImageNet; 0: with random ones", default=1, choices=(0, 1)
    )
    weight_decay: float = hp("L2 penalty of sgd and rmsprop", default=0.0005, gt=0, lt=1, tunable=Tunable(0, 0.999))
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 31)

    @classmethod
    def warm_up(cls) -> None:
        from importlib import import_module
        from threading import Thread

        Thread(target=import_module, args=("torch",), daemon=True).start()

    # -- training ----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """Learns from pictures `X` and the objects `y` in them.

        Args:
            X: a folder of pictures; or a sequence of arrays (H, W, 3) uint8; or a `.rec` file or a folder of them,
                or an augmented manifest, without `y`.
            y: a folder of annotations, one JSON file for each picture; or a sequence of arrays (m, 5): class, xmin,
                ymin, xmax, ymax, the corners as shares of width and height.
            channels: `validation`, likewise, as (X, y) or X.

        Raises:
            HyperparameterError, DataError, ValueError.
        """
        from sagesmith.algorithms.object_detection.samples import channel_of

        self.validate()
        given = channel_of("train", X, y)
        for name, value in channels.items():
            if value is not None:
                pictures, objects = value if isinstance(value, tuple) else (value, None)
                given |= channel_of(name, pictures, objects)
        self.train(given, run or Run())
        return self

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.nets import Team
        from sagesmith.algorithms.object_detection.samples import loader_of, opened
        from sagesmith.algorithms.object_detection.training import Training

        settings = self.settings
        pictures = {name: opened(channels, name) for name in ("train", "validation") if name in channels}
        self._describe(pictures, run)
        team = Team(run, settings["seed"])
        try:
            network = team.copied(self._begun(run))
            run.log("%d weights, on %s", sum(weight.numel() for weight in network.parameters()), team.device)
            loaders = {name: loader_of(found, settings, team, name == "train") for name, found in pictures.items()}
            self.network_ = network
            Training(
                network, settings, loaders["train"], loaders.get("validation"), team, lambda: self._keep(run)
            ).run()
        finally:
            team.close()
        network.eval()

    def _describe(self, pictures: Mapping[str, Any], run: Run) -> None:
        """What the log says before training begins, and what has no effect."""
        settings = self.settings
        for name, found in pictures.items():
            if hasattr(found, "__len__"):
                run.log("Channel %s: %d pictures", name, len(found))
        if "validation" not in pictures:
            if settings["early_stopping"]:
                raise HyperparameterError("early_stopping needs a channel 'validation', whose mAP it goes by")
            run.log("Without a channel 'validation' there is no mAP; the model will be that of the last epoch")
        for name in ("momentum", "weight_decay"):
            used = ("sgd",) if name == "momentum" else ("sgd", "rmsprop")
            if settings["optimizer"] not in used and settings[name] != self.hyperparameters[name].default:
                run.log("Hyperparameter %s has no effect with optimizer %s", name, settings["optimizer"])
        if settings["kv_store"] and len(run.hosts) == 1:
            run.log("Hyperparameter kv_store has no effect on a single host")
        elif settings["kv_store"] == "dist_async":
            run.log("kv_store dist_async: the hosts step together, as with dist_sync")

    def _begun(self, run: Run) -> Detector:
        """The network before its first step: an earlier model's, or on published weights, or with random ones."""
        import torch

        from sagesmith.algorithms.backbones import weights
        from sagesmith.algorithms.object_detection import artifact
        from sagesmith.algorithms.object_detection.network import detector

        settings = self.settings
        network = detector(settings["base_network"], settings["num_classes"], settings["image_shape"])
        if run.initial_model is not None and artifact.is_model(run.initial_model):
            self._take_earlier(network, run.initial_model)
            run.log("Training goes on from the model in %s", run.initial_model)
        elif settings["use_pretrained_model"]:
            name = settings["base_network"].replace("-", "")
            path = weights.find_pretrained(run, name)
            take = weights.take_vgg if name == "vgg16" else weights.take_resnet
            take(network.trunk.get_submodule("base"), weights.read_weights(path), path)
            run.log("The base network begins with the weights of %s", path)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _take_earlier(self, network: Detector, folder: Path) -> None:
        from sagesmith.algorithms.nets import take_weights
        from sagesmith.algorithms.object_detection import artifact

        arrays, earlier = artifact.read(folder)
        for name in artifact.NETWORK:
            if name != "image_shape" and earlier[name] != self.settings[name]:
                raise HyperparameterError(
                    f"{name} is {self.settings[name]!r}, but the model in channel 'model' has {earlier[name]!r}: "
                    "incremental training needs the same base_network and num_classes"
                )
        try:
            take_weights(network, arrays)
        except ValueError as error:
            raise ValueError(
                f"the model in channel 'model' was trained at image_shape {earlier['image_shape']}, which has other "
                f"feature maps than {self.settings['image_shape']}: {error}"
            ) from None

    def _keep(self, run: Run) -> None:
        """Saves the best network so far, where there is a place for it."""
        from sagesmith.algorithms.object_detection import artifact

        if run.model is not None:
            self.save(run.model)
            run.log('Saved checkpoint to "%s"', run.model / artifact.PARAMS)

    # -- asking ------------------------------------------------------------------------------------------------
    def predict(self, X: Any, **options: Any) -> list[np.ndarray]:
        """The detections in each of a sequence of pictures, (k, 6) float32, the best first.

        A row is class, score, xmin, ymin, xmax, ymax; corners are shares of width and height.

        Args:
            X: arrays (H, W, 3) uint8, or paths of files.

        Raises:
            ValueError: not fitted, or what is no picture.
        """
        from sagesmith.algorithms.images.pictures import Picture, checked_pixels, read

        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)
        images = []
        for number, one in enumerate(X):
            if isinstance(one, str | Path):
                image = Picture(str(one), read(Path(one), str(one)), None).pixels()
            else:
                image = checked_pixels(one, f"picture {number}")
            images.append(image)
        return list(self.infer(images)["prediction"])

    def infer(self, batch: Any, **options: Any) -> Mapping[str, list[np.ndarray]]:
        """Of pictures (H, W, 3) uint8: `prediction`, the detections of each."""
        import torch

        from sagesmith.algorithms.images.augmentation import resized
        from sagesmith.algorithms.object_detection.suppression import detections
        from sagesmith.algorithms.parallel import each
        from sagesmith.formats.ahead import processors

        settings, network, threads = self.settings, self.network_, processors()
        side = settings["image_shape"]
        device, defaults = network.defaults.device, network.defaults.cpu().numpy()

        def prepared(image: np.ndarray) -> np.ndarray:
            small = resized(image, side, side)
            return np.repeat(small, 3, axis=2) if small.shape[2] == 1 else small

        found: list[np.ndarray] = []
        with torch.inference_mode():
            for at in range(0, len(batch), ASKED_TOGETHER):
                images = np.stack(each(prepared, batch[at : at + ASKED_TOGETHER], threads))
                logits, offsets = network(torch.from_numpy(images).to(device))
                found += detections(logits, offsets, defaults, settings["nms_threshold"], settings["nms_topk"], threads)
        return {"prediction": found}

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean average precision over classes in VOC's manner, at `overlap_threshold`; X and y as for `fit`."""
        from sagesmith.algorithms.object_detection.precision import mean_average_precision

        if sample_weight is not None:
            raise ValueError("pictures have no weights")
        return mean_average_precision(*self._judged(X, y), self.settings["overlap_threshold"])

    def coco_measures(self, X: Any, y: Any) -> dict[str, float]:
        """COCO's measures by name, `AP` (mean over overlaps of .50 to .95), `AP50` and others; X and y as for `fit`.

        Raises:
            ModuleNotFoundError: faster-coco-eval is not installed.
        """
        from sagesmith.algorithms.object_detection.precision import coco_precision

        return coco_precision(*self._judged(X, y))

    def _judged(self, X: Any, y: Any) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        """The objects of pictures, and what is found in them."""
        from sagesmith.algorithms.nets import Team
        from sagesmith.algorithms.object_detection.samples import channel_of, loader_of, opened
        from sagesmith.algorithms.object_detection.training import judged

        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)
        team = Team(Run())
        loader = loader_of(opened(channel_of("test", X, y), "test"), self.settings, team, training=False)
        return judged(self.network_, loader, self.settings, team)

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.object_detection.requests import respond

        return respond(self, request)

    # -- the artifact ------------------------------------------------------------------------------------------
    def save(self, folder: Path) -> None:
        from sagesmith.algorithms.nets import weights_of
        from sagesmith.algorithms.object_detection import artifact

        artifact.write(folder, weights_of(self.network_), self.settings)

    @classmethod
    def load(cls, folder: Path) -> Self:
        import torch

        from sagesmith.algorithms.nets import serving_device, take_weights
        from sagesmith.algorithms.object_detection import artifact
        from sagesmith.algorithms.object_detection.network import detector

        arrays, settings = artifact.read(folder)
        try:
            model = cls(**settings)
            model.validate()
            network = detector(settings["base_network"], settings["num_classes"], settings["image_shape"])
            take_weights(network, arrays)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder} holds no {cls.name} model that can be read: {error}") from None
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.network_ = network.to(serving_device()).eval()
        return model
