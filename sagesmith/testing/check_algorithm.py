"""check_algorithm: what must hold for every algorithm, ours and a plugin's; a new one gets its tests from here.

    from sagesmith.testing.check_algorithm import CHECKS, Sample, applicable

    @pytest.mark.parametrize("check", applicable(KMeans), ids=lambda check: check.__name__)
    def test_kmeans(check): check(KMeans, Sample.of(KMeans))

A check that cannot hold is named with its reason in the class's `exceptions`. Every check raises AssertionError with
what it saw.
"""

from __future__ import annotations

import json
import logging
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sagesmith.algorithms.base import Algorithm, HyperparameterError, Request, RequestError
from sagesmith.algorithms.hyperparameters import Hyperparameter
from sagesmith.algorithms.run import Run
from sagesmith.formats.batch import Batch
from sagesmith.formats.recordio_writer import write_records

Check = Callable[[type[Algorithm], "Sample"], None]


@dataclass(frozen=True)
class Sample:
    """Small training data: `X` (n, d), `y` (n,) or None; counts, where an algorithm takes nothing below 0."""

    X: np.ndarray
    y: np.ndarray | None

    @classmethod
    def of(cls, algorithm: type[Algorithm], rows: int = 120, columns: int = 6) -> Sample:
        """Rows in two clouds; the target follows the task that the algorithm's `example` sets."""
        random = np.random.default_rng(7)
        side = random.integers(0, 2, rows)
        X = (random.normal(size=(rows, columns)) + 2 * side[:, None]).astype(np.float32)
        if not algorithm.takes_negative:
            X = np.floor(np.abs(X) * 3).astype(np.float32)
        task = algorithm(**algorithm.example).task
        if task == "classifier":
            return cls(X, side)
        if task == "regressor":
            return cls(X, (X @ np.arange(1, columns + 1) + random.normal(size=rows)).astype(np.float32))
        return cls(X, None)


class RecordingRun(Run):
    """A run that keeps its log."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.lines: list[str] = []

    def log(self, message: str, *arguments: object, level: int = logging.INFO) -> None:
        self.lines.append(message % arguments if arguments else message)

    def metric_line(self, line: str) -> None:
        self.lines.append(line)


def applicable(algorithm: type[Algorithm]) -> list[Check]:
    """The checks of an algorithm, without those that it declares not to hold."""
    return [check for check in CHECKS if check.__name__ not in algorithm.exceptions]


def check_declarations(algorithm: type[Algorithm], sample: Sample) -> None:
    """Names, channels, content types, docs of every hyperparameter."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", algorithm.name), f"name {algorithm.name!r} is no lower-case word"
    assert algorithm.images, "no image"
    assert algorithm.accepts, "no content types of requests"
    assert algorithm.returns, "no content types of responses"
    assert "train" in [channel.name for channel in algorithm.channels if channel.required], "no required channel train"
    assert algorithm.__doc__, "no docstring"
    assert algorithm.example, "no example"
    for parameter in algorithm.hyperparameters.values():
        assert parameter.doc, f"hyperparameter {parameter.name} says nothing"
        if not parameter.required and parameter.default is not None:
            assert parameter.parse(parameter.default) == parameter.default, f"default of {parameter.name} is refused"


def check_specification_is_json(algorithm: type[Algorithm], sample: Sample) -> None:
    """The specification survives JSON unchanged."""
    specification = algorithm.specification()
    assert json.loads(json.dumps(specification, allow_nan=False)) == specification


def check_metric_regexes(algorithm: type[Algorithm], sample: Sample) -> None:
    """Every metric has a regex with one group, and at least one finds a number in the log of a training run."""
    for metric in algorithm.metrics:
        assert re.compile(metric.regex).groups == 1, f"regex of {metric.name} must have one group"
    if not algorithm.metrics:
        return
    run = RecordingRun()
    fitted(algorithm, sample, run=run)
    hits = [m[1] for metric in algorithm.metrics for line in run.lines if (m := re.search(metric.regex, line))]
    assert hits, f"no metric was found in the log: {run.lines[-3:]}"
    assert all(math.isfinite(float(hit)) for hit in hits)


