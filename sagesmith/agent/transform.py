"""Kind transform: sends the records of this host's objects through the model and writes what it answers.

Objects are shared out by key; each is read as a stream, sent in payloads of up to MaxPayloadInMB with up to
MaxConcurrentTransforms under way, and its answers are put together in the order of the records, on disk, then stored
as `<S3OutputPath>/<key below the input prefix>.out`. An object's output appears whole or not at all.
"""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

import urllib3
from botocore.exceptions import ClientError
from urllib3.exceptions import HTTPError

from sagesmith.agent.channels import Channel, Source, sources
from sagesmith.agent.connection import Server, passing, refusal
from sagesmith.agent.data_processing import DataProcessing, FilterError
from sagesmith.agent.endpoint import Serving, last_words
from sagesmith.agent.failures import JobFailed, Stopped
from sagesmith.agent.host import Host, Outcome
from sagesmith.agent.records import RecordError, batches, gunzip, split
from sagesmith.agent.rendezvous import free_port
from sagesmith.agent.staging_in import stage_models, write_configuration
from sagesmith.core.names import S3Uri

CHUNK = 1 << 20
MB = 1 << 20
SPOOLED = 16 * MB  # an output that is smaller stays in memory
RETRY_SECONDS = 0.5  # between attempts at one request
PARAMETERS_TIMEOUT = 10.0  # seconds for /execution-parameters


@dataclass(frozen=True)
class Plan:
    """How records are sent: the request's values, else the container's, else the platform's."""

    concurrent: int
    payload: int  # bytes
    together: bool  # MultiRecord
    split: str
    content_type: str
    accept: str
    assemble: str
    compressed: bool
    timeout: float
    retries: int
    processing: DataProcessing | None

    @property
    def separator(self) -> bytes:
        """What stands between the records of a payload."""
        return b"\n" if self.split == "Line" else b""

    @classmethod
    def of(cls, request: dict[str, Any], offered: dict[str, Any]) -> Plan:
        """The plan of a job; raises JobFailed for DataProcessing that cannot be done."""
        source, target = request["TransformInput"], request["TransformOutput"]
        client = request.get("ModelClientConfig", {})
        content_type, accept = source.get("ContentType", ""), target.get("Accept", "")
        try:
            processing = DataProcessing.of(request.get("DataProcessing", {}), content_type, accept)
        except FilterError as error:
            raise JobFailed(f"ClientError: {error}") from None
        strategy = request.get("BatchStrategy") or offered.get("BatchStrategy") or "MULTI_RECORD"
        together = strategy.replace("_", "").lower() == "multirecord"
        single = processing is not None and content_type.partition(";")[0].strip().lower() == "application/json"
        return cls(
            concurrent=int(request.get("MaxConcurrentTransforms") or offered.get("MaxConcurrentTransforms") or 1),
            payload=int(request.get("MaxPayloadInMB") or offered.get("MaxPayloadInMB") or 6) * MB,
            together=together and not single,
            split=source.get("SplitType", "None"),
            content_type=content_type,
            accept=accept,
            assemble=target.get("AssembleWith", "None"),
            compressed=source.get("CompressionType", "None") == "Gzip",
            timeout=float(client.get("InvocationsTimeoutInSeconds", 600)),
            retries=int(client.get("InvocationsMaxRetries", 3)),
            processing=processing,
        )


def run(host: Host) -> Outcome:
    """One instance's share of a transform job.

    Raises:
        JobFailed: something cannot be read, the model refuses it or its answer cannot be used.
        Stopped: asked to stop.
    """
    request = host.paper["transform"]
    host.folder.create()
    host.reporter.enter("Downloading")
    write_configuration(host.paper, host.folder)
    stage_models(host.paper, host.folder, host.server)
    serving = Serving(host, free_port())
    try:
        if not serving.wait_until_healthy():
            if host.stopping.is_set():
                raise Stopped
            what = "AlgorithmError: the container did not pass the ping health check. See job logs."
            raise JobFailed(what + last_words(host))
        host.reporter.enter("Training")
        model = Model(serving.port, host)
        model.plan = Plan.of(request, model.parameters())
        for source in share_of(host, request):
            transform_object(source, request, model, host)
        model.close()
    finally:
        serving.process.stop(host.paper["stop_grace"])
    return Outcome()


def share_of(host: Host, request: dict[str, Any]) -> list[Source]:
    """The objects of this host; every n-th of all in the order of their keys."""
    location = request["TransformInput"]["DataSource"]["S3DataSource"]
    channel = Channel(
        name="input",
        mode="Pipe",  # nothing is written below a folder, so that odd keys do no harm
        kind=location["S3DataType"],
        uri=S3Uri.parse(location["S3Uri"]),
        sharded=False,
        content_type=None,
        compressed=False,
        wrapped=False,
        seed=None,
        attributes=(),
    )
    found = sources(channel, host.server, host.paper["host"], host.paper["hosts"])
    return found[sorted(host.paper["hosts"]).index(host.paper["host"]) :: len(host.paper["hosts"])]


