from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from sagesmith.services.s3.buckets import valid_name


def code(raised) -> tuple[str, int]:
    response = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_create_list_head_delete(s3) -> None:
    s3.create_bucket(Bucket="first-bucket")
    s3.create_bucket(Bucket="first-bucket")
    listed = {entry["Name"]: entry for entry in s3.list_buckets()["Buckets"]}
    assert abs(listed["first-bucket"]["CreationDate"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert s3.head_bucket(Bucket="first-bucket")["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket="first-bucket")["LocationConstraint"] is None
    s3.put_object(Bucket="first-bucket", Key="k", Body=b"")
    with pytest.raises(ClientError) as raised:
        s3.delete_bucket(Bucket="first-bucket")
    assert code(raised) == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket="first-bucket", Key="k")
    s3.delete_bucket(Bucket="first-bucket")
    with pytest.raises(ClientError) as raised:
        s3.head_bucket(Bucket="first-bucket")
    assert code(raised) == ("404", 404)
    for ask in (s3.delete_bucket, s3.list_objects, s3.list_objects_v2, s3.get_bucket_location):
        with pytest.raises(ClientError) as raised:
            ask(Bucket="first-bucket")
        assert code(raised) == ("NoSuchBucket", 404)


def test_other_regions(server) -> None:
    client = server.client("s3", region="eu-central-1")
    there = {"LocationConstraint": "eu-central-1"}
    client.create_bucket(Bucket="frankfurt", CreateBucketConfiguration=there)
    assert client.get_bucket_location(Bucket="frankfurt")["LocationConstraint"] == "eu-central-1"
    with pytest.raises(ClientError) as raised:
        client.create_bucket(Bucket="frankfurt", CreateBucketConfiguration=there)
    assert code(raised) == ("BucketAlreadyOwnedByYou", 409)
    for configuration in ({}, {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-2"}}):
        with pytest.raises(ClientError) as raised:
            client.create_bucket(Bucket="elsewhere", **configuration)
        assert code(raised) == ("IllegalLocationConstraintException", 400)
    assert [entry["Name"] for entry in client.list_buckets(BucketRegion="eu-central-1")["Buckets"]] == ["frankfurt"]
    client.close()


def test_list_buckets_in_pages_hides_the_agents_reports(s3, server) -> None:
    names = [f"paged-{n}" for n in range(5)]
    for name in [*names, f"sagesmith-us-east-1-{server.config.account}-runs"]:
        s3.create_bucket(Bucket=name)
    pages = list(s3.get_paginator("list_buckets").paginate(Prefix="paged-", PaginationConfig={"PageSize": 2}))
    assert [[entry["Name"] for entry in page["Buckets"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    assert not [entry for entry in s3.list_buckets()["Buckets"] if entry["Name"].endswith("-runs")]
    s3.put_object(Bucket=f"sagesmith-us-east-1-{server.config.account}-runs", Key="k", Body=b"")


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("abc", True),
        ("a.b-c", True),
        ("ab", False),
        ("a" * 63, True),
        ("a" * 64, False),
        ("Abc", False),
        ("_abc", False),
        ("a_b", False),
        ("-ab", False),
        ("ab-", False),
        ("a..b", False),
        ("192.168.5.4", False),
        ("xn--abc", False),
        ("abc-s3alias", False),
        ("..", False),
    ],
)
def test_names(name, valid) -> None:
    assert valid_name(name) is valid


def test_bad_name_is_refused(s3) -> None:
    with pytest.raises(ClientError) as raised:
        s3.create_bucket(Bucket="Upper.Case")
    assert code(raised) == ("InvalidBucketName", 400)


def test_somebody_elses_bucket_is_forbidden(s3, bucket, server) -> None:
    s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=server.config.account)
    with pytest.raises(ClientError) as raised:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="000000000000")
    assert code(raised) == ("403", 403)
    assert raised.value.response["Error"]["Message"] == "Forbidden"
    with pytest.raises(ClientError) as raised:
        s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="000000000000")
    assert code(raised) == ("AccessDenied", 403)


def test_configurations_are_those_of_a_bucket_nobody_configured(s3, bucket) -> None:
    for ask, expected in [
        (s3.get_bucket_cors, "NoSuchCORSConfiguration"),
        (s3.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError"),
        (s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"),
        (s3.get_bucket_policy, "NoSuchBucketPolicy"),
        (s3.get_bucket_tagging, "NoSuchTagSet"),
        (s3.get_bucket_website, "NoSuchWebsiteConfiguration"),
        (s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration"),
        (s3.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
        (s3.get_bucket_replication, "ReplicationConfigurationNotFoundError"),
    ]:
        with pytest.raises(ClientError) as raised:
            ask(Bucket=bucket)
        assert code(raised) == (expected, 404)
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Grantee"]["Type"] == "CanonicalUser"
    s3.delete_bucket_policy(Bucket=bucket)
    s3.get_bucket_notification_configuration(Bucket=bucket)
