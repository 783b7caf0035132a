"""Request URIs of the REST protocols: `/endpoints/{EndpointName}/invocations`, `/{Bucket}/{Key+}?list-type=2`."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from botocore.model import OperationModel

from sagesmith.core.operation import ApiError

_LABEL = re.compile(r"\{(\w+)(\+?)\}")


@dataclass(frozen=True)
class Template:
    """A request URI of the model, compiled to match raw paths, so that %2F in a label stays in the label."""

    pattern: re.Pattern[bytes]
    labels: tuple[str, ...]  # wire names, in their order
    constants: tuple[tuple[str, str | None], ...]  # query parameters the URI itself demands; None: any value

    def labels_of(self, raw_path: bytes) -> dict[str, str] | None:
        """The labels' decoded values; None when the path is another one.

        Raises:
            ApiError: a label is not UTF-8.
        """
        match = self.pattern.fullmatch(raw_path)
        if match is None:
            return None
        try:
            return {
                name: unquote_to_bytes(text).decode() for name, text in zip(self.labels, match.groups(), strict=True)
            }
        except UnicodeDecodeError:
            raise ApiError("InvalidURI", "Couldn't parse the specified URI: it is not UTF-8.") from None


@functools.cache
def template(request_uri: str) -> Template:
    """Compiles the URI of a model's `http` trait."""
    path, _, query = request_uri.partition("?")
    pattern, labels, position = "", [], 0
    for label in _LABEL.finditer(path):
        pattern += re.escape(path[position : label.start()]) + ("(.+)" if label[2] else "([^/]+)")
        labels.append(label[1])
        position = label.end()
    pattern += re.escape(path[position:])
    if not path.endswith("+}"):
        pattern = pattern.rstrip("/") + "/?"
    constants = []
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if name and name != "x-id":
            constants.append((name, value if equals else None))
    return Template(re.compile(pattern.encode(), re.DOTALL), tuple(labels), tuple(constants))


def template_of(operation: OperationModel) -> Template:
    return template(operation.http["requestUri"])