class Model:
    """The container of this instance."""

    plan: Plan

    def __init__(self, port: int, host: Host) -> None:
        self._host = host
        self._pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=16, retries=False)

    def close(self) -> None:
        """Ends the connections to it."""
        self._pool.close()

    def parameters(self) -> dict[str, Any]:
        """What the container asks for in /execution-parameters; {} when it has no such path."""
        try:
            answer = self._pool.request("GET", "/execution-parameters", timeout=PARAMETERS_TIMEOUT)
            found = json.loads(answer.data) if answer.status == 200 else {}
        except (HTTPError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def answer(self, payload: bytes, uri: S3Uri) -> bytes:
        """The answer to one payload, tried again while the container fails or keeps silent.

        Raises:
            JobFailed: it refuses the payload, or failed once too often.
            Stopped: the job is being stopped.
        """
        plan = self.plan
        headers = {"Content-Type": plan.content_type} if plan.content_type else {}
        headers |= {"Accept": plan.accept} if plan.accept else {}
        for left in range(plan.retries, -1, -1):
            if self._host.stopping.wait(0.0 if left == plan.retries else RETRY_SECONDS):
                raise Stopped
            try:
                answer = self._pool.request("POST", "/invocations", body=payload, headers=headers, timeout=plan.timeout)
            except HTTPError as error:
                trouble = f"AlgorithmError: the model did not answer a request for {uri}: {error}"
                continue
            if 200 <= answer.status < 300:
                return answer.data
            side = "ClientError" if answer.status < 500 else "AlgorithmError"
            text = answer.data.decode("utf-8", "replace")
            trouble = f"{side}: the model answered {answer.status} to a request for {uri}: {text}"
            if answer.status < 500 or not left:
                break
        raise JobFailed(trouble)


def transform_object(source: Source, request: dict[str, Any], model: Model, host: Host) -> None:
    """Transforms one object and stores its output."""
    plan = model.plan
    content: Iterable[bytes] = _read(source.uri, host.server)
    if plan.compressed:
        content = gunzip(content)
    try:
        groups = batches(split(content, plan.split, plan.payload), plan.separator, plan.payload, plan.together)
        with tempfile.SpooledTemporaryFile(SPOOLED, dir=str(host.home)) as output:
            for answers in _in_order(groups, source.uri, model):
                _append(output, answers, plan)
            _store(output, S3Uri.parse(request["TransformOutput"]["S3OutputPath"]).join(f"{source.path}.out"), host)
    except (RecordError, FilterError) as error:
        raise JobFailed(f"ClientError: {source.uri}: {error}") from None
    except ClientError as error:
        raise JobFailed(f"ClientError: {source.uri}: {refusal(error)}") from None


def _in_order(groups: Iterator[list[bytes]], uri: S3Uri, model: Model) -> Iterator[list[bytes]]:
    """The answers to groups of records in the order of the groups, several under way at a time."""
    waiting: deque[Future[list[bytes]]] = deque()
    with ThreadPoolExecutor(model.plan.concurrent, thread_name_prefix="invoke") as pool:
        try:
            for group in groups:
                waiting.append(pool.submit(_transform, group, uri, model))
                if len(waiting) >= 2 * model.plan.concurrent:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _transform(group: list[bytes], uri: S3Uri, model: Model) -> list[bytes]:
    """What is written for one payload: the model's answer, or one piece for each record."""
    plan = model.plan
    processing = plan.processing
    if processing is None:
        return [model.answer(plan.separator.join(group), uri)]
    answer = model.answer(plan.separator.join(processing.before(record) for record in group), uri)
    if not processing.per_record:
        return [answer]
    answers = _divide(answer, len(group))
    return [processing.after(record, each) for record, each in zip(group, answers, strict=True)]


def _divide(answer: bytes, count: int) -> list[bytes]:
    """The answers to the records of one payload, one line each."""
    if count == 1:
        return [answer.removesuffix(b"\n").removesuffix(b"\r")]
    lines = answer.removesuffix(b"\n").split(b"\n")
    if len(lines) != count:
        raise FilterError(
            f"the model answered {len(lines)} lines to {count} records, so they cannot be matched; "
            "BatchStrategy SingleRecord sends them one by one"
        )
    return lines


def _append(output: IO[bytes], answers: list[bytes], plan: Plan) -> None:
    ends_lines = plan.assemble == "Line" or len(answers) > 1
    for answer in answers:
        output.write(answer)
        if ends_lines and not answer.endswith(b"\n"):
            output.write(b"\n")


def _read(uri: S3Uri, server: Server) -> Iterator[bytes]:
    """An object's bytes, from one version of it, read on where a broken connection left off."""
    offset, size, etag = 0, None, ""
    while size is None or offset < size:
        request: dict[str, Any] = {"Bucket": uri.bucket, "Key": uri.key}
        if etag:
            request |= {"Range": f"bytes={offset}-", "IfMatch": etag}
        answer = server.call("s3", "get_object", **request)
        if size is None:
            size, etag = int(answer["ContentLength"]), answer["ETag"]
        chunk = b" "
        while chunk:
            try:
                chunk = answer["Body"].read(CHUNK)
            except Exception as error:
                if not passing(error):
                    raise
                break
            offset += len(chunk)
            if chunk:
                yield chunk


def _store(output: IO[bytes], target: S3Uri, host: Host) -> None:
    def attempt() -> None:
        output.seek(0)
        host.server.client("s3").put_object(Bucket=target.bucket, Key=target.key, Body=output)

    try:
        host.server.insist(attempt)
    except ClientError as error:
        raise JobFailed(f"ClientError: {target} cannot be written: {refusal(error)}") from None