def bad_values(parameter: Hyperparameter) -> list[Any]:
    """Values just outside of what a hyperparameter declares, and some that no type takes."""
    bad: list[Any] = [object()]
    step = 1 if "int" in parameter.type_name else 1e-3
    for bound, sign in ((parameter.ge, -1), (parameter.le, 1)):
        if bound is not None:
            bad.append(bound + sign * step)
    bad += [bound for bound in (parameter.gt, parameter.lt) if bound is not None]
    if parameter.choices:
        bad.append("no such choice" if isinstance(parameter.choices[0], str) else max(parameter.choices) + 1)
    if parameter.type_name in ("int", "float", "bool"):
        bad += ["", "x", "1,2", "nan" if parameter.type_name == "float" and parameter.interval else "x1"]
    return bad


def check_bad_hyperparameters(algorithm: type[Algorithm], sample: Sample) -> None:
    """Values out of range are refused by name before any data is read, in the constructor's and SageMaker's form."""
    for attribute, parameter in algorithm.hyperparameters.items():
        for value in bad_values(parameter):
            error = _refusal(algorithm(**{**algorithm.example, attribute: value}).validate)
            assert error is not None, f"{parameter.name}={value!r} was accepted"
            assert parameter.name in str(error), f"the error for {parameter.name}={value!r} does not name it: {error}"
    error = _refusal(partial(algorithm.from_strings, {**strings(algorithm), "no_such_key": "1"}))
    assert "no_such_key" in str(error), "an unknown key must be refused by name"
    for parameter in algorithm.hyperparameters.values():
        if parameter.required:
            rest = {name: value for name, value in strings(algorithm).items() if name != parameter.name}
            error = _refusal(partial(algorithm.from_strings, rest))
            assert parameter.name in str(error), f"missing {parameter.name} must be refused by name"


def strings(algorithm: type[Algorithm]) -> dict[str, str]:
    """The example hyperparameters as SageMaker would send them."""
    named = {algorithm.hyperparameters[attribute].name: value for attribute, value in algorithm.example.items()}
    return {name: json.dumps(v) if isinstance(v, (list, dict)) else str(v) for name, v in named.items()}


def check_from_strings(algorithm: type[Algorithm], sample: Sample) -> None:
    """Strings and native values give the same settings."""
    assert algorithm.from_strings(strings(algorithm)).settings == _settings(algorithm(**algorithm.example))


def check_parameters(algorithm: type[Algorithm], sample: Sample) -> None:
    """get_params gives back what the constructor was given, by identity; set_params refuses unknown names."""
    model = algorithm(**algorithm.example)
    for name, value in algorithm.example.items():
        assert model.get_params()[name] is value, f"{name} was changed by the constructor"
    twin = algorithm(**model.get_params())
    twin.set_params(**model.get_params())
    assert twin.get_params() == model.get_params()
    error = _error_of(lambda: model.set_params(no_such_key=1), ValueError)
    assert "no_such_key" in str(error), "set_params accepted an unknown name, or did not name it"


def check_kinds_of_arrays(algorithm: type[Algorithm], sample: Sample) -> None:
    """Dense, sparse and framed rows give the same predictions."""
    expected = predictions(fitted(algorithm, sample), sample.X)
    forms: list[Any] = [sample.X.astype(np.float64), sample.X.tolist()]
    if algorithm.takes_sparse:
        from scipy import sparse

        forms.append(sparse.csr_matrix(sample.X))
    forms += list(_frames(sample.X))
    for form in forms:
        model = algorithm(**algorithm.example).fit(form, sample.y)
        _same(predictions(model, form), expected, f"{type(form).__name__} rows")


def check_broken_sparse_rows(algorithm: type[Algorithm], sample: Sample) -> None:
    """A sparse matrix whose indices are negative or beyond its columns is refused, in `fit` and in `predict`."""
    if not algorithm.takes_sparse:
        return
    from scipy import sparse

    model = fitted(algorithm, sample)
    for index in (-1, sample.X.shape[1]):
        rows = sparse.csr_matrix(sample.X)
        rows.indices[3] = index
        for call in (
            lambda rows=rows: algorithm(**algorithm.example).fit(rows, sample.y),
            lambda rows=rows: model.predict(rows),
        ):
            assert _error_of(call, ValueError) is not None, f"a sparse matrix with the index {index} was taken"


def _frames(X: np.ndarray) -> Iterator[Any]:
    names = [f"c{column}" for column in range(X.shape[1])]
    try:
        import pandas

        yield pandas.DataFrame(X, columns=names)
    except ImportError:
        pass
    try:
        import polars

        yield polars.DataFrame(X, schema=names)
    except ImportError:
        pass


