"""Which device is this paragraph about? Word vectors and a classifier, learnt from driver documentation.

    python examples/blazingtext_devices.py [--picture words.png]

Learns word vectors by skipgram with n-grams of characters, shows what lies near some words, and draws a map of words.
Then strikes out the names of the devices and learns to tell from the rest which kind a paragraph is about, until early
stopping ends it; writes that model and loads it again.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms import BlazingText

DATA = Path(__file__).parent / "data" / "driver-docs.txt.gz"
KINDS = {
    "audio": ["audio", "speaker", "microphone"], "bluetooth": ["bluetooth"], "usb": ["usb"],
    "print": ["printer", "printers", "printing", "print"], "network": ["network", "networking", "ethernet"],
    "display": ["display", "monitor", "monitors"], "camera": ["camera", "cameras"],
    "battery": ["battery", "batteries"], "storage": ["disk", "disks", "storage"],
}  # fmt: skip
SHOWN = {
    "audio": "audio speaker microphone stream sample jack", "print": "printer spooler printing document queue xps",
    "network": "network ethernet packet tcp ip ndis", "camera": "camera photo image exposure video preview",
    "storage": "disk volume storage raid file sector", "battery": "battery charge charging capacity power",
}  # fmt: skip


def nearest(model: BlazingText, word: str, count: int = 5) -> list[str]:
    """The words whose vectors point most nearly where a word's does."""
    words = model.words
    vectors = model.predict(words)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = model.predict([word])[0]
    order = np.argsort(-(vectors @ own))
    return [words[row] for row in order if words[row] != word][:count]


def struck_out(paragraphs: list[str]) -> tuple[list[str], list[str]]:
    """Paragraphs without the names of devices, and the kind that each named."""
    kind_of = {name: kind for kind, names in KINDS.items() for name in names}
    texts, kinds = [], []
    for paragraph in paragraphs:
        words = paragraph.split()
        kinds.append(next(kind_of[word] for word in words if word in kind_of))
        texts.append(" ".join(word for word in words if word not in kind_of))
    return texts, kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    paragraphs = gzip.decompress(DATA.read_bytes()).decode().splitlines()

    vectors = BlazingText(mode="skipgram", subwords=True, vector_dim=50, epochs=15, buckets=100_000, evaluation=False)
    vectors.fit(paragraphs)
    print(f"learnt vectors of {len(vectors.words)} words from {len(paragraphs)} paragraphs")
    for word in ("printer", "microphone", "rechargeable"):  # the last is not among the words: its n-grams tell
        print(f"near {word!r}{'' if word in vectors.words else ' (never seen)'}: {', '.join(nearest(vectors, word))}")

    texts, kinds = struck_out(paragraphs)
    held = len(texts) // 5
    classifier = BlazingText(
        mode="supervised", vector_dim=20, epochs=40, learning_rate=0.5, min_count=2, buckets=200_000,
        early_stopping=True, patience=3,
    )  # fmt: skip
    classifier.fit(texts[held:], kinds[held:], validation=(texts[:held], kinds[:held]))
    most = max(kinds.count(kind) for kind in KINDS) / len(kinds)
    print(f"the kind of device is told right for {classifier.score(texts[:held], kinds[:held]):.1%} of paragraphs")
    print(f"in which its name was struck out; always saying the most frequent kind, for {most:.1%}")
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(Path(folder))
        again = BlazingText.load(Path(folder))
    labels, chances = again.predict_labels(["the driver plays a stream of samples through the render endpoint"], 2)
    print("of a sentence of one's own:", ", ".join(f"{a} {b:.2f}" for a, b in zip(labels[0], chances[0], strict=True)))
    if given.picture:
        draw(vectors, given.picture)


def draw(model: BlazingText, picture: Path) -> None:
    """Words on the two principal axes of their vectors."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    words = [word for names in SHOWN.values() for word in names.split()]
    vectors = model.predict(words)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= vectors.mean(axis=0)
    places = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:2].T
    figure, axis = plt.subplots(figsize=(9, 6), layout="constrained")
    for number, (kind, names) in enumerate(SHOWN.items()):
        own = [words.index(name) for name in names.split()]
        axis.scatter(*places[own].T, color=f"C{number}", label=kind, s=12)
    axis.margins(x=0.15, y=0.08)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(SHOWN), frameon=False)
    axis.set_xticks([])
    axis.set_yticks([])
    figure.draw_without_rendering()  # so that points have their places
    write_apart(axis, words, places)
    figure.savefig(picture, dpi=80)


def write_apart(axis: Any, words: list[str], places: np.ndarray) -> None:
    """Each word beside its point, where it hides no other word and no point; a line leads to it from farther away."""
    points = axis.transData.transform(places)
    taken: list[Any] = []
    for word, place, point in zip(words, places, points, strict=True):
        others = points[(points != point).any(axis=1)]
        for turn in range(48):
            angle, away = np.pi / 4 * (turn % 8), 4 + 7 * (turn // 8)
            x, y = away * np.cos(angle), away * np.sin(angle)
            label = axis.annotate(
                word, place, (x, y), textcoords="offset points", fontsize=8, va="center",
                ha="left" if x > 1 else "right" if x < -1 else "center",
                arrowprops={"arrowstyle": "-", "lw": 0.4} if away > 10 else None,
            )  # fmt: skip
            box = label.get_window_extent()
            free = not any(box.overlaps(other) for other in taken) and not any(box.contains(*one) for one in others)
            if free:
                break
            label.remove()
        taken.append(box)


if __name__ == "__main__":
    main()
