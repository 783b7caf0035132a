"""The peers of benchmarks/ntm.py, in an environment of their own: pyro-ppl, contextualized-topic-models, scikit-learn.

ProdLDA: Srivastava and Sutton, Autoencoding Variational Inference for Topic Models, ICLR 2017, in the shape and with
the settings of Pyro's tutorial (two layers of 100, dropout 0.2, Adam 0.001, batches of 32).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

Ready = tuple[Any, Any, Any]
COMPONENTS = 300  # in place of a language model's vectors


def _set(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def prodlda(train: Any, given: Any, seed: int, settings: dict[str, Any]) -> Ready:
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, TraceMeanField_ELBO
    from torch import nn

    _set(seed)
    pyro.set_rng_seed(seed)
    width, topics, size, batch = train.shape[1], given.topics, 100, 32
    layers = nn.Sequential(nn.Linear(width, size), nn.Softplus(), nn.Linear(size, size), nn.Softplus(), nn.Dropout(0.2))
    heads = [nn.Sequential(nn.Linear(size, topics), nn.BatchNorm1d(topics, affine=False)) for _ in range(2)]
    encoder = nn.ModuleList([layers, *heads])
    decoder = nn.Sequential(
        nn.Dropout(0.2), nn.Linear(topics, width, bias=False), nn.BatchNorm1d(width, affine=False), nn.Softmax(1)
    )

    def model(docs: Any) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("documents", docs.shape[0]):
            prior = torch.zeros(docs.shape[0], topics)
            theta = pyro.sample("logtheta", dist.Normal(prior, prior + 1).to_event(1)).softmax(-1)
            count = int(docs.sum(-1).max())
            pyro.sample("obs", dist.Multinomial(count, decoder(theta)), obs=docs)

    def guide(docs: Any) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("documents", docs.shape[0]):
            h = layers(docs)
            pyro.sample("logtheta", dist.Normal(heads[0](h), (0.5 * heads[1](h)).exp()).to_event(1))

    docs = torch.from_numpy(train.toarray())
    epochs = given.epochs or settings["epochs"]

    def learn() -> int:
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), loss=TraceMeanField_ELBO())
        for _ in range(epochs):
            for rows in torch.randperm(len(docs)).split(batch):
                if len(rows) > 1:
                    svi.step(docs[rows])
        encoder.eval(), decoder.eval()
        return epochs

    @torch.no_grad()
    def answer(seen: Any) -> np.ndarray:
        return decoder(heads[0](layers(torch.from_numpy(seen.toarray()))).softmax(-1)).numpy()

    @torch.no_grad()
    def found() -> tuple[np.ndarray, np.ndarray]:
        return decoder(torch.eye(topics)).numpy(), decoder[1].weight.T.numpy()

    return learn, answer, found


def ctm(train: Any, given: Any, seed: int, settings: dict[str, Any]) -> Ready:
    from contextualized_topic_models.datasets.dataset import CTMDataset
    from contextualized_topic_models.models.ctm import CombinedTM
    from sklearn.decomposition import TruncatedSVD

    _set(seed)
    projection = TruncatedSVD(COMPONENTS, random_state=0).fit(np.log1p(train))
    names = {number: str(number) for number in range(train.shape[1])}

    def dataset(counts: Any) -> Any:
        return CTMDataset(projection.transform(np.log1p(counts)), counts.toarray(), names)

    data = dataset(train)
    epochs = given.epochs or settings["num_epochs"]
    model = CombinedTM(
        bow_size=train.shape[1],
        contextual_size=COMPONENTS,
        n_components=given.topics,
        num_epochs=epochs,
        num_data_loader_workers=0,
    )

    def learn() -> int:
        model.fit(data)
        return epochs

    @torch.no_grad()
    def decoded(theta: Any) -> np.ndarray:
        return model.model.beta_batchnorm(theta @ model.model.beta).softmax(-1).numpy()

    def answer(seen: Any) -> np.ndarray:
        theta = torch.from_numpy(np.asarray(model.get_doc_topic_distribution(dataset(seen), n_samples=5), np.float32))
        model.model.eval()
        return decoded(theta)

    def found() -> tuple[np.ndarray, np.ndarray]:
        model.model.eval()
        return decoded(torch.eye(given.topics)), model.model.beta.detach().numpy()

    return learn, answer, found