def check_determinism(algorithm: type[Algorithm], sample: Sample) -> None:
    """The same data, settings and seed give the same predictions, and training leaves the data alone."""
    before = sample.X.copy()
    first, second = (predictions(fitted(algorithm, sample), sample.X) for _ in range(2))
    _same(first, second, "a second training", exactly=True)
    assert np.array_equal(before, sample.X), "training changed its data"


def check_predict_is_pure(algorithm: type[Algorithm], sample: Sample) -> None:
    """Predicting twice, and row by row, gives the same; the model is not changed by it."""
    model = fitted(algorithm, sample)
    attributes = sorted(vars(model))
    whole = predictions(model, sample.X)
    _same(predictions(model, sample.X), whole, "a second prediction", exactly=True)
    rows = np.concatenate([np.atleast_1d(predictions(model, sample.X[i : i + 1])) for i in range(5)])
    _same(rows, whole[:5], "row by row")
    assert sorted(vars(model)) == attributes, "predict left attributes behind"


def check_refit_forgets(algorithm: type[Algorithm], sample: Sample) -> None:
    """Training again starts afresh, and two models do not share what they learnt."""
    model = fitted(algorithm, sample)
    expected = predictions(model, sample.X)
    half = Sample(sample.X[::2].copy(), None if sample.y is None else sample.y[::2])
    other = fitted(algorithm, half)
    _same(predictions(model, sample.X), expected, "after another model was trained", exactly=True)
    other.fit(sample.X, sample.y)
    _same(predictions(other, sample.X), expected, "a model trained a second time", exactly=True)


def check_not_fitted(algorithm: type[Algorithm], sample: Sample) -> None:
    """A model that has not been trained says so."""
    error = _error_of(lambda: algorithm(**algorithm.example).predict(sample.X), ValueError)
    assert "fit" in str(error), f"predict without fit: {error}"


def check_save_and_load(algorithm: type[Algorithm], sample: Sample) -> None:
    """A loaded model predicts the same; its files are data, not pickles; a second save writes the same bytes."""
    model = fitted(algorithm, sample)
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        model.save(first)
        model.save(second)
        files = sorted(path for path in first.rglob("*") if path.is_file())
        assert files, "nothing was saved"
        for path in files:
            content = path.read_bytes()
            assert not looks_pickled(content), f"{path.name} is a pickle"
            assert content == (second / path.relative_to(first)).read_bytes(), f"{path.name} differs when saved again"
        loaded = algorithm.load(first)
        _same(predictions(loaded, sample.X), predictions(model, sample.X), "the loaded model", exactly=True)


def looks_pickled(content: bytes) -> bool:
    """Whether bytes are a pickle, or a zip (.npz, torch) with one inside."""
    import io
    import zipfile

    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(name.endswith(".pkl") or looks_pickled(archive.read(name)) for name in archive.namelist())
    if content[:6] == b"\x93NUMPY":
        return b"'descr': '|O'" in content[:256]
    return content[:1] == b"\x80" and content[-1:] == b"."


