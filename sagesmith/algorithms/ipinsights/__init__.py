"""IP Insights: which IPv4 addresses an account is usually seen at.

An entity (user, account) and an address each become a vector; their dot product is the log-odds that the pair is real,
rather than the entity with an address of chance: the larger, the more usual. Learnt with Adam from cross-entropy
against negative pairs (skip-gram with negative sampling: Mikolov et al., Distributed Representations of Words and
Phrases, 2013). SageMaker's names, ranges, log lines and answers are followed to the letter. It does not publish its
encoder of addresses nor its hash of entities; ours are in network.py and pairs_compiled.py. Left out: IPv6, GPUs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sagesmith.algorithms import scikit
from sagesmith.algorithms.base import FILES, ChannelSpec, HyperparameterError, Metric, Request, Response, not_rows
from sagesmith.algorithms.blas import single_threaded
from sagesmith.algorithms.first_party import CSV, JOB_METRICS, FirstParty
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.ipinsights.network import Network
    from sagesmith.algorithms.ipinsights.pairs import Pairs
    from sagesmith.algorithms.ipinsights.training import Judged, Training
    from sagesmith.formats.channel import Channel

HASH_SEED = 0x1B873593CC9E2D51  # of entity names; an arbitrary number, kept in the artifact
LARGEST_MODEL = 8 << 30  # bytes, SageMaker's limit
LOSS, ACCURACY, AUC = "binary_classification_cross_entropy", "binary_classification_accuracy", "discriminator_auc"
EPOCH = r"#quality_metric: host=\S+, epoch=\S+, "
BATCH = r"#quality_metric: host=\S+, epoch=\S+, batch=\S+ "


class IPInsights(FirstParty):
    """Embeddings of entities and IPv4 addresses that tell how usual a pair of them is."""

    name = "ipinsights"
    images = ("ipinsights",)
    dimension = "IPInsights"
    distributed = True
    takes_sparse = False
    channels = (
        ChannelSpec("train", True, (CSV,), CSV, modes=FILES, label_size=0),
        ChannelSpec("validation", False, (CSV,), CSV, modes=FILES, label_size=0),
    )
    metrics = (
        Metric(f"validation:{AUC}", EPOCH + rf"validation {AUC} <score>=(\S+)", "Maximize"),
        Metric(f"train:{LOSS}", BATCH + rf"train {LOSS} <loss>=(\S+)", "Minimize"),
        Metric(f"train:{LOSS}:epoch", EPOCH + rf"train {LOSS} <loss>=(\S+)", "Minimize"),
        Metric(f"train:{ACCURACY}", BATCH + rf"train {ACCURACY} <score>=(\S+)", "Maximize"),
        Metric(f"train:{ACCURACY}:epoch", EPOCH + rf"train {ACCURACY} <score>=(\S+)", "Maximize"),
        *JOB_METRICS,
    )
    accepts = (CSV, "application/json", "application/jsonlines")
    returns = ("application/json", "application/jsonlines")
    example = {"num_entity_vectors": 50, "vector_dim": 8, "epochs": 2, "mini_batch_size": 32, "learning_rate": 0.05}
    exceptions = not_rows("pairs of entity and address")

    num_entity_vectors: int | None = hp(
        "rows of the entity table, to which entities are hashed; twice the number of entities is advised",
        default=None, inferred=True, ge=1, le=250_000_000, tunable=Tunable(10_000, 1_000_000),
    )  # fmt: skip
    vector_dim: int | None = hp(
        "size of the vectors; 128 is advised", default=None, inferred=True, ge=4, le=4096, tunable=Tunable(8, 256)
    )
    epochs: int = hp("passes over the data", default=10, ge=1, tunable=Tunable(1, 100))
    learning_rate: float = hp(
        "step size of Adam", default=0.001, ge=1e-6, le=10, tunable=Tunable(1e-4, 0.1, "Logarithmic")
    )
    mini_batch_size: int = hp("rows of a batch", default=10_000, ge=1, le=500_000, tunable=Tunable(100, 50_000))
    num_ip_encoder_layers: int = hp(
        "dense layers between an address's prefixes and its vector", default=1, ge=0, le=100, tunable=Tunable(1, 10)
    )
    random_negative_sampling_rate: int = hp(
        "negative pairs per row with an address drawn at random", default=1, ge=0, le=500, tunable=Tunable(0, 10)
    )
    shuffled_negative_sampling_rate: int = hp(
        "negative pairs per row with the address of another row of the batch",
        default=1, ge=0, le=500, tunable=Tunable(0, 10),
    )  # fmt: skip
    weight_decay: float = hp("L2 penalty", default=0.00001, ge=0, le=10, tunable=Tunable(0, 1))
    batch_metrics_publish_interval: int = hp("batches between two lines of batch metrics", default=1000, ge=1)
    feature_dim: int | None = hp(
        "without effect; SageMaker's Python SDK sends it to each of its own algorithms", default=None, ge=1
    )
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 63)

    def check(self) -> None:
        settings = self.settings
        negatives = settings["random_negative_sampling_rate"] + settings["shuffled_negative_sampling_rate"]
        if not 1 <= negatives <= 500:
            raise HyperparameterError(
                "random_negative_sampling_rate + shuffled_negative_sampling_rate must be in [1, 500], "
                f"found {negatives}: without negative pairs there is nothing to tell real ones from"
            )
        entities, width = settings["num_entity_vectors"], settings["vector_dim"]
        if entities is not None and width is not None and 4 * entities * width > LARGEST_MODEL:
            raise HyperparameterError(
                f"num_entity_vectors {entities} times vector_dim {width} makes a table of "
                f"{4 * entities * width / (1 << 30):.1f} GiB; a model may have 8 GiB"
            )

    @classmethod
    def warm_up(cls) -> None:
        from importlib import import_module

        Thread(target=import_module, args=(f"{__name__}.pairs_compiled",), daemon=True).start()

    # -- training ----------------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """Learns from rows of (entity, IPv4 address): a list, array or frame of two columns, or a Channel.

        Args:
            y: ignored.
            channels: `validation`, likewise.
        """
        return super().fit(self.channel_of("train", X), run=run, **channels)

    def channel_of(self, name: str, value: Any) -> Channel:
        from sagesmith.algorithms.ipinsights import pairs
        from sagesmith.formats.channel import Channel, HeldChannel

        if isinstance(value, Channel):
            return value
        return HeldChannel.over(name, pairs.of_table(value, HASH_SEED))

    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.ipinsights import hosts
        from sagesmith.algorithms.ipinsights.pairs import read_channel
        from sagesmith.algorithms.ipinsights.threads import Workers
        from sagesmith.algorithms.ipinsights.training import Plan, Training

        if self.settings["feature_dim"] is not None:
            run.log("Hyperparameter feature_dim is taken for compatibility and has no effect")
        read = read_channel(channels["train"], HASH_SEED)
        pairs = hosts.share_of(read, run)
        known = hosts.known_of(pairs.entities, run)
        held_out = None
        if "validation" in channels:
            held_out = hosts.all_of(read_channel(channels["validation"], HASH_SEED), run)
        network = self._drawn(len(known))
        settings = self.settings
        plan = Plan(
            settings["learning_rate"],
            settings["weight_decay"],
            settings["random_negative_sampling_rate"],
            settings["shuffled_negative_sampling_rate"],
        )
        run.log("%d pairs read, %d learnt from here; %d entities on all hosts", len(read), len(pairs), len(known))
        slots, ips = network.slots_of(pairs.entities), pairs.ips
        del read, pairs  # the hashes, two thirds of them, are of no more use
        random = np.random.default_rng([settings["seed"], run.rank])
        with single_threaded(), Workers(run.threads) as workers:
            training = Training(network, plan, random, workers)
            hosts.prepare(training, run)
            self._epochs(training, slots, ips, held_out, run)
        self.network_, self.known_, self.hash_seed_ = network, known, HASH_SEED

    def _drawn(self, entities: int) -> Network:
        from sagesmith.algorithms.ipinsights.network import Network

        rows = self.settings["num_entity_vectors"] or 2 * entities
        random = np.random.default_rng([self.settings["seed"], 1 << 32])  # the same on all hosts
        return Network.drawn(rows, self.settings["vector_dim"] or 128, self.settings["num_ip_encoder_layers"], random)

    def _epochs(self, training: Training, slots: np.ndarray, ips: np.ndarray, held_out: Pairs | None, run: Run) -> None:
        """Learns from entity rows (n,) and addresses (n,), shuffled anew each time."""
        from sagesmith.algorithms.ipinsights import hosts
        from sagesmith.algorithms.ipinsights.training import Judged

        epochs = self.settings["epochs"]
        auc = None
        for epoch in range(epochs):
            started, judged, batches = time.monotonic(), Judged(0.0, 0, 0), 0
            reported = _Reports(run, epoch, self.settings["batch_metrics_publish_interval"])
            order = training.random.permutation(len(slots)).astype(np.int32)
            for begin in range(0, len(order), self.settings["mini_batch_size"]):
                rows = order[begin : begin + self.settings["mini_batch_size"]]
                batch = training.step(slots[rows], ips[rows])
                judged += batch
                reported.take(batches, batch, len(rows))
                batches += 1
                if run.stopping:
                    break
            seconds = time.monotonic() - started
            if not np.isfinite(judged.loss):
                raise ValueError(f"the network diverged: learning_rate {training.plan.learning_rate} is too large")
            stopping = hosts.meet(training, run, batches)
            _report(run, judged, epoch)
            auc = self._judge(training.network, held_out, run, epoch)
            run.progress(epoch + 1, epochs, len(order) / max(1e-9, seconds))
            if stopping:
                break
        if auc is not None:
            run.metric_line(f"#validation_score ({run.host}) : ({AUC!r}, {auc!r})")

    def _judge(self, network: Network, held_out: Pairs | None, run: Run, epoch: int) -> float | None:
        """Logs the AUC on the validation pairs, which the first host alone works out: the network is everyone's."""
        from sagesmith.algorithms.ipinsights.judging import discriminator_auc

        if held_out is None or not run.is_master or not len(held_out):
            return None
        random, shuffled = (self.settings[f"{kind}_negative_sampling_rate"] for kind in ("random", "shuffled"))
        slots = network.slots_of(held_out.entities)
        auc = discriminator_auc(network, slots, held_out.ips, random, shuffled, run.threads)
        if np.isnan(auc):  # a single pair, which cannot be shuffled, and no random negatives
            return None
        run.quality(f"validation {AUC}", auc, "score", epoch)
        return auc

    # -- asking ------------------------------------------------------------------------------------------------
    def infer(self, batch: Any, **options: Any) -> Mapping[str, Any]:
        """Of Pairs: `dot_product` (n,); with `verbose` also `entity_embedding` and `ip_embedding`, (n, vector_dim)."""
        slots = self.network_.slots_of(batch.entities)
        fields: dict[str, Any] = {"dot_product": self.network_.scores(slots, batch.ips)}
        if options.get("verbose") is True:
            fields |= {
                "entity_embedding": self.network_.entities[slots],
                "ip_embedding": self.network_.encode(batch.ips),
            }
        return fields

    def respond(self, request: Request) -> Response:
        from sagesmith.algorithms.ipinsights.pairs import read_body
        from sagesmith.algorithms.responding import respond_with_rows

        return respond_with_rows(self, request, partial(read_body, self.hash_seed_))

    def predict(self, X: Any, **options: Any) -> Any:
        """How usual each pair of (entity, IPv4 address) is, (n,): the larger, the more usual."""
        from sagesmith.algorithms.ipinsights.pairs import of_table, read_channel
        from sagesmith.formats.channel import Channel

        self._check_fitted()
        pairs = read_channel(X, self.hash_seed_) if isinstance(X, Channel) else of_table(X, self.hash_seed_)
        return self.infer(pairs, **options)["dot_product"]

    def knows(self, entities: Any) -> np.ndarray:
        """Whether each entity was among the training data, (n,) bool: the scores of others mean nothing.

        Wrong for one unseen entity in 2**64 over the number of entities seen.
        """
        from sagesmith.algorithms.ipinsights.pairs import hashes_of

        self._check_fitted()
        hashes = hashes_of(entities, self.hash_seed_)
        places = np.minimum(np.searchsorted(self.known_, hashes), len(self.known_) - 1)
        return np.asarray(self.known_[places] == hashes)

    def entity_embedding(self, entities: Any) -> np.ndarray:
        """The vectors of entities, (n, vector_dim)."""
        from sagesmith.algorithms.ipinsights.pairs import hashes_of

        self._check_fitted()
        return np.asarray(self.network_.entities[self.network_.slots_of(hashes_of(entities, self.hash_seed_))])

    def ip_embedding(self, ips: Any) -> np.ndarray:
        """The vectors of IPv4 addresses, (n, vector_dim)."""
        from sagesmith.algorithms.ipinsights.pairs import addresses_of

        self._check_fitted()
        return self.network_.encode(addresses_of(ips))

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise scikit.not_fitted(self)

    # -- the artifact ------------------------------------------------------------------------------------------
    def arrays(self) -> Mapping[str, np.ndarray]:
        return {**self.network_.arrays(), "known": self.known_}

    def facts(self) -> Mapping[str, Any]:
        return {"hash_seed": self.hash_seed_}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        from sagesmith.algorithms.ipinsights.network import Network

        self.network_ = Network.of_arrays(arrays)
        self.known_ = np.asarray(arrays["known"], np.uint64)
        self.hash_seed_ = int(facts["hash_seed"])
        if self.known_.ndim != 1 or not len(self.known_) or not 0 <= self.hash_seed_ < 1 << 64:
            raise ValueError("known entities or hash_seed make no sense")


def _report(run: Run, judged: Judged, epoch: int, batch: int | None = None) -> None:
    """The two lines about a batch's or an epoch's pairs; none where a host had no rows."""
    if judged.pairs:
        run.quality(f"train {LOSS}", judged.loss / judged.pairs, "loss", epoch, batch)
        run.quality(f"train {ACCURACY}", judged.right / judged.pairs, "score", epoch, batch)


class _Reports:
    """Lines every so many batches: the first batch's, then the means since the lines before, with the speed."""

    def __init__(self, run: Run, epoch: int, interval: int) -> None:
        self._run, self._epoch, self._interval = run, epoch, interval
        self._judged: Judged | None = None
        self._rows, self._since = 0, time.monotonic()

    def take(self, number: int, batch: Judged, rows: int) -> None:
        self._judged = batch if self._judged is None else self._judged + batch
        self._rows += rows
        if number % self._interval:
            return
        now = time.monotonic()
        speed = self._rows / max(1e-9, now - self._since)
        self._run.log("Epoch[%d] Batch [%d] Speed: %.2f samples/sec", self._epoch, number, speed)
        _report(self._run, self._judged, self._epoch, number)
        self._judged, self._rows, self._since = None, 0, now
