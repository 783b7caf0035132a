from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

KEYS = ["a", "a/1", "a/2/x", "a/2/y", "b c/+d", "b-1", "b-2", "line\nbreak", "z", "ü/1"]


@pytest.fixture
def filled(s3, bucket) -> str:
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_pages_hold_everything_once_in_order(s3, filled, operation, size) -> None:
    pages = s3.get_paginator(operation).paginate(Bucket=filled, PaginationConfig={"PageSize": size})
    found = [entry for page in pages for entry in page.get("Contents", [])]
    assert [entry["Key"] for entry in found] == KEYS
    assert [entry["Size"] for entry in found] == [len(key.encode()) for key in KEYS]


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_delimiter(s3, filled, operation, size) -> None:
    pages = s3.get_paginator(operation).paginate(Bucket=filled, Delimiter="/", PaginationConfig={"PageSize": size})
    pages = list(pages)
    assert [e["Prefix"] for page in pages for e in page.get("CommonPrefixes", [])] == ["a/", "b c/", "ü/"]
    assert [e["Key"] for page in pages for e in page.get("Contents", [])] == ["a", "b-1", "b-2", "line\nbreak", "z"]
    deeper = s3.list_objects_v2(Bucket=filled, Delimiter="/", Prefix="a/")
    assert [e["Prefix"] for e in deeper["CommonPrefixes"]] == ["a/2/"]
    assert [e["Key"] for e in deeper["Contents"]] == ["a/1"]
    assert deeper["KeyCount"] == 2


def test_version_2_members(s3, filled) -> None:
    page = s3.list_objects_v2(Bucket=filled, StartAfter="b c/+d", MaxKeys=1, FetchOwner=True)
    assert (page["StartAfter"], page["MaxKeys"], page["KeyCount"], page["IsTruncated"]) == ("b c/+d", 1, 1, True)
    assert page["Contents"][0]["Key"] == "b-1"
    assert page["Contents"][0]["Owner"]["ID"]
    assert page["Contents"][0]["ChecksumAlgorithm"] == ["CRC32"]
    following = s3.list_objects_v2(Bucket=filled, ContinuationToken=page["NextContinuationToken"])
    assert following["Contents"][0]["Key"] == "b-2"
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=0)["IsTruncated"] is False
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000
    for wrong in ({"ContinuationToken": "%%%"}, {"MaxKeys": -1}):
        with pytest.raises(ClientError) as raised:
            s3.list_objects_v2(Bucket=filled, **wrong)
        assert raised.value.response["Error"]["Code"] == "InvalidArgument"


def test_versions_are_null(s3, filled) -> None:
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=filled, PaginationConfig={"PageSize": 4})
    found = [entry for page in pages for entry in page["Versions"]]
    assert [entry["Key"] for entry in found] == KEYS
    assert {entry["VersionId"] for entry in found} == {"null"}
