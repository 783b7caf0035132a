"""The peers of benchmarks/seq2seq.py: one process trains one of them on batches from a file and says how fast it was.

    python benchmarks/seq2seq_peers.py NAME BATCHES.npz SECONDS THREADS

NAME: `plain` (a plain loop in PyTorch: packed bidirectional LSTM, LSTMCell with input feeding, mlp attention),
`joeynmt` (its RecurrentEncoder and RecurrentDecoder) or `opennmt` (its RNNEncoder and InputFeedRNNDecoder); run by the
Python of an environment that has it. All have embeddings of 256, 512 units, one layer, and Adam with clipped
components. Prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

WIDTH, SIZE = 256, 512
PAD, UNKNOWN, BEGIN, END = range(4)


class Plain(nn.Module):
    def __init__(self, words: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, WIDTH), nn.Embedding(words, WIDTH)
        self.encoder = nn.LSTM(WIDTH, SIZE // 2, bidirectional=True, batch_first=True)
        self.initial = nn.ModuleList(nn.Linear(SIZE, SIZE) for _ in range(2))
        self.cell = nn.LSTMCell(WIDTH + SIZE, SIZE)
        self.query, self.key = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE, bias=False)
        self.vector = nn.Linear(SIZE, 1, bias=False)
        self.combined = nn.Linear(2 * SIZE, SIZE)
        self.output = nn.Linear(SIZE, words)

    def encode(self, source: torch.Tensor, lengths: torch.Tensor) -> tuple[Any, ...]:
        packed = nn.utils.rnn.pack_padded_sequence(self.source(source), lengths, batch_first=True, enforce_sorted=False)
        states = nn.utils.rnn.pad_packed_sequence(self.encoder(packed)[0], batch_first=True)[0]
        mask = torch.arange(source.shape[1]) >= lengths[:, None]
        last = states[torch.arange(len(states)), lengths - 1]
        hidden, cell = (torch.tanh(layer(last)) for layer in self.initial)
        return states, self.key(states), mask, hidden, cell, torch.zeros_like(hidden)

    def step(self, words: torch.Tensor, states: Any, keys: Any, mask: Any, hidden: Any, cell: Any, fed: Any) -> Any:
        hidden, cell = self.cell(torch.cat((self.target(words), fed), 1), (hidden, cell))
        energies = self.vector(torch.tanh(self.query(hidden)[:, None] + keys))[:, :, 0]
        weights = torch.softmax(energies.masked_fill(mask, -torch.inf), 1)
        context = torch.bmm(weights[:, None], states)[:, 0]
        return hidden, cell, torch.tanh(self.combined(torch.cat((context, hidden), 1)))

    def loss(self, source: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        states, keys, mask, *state = self.encode(source, lengths)
        words, outputs = shifted(labels), []
        for place in range(words.shape[1]):
            state = self.step(words[:, place], states, keys, mask, *state)
            outputs.append(state[2])
        scores = self.output(torch.stack(outputs, 1))
        return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=PAD)

    def decode(self, source: torch.Tensor, lengths: torch.Tensor, beam: int, limit: int) -> list[list[int]]:
        """Beam search over a batch, hypotheses ranked by mean log probability."""
        states, keys, mask, *state = (part.repeat_interleave(beam, 0) for part in self.encode(source, lengths))
        rows, words = len(source), self.output.out_features
        tokens = torch.full((rows * beam, 1), BEGIN)
        sums = torch.tensor([0.0] + [-torch.inf] * (beam - 1)).repeat(rows)
        means, finished = sums.clone(), torch.zeros(rows * beam, dtype=torch.bool)
        padding = torch.full((words,), -torch.inf)
        padding[PAD] = 0.0
        for step in range(1, limit + 1):
            state = self.step(tokens[:, -1], states, keys, mask, *state)
            logs = torch.log_softmax(self.output(state[2]), 1)
            candidates = torch.where(finished[:, None], means[:, None] + padding, (sums[:, None] + logs) / step)
            means, chosen = candidates.view(rows, -1).topk(beam)
            parent = (chosen // words + beam * torch.arange(rows)[:, None]).flatten()
            word, means = (chosen % words).flatten(), means.flatten()
            sums = torch.where(finished[parent], sums[parent], sums[parent] + logs[parent, word])
            finished = finished[parent] | (word == END)
            tokens = torch.cat((tokens[parent], word[:, None]), 1)
            state = [part[parent] for part in state]
            if finished.all():
                break
        best = tokens.view(rows, beam, -1)[:, 0, 1:].tolist()
        return [[word for word in one if word not in (PAD, END)] for one in best]


def shifted(labels: torch.Tensor) -> torch.Tensor:
    return torch.cat((torch.full((len(labels), 1), BEGIN), labels[:, :-1]), 1)


class Joey:
    def __init__(self, words: int) -> None:
        from joeynmt.model import build_model

        class Words:
            pad_index, unk_index, bos_index, eos_index, sep_index = PAD, UNKNOWN, BEGIN, END, None
            specials: list[str] = []
            lang_tags: list[str] = []

            def __len__(self) -> int:
                return words

        shape: dict[str, Any] = {"type": "recurrent", "rnn_type": "lstm", "num_layers": 1, "dropout": 0.0}
        shape["embeddings"] = {"embedding_dim": WIDTH}
        settings = {
            "encoder": shape | {"hidden_size": SIZE // 2, "bidirectional": True},
            "decoder": shape | {
                "hidden_size": SIZE, "hidden_dropout": 0.0,
                "input_feeding": True, "init_hidden": "bridge", "attention": "bahdanau",
            },
        }  # fmt: skip
        vocabulary: Any = Words()
        self.model = build_model(settings, vocabulary, vocabulary)
        self.model.loss_function = ("crossentropy", 0.0)

    def loss(self, source: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        order = lengths.argsort(descending=True)  # as its own batches are
        source, lengths, labels = source[order], lengths[order], labels[order]
        masks = {"src_mask": (source != PAD)[:, None], "trg_mask": (labels != PAD)[:, None]}
        loss, *_ = self.model(
            return_type="loss", src=source, src_length=lengths, trg_input=shifted(labels), trg=labels, **masks
        )
        return loss / (labels != PAD).sum()

    def decode(self, source: torch.Tensor, lengths: torch.Tensor, beam: int, limit: int) -> list[list[int]]:
        from joeynmt.search import search

        order = lengths.argsort(descending=True)
        source, lengths = source[order], lengths[order]
        batch: Any = SimpleNamespace(has_trg=False, src=source, src_length=lengths, src_mask=(source != PAD)[:, None])
        said, *_ = search(self.model, batch, limit, beam, beam_alpha=1.0, min_output_length=limit)
        return [[int(word) for word in one if word not in (PAD, END, BEGIN)] for one in said]


class Open:
    def __init__(self, words: int) -> None:
        from onmt.decoders.decoder import InputFeedRNNDecoder
        from onmt.encoders.rnn_encoder import RNNEncoder
        from onmt.models import NMTModel
        from onmt.modules import Embeddings

        encoder = RNNEncoder("LSTM", True, 1, SIZE, 0.0, Embeddings(WIDTH, words, PAD))
        decoder = InputFeedRNNDecoder("LSTM", True, 1, SIZE, attn_type="mlp", embeddings=Embeddings(WIDTH, words, PAD))
        self.model: Any = NMTModel(encoder, decoder)
        self.model.generator = nn.Linear(SIZE, words)
        self.words = words

    def loss(self, source: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        states, final, lengths = self.model.encoder(source[:, :, None], lengths)
        self.model.decoder.init_state(source, states, final)
        outputs, _ = self.model.decoder(shifted(labels)[:, :, None], states, src_len=lengths)
        return F.cross_entropy(self.model.generator(outputs).flatten(0, 1), labels.flatten(), ignore_index=PAD)

    def decode(self, source: torch.Tensor, lengths: torch.Tensor, beam: int, limit: int) -> list[list[int]]:
        from onmt.translate import BeamSearch, GNMTGlobalScorer, Translator

        words = self.words

        class Words:
            def lookup_token(self, token: str) -> int:
                return {"<blank>": PAD, "<s>": BEGIN, "</s>": END}.get(token, UNKNOWN)

            def __len__(self) -> int:
                return words

        scorer = GNMTGlobalScorer(1.0, 0.0, "avg", "none")
        vocabularies = {"src": Words(), "tgt": Words(), "decoder_start_token": "<s>"}
        translator = Translator(self.model, vocabularies, beam_size=beam, global_scorer=scorer)
        strategy = BeamSearch(
            beam,
            len(source),
            PAD,
            BEGIN,
            END,
            UNKNOWN,
            BEGIN,
            1,
            scorer,
            limit,
            limit,
            False,
            0,
            set(),
            None,
            0.0,
            False,
        )
        batch = {"src": source[:, :, None], "srclen": lengths}
        made = translator._translate_batch_with_strategy(batch, strategy)
        return [one[0].tolist() for one in made["predictions"]]


def train(model: Any, weights: nn.Module, batches: list[Any], seconds: float) -> dict[str, float]:
    """Target tokens per second of the clock and of processor time, and the mean loss of the last ten steps."""
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.001)
    losses, tokens, number = [], 0, 0
    started, clock = time.perf_counter(), time.process_time()
    while time.process_time() - clock < seconds or number < 4:
        if number == 3:  # three steps to warm up
            started, clock, tokens = time.perf_counter(), time.process_time(), 0
        source, lengths, labels = batches[number % len(batches)]
        optimizer.zero_grad()
        loss = model.loss(source, lengths, labels)
        loss.backward()
        nn.utils.clip_grad_value_(weights.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        tokens += int((labels != PAD).sum())
        number += 1
    wall, processor = time.perf_counter() - started, time.process_time() - clock
    return {
        "wall": tokens / wall,
        "processor": tokens / processor,
        "steps": number,
        "loss": float(np.mean(losses[-10:])),
    }


def answer(model: Any, batches: list[Any]) -> dict[str, float]:
    """Sentences translated per second in 20 steps, of which none may end sooner: networks that know little differ in
    when they think that a sentence is over."""
    started, clock, sentences = time.perf_counter(), time.process_time(), 0
    with torch.no_grad():
        if isinstance(model, Plain):
            model.output.bias[END] = -1e9
        for source, lengths, _ in batches:
            sentences += len(model.decode(source, lengths, 5, 20))
    wall, processor = time.perf_counter() - started, time.process_time() - clock
    return {"wall": sentences / wall, "processor": sentences / processor}


def main() -> None:
    name, file, seconds, threads = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    with np.load(file) as held:
        words = int(held["words"])
        batches = [
            tuple(torch.from_numpy(held[f"{kind}{k}"]) for kind in ("source", "lengths", "labels"))
            for k in range(int(held["batches"]))
        ]
    model: Any = {"plain": Plain, "joeynmt": Joey, "opennmt": Open}[name](words)
    weights = model if isinstance(model, nn.Module) else model.model
    found: dict[str, Any] = {"train": train(model, weights, batches, float(seconds))}
    if hasattr(model, "decode"):
        weights.eval()
        found["decode"] = answer(model, batches[:3])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
