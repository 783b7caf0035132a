"""aws-chunked: the frames inside a body that is sent before its checksum or signature is known.

    <hex length>[;chunk-signature=<hex>]\r\n <data> \r\n   …   0[;chunk-signature=<hex>]\r\n [trailers] \r\n

Source: "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks", AWS S3 API.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from sagesmith.core.operation import ApiError

_LONGEST_LINE = 1024
_MOST_TRAILERS = 16
_FRAME = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class ChunkKey:
    """What frames are signed with: the derived SigV4 key, X-Amz-Date, scope, and the request's own signature."""

    signing_key: bytes
    timestamp: str
    scope: str
    seed: str


class ChunkDecoder:
    """Takes frames in pieces of any size and hands the data on; verifies signatures when there is a key.

    Raises (from feed and finish):
        ApiError: IncompleteBody for broken frames, SignatureDoesNotMatch for a wrong chunk signature.
    """

    def __init__(self, take: Callable[[bytes], None], key: ChunkKey | None = None) -> None:
        self.trailers: dict[str, str] = {}
        self._take = take
        self._key = key
        self._previous = key.seed if key else ""
        self._buffer = bytearray()
        self._state = self._frame
        self._left = 0
        self._signature = ""
        self._hash = hashlib.sha256()
        self._trailer_text = b""
        self._done = False

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while self._state():
            pass

    def finish(self) -> None:
        """The body has ended; it must be complete."""
        if not self._done:
            raise _broken("it ended before the last chunk")

    def _frame(self) -> bool:
        line = self._line()
        if line is None:
            return False
        match = _FRAME.fullmatch(line)
        if match is None:
            raise _broken(f"{line[:80]!r} is not a chunk header")
        self._left = int(match[1], 16)
        self._signature = (match[2] or b"").decode()
        if self._key and not self._signature:
            raise ApiError("SignatureDoesNotMatch", "A chunk of the body carries no chunk-signature.", 403)
        self._hash = hashlib.sha256()
        if self._left:
            self._state = self._data
        else:
            self._check_chunk()
            self._state = self._trailers
        return True

    def _data(self) -> bool:
        piece = bytes(self._buffer[: self._left])
        if not piece:
            return False
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        if self._key:
            self._hash.update(piece)
        self._take(piece)
        if not self._left:
            self._check_chunk()
            self._state = self._end_of_data
        return True

    def _end_of_data(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise _broken("a chunk is longer than its header says")
        del self._buffer[:2]
        self._state = self._frame
        return True

    def _trailers(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line == b"":
            self._check_trailers()
            self._done = True
            self._state = self._after_end
            return True
        name, colon, value = line.partition(b":")
        if not colon or len(self.trailers) >= _MOST_TRAILERS:
            raise ApiError("MalformedTrailerError", f"{line[:80]!r} is not a trailer.")
        text = name.strip().lower()
        self.trailers[text.decode("latin-1")] = value.strip().decode("latin-1")
        if text != b"x-amz-trailer-signature":
            self._trailer_text += text + b":" + value.strip() + b"\n"
        return True

    def _after_end(self) -> bool:
        if bytes(self._buffer).strip(b"\r\n"):
            raise _broken("bytes follow the last chunk")
        return False

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, _LONGEST_LINE + 2)
        if end < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise _broken("a chunk header is too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _check_chunk(self) -> None:
        if self._key:
            text = f"{_EMPTY}\n{self._hash.hexdigest()}"
            self._verify("AWS4-HMAC-SHA256-PAYLOAD", text, self._signature)
            self._previous = self._signature

    def _check_trailers(self) -> None:
        if self._key and self._trailer_text:
            signature = self.trailers.get("x-amz-trailer-signature", "")
            self._verify("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(self._trailer_text).hexdigest(), signature)

    def _verify(self, algorithm: str, text: str, signature: str) -> None:
        assert self._key is not None
        signed = "\n".join([algorithm, self._key.timestamp, self._key.scope, self._previous, text])
        expected = hmac.new(self._key.signing_key, signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            raise ApiError("SignatureDoesNotMatch", "The signature of a chunk of the body does not match.", 403)


def _broken(why: str) -> ApiError:
    return ApiError("IncompleteBody", f"The aws-chunked body is not well formed: {why}.")
