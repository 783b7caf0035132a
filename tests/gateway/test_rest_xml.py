from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import botocore.parsers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagesmith.core.operation import ApiError, Body, service_model
from sagesmith.gateway import xml
from sagesmith.gateway.http import Incoming, Outgoing
from sagesmith.gateway.protocols import rest_xml
from sagesmith.gateway.s3_route import bucket_and_key, operation_of

S3 = service_model("s3")


def request(method: str, target: str, body: bytes = b"", host: str = "127.0.0.1:8777", **headers: str) -> Incoming:
    path, _, query = target.partition("?")
    lowered = {name.replace("_", "-"): value for name, value in headers.items()}
    return Incoming(method, path.encode(), query.encode(), lowered, body, host=host)


def parsed(operation: str, incoming: Incoming) -> dict:
    assert operation_of(incoming) == operation
    return rest_xml.parse(incoming, S3.operation_model(operation))


def received(outgoing: Outgoing, operation: str) -> dict:
    """The answer as boto3 reads it."""
    response = {
        "status_code": outgoing.status,
        "headers": {name.lower(): value for name, value in outgoing.headers.items()},
        "body": outgoing.body,
    }
    shape = S3.operation_model(operation).output_shape
    return botocore.parsers.create_parser("rest-xml").parse(response, shape)


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/", "ListBuckets"),
        ("GET", "/b", "ListObjects"),
        ("GET", "/b/", "ListObjects"),
        ("GET", "/b?prefix=x&encoding-type=url", "ListObjects"),
        ("GET", "/b?list-type=2&prefix=x", "ListObjectsV2"),
        ("GET", "/b?versions", "ListObjectVersions"),
        ("GET", "/b?uploads", "ListMultipartUploads"),
        ("GET", "/b?location", "GetBucketLocation"),
        ("GET", "/b?policy=", "GetBucketPolicy"),
        ("GET", "/b?analytics", "ListBucketAnalyticsConfigurations"),
        ("GET", "/b?analytics&id=1", "GetBucketAnalyticsConfiguration"),
        ("HEAD", "/b", "HeadBucket"),
        ("PUT", "/b", "CreateBucket"),
        ("PUT", "/b?lifecycle", "PutBucketLifecycleConfiguration"),
        ("DELETE", "/b", "DeleteBucket"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("GET", "/b/k", "GetObject"),
        ("GET", "/b/k?x-id=GetObject&partNumber=1", "GetObject"),
        ("GET", "/b/k?uploadId=1", "ListParts"),
        ("GET", "/b/k?tagging", "GetObjectTagging"),
        ("GET", "/b/k?attributes", "GetObjectAttributes"),
        ("HEAD", "/b//k", "HeadObject"),
        ("PUT", "/b/k", "PutObject"),
        ("PUT", "/b/k?acl", "PutObjectAcl"),
        ("PUT", "/b/k?partNumber=1&uploadId=2", "UploadPart"),
        ("DELETE", "/b/k", "DeleteObject"),
        ("DELETE", "/b/k?uploadId=2", "AbortMultipartUpload"),
        ("DELETE", "/b/k?tagging", "DeleteObjectTagging"),
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=2", "CompleteMultipartUpload"),
        ("POST", "/b/k?select&select-type=2", "SelectObjectContent"),
    ],
)
def test_routes(method: str, target: str, operation: str) -> None:
    assert operation_of(request(method, target)) == operation


def test_a_copy_is_told_by_its_header() -> None:
    assert operation_of(request("PUT", "/b/k", x_amz_copy_source="b/s")) == "CopyObject"
    assert operation_of(request("PUT", "/b/k?partNumber=1&uploadId=2", x_amz_copy_source="b/s")) == "UploadPartCopy"


def test_a_form_for_a_bucket_is_a_put_object() -> None:
    form = "multipart/form-data; boundary=x"
    assert operation_of(request("POST", "/b", content_type=form)) == "PutObject"
    assert operation_of(request("POST", "/", host="b.localhost:1", content_type=form)) == "PutObject"
    assert operation_of(request("POST", "/b/k?uploads", content_type=form)) == "CreateMultipartUpload"
    assert operation_of(request("POST", "/b?delete", content_type=form)) == "DeleteObjects"


