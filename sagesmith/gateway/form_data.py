"""multipart/form-data as S3's POST takes it: small fields, then one file that is handed on as it arrives.

Memory is bounded whatever a client sends: the fields by PRE_FILE bytes together, the file by the pieces in which the
connection delivers it. Sources: RFC 7578, RFC 2046 section 5.1, "POST Object" in the S3 API reference.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import unquote_to_bytes

from sagesmith.core.operation import ApiError

PRE_FILE = 20 * 1024  # bytes of everything before the file, AWS's own limit; the same again after it
PART_HEADERS = 4 * 1024  # bytes of one part's headers
MOST_FIELDS = 100
FILE = "file"  # the field that holds the object
_MORE, _END = b"\r\n", b"--"  # what follows a boundary

_BOUNDARY = re.compile(r"(?:^|;)\s*boundary=(?:\"([^\"]{1,200})\"|([^\s;,\"]{1,200}))\s*(?:;|$)", re.IGNORECASE)
_PARAMETER = re.compile(r";\s*([A-Za-z*]+)\s*=\s*(?:\"((?:\\\"|[^\"])*)\"|([^;\"]*))")


class FormReader:
    """A form that is read once, front to back: `fields`, then `file`."""

    def __init__(self, stream: AsyncIterator[bytes], content_type: str) -> None:
        """Raises ApiError when the content type names no boundary."""
        kind, _, rest = content_type.partition(";")
        boundary = _BOUNDARY.search(rest)
        if kind.strip().lower() != "multipart/form-data" or boundary is None:
            raise malformed(f"its Content-Type must be multipart/form-data with a boundary, not {content_type[:200]!r}")
        self._delimiter = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1", "replace")
        self._stream = stream
        self._buffer = bytearray(b"\r\n")  # a body may begin with the boundary itself
        self._spent = 0  # bytes before the file
        self._names = 0
        self.filename = ""  # of the file, known once `fields` has answered

    async def fields(self) -> dict[str, str]:
        """The fields before the file, names in lower case.

        Raises:
            ApiError: MalformedPOSTRequest, MaxPostPreDataLengthExceededError, or InvalidArgument for no file at all.
        """
        found: dict[str, str] = {}
        await self._upto(self._delimiter, PRE_FILE)
        while await self._goes_on():
            name, filename = await self._part()
            if name == FILE:
                self.filename = filename
                return found
            if name in found:
                raise _argument(f"The form field {name[:100]!r} was sent more than once.", name, "")
            found[name] = _text(await self._upto(self._delimiter, PRE_FILE), f"the field {name[:100]!r}")
        raise _files(0)

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes, as they come; then the rest of the form is read to its end.

        Raises:
            ApiError: MalformedPOSTRequest for a form that breaks off, InvalidArgument for a second file.
        """
        keep = len(self._delimiter) - 1  # bytes that may be the beginning of the boundary
        while (end := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > keep:
                piece = bytes(self._buffer[:-keep])
                del self._buffer[:-keep]
                yield piece
            await self._more()
        if end:
            yield bytes(self._buffer[:end])
        del self._buffer[: end + len(self._delimiter)]
        self._spent = 0
        while await self._goes_on():  # AWS ignores fields after the file
            if (await self._part())[0] == FILE:
                raise _files(2)
            await self._upto(self._delimiter, PRE_FILE)
        async for _ in self._stream:
            pass  # an epilogue means nothing

    async def _goes_on(self) -> bool:
        """Whether another part follows the boundary that was just read."""
        after = await self._take(2)
        if after not in (_MORE, _END):
            raise malformed(f"{after!r} follows a boundary")
        return after == _MORE

    async def _part(self) -> tuple[str, str]:
        """The name, in lower case, and the filename of the part whose headers come next."""
        self._names += 1
        if self._names > MOST_FIELDS:
            raise malformed(f"it has more than {MOST_FIELDS} fields")
        self._buffer[:0] = b"\r\n"  # so that a part without headers ends like any other
        text = _text(await self._upto(b"\r\n\r\n", PART_HEADERS), "the headers of a part")
        for line in text.split("\r\n"):
            header, _, value = line.partition(":")
            if header.strip().lower() == "content-disposition":
                return _disposition(value)
        raise malformed("a part has no Content-Disposition")

    async def _upto(self, mark: bytes, limit: int) -> bytes:
        """What comes before the mark, which is taken away as well."""
        start = 0
        while (end := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark) + 1)
            self._check(len(self._buffer), limit)
            await self._more()
        self._check(end, limit)
        return (await self._take(end + len(mark)))[:end]

    def _check(self, size: int, limit: int) -> None:
        if self._spent + size > PRE_FILE:
            raise ApiError(
                "MaxPostPreDataLengthExceededError",
                "Your POST request fields preceding the upload file were too large: "
                f"{PRE_FILE} bytes are allowed before the file, and after it.",
            )
        if size > limit:
            raise malformed(f"the headers of a part hold more than {limit} bytes")

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._spent += size
        return taken

    async def _more(self) -> None:
        try:
            self._buffer += await anext(self._stream)
        except StopAsyncIteration:
            raise malformed("it ends before its last boundary") from None


def _disposition(value: str) -> tuple[str, str]:
    kind = value.partition(";")[0].strip().lower()
    parameters = {}
    for match in _PARAMETER.finditer(value):
        quoted, plain = match[2], match[3]
        parameters[match[1].lower()] = plain.strip() if quoted is None else quoted.replace('\\"', '"')
    if kind != "form-data" or not parameters.get("name"):
        raise malformed(f"a part has the Content-Disposition {value.strip()[:100]!r}, not form-data with a name")
    filename = parameters.get("filename", "")
    if "filename*" in parameters:  # RFC 5987, which some libraries send for names that are not ASCII
        charset, _, encoded = parameters["filename*"].partition("''")
        if charset.lower() != "utf-8":
            raise malformed(f"the file's name has the character set {charset[:40]!r}, not UTF-8")
        filename = _text(unquote_to_bytes(encoded), "the file's name")
    return parameters["name"].lower(), re.split(r"[/\\]", filename)[-1]


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise malformed(f"{what} is not UTF-8") from None


def malformed(why: str) -> ApiError:
    return ApiError(
        "MalformedPOSTRequest", f"The body of your POST request is not well-formed multipart/form-data: {why}."
    )


def missing(name: str) -> ApiError:
    return _argument(
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields.",
        name,
        "",
    )


def _argument(message: str, name: str, value: object) -> ApiError:
    return ApiError("InvalidArgument", message, fields={"ArgumentName": name[:100], "ArgumentValue": value})


def _files(count: int) -> ApiError:
    return _argument("POST requires exactly one file upload per request.", FILE, count)