def check_unreadable_model(algorithm: type[Algorithm], sample: Sample) -> None:
    """An empty folder, and truncated or foreign files, are refused with ValueError."""
    model = fitted(algorithm, sample)
    with tempfile.TemporaryDirectory() as folder:
        _expect_value_error(lambda: algorithm.load(Path(folder)), "an empty model folder")
        model.save(Path(folder))
        for path in sorted(Path(folder).rglob("*")):
            content = path.read_bytes()
            for broken in (b"", content[: len(content) // 2], b"\x80\x04N.", b"\xff" * 64):
                path.write_bytes(broken)
                _expect_value_error(lambda: algorithm.load(Path(folder)), f"{path.name} as {broken[:8]!r}…")
            path.write_bytes(content)


def check_responses(algorithm: type[Algorithm], sample: Sample) -> None:
    """Every accepted content type is answered in every returned one."""
    model = fitted(algorithm, sample)
    for content_type, body in bodies(algorithm, sample.X[:3]):
        for accept in algorithm.returns:
            response = model.respond(Request(body, content_type, accept))
            assert response.status == 200, f"{content_type} to {accept}: {response}"
            assert response.body, f"{content_type} to {accept}: no body"
            assert response.content_type.split(";")[0] == accept, f"asked {accept}, got {response.content_type}"
            if accept == "application/json":
                rows = json.loads(response.body)[algorithm.answer_key]
                assert len(rows) == 3, f"{content_type}: {len(rows)} answers for 3 rows"


def bodies(algorithm: type[Algorithm], X: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """Rows as a request body of each accepted content type that carries rows."""
    written: dict[str, Callable[[], bytes]] = {  # written when asked for: RecordIO takes numbers only
        "text/csv": lambda: "".join(",".join(map(str, row)) + "\n" for row in X.tolist()).encode(),
        "text/libsvm": lambda: "".join(
            " ".join(f"{i}:{value}" for i, value in enumerate(row)) + "\n" for row in X.tolist()
        ).encode(),
        "application/x-recordio-protobuf": lambda: write_records(Batch(X)),
        "application/json": lambda: json.dumps({"instances": [{"features": row} for row in X.tolist()]}).encode(),
        "application/jsonlines": lambda: "".join(json.dumps({"features": row}) + "\n" for row in X.tolist()).encode(),
    }
    written["text/x-libsvm"] = written["text/libsvm"]
    for content_type in algorithm.accepts:
        if content_type in written:
            yield content_type, written[content_type]()


def check_bad_requests(algorithm: type[Algorithm], sample: Sample) -> None:
    """Empty, truncated, ragged and misnamed bodies get a status of 4xx (or 204), never another exception."""
    model = fitted(algorithm, sample)
    for content_type, body in bodies(algorithm, sample.X[:3]):
        for broken in (b"", b"\n", body[: len(body) - 5], body + b"\xff\x00{", b"\xff" * 50, b"a,b\n" * 3):
            _status(model, Request(broken, content_type))
        assert _status(model, Request(body, "application/x-no-such-type")) in (400, 415)
        assert _status(model, Request(body, content_type, "application/x-no-such-type")) == 406
    wide = ",".join(["1"] * (sample.X.shape[1] + 3)).encode()
    if "text/csv" in algorithm.accepts:
        assert _status(model, Request(wide, "text/csv")) == 400, "more columns than the model has"
        missing = ",".join(["nan"] * sample.X.shape[1]).encode()
        assert _status(model, Request(missing, "text/csv")) == (200 if algorithm.takes_missing else 400), "NaN in a row"


def _status(model: Algorithm, request: Request) -> int:
    error = None
    try:
        return model.respond(request).status
    except RequestError as caught:
        error = caught
    assert 400 <= error.status < 500, f"status {error.status} for {request.body[:30]!r}"
    assert str(error), f"status {error.status} without a word for {request.body[:30]!r}"
    return error.status


def fitted(algorithm: type[Algorithm], sample: Sample, run: Run | None = None) -> Algorithm:
    """A model with the example hyperparameters."""
    return algorithm(**algorithm.example).fit(sample.X, sample.y, run=run)


def predictions(model: Algorithm, X: Any) -> np.ndarray:
    """What the model predicts, as an array with one entry per row."""
    return np.asarray(model.predict(X))


def _settings(model: Algorithm) -> Any:
    model.validate()
    return model.settings


def _same(actual: np.ndarray, expected: np.ndarray, what: str, exactly: bool = False) -> None:
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if exactly or expected.dtype.kind not in "f":
        assert np.array_equal(actual, expected), f"{what}: predictions differ"
    else:
        assert np.allclose(actual, expected, rtol=1e-5, atol=1e-6), f"{what}: predictions differ"


def _refusal(call: Callable[[], Any]) -> Exception | None:
    return _error_of(call, HyperparameterError)


def _error_of(call: Callable[[], Any], kind: type[Exception]) -> Exception | None:
    try:
        call()
    except kind as error:
        return error
    return None


def _expect_value_error(call: Callable[[], Any], what: str) -> None:
    with _quiet():
        error = _error_of(call, ValueError)
    assert error is not None, f"{what} was loaded"
    assert str(error), f"{what}: an error without words"


@contextmanager
def _quiet() -> Iterator[None]:
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(previous)


CHECKS: tuple[Check, ...] = (
    check_declarations,
    check_specification_is_json,
    check_metric_regexes,
    check_bad_hyperparameters,
    check_from_strings,
    check_parameters,
    check_kinds_of_arrays,
    check_broken_sparse_rows,
    check_determinism,
    check_predict_is_pure,
    check_refit_forgets,
    check_not_fitted,
    check_save_and_load,
    check_unreadable_model,
    check_responses,
    check_bad_requests,
)