@pytest.mark.parametrize(
    ("incoming", "code"),
    [
        (request("PATCH", "/b"), "MethodNotAllowed"),
        (request("POST", "/b"), "PreconditionFailed"),
        (request("PUT", "/b/k?partNumber=1"), "InvalidRequest"),
        (request("PUT", "/b/k?uploadId=1"), "InvalidRequest"),
        (request("POST", "/", content_type="multipart/form-data; boundary=x"), "MethodNotAllowed"),
        (request("GET", "/b/%FF"), "InvalidURI"),
    ],
)
def test_what_is_no_operation(incoming: Incoming, code: str) -> None:
    with pytest.raises(ApiError) as raised:
        operation_of(incoming)
    assert raised.value.code == code


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_keys_are_decoded_once_and_never_normalised(key: str) -> None:
    assert bucket_and_key(request("GET", f"/b/{quote(key)}")) == ("b", key)


def test_keys_that_look_like_paths() -> None:
    for key in ("../x", "a//b", "./.", "/x", "a/", "%2E%2E"):
        assert bucket_and_key(request("GET", f"/b/{key.replace('%', '%25')}")) == ("b", key)
    assert bucket_and_key(request("GET", "/k/l", host="my.bucket.localhost:8777")) == ("my.bucket", "k/l")


def test_parse_headers_query_and_stream() -> None:
    body = Body(None, 1, "", "")
    put = parsed(
        "PutObject",
        Incoming(
            "PUT",
            b"/b/a%20b/c",
            b"x-id=PutObject",
            {
                "content-type": "text/x",
                "x-amz-meta-a-b": "ü".encode().decode("latin-1"),
                "expires": "Wed, 02 Jan 2030 00:00:00 GMT",
                "x-amz-server-side-encryption-bucket-key-enabled": "true",
                "content-length": "1",
            },
            body,
        ),
    )
    assert put == {
        "Bucket": "b",
        "Key": "a b/c",
        "ContentType": "text/x",
        "Metadata": {"a-b": "ü"},
        "Expires": datetime(2030, 1, 2, tzinfo=UTC),
        "BucketKeyEnabled": True,
        "ContentLength": 1,
        "Body": body,
    }
    page = parsed("ListObjectsV2", request("GET", "/b?list-type=2&max-keys=5&fetch-owner=true&prefix=a%2Bb+c"))
    assert page == {"Bucket": "b", "MaxKeys": 5, "FetchOwner": True, "Prefix": "a+b c"}
    got = parsed("GetObject", request("GET", "/b/k?response-expires=Wed%2C%2002%20Jan%202030%2000%3A00%3A00%20GMT"))
    assert got["ResponseExpires"] == datetime(2030, 1, 2, tzinfo=UTC)
    attributes = request("GET", "/b/k?attributes", x_amz_object_attributes="ETag, ObjectSize")
    assert parsed("GetObjectAttributes", attributes)["ObjectAttributes"] == ["ETag", "ObjectSize"]


def test_parse_xml() -> None:
    delete = b"""<?xml version="1.0"?><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
      <Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object><Object><Key> c </Key></Object><Unknown/></Delete>"""
    assert parsed("DeleteObjects", request("POST", "/b?delete", delete))["Delete"] == {
        "Quiet": True,
        "Objects": [{"Key": "a&b"}, {"Key": " c "}],
    }
    tagging = b"<p:Tagging xmlns:p='x'><p:TagSet><p:Tag><p:Key>k</p:Key><p:Value/></p:Tag></p:TagSet></p:Tagging>"
    found = parsed("PutObjectTagging", request("PUT", "/b/k?tagging", tagging))
    assert found["Tagging"] == {"TagSet": [{"Key": "k", "Value": ""}]}
    parts = b"<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
    found = parsed("CompleteMultipartUpload", request("POST", "/b/k?uploadId=u", parts))
    assert found["MultipartUpload"] == {"Parts": [{"PartNumber": 2, "ETag": "e"}]}


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/b?list-type=2&max-keys=ten", {}),
        ("/b?list-type=2&max-keys=99999999999999999999", {}),
        ("/b?list-type=2&fetch-owner=maybe", {}),
        ("/b/k", {"if_modified_since": "yesterday"}),
    ],
)
def test_values_of_the_wrong_type_are_named(target: str, headers: dict[str, str]) -> None:
    incoming = request("GET", target, **headers)
    with pytest.raises(ApiError, match="must be a") as raised:
        rest_xml.parse(incoming, S3.operation_model(operation_of(incoming)))
    assert raised.value.code == "InvalidArgument"


