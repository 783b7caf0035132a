"""Semantic Segmentation: a class for every pixel: FCN, PSP or DeepLabV3 on a dilated ResNet.

    heads, network, loss                        heads.py, network.py; the residual networks are backbones/'s
    channels, folders, arrays; masks' values    scenes.py, opening.py, label_maps.py
    epochs, log, checkpoints                    training.py, schedules.py
    mIOU and pixel accuracy                     judging.py, metrics.py
    pictures of any size, answers               inference.py, requests.py

SageMaker's image is built on GluonCV; hyperparameters, channels, log lines and answers are its to the letter. Left
out: MXNet's file format and several hosts, which SageMaker's image does not have either. Departures:
docs/decisions/0036.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.base import FILES, ChannelSpec, HyperparameterError, Metric, Request, Response, not_rows
from sagesmith.algorithms.first_party import FirstParty
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.images.pictures import Pictures
    from sagesmith.algorithms.semantic_segmentation.network import Segmenter
    from sagesmith.algorithms.semantic_segmentation.scenes import Scenes
    from sagesmith.formats.channel import Channel

PICTURES = ("application/x-image", "image/jpeg", "image/png", "application/x-recordio")
WHOLE = ("FullyReplicated",)
SAME = ("backbone", "algorithm", "crop_size", "num_classes")  # of an earlier model, for incremental training


def _quality(name: str, objective: Any, what: str) -> Metric:
    return Metric(name, rf"#quality_metric\. host: \S+, epoch: \S+, {what}: (\S+) \.", objective)


def _throughput(channel: str) -> Metric:
    line = rf"#throughput_metric\. host: \S+, epoch: \S+, {channel} throughput: (\S+) samples/sec\."
    return Metric(f"{channel}:throughput", line)


class SemanticSegmentation(FirstParty):
    """Labels every pixel of a picture: FCN, PSP or DeepLabV3 on ResNet-50 or ResNet-101."""

    name = "semantic-segmentation"
    images = ("semantic-segmentation",)
    dimension = "AWS/Semantic Segmentation"
    whole_percents = True
    incremental = True
    takes_sparse = False
    artifact = ("model_best.params", "hyperparams.json")
    channels = (
        ChannelSpec("train", True, PICTURES, PICTURES[0], distributions=WHOLE),
        ChannelSpec("train_annotation", False, PICTURES[:3], "image/png", FILES, WHOLE),
        ChannelSpec("validation", True, PICTURES, PICTURES[0], distributions=WHOLE),
        ChannelSpec("validation_annotation", False, PICTURES[:3], "image/png", FILES, WHOLE),
        ChannelSpec("label_map", False, (), "application/json", FILES, WHOLE),
    )
    metrics = (
        _quality("validation:mIOU", "Maximize", "validation mIOU"),
        _quality("validation:pixel_accuracy", "Maximize", "validation pixel_accuracy"),
        _quality("train:loss", "Minimize", "train loss"),
        _throughput("train"),
        _throughput("validation"),
        Metric("train:progress", r"#progress_metric: host=\S+, completed (\S+) %"),
    )
    accepts = ("image/jpeg", "image/png", "application/x-image")
    returns = ("image/png", "application/x-protobuf", "application/x-recordio-protobuf")
    example = {"num_classes": 3, "num_training_samples": 8, "use_pretrained_model": False, "epochs": 1}
    exceptions = not_rows("pictures with masks")

    backbone: str = hp("encoder", default="resnet-50", choices=("resnet-50", "resnet-101"))
    use_pretrained_model: bool = hp(
        "start the encoder from published weights, which must be at hand; no effect with an earlier model", default=True
    )
    algorithm: str = hp("decoder", default="fcn", choices=("fcn", "psp", "deeplab"))
    num_classes: int = hp("classes of pixels", ge=2, le=254)
    num_training_samples: int | None = hp(
        "training pictures, from which the learning rate's schedule is made", default=None, inferred=True, gt=0
    )
    base_size: int = hp("the longer side of training pictures becomes base_size x U(0.5, 2)", default=520, gt=16)
    crop_size: int = hp("side of the square that is cut out of them, rounded up to a multiple of 8", default=240, gt=16)
    early_stopping: bool = hp("end training when mIOU no longer improves", default=False)
    early_stopping_min_epochs: int = hp("epochs before which it does not end", default=5, gt=0)
    early_stopping_patience: int = hp("epochs in a row without improvement that end it", default=4, gt=0)
    early_stopping_tolerance: float = hp(
        "relative gain of mIOU beyond which an epoch improved", default=0.0, ge=0, le=1
    )
    epochs: int = hp("passes over the data", default=10, gt=0)
    gamma1: float = hp("decay of rmsprop's mean of squared gradients", default=0.9, ge=0, le=1)
    gamma2: float = hp("momentum of rmsprop", default=0.9, ge=0, le=1)
    learning_rate: float = hp(
        "learning rate at the start", default=0.001, gt=0, le=1, tunable=Tunable(1e-4, 1e-1, "Logarithmic")
    )
    lr_scheduler: str = hp("how the learning rate falls", default="poly", choices=("step", "poly", "cosine"))
    lr_scheduler_factor: float = hp("factor of the learning rate at a step, for `step`", default=0.1, ge=0, le=1)
    lr_scheduler_step: list[int] | None = hp(
        "epochs after which the learning rate falls, for `step`, e.g. 10,20", default=None,
        check=lambda value: None if value and min(value) > 0 else "a list of positive epochs, e.g. 10,20",
    )  # fmt: skip
    mini_batch_size: int = hp("pictures of a step", default=16, gt=0, tunable=Tunable(1, 128))
    momentum: float = hp("momentum of sgd and nag", default=0.9, gt=0, le=1, tunable=Tunable(0.9, 0.999))
    optimizer: str = hp(
        "optimiser", default="sgd", choices=("adam", "adagrad", "adadelta", "nag", "rmsprop", "sgd"),
        tunable=Tunable(values=("sgd", "adam", "adadelta")),
    )  # fmt: skip
    syncbn: bool = hp("batch normalisation over the pictures of all GPUs together", default=False)
    validation_mini_batch_size: int = hp("validation pictures that are judged together at most", default=16, gt=0)
    weight_decay: float = hp("L2 penalty of sgd and nag", default=0.0001, gt=0, lt=1, tunable=Tunable(1e-5, 1e-3))
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 31)

    def check(self) -> None:
        if self.settings["lr_scheduler"] == "step" and self.settings["lr_scheduler_step"] is None:
            raise HyperparameterError(
                "lr_scheduler is step, but lr_scheduler_step is missing: give the epochs after which the learning rate "
                "falls, e.g. 10,20"
            )

    @classmethod
    def warm_up(cls) -> None:
        from importlib import import_module
        from threading import Thread

        Thread(target=import_module, args=("torch",), daemon=True).start()

    # -- training ----------------------------------------------------------------------------------------------
    def fit(
        self, X: Any, y: Any = None, *, validation: Any = None, label_map: Any = None, run: Run | None = None,
        **channels: Any,
    ) -> Self:  # fmt: skip
        """Learns from pictures `X` and their masks `y`.

        Args:
            X: a folder of pictures; pixels (n, H, W, 3) uint8, or a list of (H, W, 3); or, without y, a folder with
                the folders train, train_annotation, validation, validation_annotation and label_map, the last three
                if there are any; or a Channel, with `train_annotation`, `validation` and others as further ones.
            y: a folder of PNG masks of the pictures' names; or (n, H, W), or a list of (H, W), whole numbers.
            validation: likewise, as (X, y): the best epoch by its mIOU is kept. None: the last one is.
            label_map: what the masks' values mean, as the parsed JSON: `{"scale": 3}` or `{"map": {"0": 5}}`.

        Raises:
            HyperparameterError, DataError, ValueError.
        """
        from sagesmith.algorithms.semantic_segmentation import opening
        from sagesmith.formats.channel import Channel

        self.validate()
        if isinstance(X, Channel):
            given = {"train": X} | ({"train_annotation": y} if y is not None else {}) | channels
            if validation is not None:
                given["validation"] = validation
            self.train(given, run or Run())
            return self
        train, held = opening.given(X, y, validation, label_map, self.settings["num_classes"])
        self._learn(train, held, run or Run())
        return self

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.semantic_segmentation import opening

        classes = self.settings["num_classes"]
        train = opening.opened(channels, "train", classes, run)
        held = opening.opened(channels, "validation", classes, run) if "validation" in channels else None
        self._learn(train, held, run)

    def _learn(self, train: Scenes, held: Scenes | None, run: Run) -> None:
        from sagesmith.algorithms.nets import Team
        from sagesmith.algorithms.semantic_segmentation.network import Segmenter, laid_out
        from sagesmith.algorithms.semantic_segmentation.training import Training

        settings = self._resolved(train, run)
        if held is None and settings["early_stopping"]:
            raise HyperparameterError("early_stopping needs validation data: it watches their mIOU")
        team = Team(run, seed=settings["seed"])
        network = Segmenter.of(settings["backbone"], settings["algorithm"], settings["num_classes"])
        self._start(network, run)
        network = laid_out(team.copied(network))
        run.log("%d weights, on %s", sum(weight.numel() for weight in network.parameters()), team.device)
        epochs = Training(network, settings, train, held, team).run()
        run.metrics("training", {"epochs": epochs})
        self.network_ = network.eval()
        if run.model is not None:
            run.log("Serializing model to %s/%s", run.model, self.artifact[0])

    def _resolved(self, train: Scenes, run: Run) -> dict[str, Any]:
        """The settings with what follows from the data; what has no effect is said."""
        from sagesmith.algorithms.images.scenes import crop_side

        settings, count = dict(self.settings), len(train)
        side = crop_side(settings["crop_size"])
        if side != settings["crop_size"]:
            run.log("crop_size %d is rounded up to %d, a multiple of 8", settings["crop_size"], side)
        samples = settings["num_training_samples"] or count
        if not samples:
            raise HyperparameterError("num_training_samples must be given where pictures come through a pipe")
        if count and samples != count:
            run.log("num_training_samples is %d, but the train channel has %d pictures", samples, count)
        for name, needed, optimizers in (
            ("momentum", "sgd or nag", ("sgd", "nag")), ("weight_decay", "sgd or nag", ("sgd", "nag")),
            ("gamma1", "rmsprop", ("rmsprop",)), ("gamma2", "rmsprop", ("rmsprop",)),
        ):  # fmt: skip
            if settings["optimizer"] not in optimizers and settings[name] != self.hyperparameters[name].default:
                run.log("%s has no effect with optimizer %s: it needs %s", name, settings["optimizer"], needed)
        return settings | {"crop_size": side, "num_training_samples": samples}

    def _start(self, network: Segmenter, run: Run) -> None:
        """The first weights: an earlier model's, or published ones of the encoder, or random ones."""
        from sagesmith.algorithms.backbones.weights import find_pretrained, read_weights, take_resnet
        from sagesmith.algorithms.nets import take_weights, weights_of

        if run.initial_model is not None and (run.initial_model / self.artifact[0]).exists():
            earlier = type(self).load(run.initial_model)
            for name in SAME:
                if earlier.settings[name] != self.settings[name]:
                    raise HyperparameterError(
                        f"the model channel's model has {name} {earlier.settings[name]}, this job "
                        f"{self.settings[name]}: incremental training needs equal {', '.join(SAME)}"
                    )
            take_weights(network, weights_of(earlier.network_))
            run.log("Training goes on from the model in %s", run.initial_model)
        elif self.settings["use_pretrained_model"]:
            path = find_pretrained(run, self.settings["backbone"].replace("-", ""))
            take_resnet(network.backbone, read_weights(path), path)
            run.log("The encoder starts from %s", path)

    # -- asking ------------------------------------------------------------------------------------------------
    def predict(self, X: Any, **options: Any) -> Any:
        """The class of every pixel of pictures: pixels (n, H, W, 3), a list of (H, W, 3), a folder, files.

        Returns:
            (n, H, W) uint8, or a list of (H, W) if the pictures are of several sizes.
        """
        masks = self.infer(self._asked(X), **options)["mask"]
        return np.stack(masks) if len({mask.shape for mask in masks}) == 1 else masks

    def infer(self, batch: Any, **options: Any) -> Mapping[str, list[np.ndarray]]:
        """Of Pictures: `mask`, (H, W) uint8 each."""
        from sagesmith.algorithms.semantic_segmentation.judging import predicted
        from sagesmith.algorithms.semantic_segmentation.scenes import coloured

        found: dict[int, np.ndarray] = {}
        held = ((number, coloured(picture.pixels()), None) for number, picture in enumerate(batch))
        for group, masks in predicted(self.network_, held, self.settings, self._device):
            found |= zip(group.numbers, masks.cpu().numpy(), strict=True)
        return {"mask": [found[number] for number in range(len(batch))]}

    def mask_of(self, image: np.ndarray) -> np.ndarray:
        """The class of every pixel of one picture (H, W, 3) uint8: (H, W) uint8."""
        mask: np.ndarray = self.infer(self._asked([image]))["mask"][0]
        return mask

    def probabilities_of(self, image: np.ndarray) -> np.ndarray:
        """The probability of every class at every pixel of one picture (H, W, 3) uint8: (classes, H, W) float32."""
        import torch

        from sagesmith.algorithms.semantic_segmentation import inference

        self._asked([image])
        self.network_.eval()
        with torch.inference_mode():
            picture = torch.from_numpy(np.array(image))[None].to(self._device)
            logits = inference.logits_of(self.network_, picture, self.settings["base_size"])
            found: np.ndarray = inference.probabilities_of(logits, image.shape[:2])[0].cpu().numpy()
        return found

    def confusion(self, X: Any, y: Any, label_map: Any = None) -> np.ndarray:
        """How many pixels of each class (rows) are taken for each class (columns), (classes, classes) int64.

        X and y as for `fit`. Pixels without a label are left out.
        """
        from sagesmith.algorithms.semantic_segmentation import opening
        from sagesmith.algorithms.semantic_segmentation.judging import judged

        self._check_fitted()
        scenes = opening.given(X, y, None, label_map, self.settings["num_classes"])[0]
        return judged(self.network_, scenes, self.settings, self._device, Run())[0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """mIOU over all pixels of pictures X with masks y."""
        from sagesmith.algorithms.semantic_segmentation.metrics import mean_iou

        if sample_weight is not None:
            raise ValueError("pictures have no weights")
        return mean_iou(self.confusion(X, y))

    def _asked(self, X: Any) -> Pictures:
        from sagesmith.algorithms.semantic_segmentation.opening import asked

        self._check_fitted()
        return asked(X)

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)

    @property
    def _device(self) -> Any:
        return next(self.network_.parameters()).device

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.semantic_segmentation.requests import respond

        return respond(self, request)

    # -- the artifact ------------------------------------------------------------------------------------------
    def arrays(self) -> Mapping[str, np.ndarray]:
        from sagesmith.algorithms.nets import weights_of

        return weights_of(self.network_)

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        from sagesmith.algorithms.nets import serving_device, take_weights
        from sagesmith.algorithms.semantic_segmentation.network import Segmenter, laid_out

        settings = self.settings
        network = Segmenter.of(settings["backbone"], settings["algorithm"], settings["num_classes"])
        take_weights(network, arrays)
        self.network_ = laid_out(network.to(serving_device())).eval()
