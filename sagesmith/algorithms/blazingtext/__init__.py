"""BlazingText: word vectors (word2vec, with or without n-grams of characters) and text classification (fastText).

Modes: `skipgram`, `cbow` (Mikolov et al., arXiv 1310.4546; n-grams: arXiv 1607.04606), `batch_skipgram` (shared
negatives as matrix products, on any number of hosts: arXiv 1604.04661) and `supervised` (arXiv 1607.01759). SageMaker's
names, ranges, log lines and answers are followed to the letter, and fastText's file format to the byte. Noise is drawn
by counts to the power of 0.75, as in word2vec; supervised shuffles lines. A GPU is used through PyTorch, one of a host.
Left out: several GPUs, quantised files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.base import (
    Algorithm,
    ChannelSpec,
    HyperparameterError,
    Metric,
    Request,
    Response,
    Role,
    not_rows,
)
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.algorithms.blazingtext.model import Model
    from sagesmith.formats.channel import Channel

JSON, LINES = "application/json", "application/jsonlines"
TEXTS = ("text/plain", LINES, "application/x-recordio")
SUPERVISED = "supervised"
VECTORS, BINARY, CLASSIFIER, SCORES = "vectors.txt", "vectors.bin", "model.bin", "eval.json"
WORD2VEC_ONLY = (
    "batch_size", "evaluation", "min_char", "max_char", "negative_samples", "sampling_threshold", "subwords",
    "window_size",
)  # fmt: skip
SUPERVISED_ONLY = ("early_stopping", "min_epochs", "patience", "word_ngrams")


class BlazingText(Algorithm):
    """Word vectors by word2vec, and text classification as in fastText."""

    name = "blazingtext"
    images = ("blazingtext",)
    dimension = "BlazingText"
    distributed = True  # batch_skipgram; `train` refuses the other modes
    takes_sparse = False
    channels = (
        ChannelSpec("train", True, TEXTS, "text/plain", distributions=("FullyReplicated",)),
        ChannelSpec("validation", False, TEXTS, "text/plain", distributions=("FullyReplicated",)),
    )
    metrics = (
        Metric("train:mean_rho", r"#mean_rho: (\S+)", "Maximize"),
        Metric("validation:accuracy", r"#validation_accuracy: (\S+)", "Maximize"),
        Metric("train:accuracy", r"#train_accuracy: (\S+)"),
    )
    accepts = (JSON, LINES)
    returns = (JSON, LINES)
    example = {"mode": "supervised", "vector_dim": 10, "epochs": 3, "min_count": 1, "buckets": 1000}
    exceptions = not_rows("texts")

    mode: Literal["batch_skipgram", "skipgram", "cbow", "supervised"] = hp(
        "what is learnt", tunable=Tunable(values=("batch_skipgram", "skipgram", "cbow"))
    )
    batch_size: int = hp(
        "words of a window that batch_skipgram takes together; 2 * window_size + 1 is advised",
        default=11, gt=0, tunable=Tunable(8, 32),
    )  # fmt: skip
    buckets: int = hp(
        "rows that n-grams are hashed to: of characters (subwords), of words (supervised)",
        default=2_000_000, gt=0, lt=1 << 31, tunable=Tunable(1_000_000, 10_000_000),
    )  # fmt: skip
    epochs: int = hp("passes over the text", default=5, gt=0, tunable=Tunable(5, 15))
    evaluation: bool = hp("judge the vectors by WordSim-353", default=True)
    learning_rate: float = hp("step size at the start; it falls to 0", default=0.05, gt=0, tunable=Tunable(0.005, 0.01))
    min_char: int = hp("characters of the shortest n-gram (subwords)", default=3, gt=0)
    max_char: int = hp("characters of the longest n-gram (subwords)", default=6, gt=0)
    min_count: int = hp("words that occur less often are left out", default=5, ge=0, tunable=Tunable(0, 100))
    negative_samples: int = hp("words of noise for a word", default=5, gt=0, tunable=Tunable(5, 25))
    sampling_threshold: float = hp(
        "share of the text above which words are thinned out", default=0.0001, gt=0, tunable=Tunable(0.0001, 0.001)
    )
    subwords: bool = hp("learn vectors of n-grams of characters; skipgram and cbow", default=False)
    vector_dim: int = hp("numbers of a vector", default=100, gt=0, tunable=Tunable(32, 300))
    window_size: int = hp("the farthest that two words of a pair are apart", default=5, gt=0, tunable=Tunable(1, 10))
    early_stopping: bool = hp("stop when the validation accuracy no longer grows; supervised", default=False)
    min_epochs: int = hp("epochs before early stopping may act", default=5, gt=0)
    patience: int = hp("epochs without a better validation accuracy, after which training stops", default=4, gt=0)
    word_ngrams: int = hp("words of the longest n-gram of words; supervised", default=2, gt=0, tunable=Tunable(1, 3))
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 63)

    def check(self) -> None:
        settings = self.settings
        mode = settings["mode"]
        if settings["subwords"] and mode not in ("skipgram", "cbow"):
            raise HyperparameterError(f"subwords=True goes with the modes skipgram and cbow, not {mode}")
        if settings["subwords"] and settings["min_char"] > settings["max_char"]:
            raise HyperparameterError(f"min_char {settings['min_char']} is larger than max_char {settings['max_char']}")
        foreign = WORD2VEC_ONLY if mode == SUPERVISED else SUPERVISED_ONLY
        for name in foreign:
            if settings[name] != self.hyperparameters[name].default:
                raise HyperparameterError(f"{name}={settings[name]} means nothing in mode {mode}")

    @classmethod
    def warm_up(cls) -> None:
        from importlib import import_module

        Thread(target=import_module, args=(f"{__name__}.model",), daemon=True).start()

    @property
    def task(self) -> Role:
        return "classifier" if self.settings["mode"] == SUPERVISED else "transformer"

    # -- training ----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """Learns from texts: a list of them (or of lists of words), the path of a file or folder, or a Channel.

        Args:
            y: a label, or a list of labels, for each text (supervised); files have `__label__` words instead.
            channels: `validation`, likewise: a path, a Channel, or (texts, labels).
        """
        self.validate()
        given = {"train": self.channel_of("train", (X, y))}
        given |= {name: self.channel_of(name, value) for name, value in channels.items() if value is not None}
        self.train(given, run or Run())
        return self

    def channel_of(self, name: str, value: Any) -> Channel:
        from sagesmith.algorithms.blazingtext.reading import of_texts
        from sagesmith.formats.channel import Channel

        texts, labels = value if isinstance(value, tuple) else (value, None)
        if isinstance(texts, Channel):
            return texts
        if isinstance(texts, Path):
            return Channel.from_folder(name, texts, TEXTS[0])
        if labels is None and self.settings["mode"] == SUPERVISED:
            raise ValueError(f"This BlazingText estimator requires y to be passed with the texts of {name!r}")
        return of_texts(name, texts, labels)

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.blazingtext import gpu

        mode = self.settings["mode"]
        if len(run.hosts) > 1 and mode != "batch_skipgram":
            raise ValueError(
                f"mode {mode} trains on one host, this job has {len(run.hosts)}; batch_skipgram takes more"
            )
        if mode != SUPERVISED and "validation" in channels:
            raise ValueError(f"mode {mode} takes no validation channel")
        if self.settings["early_stopping"] and "validation" not in channels:
            raise ValueError("early_stopping=True needs a validation channel")
        run.log("nvidia-smi took: 0.0 secs to identify %d gpus", run.gpus)
        devices = gpu.devices_of(run, mode)
        if len(run.hosts) > 1:
            run.log("Running distributed CPU BlazingText training using %s on %d hosts.", mode, len(run.hosts))
        else:
            kind = "GPU" if devices else "CPU"
            run.log("Running single machine %s BlazingText training using %s mode.", kind, mode)
        if mode == SUPERVISED:
            self._train_classifier(channels, run, devices[0] if devices else None)
        else:
            self._train_vectors(channels["train"], run, devices)

    def _train_vectors(self, channel: Channel, run: Run, devices: Sequence[Any]) -> None:
        from sagesmith.algorithms.blazingtext import reading, word2vec
        from sagesmith.algorithms.blazingtext.dictionary import Vocabulary

        settings, vocabulary = self.settings, Vocabulary()
        stream = reading.words_of(channel, vocabulary, True, False, run)
        dictionary, final = vocabulary.dictionary(settings["min_count"], with_line_end=False)
        if not dictionary.words:
            raise ValueError(
                f"no word of the {dictionary.tokens} of channel train occurs min_count={settings['min_count']} times"
            )
        run.log("Read %dM words", round(dictionary.tokens / 1e6))
        run.log("Number of words:  %d", dictionary.words)
        model = word2vec.train(reading.known(stream, final, vocabulary), dictionary, settings, run, devices)
        self._take(model)
        self.distributed_ = len(run.hosts) > 1
        self.evaluation_ = self._evaluated(run) if settings["evaluation"] and run.is_master else None

    def _evaluated(self, run: Run) -> dict[str, Any]:
        from sagesmith.algorithms.blazingtext import similarity

        run.log("Evaluating word embeddings....")
        known = set(self.model_.dictionary.names(0, self.model_.dictionary.words))
        found = similarity.evaluated(self.model_.vectors, known.__contains__)
        run.log("Vectors read from: %s", VECTORS if run.model is None else run.model / VECTORS)
        for line in json.dumps(found, indent=4).splitlines():
            run.log("%s", line)
        run.metric_line(f"#mean_rho: {found['mean_rho']!r}")
        return found

    def _train_classifier(self, channels: Mapping[str, Channel], run: Run, device: Any) -> None:
        from sagesmith.algorithms.blazingtext import reading, supervised
        from sagesmith.algorithms.blazingtext.dictionary import Vocabulary

        settings, vocabulary = self.settings, Vocabulary()
        stream = reading.words_of(channels["train"], vocabulary, True, True, run)
        dictionary, final = vocabulary.dictionary(settings["min_count"], with_line_end=True)
        if not dictionary.labels:
            raise ValueError("channel train holds no line with a label")
        run.log("Read %dM words", round(dictionary.tokens / 1e6))
        run.log("Number of words:  %d", dictionary.words)
        run.log("Number of labels: %d", dictionary.labels)
        arguments, held_out = supervised.arguments_of(settings), None
        lines = supervised.lines_of(stream, vocabulary, final, arguments, dictionary.words)
        if "validation" in channels:
            other = reading.words_of(channels["validation"], vocabulary, False, True, run)
            held_out = supervised.lines_of(other, vocabulary, final, arguments, dictionary.words)
            if len(held_out.ends) < 2:
                raise ValueError("channel validation holds no line with a label")
        learner = supervised.Learner.drawn(lines, dictionary, arguments, settings["seed"])
        supervised.train(learner, held_out, len(stream), settings, run, device)
        self._take(learner.model(dictionary))

    # -- asking ------------------------------------------------------------------------------------------------
    def predict(self, X: Any, **options: Any) -> Any:
        """The likeliest label of each text, (n,), without `__label__`; or the vector of each word, (n, vector_dim)."""
        model = self._asked()
        words = _strings(X)
        if not model.is_classifier:
            return model.vectors(words)
        return self.classes_[model.best(words, 1).labels[:, 0]] if words else self.classes_[:0]

    def predict_labels(self, texts: Sequence[str], k: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The k likeliest labels of texts, (n, k) str without `__label__`, and their probabilities, (n, k)."""
        found = self._asked(classifier=True).best(_strings(texts), k)
        return self.classes_[found.labels], found.probabilities

    def _predict_proba(self, X: Any, **options: Any) -> np.ndarray:
        return self._asked(classifier=True).probabilities(_strings(X))

    def probabilities_from(self, fields: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(fields["prob"])

    @property
    def words(self) -> list[str]:
        """The words that the model knows, the most frequent first."""
        dictionary = self._asked().dictionary
        return dictionary.names(0, dictionary.words)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The (weighted) share of texts whose likeliest label is theirs, or one of theirs."""
        predicted = self.predict(X)
        several = [labels if isinstance(labels, (list, tuple, set, np.ndarray)) else [labels] for labels in y]
        right = [found in set(map(str, own)) for found, own in zip(predicted, several, strict=True)]
        return float(np.average(right, weights=sample_weight))

    def _take(self, model: Model) -> None:
        from sagesmith.algorithms.blazingtext.dictionary import PREFIX

        self.model_ = model
        if model.is_classifier:
            self.classes_ = np.array([label.removeprefix(PREFIX) for label in model.labels])

    def _asked(self, classifier: bool = False) -> Model:
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)
        if classifier and not self.model_.is_classifier:
            raise ValueError("a model of word vectors has no labels")
        return self.model_

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.blazingtext.answering import answered

        return answered(self._asked(), request)

    # -- the artifact ------------------------------------------------------------------------------------------
    def save(self, folder: Path) -> None:
        from sagesmith.algorithms.blazingtext import binary
        from sagesmith.algorithms.blazingtext.model import write_text

        model = self._asked()
        folder.mkdir(parents=True, exist_ok=True)
        if model.is_classifier:
            binary.write(folder / CLASSIFIER, model)
            return
        write_text(folder / VECTORS, model.dictionary.names(0, model.dictionary.words), model.all_vectors())
        if not getattr(self, "distributed_", False):  # as SageMaker: several hosts leave vectors.txt alone
            binary.write(folder / BINARY, model)
        if getattr(self, "evaluation_", None) is not None:
            (folder / SCORES).write_text(json.dumps(self.evaluation_, indent=4), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A model of ours, or one of fastText's under the name model.bin or vectors.bin; or vectors.txt alone."""
        from sagesmith.algorithms.blazingtext.model import Model, of_text

        found = [name for name in (CLASSIFIER, BINARY, VECTORS) if (folder / name).is_file()]
        if not found:
            raise ValueError(f"{folder} holds neither {CLASSIFIER} nor {BINARY} nor {VECTORS}")
        model = of_text(folder / VECTORS) if found[0] == VECTORS else Model.read(folder / found[0])
        arguments = model.arguments
        settings: dict[str, Any] = {"vector_dim": arguments.dim, "epochs": arguments.epoch}
        if model.is_classifier:
            settings |= {"mode": SUPERVISED, "word_ngrams": max(1, arguments.wordNgrams)}
        else:
            settings |= {"mode": "cbow" if arguments.model == 1 else "skipgram", "window_size": arguments.ws}
            settings |= {"subwords": arguments.maxn > 0, "negative_samples": arguments.neg}
        loaded = cls(**settings)
        loaded._take(model)
        return loaded


def _strings(X: Any) -> list[str]:
    """Texts or words as a list.

    Raises:
        ValueError: one that is no text, naming its row from 0.
    """
    if isinstance(X, str):
        raise ValueError("a list of texts is needed, not a text")
    found = list(X)
    for row, value in enumerate(found):
        if not isinstance(value, str):
            raise DataError(f"row {row}: {value!r:.80} is no text")
    return [str(value) for value in found]