@pytest.mark.parametrize(
    "document",
    [
        b"<Delete>",
        b"<Delete></Other>",
        b"",
        b"plain",
        b'<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><d>&b;</d>',
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><d/>',
        b"<a>" * 33 + b"</a>" * 33,
        b"<a>\x00</a>",
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
        b"<a>" + b"x" * xml.MOST_BYTES + b"</a>",
    ],
    ids=range(10),
)
def test_hostile_xml_is_refused(document: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        xml.read_xml(document)
    assert raised.value.code == "MalformedXML"


@given(st.binary(max_size=200))
def test_noise_gets_a_clean_error(noise: bytes) -> None:
    codes = set()
    try:
        parsed("DeleteObjects", request("POST", "/b?delete", noise))
    except ApiError as error:
        codes.add(error.code)
    assert codes <= {"MalformedXML", "InvalidArgument"}


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(name=TEXT, value=TEXT)
def test_what_is_written_is_read_back(name: str, value: str) -> None:
    answer = {"TagSet": [{"Key": name, "Value": value}]}
    outgoing = rest_xml.serialise(answer, S3.operation_model("GetObjectTagging"), "id")
    assert received(outgoing, "GetObjectTagging")["TagSet"] == answer["TagSet"]


def test_listing_as_boto3_reads_it() -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    answer = {
        "Name": "b",
        "IsTruncated": False,
        "MaxKeys": 1000,
        "Contents": [{"Key": "k\r\n<", "Size": 3, "ETag": '"e"', "LastModified": moment.timestamp()}],
        "CommonPrefixes": [{"Prefix": "a/"}, {"Prefix": "b/"}],
    }
    outgoing = rest_xml.serialise(answer, S3.operation_model("ListObjectsV2"), "id")
    found = received(outgoing, "ListObjectsV2")
    assert found["Contents"] == [{"Key": "k\r\n<", "Size": 3, "ETag": '"e"', "LastModified": moment}]
    assert found["CommonPrefixes"] == answer["CommonPrefixes"]
    assert found["IsTruncated"] is False
    assert b"<ListBucketResult xmlns=" in outgoing.body


def test_attributes_of_elements() -> None:
    grantee = {"ID": "1", "Type": "CanonicalUser"}
    answer = {"Owner": {"ID": "1"}, "Grants": [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]}
    outgoing = rest_xml.serialise(answer, S3.operation_model("GetBucketAcl"), "id")
    assert received(outgoing, "GetBucketAcl")["Grants"] == answer["Grants"]


@pytest.mark.parametrize(("answer", "place"), [({}, None), ({"LocationConstraint": "eu-west-1"}, "eu-west-1")])
def test_bucket_location_is_the_root_itself(answer: dict, place: str | None) -> None:
    outgoing = rest_xml.serialise(answer, S3.operation_model("GetBucketLocation"), "id")
    assert outgoing.body.count(b"LocationConstraint") == (2 if place else 1)
    assert (place or "").encode() in outgoing.body


def test_success_of_a_write_has_no_body() -> None:
    for operation in ("PutObject", "UploadPart", "DeleteObject", "PutObjectTagging"):
        outgoing = rest_xml.serialise({"ETag": '"e"'}, S3.operation_model(operation), "id")
        assert outgoing.body == b""
    assert rest_xml.serialise({}, S3.operation_model("DeleteObject"), "id").status == 204


def test_headers_that_cannot_be_sent_are_encoded() -> None:
    answer = {"ContentDisposition": "a\r\nSet-Cookie: x", "Metadata": {"u": "ü", "p": "plain"}}
    headers = rest_xml.serialise(answer, S3.operation_model("HeadObject"), "id").headers
    assert headers["content-disposition"].startswith("=?UTF-8?B?")
    assert headers["x-amz-meta-u"] == "=?UTF-8?B?w7w=?="
    assert headers["x-amz-meta-p"] == "plain"


def test_errors() -> None:
    error = ApiError("NoSuchKey", "no <key>", 404, fields={"Key": "k"}, headers={"x-test": "1"})
    outgoing = rest_xml.serialise_error(error, S3.operation_model("GetObject"), "id")
    found = received(outgoing, "GetObject")
    assert found["Error"] == {"Code": "NoSuchKey", "Message": "no <key>", "Key": "k"}
    assert (outgoing.status, outgoing.headers["x-test"]) == (404, "1")
    head = rest_xml.serialise_error(error, S3.operation_model("HeadObject"), "id")
    assert (head.status, head.body) == (404, b"")
    assert rest_xml.serialise_error(ApiError("NotModified", "", 304), None, "id").body == b""


@pytest.mark.parametrize("operation", sorted(set(S3.operation_names) - {"SelectObjectContent"}))
def test_every_operation_has_an_answer_that_boto3_reads(operation: str) -> None:
    model = S3.operation_model(operation)
    outgoing = rest_xml.serialise({}, model, "id")
    received(Outgoing(outgoing.status, outgoing.headers, outgoing.body), operation)
