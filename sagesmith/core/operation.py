"""Operations: one Python function per AWS operation, found by its name in botocore's models.

    sagemaker = Service("sagemaker")

    @sagemaker.operation
    def create_training_job(request: CreateTrainingJobRequest, ctx: Context) -> dict: ...

The function's name is the operation; a name that the model lacks fails when the room is imported.
`ctx.call("CreateTrainingJob", {...})` sends a request through the same validation as one from outside.
"""

from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import xform_name
from botocore.model import OperationModel, ServiceModel

if TYPE_CHECKING:
    from sagesmith.core.clock import Clock
    from sagesmith.core.config import Config
    from sagesmith.engines.base import Engine
    from sagesmith.store.database import Database
    from sagesmith.store.objects import Objects

Handler = Callable[..., Any]


class ApiError(Exception):
    """An error in AWS's shape.

    Args:
        code: AWS's error code, e.g. `ValidationException`.
        message: what is wrong, naming the offending value and what is allowed.
        status: the HTTP status.
        fields: further members of the error's body (S3's `Key`, the runtime's `OriginalStatusCode`).
        headers: further response headers.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int = 400,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Operation:
    """One operation that is built: its model and the function that means it."""

    service: str
    name: str
    function: Handler
    asynchronous: bool  # awaited on the event loop instead of run in a thread

    @property
    def model(self) -> OperationModel:
        return service_model(self.service).operation_model(self.name)


OPERATIONS: dict[tuple[str, str], Operation] = {}


@functools.cache
def service_model(service: str) -> ServiceModel:
    """botocore's model of a service (`sagemaker`, `s3`, `logs`, …)."""
    return botocore.session.get_session().get_service_model(service)


@functools.cache
def _operation_names(service: str) -> dict[str, str]:
    return {xform_name(name): name for name in service_model(service).operation_names}


class Service:
    """An AWS service by its botocore name; its `operation` decorator registers the functions of a room."""

    def __init__(self, name: str) -> None:
        self.name = name

    def operation(self, function: Handler) -> Handler:
        """Registers `function(request, ctx) -> dict` under the operation its name spells.

        Raises:
            LookupError: the service's model has no such operation, or it has a function already.
        """
        name = _operation_names(self.name).get(function.__name__)
        if name is None:
            raise LookupError(f"{self.name} has no operation for {function.__module__}.{function.__name__}")
        key = (self.name, name)
        if key in OPERATIONS and OPERATIONS[key].function.__module__ != function.__module__:
            raise LookupError(f"{self.name}.{name} is already built in {OPERATIONS[key].function.__module__}")
        OPERATIONS[key] = Operation(self.name, name, function, inspect.iscoroutinefunction(function))
        return function


@dataclass(frozen=True)
class TemporaryKey:
    """What sts hands out: a key that ends by itself."""

    id: str
    secret: str
    token: str
    expires: float  # epoch seconds


def _no_keys(principal: str, role: str, expires: float) -> TemporaryKey:
    raise ApiError("AccessDenied", "This server issues no temporary credentials.", 403)


@dataclass
class World:
    """What one server process shares; built once by server.py and handed to every operation and step."""

    config: Config
    clock: Clock
    database: Database
    objects: Objects
    engine: Engine
    agent_key: tuple[str, str] = ("", "")  # access key id and secret that agents sign with
    poke: Callable[[], None] = field(default=lambda: None)  # wakes the reconciler
    issue_key: Callable[[str, str, float], TemporaryKey] = (
        _no_keys  # for principal, session ARN, epoch seconds of its end
    )


@dataclass(frozen=True)
class Context:
    """Who asks, where, and the world to do it in."""

    world: World
    account: str
    region: str
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    principal: str = ""  # the access key id, or "" for a call between rooms
    role: str = ""  # the ARN of the session whose temporary key signed the request
    source: Any = None  # gateway.app.Incoming for handlers that need raw headers; None between rooms

    @property
    def now(self) -> float:
        return self.world.clock.now()

    def call(self, operation: str, request: Mapping[str, Any], service: str = "sagemaker") -> dict[str, Any]:
        """Runs another operation as if a client had sent it: validated, same errors.

        Raises:
            ApiError: whatever the operation answers.
        """
        from sagesmith.core.validate import validate

        found = OPERATIONS.get((service, operation))
        if found is None:
            raise not_implemented(service, operation)
        shape = found.model.input_shape
        if shape is not None:
            validate(request, shape)
        answer = found.function(dict(request), replace(self, principal="", source=None))
        return answer if answer is not None else {}


@dataclass(frozen=True)
class Body:
    """A request body that was spooled to disk while its digests were taken (streaming blobs: S3).

    Whoever keeps it renames `path` into place; what is left is deleted when the request ends.
    """

    path: Any  # pathlib.Path
    size: int
    md5: str  # hex
    sha256: str  # hex
    crc: Mapping[str, str] = field(default_factory=dict)  # algorithm (CRC32, …) → base64, as the client claimed

    def read(self) -> bytes:
        return bytes(self.path.read_bytes())


@dataclass(frozen=True)
class FileRange:
    """A response body that is sent straight from a file: `size` bytes from `offset`.

    Where `file` is given it is the open file to read and `path` is None, so that a version replaced meanwhile is
    still sent whole; whoever sends the answer closes it.
    """

    path: Any  # pathlib.Path, or None where `file` is given
    offset: int
    size: int
    file: Any = None  # BinaryIO


def not_implemented(service: str, operation: str) -> ApiError:
    """The honest answer to an operation that AWS has and we do not. 501 is not retried by boto3."""
    return ApiError("NotImplemented", f"{operation} of {service} is not implemented by sagesmith.", 501)


def validation_error(message: str) -> ApiError:
    return ApiError("ValidationException", message)
