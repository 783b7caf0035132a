"""What an algorithm declares besides hyperparameters, and what it is asked and answers once it is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["classifier", "regressor", "clusterer", "outlier_detector", "transformer", "forecaster", "other"]
FILES = ("File", "FastFile")  # the modes of a channel that is read as files


@dataclass(frozen=True)
class ChannelSpec:
    """A channel that an algorithm reads. An empty `content_types` means that any will do."""

    name: str
    required: bool = False
    content_types: tuple[str, ...] = ()
    default: str = ""  # the content type assumed when the request names none
    modes: tuple[str, ...] = ("File", "FastFile", "Pipe")
    distributions: tuple[str, ...] = ("FullyReplicated", "ShardedByS3Key")
    label_size: int = 1  # leading label columns of CSV when the content type does not say


@dataclass(frozen=True)
class Metric:
    """A metric by AWS's name, the regular expression that finds it in the log, and the better direction."""

    name: str
    regex: str
    objective: Literal["Maximize", "Minimize", ""] = ""  # "" = cannot be tuned for


class RequestError(ValueError):
    """A request to a served model that cannot be answered; `status` is the HTTP status of the container."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """One POST /invocations, or one call of a model without a server."""

    body: bytes
    content_type: str = ""
    accept: str = ""
    attributes: str = ""  # X-Amzn-SageMaker-Custom-Attributes
    environment: Mapping[str, str] = field(default_factory=dict)  # the container's: SAGEMAKER_BATCH and friends


@dataclass(frozen=True)
class Response:
    """The answer: bytes and their content type; `status` 204 for an empty one."""

    body: bytes
    content_type: str
    status: int = 200
