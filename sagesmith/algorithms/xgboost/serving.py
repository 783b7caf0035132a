"""Answering requests as the XGBoost container does: content types, statuses, the forms of the answer.

Where the time of one CSV row goes (100 trees of depth 6, one thread): see docs/algorithms/xgboost.md.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sagesmith.algorithms.base import Request, RequestError, Response
from sagesmith.algorithms.xgboost import selectable
from sagesmith.algorithms.xgboost.matrix import CSV, LIBSVM, RECORDIO, media_type
from sagesmith.formats.errors import DataError

if TYPE_CHECKING:
    from sagesmith.algorithms.xgboost.prediction import Ensemble

logger = logging.getLogger(__name__)

JSON, JSON_LINES, RECORDS, TEXT = (
    "application/json",
    "application/jsonlines",
    "application/x-recordio-protobuf",
    "text/csv",
)
_ACCEPTED = (JSON, JSON_LINES, RECORDS, TEXT)
_SNIFFED = 512  # characters of a CSV body that decide on its delimiter
_SMALL = 16_384  # bytes up to which Python's own split beats starting a CSV reader


def respond(model: Ensemble, request: Request) -> Response:
    """Answers POST /invocations.

    Raises:
        RequestError: 406 for the Accept header, 415 for a body that cannot be read, 400 for rows that do not fit the
            model, 500 for selectable output of an objective that has none.
    """
    accept = _accept(request)
    if not request.body.strip():
        return Response(b"", accept, 204)
    features = _features(request, model.width)
    if model.threads != 1:  # requests come side by side, one processor each
        model.use_threads(1)
    try:
        scores = model.predict(features)
    except Exception as error:
        raise RequestError(f"Unable to evaluate payload provided: {error}", 400) from error
    if request.environment.get("SAGEMAKER_INFERENCE_OUTPUT"):
        return _selected(model, scores, accept, request)
    if request.environment.get("SAGEMAKER_BATCH"):
        return Response("".join(f"{value}\n" for value in scores.tolist()).encode(), accept)
    return _plain(scores, accept, request)


def _accept(request: Request) -> str:
    default = request.environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or TEXT
    if not request.accept:
        return default
    for one in request.accept.split(","):
        kind, _ = media_type(one)
        if kind in ("*/*", ""):
            return default
        if kind in _ACCEPTED:
            return kind
    raise RequestError(f"Accept type {request.accept} is not supported. Please use one of {', '.join(_ACCEPTED)}", 406)


def _features(request: Request, width: int) -> Any:
    """The rows of a body: a dense array or a sparse matrix."""
    kind, parameters = media_type(request.content_type or TEXT)
    try:
        if kind in CSV:
            return _csv(request.body, parameters.get("charset", "utf-8"))
        if kind in (*LIBSVM, *RECORDIO):
            from sagesmith.formats.format import read_body

            features = read_body(request.body, RECORDS if kind in RECORDIO else "text/libsvm").features
            return _shifted(features, width) if kind in LIBSVM else features
    except (DataError, ValueError, LookupError) as error:
        raise RequestError(
            f"Loading data failed with Exception, please ensure data is in {kind} format: {error}", 415
        ) from error
    allowed = ", ".join((TEXT, "text/libsvm", RECORDS))
    raise RequestError(f"Content-type {request.content_type} is not supported; supported are {allowed}", 415)


def _shifted(features: Any, width: int) -> Any:
    """Columns counted from 1, as SageMaker's newest image trains them, are one too many for the model."""
    if features.shape[1] == width + 1 and features[:, [0]].nnz == 0:
        return features[:, 1:]
    return features


def _csv(body: bytes, charset: str) -> np.ndarray:
    text = body.decode(charset).strip("\r\n")
    delimiter = sniffed(text[:_SNIFFED])
    if len(body) <= _SMALL:
        return _small_csv(text, delimiter)
    from sagesmith.formats.format import Options, read_body

    return np.asarray(read_body(body, TEXT, Options(label_size=0, delimiter=delimiter, charset=charset)).features)


def sniffed(sample: str) -> str:
    """The delimiter of CSV text: a comma where there is one, else what Python's csv.Sniffer finds."""
    line = sample.split("\n", 1)[0]
    if "," in line:
        return ","
    try:
        found = csv.Sniffer().sniff(line, delimiters=";|\t: ").delimiter
    except csv.Error:
        return ","  # a single column
    return found


def _small_csv(text: str, delimiter: str) -> np.ndarray:
    """Rows of a small body; an empty field is missing. Starting a CSV reader would take longer than this."""
    rows: list[list[float]] = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split(delimiter)
        try:
            row = [float(field) if field.strip(' "\r') else np.nan for field in fields]
        except ValueError:
            try:
                row = [float(field.strip(' "\r')) if field.strip(' "\r') else np.nan for field in fields]
            except ValueError as error:
                raise DataError(f"line {number}: {error}") from None
        if rows and len(row) != len(rows[0]):
            raise DataError(f"line {number} has {len(row)} fields, the first line has {len(rows[0])}")
        rows.append(row)
    return np.asarray(rows, dtype=np.float32)


def _plain(scores: np.ndarray, accept: str, request: Request) -> Response:
    values = scores.tolist()
    if accept == JSON:
        return Response(json.dumps({"predictions": [{"score": value} for value in values]}).encode(), accept)
    if accept == JSON_LINES:
        return Response("".join(json.dumps({"score": value}) + "\n" for value in values).encode(), accept)
    if accept == RECORDS:
        return Response(_records([{"score": value} for value in values]), accept)
    lines = [",".join(map(str, value)) if isinstance(value, list) else str(value) for value in values]
    if request.environment.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true":
        return Response(",".join(lines).encode(), accept)
    return Response(("\n".join(lines) + "\n").encode(), accept)


def _selected(model: Ensemble, scores: np.ndarray, accept: str, request: Request) -> Response:
    keys = selectable.keys_of(request.environment["SAGEMAKER_INFERENCE_OUTPUT"])
    rows = list(selectable.rows(scores, model.objective, model.classes, keys))
    for key in selectable.invalid(model.objective, keys):
        logger.warning("Selected key %s is not valid for objective %s; answering NaN", key, model.objective)
    if accept == JSON:
        return Response(json.dumps({"predictions": rows}).encode(), accept)
    if accept == JSON_LINES:
        return Response("".join(json.dumps(row) + "\n" for row in rows).encode(), accept)
    if accept == RECORDS:
        return Response(_records(rows), accept)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([json.dumps(value) if isinstance(value, list) else value for value in row.values()])
    return Response(out.getvalue().encode(), accept)


def _records(rows: Sequence[dict[str, Any]]) -> bytes:
    """One RecordIO record a row; every field a float32 tensor under `label`."""
    from sagesmith.formats.responses import write_recordio

    return write_recordio({key: [row[key] for row in rows] for key in rows[0]})
