"""LDA: topics of documents from their counts of words, by the moments of words that occur together.

Papers: Blei et al., Latent Dirichlet Allocation, JMLR 3 (2003); Anandkumar et al., Tensor Decompositions for Learning
Latent Variable Models, JMLR 15 (2014), the method of SageMaker:

    1. products of pairs and triples of words, never formed: only seen through k columns      moments.py
    2. alternating least squares finds the terms of the whitened triples, with restarts       decomposition.py
       (half of a symmetric tensor says it all: packing.py)
    3. a quarter more topics than asked for; those with the largest alpha are kept            spectral.py
    4. collapsed variational Bayes from there, while documents set aside gain by it           refinement.py, descent.py
       topics sampled in the end, where that makes them more coherent                         sampling.py, coherence.py
    mixtures of documents, likelihoods                                                        mixtures.py

SageMaker is followed to the letter in hyperparameters, content types, the metric and answers. Ours, and able to be
switched off (refine_iterations 0): step 4. Where else we differ, and why: docs/algorithms/lda.md and
docs/decisions/0027. Left out: MXNet's file format.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from sagesmith.algorithms.base import ChannelSpec, Metric
from sagesmith.algorithms.blas import single_threaded
from sagesmith.algorithms.first_party import JOB_METRICS, ROWS, FirstParty, report_scores
from sagesmith.algorithms.hyperparameters import Tunable, hp
from sagesmith.algorithms.run import Run

if TYPE_CHECKING:
    from sagesmith.algorithms.lda.spectral import Topics
    from sagesmith.formats.batch import Batch
    from sagesmith.formats.channel import Channel

logger = logging.getLogger("sagesmith.algorithms")


class LDA(FirstParty):
    """Latent Dirichlet allocation: topics from counts of words, by spectral decomposition."""

    name = "lda"
    images = ("lda",)
    role = "transformer"
    dimension = "AWS/LDA"
    takes_negative: ClassVar[bool] = False
    channels = (
        ChannelSpec("train", True, ROWS, ROWS[0], label_size=0),
        ChannelSpec("test", False, ROWS, ROWS[0], label_size=0),
    )
    metrics = (Metric("test:pwll", r"#quality_metric: host=\S+, test pwll <score>=(\S+)", "Maximize"), *JOB_METRICS)
    example = {"num_topics": 3}
    exceptions = {
        "check_metric_regexes": "test:pwll is of the test channel, the other lines only a job writes",
        "check_estimator_sparse_array": "wants one number per row from `predict`, which gives the mixtures",
        "check_estimator_sparse_matrix": "wants one number per row from `predict`, which gives the mixtures",
    }

    num_topics: int = hp("topics", ge=1, tunable=Tunable(1, 150))
    feature_dim: int | None = hp("terms of the vocabulary", default=None, ge=1, inferred=True)
    mini_batch_size: int | None = hp("documents of the train channel, all in all", default=None, ge=1, inferred=True)
    alpha0: float = hp(
        "guess of the sum of the Dirichlet prior: small where documents have few topics, above 1 where many",
        default=1.0,
        gt=0,
        le=1e9,
        tunable=Tunable(0.1, 10),
    )
    max_restarts: int = hp("starts of the alternating least squares", default=10, ge=1)
    max_iterations: int = hp("turns of it for each start", default=1000, ge=1)
    tol: float = hp("it ends when the share left unexplained changes by less", default=1e-8, gt=0)
    refine_iterations: int = hp(
        "most turns of collapsed variational Bayes and of sampling after the spectral method; 0: none, as in SageMaker",
        default=300,
        ge=0,
    )
    seed: int = hp("of all that is drawn; not among SageMaker's hyperparameters", default=0, ge=0, lt=1 << 63)

    @classmethod
    def from_strings(cls, values: Mapping[str, str]) -> Self:
        """As `Algorithm.from_strings`; private keys (`_…`) that are unknown have no effect, as in SageMaker's image."""
        private = {name for name in values if name.startswith("_")}
        for name in sorted(private):
            logger.info("Hyperparameter %s is taken for compatibility and has no effect", name)
        return super().from_strings({name: value for name, value in values.items() if name not in private})

    @classmethod
    def warm_up(cls) -> None:
        threading.Thread(target=_load, name="loading numba", daemon=True).start()

    # -- training ----------------------------------------------------------------------------------------------
    def train(self, channels: Mapping[str, Channel], run: Run) -> None:
        from sagesmith.algorithms.counts import read
        from sagesmith.algorithms.lda import refinement, spectral

        settings = self.settings
        counts = read(channels["train"], settings["feature_dim"])
        # read before training: what is wrong with it must not cost a training
        tested = read(channels["test"], counts.shape[1]) if "test" in channels else None
        self._tell(counts, run)
        counts = counts[np.asarray(counts.sum(axis=1)).ravel() > 0]
        for name, documents in (("train", counts), ("test", tested)):
            if documents is not None and not documents.sum(dtype=np.float64):
                raise ValueError(f"channel {name!r} holds no words: all counts are 0")
        if counts.sum(dtype=np.float64) < settings["num_topics"]:
            raise ValueError(f"num_topics is {settings['num_topics']}: more than channel 'train' holds words")
        started = time.monotonic()
        random = np.random.default_rng(settings["seed"])
        plan = spectral.Plan(
            settings["num_topics"], settings["alpha0"], settings["max_restarts"], settings["max_iterations"],
            settings["tol"],
        )  # fmt: skip
        counts = counts[random.permutation(counts.shape[0])]  # those that refinement holds out are no topic's beginning
        with single_threaded():
            found = spectral.found(counts, plan, random, run, refinement.learnt_from(counts.shape[0]))
        run.log("Spectral method: %d topics shown by the moments, %.4f of the tensor left", found.shown, found.left)
        times = {"spectral.time": 1000 * (time.monotonic() - started)}
        topics = found.topics
        if settings["refine_iterations"] and not run.stopping:
            topics = refinement.refined(counts, topics, settings["refine_iterations"], random, run)
            times["refine.time"] = 1000 * (time.monotonic() - started) - times["spectral.time"]
        self._keep(topics)
        run.metrics("training", times)
        run.progress(1, 1, counts.shape[0] / max(1e-9, time.monotonic() - started))
        if tested is not None:
            report_scores(run, "test", [("pwll", self._per_word(tested, run.threads), "score")])

    def _tell(self, counts: Any, run: Run) -> None:
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        expected = self.settings["mini_batch_size"]
        run.log("%d documents of %d terms, %g words in all", *counts.shape, lengths.sum())
        if expected not in (None, counts.shape[0]):
            run.log("mini_batch_size is %d, but there are %d documents: all are used", expected, counts.shape[0])
        if (lengths == 0).any():
            run.log("%d documents without a word are passed over", int((lengths == 0).sum()))

    def _per_word(self, counts: Any, threads: int) -> float:
        """Σ c log p over Σ c, mixtures inferred from the same documents; NaN of no words."""
        from sagesmith.algorithms.lda.mixtures import likelihoods

        words = float(counts.sum(dtype=np.float64))
        return float(likelihoods(counts, counts, self._topics, threads).sum() / words) if words else float("nan")

    def _keep(self, topics: Topics) -> None:
        """What was learnt: `alpha_` (K,), `beta_` (K, V), rows that sum to 1."""
        self._topics = topics
        self.alpha_, self.beta_ = topics
        self.n_features_in_ = int(self.beta_.shape[1])

    # -- asking ------------------------------------------------------------------------------------------------
    def infer(self, batch: Batch, **options: Any) -> Mapping[str, Any]:
        """`topic_mixture`: the share of each topic in a document, (n, K), rows that sum to 1."""
        from sagesmith.algorithms.counts import asked
        from sagesmith.algorithms.lda.mixtures import mixed

        return {"topic_mixture": mixed(asked(batch, self.beta_.shape[1]), self._topics, Run().threads)}

    def arrays(self) -> Mapping[str, np.ndarray]:
        """alpha (K,) and beta (K, V): SageMaker's two arrays."""
        return {"alpha": self.alpha_, "beta": self.beta_}

    def restore(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        from sagesmith.algorithms.lda.spectral import Topics

        alpha, beta = arrays["alpha"].astype(np.float64), arrays["beta"].astype(np.float64)
        if alpha.ndim != 1 or beta.ndim != 2 or len(alpha) != len(beta) or not alpha.size or not beta.size:
            raise ValueError(f"arrays alpha {alpha.shape} and beta {beta.shape} do not belong together")
        if not (np.isfinite(alpha).all() and (alpha > 0).all()):
            raise ValueError("alpha must be positive numbers")
        if not (np.isfinite(beta).all() and (beta >= 0).all() and np.allclose(beta.sum(axis=1), 1, atol=1e-3)):
            raise ValueError("the rows of beta must be shares that sum to 1")
        self._keep(Topics(alpha, beta))

    # -- scikit-learn's names ----------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None, *, run: Run | None = None, **channels: Any) -> Self:
        """As `Estimator.fit`, of counts (n, V) that are not negative; documents have no weights and no groups."""
        for name in {"sample_weight", "group"} & channels.keys():
            raise TypeError(f"LDA.fit() got an unexpected keyword argument {name!r}")
        return super().fit(X, run=run, **channels)

    def transform(self, X: Any) -> np.ndarray:
        """The topics' shares in documents, (n, K)."""
        return np.asarray(self.predict(X))

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> np.ndarray:
        """`fit`, then `transform` of the same documents."""
        return self.fit(X, y, **fit_params).transform(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The log-likelihood per word, `test pwll` of a job's log."""
        from sagesmith.algorithms.counts import read

        self._check_fitted()
        return self._per_word(read(self.channel_of("score", X), self.beta_.shape[1]), Run().threads)

    def top_terms(self, number: int = 10) -> np.ndarray:
        """The columns of each topic's likeliest terms, (K, number), the likeliest first."""
        self._check_fitted()
        return np.argsort(-self.beta_, axis=1, kind="stable")[:, :number]

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            from sagesmith.algorithms import scikit

            raise scikit.not_fitted(self)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """`lda0`, `lda1`, …"""
        return np.array([f"lda{number}" for number in range(len(self.alpha_))], dtype=object)


def _load() -> None:
    import sagesmith.algorithms.lda.words_compiled  # noqa: F401
