"""Image Classification: residual networks that say what is on a picture, one class or several.

He et al., Deep Residual Learning for Image Recognition, 2015; the networks are in `backbones/resnet.py`. SageMaker's
names, ranges, log lines and answers are followed to the letter; its files of MXNet are not (artifact.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.backbones.depths import LARGE, SMALL
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
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.image_classification import artifact
from sagesmith.algorithms.image_classification import settings as rules
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.image_classification.data import Opened
    from sagesmith.algorithms.image_classification.network import Task
    from sagesmith.algorithms.nets import Team
    from sagesmith.formats.channel import Channel

RECORDS = "application/x-recordio"
PICTURES = ("application/x-image", "image/jpeg", "image/png")
ASKED_TOGETHER = 64  # pictures


def _pictures(name: str, required: bool = False) -> ChannelSpec:
    return ChannelSpec(name, required, (RECORDS, *PICTURES), RECORDS, distributions=("FullyReplicated",))


def _list(name: str) -> ChannelSpec:
    return ChannelSpec(name, False, PICTURES, PICTURES[0], modes=FILES, distributions=("FullyReplicated",))


class ImageClassification(Algorithm):
    """Residual networks (ResNet) for whole pictures, of one class or of several."""

    name = "image-classification"
    images = ("image-classification",)
    role = "classifier"
    takes_sparse = False
    channels = (
        _pictures("train", required=True), _pictures("validation"), _list("train_lst"), _list("validation_lst"),
        ChannelSpec("model", False, (), "application/x-sagemaker-model", modes=FILES),
    )  # fmt: skip
    metrics = (
        Metric("validation:accuracy", r"Epoch\[\d+\] Validation-accuracy=(\S+)", "Maximize"),
        Metric("train:accuracy", r"Epoch\[\d+\] Train-accuracy=(\S+)"),
    )
    accepts = PICTURES
    returns = ("application/json", "application/jsonlines")
    distributed = True
    incremental = True
    example = {
        "num_classes": 2, "num_training_samples": 8, "image_shape": "3,8,8", "num_layers": 20, "epochs": 2,
        "mini_batch_size": 4,
    }  # fmt: skip
    exceptions = not_rows("pictures")

    num_classes: int = hp("classes", default=None, inferred=True, gt=0)
    num_training_samples: int = hp(
        "training pictures of an epoch; wrong numbers make lr_scheduler_step undefined", default=None, inferred=True,
        gt=0,
    )  # fmt: skip
    augmentation_type: str | None = hp(
        "how training pictures are changed at random; crop: cut out and flipped; crop_color: hue, saturation and "
        "lightness too; crop_color_transform: also turned, sheared and stretched",
        default=None, choices=("crop", "crop_color", "crop_color_transform"),
    )  # fmt: skip
    beta_1: float = hp("decay of adam's first moment", default=0.9, ge=0, le=1, tunable=Tunable(1e-6, 0.999))
    beta_2: float = hp("decay of adam's second moment", default=0.999, ge=0, le=1, tunable=Tunable(1e-6, 0.999))
    checkpoint_frequency: int | None = hp(
        "epochs after which weights go into the model's archive; without, only the best epoch's do", default=None, ge=1
    )
    early_stopping: bool = hp("end when the validation accuracy no longer rises", default=False)
    early_stopping_min_epochs: int = hp("epochs before early stopping may act", default=10, gt=0)
    early_stopping_patience: int = hp("epochs without improvement that end training", default=5, gt=0)
    early_stopping_tolerance: float = hp(
        "rise of the accuracy, as a part of the best before, that is no improvement yet", default=0.0, ge=0, le=1
    )
    epochs: int = hp("passes over the training pictures", default=30, gt=0)
    eps: float = hp("adam's and rmsprop's epsilon", default=1e-8, ge=0, le=1, tunable=Tunable(1e-8, 1.0, "Logarithmic"))
    gamma: float = hp("decay of rmsprop's moment", default=0.9, ge=0, le=1, tunable=Tunable(1e-8, 0.999))
    image_shape: str = hp(
        "channels,height,width of what the network reads", default="3,224,224", check=rules.wrong_shape
    )
    kv_store: str | None = hp(
        "how hosts share gradients; both make all hosts step together", default=None,
        choices=("dist_sync", "dist_async"),
    )  # fmt: skip
    learning_rate: float = hp("step size", default=0.1, ge=0, le=1, tunable=Tunable(1e-6, 0.5, "Logarithmic"))
    lr_scheduler_factor: float = hp("by what the learning rate is multiplied at each step", default=0.1, ge=0, le=1)
    lr_scheduler_step: str | None = hp(
        "epochs after which the learning rate is multiplied: 10,20", default=None, check=rules.wrong_steps
    )
    mini_batch_size: int = hp(
        "pictures of a batch, of each host; its GPUs share them", default=32, gt=0, tunable=Tunable(8, 512)
    )
    momentum: float = hp("momentum of sgd and nag", default=0.9, ge=0, le=1, tunable=Tunable(0.0, 0.999))
    multi_label: int = hp("1: a picture may be of several classes", default=0, choices=(0, 1))
    num_layers: int = hp(
        "layers of the network; 20, 32, 44, 56 and 110 for pictures of up to 32 x 32", default=152,
        choices=tuple(sorted((*LARGE, *SMALL))),
    )  # fmt: skip
    optimizer: str = hp(
        "optimiser", default="sgd", choices=rules.OPTIMIZERS, tunable=Tunable(values=("sgd", "adam", "rmsprop", "nag"))
    )
    precision_dtype: str = hp(
        "numbers that the network calculates in", default="float32", choices=("float32", "float16")
    )
    resize: int | None = hp("pixels of the training pictures' shorter side after scaling", default=None, gt=0)
    top_k: int | None = hp("also log how often the class is among the first k", default=None, gt=1)
    use_pretrained_model: int = hp(
        "1: begin with published weights; see backbones/weights.py", default=0, choices=(0, 1)
    )
    use_weighted_loss: int = hp(
        "1: presence and absence of each class weigh alike (multi_label)", default=0, choices=(0, 1)
    )
    weight_decay: float = hp("L2 penalty of sgd and nag", default=0.0001, ge=0, le=1, tunable=Tunable(0.0, 0.999))
    model_prefix: str = hp("without effect; SageMaker's samples send it", default="image-classification")
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 31)

    def check(self) -> None:
        rules.check(self.settings)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's pictures."""
        return rules.shape_of(self.settings["image_shape"])

    @classmethod
    def warm_up(cls) -> None:
        from importlib import import_module
        from threading import Thread

        Thread(target=import_module, args=("torch",), daemon=True).start()

    # -- training ----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """Learns from pictures.

        Args:
            X: an array (n, H, W, C) or (n, H, W) of whole numbers from 0 to 255, or a list of such pictures or of
                paths, with their classes `y`; or a folder with a folder for each class, a `.rec` file or a folder of
                them, or a Channel.
            y: a class for each picture, numbers or words; with multi_label a row of 0 and 1 for each.
            channels: `validation`, likewise, as (X, y) where it is pictures; `train_lst` and `validation_lst`: files.

        Raises:
            HyperparameterError, DataError, ValueError.
        """
        self.validate()
        vars(self).pop("classes_", None)
        train = self.channel_of("train", X if y is None else (X, y))
        self._names = getattr(train, "names", None)
        given = {"train": train}
        given |= {name: self.channel_of(name, value) for name, value in channels.items() if value is not None}
        self._names = None
        self.train(given, run or Run())
        return self

    def channel_of(self, name: str, value: Any) -> Channel:
        from sagesmith.algorithms.image_classification.data import channel_of
        from sagesmith.formats.channel import Channel

        if name.endswith("_lst") and not isinstance(value, Channel):
            return Channel.from_folder(name, Path(value), PICTURES[0])
        return channel_of(name, value, getattr(self, "_names", None))

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.image_classification.data import Opened
        from sagesmith.algorithms.nets import Team

        opened = {
            name: Opened(channels[name], channels.get(f"{name}_lst"))
            for name in ("train", "validation")
            if name in channels
        }
        self._infer(opened["train"])
        self._describe(run)
        for name, one in opened.items():
            one.agree(self.settings["num_classes"], name)
        if self.settings["early_stopping"] and "validation" not in opened:
            raise HyperparameterError("early_stopping needs a channel 'validation'")
        team = Team(run, seed=self.settings["seed"])
        try:
            self._train(opened, team)
        finally:
            team.close()

    def _infer(self, train: Opened) -> None:
        """What a Python caller need not say: the data tell."""
        settings: Any = self.settings
        if settings["num_classes"] is None:
            if train.names is None:
                raise HyperparameterError("Missing required hyperparameter: num_classes")
            settings["num_classes"] = len(train.names)
        if settings["num_training_samples"] is None:
            if not hasattr(train.pictures, "__len__"):
                raise HyperparameterError("Missing required hyperparameter: num_training_samples")
            settings["num_training_samples"] = len(train.pictures)
        self.check()

    def _describe(self, run: Run) -> None:
        """The line with which SageMaker's image goes on, and what has no effect."""
        settings = self.settings
        changed = {
            p.name: value
            for p, value in zip(self.hyperparameters.values(), settings.values(), strict=True)
            if value != p.default
        }
        run.log("Final configuration: %s", json.dumps(dict(settings)))
        for line in rules.remarks(settings, changed, len(run.hosts)):
            run.log("%s", line)

    def _train(self, opened: Mapping[str, Opened], team: Team) -> None:
        from sagesmith.algorithms.image_classification.data import loader_of
        from sagesmith.algorithms.image_classification.labels import Labels
        from sagesmith.algorithms.image_classification.training import Training

        settings, run = self.settings, team.run
        loaders = {}
        for name, one in opened.items():
            labels = Labels(settings["num_classes"], bool(settings["multi_label"]), one.form)
            loaders[name] = loader_of(
                one.pictures, settings, labels, training=name == "train", rank=run.rank, size=team.size,
                threads=run.threads, patient=team.device.type == "cuda",
            )  # fmt: skip
        train = opened["train"]
        known = len(train.pictures) if hasattr(train.pictures, "__len__") else None
        if known is not None and known != settings["num_training_samples"]:
            run.log(
                "num_training_samples is %d, but the train channel holds %d pictures: an epoch ends after the smaller",
                settings["num_training_samples"], known,
            )  # fmt: skip
        self._kept = artifact.Kept(run.model)
        network = team.copied(self._first_network(run))
        training = Training(
            network, self._task(train), settings, loaders["train"], loaders.get("validation"), team, self._keep(run)
        )
        training.run()
        self.network_, self._number = network.eval(), training.best_number
        self._set_names(train.names)

    def _keep(self, run: Run) -> Any:
        def keep(number: int, weights: Mapping[str, np.ndarray], passing: bool) -> None:
            path = self._kept.keep(number, weights, passing)
            if path is not None:
                run.log('Saved checkpoint to "%s"', path)

        return keep

    def _first_network(self, run: Run) -> Any:
        """The network that training begins with: drawn, published, or an earlier model's."""
        from sagesmith.algorithms.backbones.weights import find_pretrained, read_weights, take_resnet
        from sagesmith.algorithms.image_classification.network import network_of
        from sagesmith.algorithms.nets import take_weights

        settings = self.settings
        network = network_of(settings, settings["num_classes"])
        if run.initial_model is not None and artifact.is_model(run.initial_model):
            found = artifact.read_description(run.initial_model)
            if wrong := artifact.differing(found["hyperparameters"], settings):
                raise ValueError(f"training cannot go on from the model in channel 'model': {wrong}")
            take_weights(network, artifact.read_params(run.initial_model / found["params"]))
            run.log("Training goes on from %s of channel 'model'", found["params"])
        elif settings["use_pretrained_model"]:
            path = find_pretrained(run, f"resnet{settings['num_layers']}")
            take_resnet(network, read_weights(path), path)
            run.log("Training begins with the weights of %s, all but the last layer's", path)
        elif run.initial_model is not None:
            raise ValueError(f"channel 'model' holds no model of this algorithm: there is no {artifact.SYMBOL}")
        return network

    def _task(self, train: Opened) -> Task:
        from sagesmith.algorithms.image_classification.labels import Labels
        from sagesmith.algorithms.image_classification.network import OneClass, SeveralClasses, balancing

        settings = self.settings
        if not settings["multi_label"]:
            return OneClass(settings["top_k"])
        if not settings["use_weighted_loss"]:
            return SeveralClasses()
        labels = Labels(settings["num_classes"], True, train.form)
        present, count = np.zeros(settings["num_classes"]), 0
        for picture in train.pictures:  # one more pass of a pipe
            present += labels.of(picture.label, picture.name)
            count += 1
        return SeveralClasses(balancing(present, count))

    # -- asking ------------------------------------------------------------------------------------------------
    def infer(self, batch: Any, **options: Any) -> Mapping[str, Any]:
        """`prediction`: the probability of each class, (n, num_classes) float32.

        Args:
            batch: pictures, as `predict` takes them.
        """
        import torch

        from sagesmith.algorithms.image_classification.data import pixels_of
        from sagesmith.algorithms.image_classification.network import OneClass, SeveralClasses, answers

        pixels = pixels_of(batch, self.shape)
        task = SeveralClasses if self.settings["multi_label"] else OneClass
        device = next(self.network_.parameters()).device
        found = [np.empty((0, self.settings["num_classes"]), np.float32)]
        with torch.inference_mode():
            for at in range(0, len(pixels), ASKED_TOGETHER):
                logits = answers(self.network_, np.stack(pixels[at : at + ASKED_TOGETHER]), device)
                found.append(task.probabilities(logits).cpu().numpy())
        return {"prediction": np.concatenate(found)}

    def predict_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        """The most probable class of each picture; with multi_label a row of 0 and 1 for each."""
        found = np.asarray(fields["prediction"])
        if self.settings["multi_label"]:
            return np.asarray(found > 0.5, np.int64)
        return np.asarray(self.classes_[found.argmax(axis=1)])

    def probabilities_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(fields["prediction"])

    def _fields(self, X: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)
        return self.infer(X, **options)

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.image_classification.serving import respond

        return respond(self, request)

    # -- the artifact ------------------------------------------------------------------------------------------
    def save(self, folder: Path) -> None:
        from sagesmith.algorithms.nets import weights_of

        folder.mkdir(parents=True, exist_ok=True)
        for number, weights in self._kept.arrays.items():
            artifact.write_params(folder / artifact.params_name(number), weights)
        artifact.write_params(folder / artifact.params_name(self._number), weights_of(self.network_))
        named = self.classes_.tolist() if self.classes_.dtype.kind in "US" else None
        artifact.write_description(folder, self.settings, named, self._number)

    @classmethod
    def load(cls, folder: Path) -> Self:
        from sagesmith.algorithms.image_classification.network import network_of
        from sagesmith.algorithms.nets import serving_device, take_weights

        described = artifact.read_description(folder)
        path = folder / described["params"]
        try:
            model = cls(**described["hyperparameters"])
            model.validate()
            network = network_of(model.settings, model.settings["num_classes"])
            take_weights(network, artifact.read_params(path))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{folder} holds no {cls.name} model: {error}") from None
        model.network_ = network.to(serving_device()).eval()
        model._kept, model._number = artifact.Kept(None), artifact.number_of(described["params"])
        model._set_names(described["classes"])
        return model

    def _set_names(self, names: Sequence[Any] | None) -> None:
        self.classes_ = np.asarray(names if names else np.arange(self.settings["num_classes"]))
