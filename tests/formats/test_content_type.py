"""Content types: normalised once, aliases known, nonsense refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sagesmith.formats.batch import DataError
from sagesmith.formats.content_type import ContentType
from sagesmith.formats.format import Options, format_of, formats, normalised


def test_parameters_are_split_off_and_names_lowered() -> None:
    found = ContentType.parse('Text/CSV; Label_Size=2 ;delimiter=";"')
    assert found.name == "text/csv"
    assert found.parameters == {"label_size": "2", "delimiter": ";"}
    assert found.number("label_size", 1) == 2
    assert str(ContentType.parse("text/csv;label_size=0")) == "text/csv;label_size=0"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("csv", "text/csv"),
        ("libsvm", "text/libsvm"),
        ("text/x-libsvm", "text/libsvm"),
        ("parquet", "application/x-parquet"),
        ("recordio-protobuf", "application/x-recordio-protobuf"),
        ("application/x-recordio", "application/x-recordio-protobuf"),
        ("application/jsonlines", "application/jsonlines"),
        ("JSON", "application/json"),
    ],
)
def test_aliases_name_the_same_format(alias: str, name: str) -> None:
    assert normalised(alias).name == name
    assert format_of(ContentType.parse(alias)) is format_of(ContentType.parse(name))


def test_unknown_type_lists_what_is_known() -> None:
    with pytest.raises(DataError, match=r"unknown content type 'text/plain'; known: .*text/csv"):
        format_of(ContentType.parse("text/plain"))


@pytest.mark.parametrize("text", ["text/csv;label_size=x", "text/csv;label_size=-1", "text/csv;delimiter=ab"])
def test_parameters_without_sense_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        Options().of(ContentType.parse(text))


def test_a_parameter_without_value_is_refused() -> None:
    with pytest.raises(DataError, match="name=value"):
        ContentType.parse("text/csv;label_size")


def test_accept_flags_are_case_insensitive() -> None:
    assert ContentType.parse("application/json; verbose=True").flag("verbose")
    assert not ContentType.parse("application/json").flag("verbose")


def test_every_format_declares_lower_case_types() -> None:
    assert all(name == name.lower() for name in formats())


def test_finding_all_formats_imports_no_heavy_library() -> None:
    code = (
        "import sys; from sagesmith.formats.format import formats, read_body; formats(); "
        "read_body(b'1,2\\n', 'text/csv'); from sagesmith.formats.channel import Channel; "
        "print([m for m in ('numba', 'pyarrow', 'scipy', 'pandas') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
