"""`.lst` files: read, written, and hostile or careless lines named."""

import numpy as np
import pytest

from sagesmith.formats.errors import DataError
from sagesmith.formats.image_lists import Listed, read_list, write_list


def test_lines_are_given_back(tmp_path):
    lines = [Listed(5, np.array([0.0], np.float32), "cat/1.jpg"), Listed(0, np.array([2.0], np.float32), "a b.jpg")]
    write_list(tmp_path / "a.lst", lines)
    assert (tmp_path / "a.lst").read_text() == "5\t0.000000\tcat/1.jpg\n0\t2.000000\ta b.jpg\n"
    found = read_list(tmp_path / "a.lst", labels=1)
    assert [(one.number, one.label.tolist(), one.path) for one in found] == [
        (5, [0.0], "cat/1.jpg"),
        (0, [2.0], "a b.jpg"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no pictures"),
        ("1\tcat.jpg\n", "line 1: 2 columns"),
        ("1 0 cat.jpg\n", "line 1: 1 columns"),
        ("1\tcat\tcat.jpg\n", "line 1: index and label are numbers"),
        ("1\tnan\tcat.jpg\n", "line 1: .*finite"),
        ("-1\t0\tcat.jpg\n", "line 1: index is a whole number"),
        ("1\t0\ta.jpg\n\n1\t0\tb.jpg\n", "line 3: its index stands in line 1 already"),
        ("1\t0\ta.jpg\n2\t1\ta.jpg\n", "line 2: its path stands in line 1 already"),
        ("1\t0\t../secret.jpg\n", "line 1: '../secret.jpg' is not a path below"),
        ("1\t0\ta/../../b.jpg\n", "line 1: .* is not a path below"),
        ("1\t0\t/etc/passwd\n", "line 1: '/etc/passwd' is not a path below"),
        ("1\t0\t.\n", "line 1: .* is not a path below"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_used_are_named(tmp_path, text, said):
    (tmp_path / "a.lst").write_text(text)
    with pytest.raises(DataError, match=said):
        read_list(tmp_path / "a.lst", labels=1)
