"""k-NN: the three files, edited by hand, written by faiss, and broken in every way."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagesmith.algorithms import KNN

SIGN = {"type": "sign", "seed": 1, "target_dim": 6, "input_dim": 6, "numbers": "sagesmith"}
FILES = ["model_algo-1", "model_algo-1.json", "model_algo-1.labels"]
TYPES: dict[str, dict[str, Any]] = {
    "flat": {},
    "product": {"index_metric": "INNER_PRODUCT"},
    "cosine": {"index_metric": "COSINE"},
    "lists": {"index_type": "faiss.IVFFlat", "faiss_index_ivf_nlists": 5, "faiss_index_nprobe": 2},
    "codes": {"index_type": "faiss.IVFPQ", "faiss_index_ivf_nlists": 3, "faiss_index_pq_m": 4},
    "sign": {"dimension_reduction_type": "sign", "dimension_reduction_target": 4},
    "fjlt": {"dimension_reduction_type": "fjlt", "dimension_reduction_target": 4},
    "padded": {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 4, "dimension_reduction_type": "fjlt",
               "dimension_reduction_target": 5},
}  # fmt: skip


def rows() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.normal(size=(300, 6)).astype(np.float32), random.integers(0, 3, 300)


@cache
def trained(kind: str) -> KNN:
    return KNN(k=5, predictor_type="classifier", **TYPES[kind]).fit(*rows())


def saved(folder: Path, kind: str = "flat") -> Path:
    trained(kind).save(folder)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "model_algo-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", TYPES)
def test_a_model_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    model, loaded = trained(kind), KNN.load(saved(tmp_path, kind))
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    X = rows()[0]
    for mine, theirs in zip(model.kneighbors(X), loaded.kneighbors(X), strict=True):
        assert np.array_equal(mine, theirs)
    assert np.array_equal(model.predict_proba(X), loaded.predict_proba(X))
    loaded.validate()
    for name, value in TYPES[kind].items():
        assert loaded.settings[name] == value
    assert loaded.settings["feature_dim"] == 6


def test_the_files_are_faisss_numpys_and_jsons(tmp_path: Path) -> None:
    import faiss

    saved(tmp_path, "sign")
    assert faiss.read_index(str(tmp_path / "model_algo-1")).ntotal == 300
    assert np.array_equal(np.fromfile(tmp_path / "model_algo-1.labels", np.float32), rows()[1])
    assert json.loads((tmp_path / "model_algo-1.json").read_text()) == {
        "k": 5,
        "predictor_type": "classifier",
        "dimension_reduction": {"type": "sign", "seed": 0, "target_dim": 4, "input_dim": 6, "numbers": "sagesmith"},
        "normalize": False,
        "feature_dim": 6,
        "version": "1.0",
    }


def test_a_user_may_change_k_and_the_task(tmp_path: Path) -> None:
    edit(saved(tmp_path), k=1, predictor_type="regressor")
    model = KNN.load(tmp_path)
    assert (model.task, model.k) == ("regressor", 1)
    assert np.array_equal(model.predict(rows()[0]), rows()[1])


def test_metadata_as_sagemakers_guide_prints_it(tmp_path: Path) -> None:
    saved(tmp_path, "flat")
    (tmp_path / "model_algo-1.json").write_text(
        '{"k": 5, "predictor_type": "classifier", "dimension_reduction": {}, "normalize": False, "version": "1.0"}'
    )
    assert np.array_equal(KNN.load(tmp_path).predict(rows()[0]), trained("flat").predict(rows()[0]))


def test_rows_that_sagemaker_projected_are_refused(tmp_path: Path) -> None:
    """Their random numbers are not public: with ours every neighbour would be wrong."""
    saved(tmp_path, "fjlt")
    (tmp_path / "model_algo-1.json").write_text(
        '{"k": 5, "predictor_type": "classifier", "dimension_reduction": {"type": "fjlt", "seed": 0, "target_dim": 4, '
        '"input_dim": 6}, "normalize": False, "version": "1.0"}'
    )
    with pytest.raises(ValueError, match=r"model_algo-1\.json.*random numbers that are not ours"):
        KNN.load(tmp_path)


def test_words_for_classes_come_back(tmp_path: Path) -> None:
    X, y = rows()
    names = np.array(["False", "True", 'a "b"'])[y]
    model = KNN(k=5, predictor_type="classifier").fit(X, names)
    model.save(tmp_path)
    assert np.array_equal(KNN.load(tmp_path).predict(X), model.predict(X))
    path = tmp_path / "model_algo-1.json"
    path.write_text(path.read_text().replace("false", "False"))
    assert np.array_equal(KNN.load(tmp_path).predict(X), model.predict(X))
    path.write_text(path.read_text().replace(": False", ": false"))
    edit(tmp_path, classes=["a", "b"])
    with pytest.raises(ValueError, match="a label is 2, there are 2 classes"):
        KNN.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 301}, "k is 301, but the index has 300 rows"),
        ({"k": "5"}, "k is '5'"),
        ({"k": True}, "k is True"),
        ({"k": 10**30}, "k is 10000"),
        ({"predictor_type": "ranker"}, "predictor_type is 'ranker'"),
        ({"version": "2.0"}, "version is '2.0'"),
        ({"normalize": 1}, "normalize is 1"),
        ({"dimension_reduction": {"type": "pca"}}, "'pca', not sign or fjlt"),
        ({"dimension_reduction": {"type": "sign", "seed": 1, "target_dim": 6}}, "input_dim of dimension_reduction"),
        ({"dimension_reduction": {**SIGN, "target_dim": 3}}, "target_dim is 3, but"),
        ({"dimension_reduction": [1]}, "no object"),
        ({"feature_dim": 7}, "feature_dim is 7, but the index has 6"),
        ({"feature_dim": -1}, "feature_dim is -1"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    edit(saved(tmp_path), **changes)
    with pytest.raises(ValueError, match=message) as caught:
        KNN.load(tmp_path)
    assert "model_algo-1.json" in str(caught.value)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["flat", "lists", "codes"])
def test_torn_files_are_refused_by_name(file: str, kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, kind) / file
    content = path.read_bytes()
    for keep in (0, 1, 3, 4, 20, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        with pytest.raises(ValueError, match=file):
            KNN.load(tmp_path)
    path.write_bytes(content + b"\0")
    if file != "model_algo-1.json":
        with pytest.raises(ValueError, match=file):
            KNN.load(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=file):
        KNN.load(tmp_path)


@pytest.mark.parametrize("kind", ["flat", "lists", "codes"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.one_of(st.integers(0, 400), st.integers(0, 2**20)), value=st.binary(min_size=1, max_size=9))
def test_an_index_with_other_bytes_is_refused_or_searched(kind: str, tmp_path: Path, at: int, value: bytes) -> None:
    path = saved(tmp_path, kind) / "model_algo-1"
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at : at + len(value)] = value[: len(content) - at]
    path.write_bytes(content)
    try:
        model = KNN.load(tmp_path)
    except ValueError:
        return
    assert len(model.predict(rows()[0][:25])) == 25  # whatever it answers, the process lives


def test_other_kinds_of_index_are_refused(tmp_path: Path) -> None:
    import faiss

    saved(tmp_path)
    for description in ("HNSW8", "PCA4,Flat", "IVF4,SQ8", "SQ8", "IDMap,Flat"):
        index = faiss.index_factory(6, description)
        index.train(rows()[0])
        if description != "IDMap,Flat":
            index.add(rows()[0])
        faiss.write_index(index, str(tmp_path / "model_algo-1"))
        with pytest.raises(ValueError, match=r"model_algo-1 is no k-NN index"):
            KNN.load(tmp_path)


def test_rows_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "lists") / "model_algo-1"
    content = path.read_bytes()
    for row in (-1, 300, 2**40):
        changed = content[:-8] + row.to_bytes(8, "little", signed=True)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"a row that is not in 0\.\.299"):
            KNN.load(tmp_path)
    path.write_bytes(content[:-8] + content[-16:-8])
    with pytest.raises(ValueError, match="a row that is in no list"):
        KNN.load(tmp_path)
