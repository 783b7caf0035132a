from __future__ import annotations

import sys

import pytest

from sagesmith.core.operation import ApiError
from sagesmith.store.checksums import checksum

# The check values that the catalogue of parametrised CRC algorithms (RevEng) gives for the digits 1 to 9.
KNOWN = {"CRC32": "cbf43926", "CRC32C": "e3069283", "CRC64NVME": "ae8b14860a799888"}


@pytest.mark.parametrize("algorithm", KNOWN)
def test_known_values_in_one_piece_and_in_several(algorithm: str) -> None:
    whole, pieces = checksum(algorithm), checksum(algorithm)
    whole.update(b"123456789")
    for piece in (b"123", b"", b"456789"):
        pieces.update(piece)
    assert whole.digest().hex() == pieces.digest().hex() == KNOWN[algorithm]


def test_what_needs_a_library_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    with pytest.raises(ApiError, match="CRC64NVME checksums need the package awscrt") as refused:
        checksum("CRC64NVME")
    assert refused.value.status == 501


@pytest.mark.parametrize(("algorithm", "code"), [("XXHASH64", "NotImplemented"), ("CRC7", "InvalidRequest")])
def test_algorithms_that_we_lack_are_refused_by_name(algorithm: str, code: str) -> None:
    with pytest.raises(ApiError, match=algorithm) as refused:
        checksum(algorithm)
    assert refused.value.code == code
