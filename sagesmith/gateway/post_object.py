"""S3's POST of an HTML form (boto3's `generate_presigned_post`): a form becomes the PutObject that it means.

    fields → claim → signature → policy → the file to disk → PutObject → the answer that the form asks for

Nothing of the file is stored before signature and policy have been checked.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from sagesmith.core.operation import ApiError
from sagesmith.gateway.credentials import Claim, Form, form_claim
from sagesmith.gateway.form_data import FormReader, missing
from sagesmith.gateway.http import Incoming, Outgoing
from sagesmith.gateway.post_policy import Sizes, check_policy
from sagesmith.gateway.s3_route import bucket_and_key
from sagesmith.gateway.xml import Element, read_xml, write_xml

if TYPE_CHECKING:
    from sagesmith.gateway.authority import Authority, Principal

_HEADERS = {  # fields that are headers of PutObject under the same name, beside all of x-amz-…
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
    "if-match",
    "if-none-match",
}
_NOT_EXPANDED = {"policy", "signature", "x-amz-signature", "awsaccesskeyid", "x-amz-credential", "x-amz-security-token"}
_SIGNED = {"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-security-token", "x-amz-signature"}
_FILENAME = "${filename}"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STATUSES = {"200": 200, "201": 201, "204": 204}


@dataclass(eq=False)
class PostedForm:
    """A form whose fields have been read and found good; its file still waits in the connection."""

    claim: Claim
    principal: Principal
    put: Incoming  # the PutObject that it means
    bucket: str
    fields: dict[str, str]
    sizes: Sizes
    reader: FormReader

    def claims(self) -> dict[str, str]:
        """The headers that speak of the file's bytes."""
        return {
            name: value
            for name, value in self.put.headers.items()
            if name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")) or name == "content-md5"
        }

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes.

        Raises:
            ApiError: EntityTooLarge or EntityTooSmall, as the policy's content-length-range says.
        """
        size = 0
        async for piece in self.reader.file():
            size += len(piece)
            if size > self.sizes.most:
                raise _size(
                    "EntityTooLarge", "exceeds the maximum allowed size", size, "MaxSizeAllowed", self.sizes.most
                )
            yield piece
        if size < self.sizes.least:
            least = self.sizes.least
            raise _size("EntityTooSmall", "is smaller than the minimum allowed size", size, "MinSizeAllowed", least)

    def answer(self, stored: Outgoing) -> Outgoing:
        """PutObject's answer as the form wants it: a redirect, a document, or nothing."""
        key, etag = self.fields["key"], stored.headers.get("etag", "")
        target = self.fields.get("success_action_redirect", self.fields.get("redirect", ""))
        if _is_url(target):
            joint = "&" if urlsplit(target).query else "?"
            query = urlencode({"bucket": self.bucket, "key": key, "etag": etag})
            stored.status, stored.headers["location"] = 303, f"{target}{joint}{query}"
            return stored
        location = f"{self.put.scheme}://{self.put.host}{self.put.raw_path.decode()}"
        stored.headers["location"] = location
        stored.status = _STATUSES.get(self.fields.get("success_action_status", ""), 204)
        if stored.status == 201:
            root = Element("PostResponse")
            for name, text in (("Location", location), ("Bucket", self.bucket), ("Key", key), ("ETag", etag)):
                root.add(name, text)
            stored.headers["content-type"] = "application/xml"
            stored.body = write_xml(root)
        return stored


async def read_form(incoming: Incoming, claim: Claim, stream: AsyncIterator[bytes], authority: Authority) -> PostedForm:
    """Reads a form up to its file and checks who signed it and what for.

    Args:
        claim: what header or query string say of the signer, which must be nothing.

    Raises:
        ApiError: in S3's words, before anything has been stored.
    """
    if claim.form is not Form.NONE:
        raise ApiError(
            "InvalidArgument",
            f"Only one auth mechanism allowed: a form is signed by its fields, not by a further {claim.form.value}.",
        )
    reader = FormReader(stream, incoming.headers.get("content-type", ""))
    fields = await reader.fields()
    fields = {
        name: value if name in _NOT_EXPANDED else value.replace(_FILENAME, reader.filename)
        for name, value in fields.items()
    }
    claim = form_claim(fields)
    principal = authority.authenticate_form(claim, fields.get("policy", ""))
    bucket = bucket_and_key(incoming)[0]
    if not fields.get("key"):
        raise missing("key")
    if fields.get("bucket", bucket) != bucket:
        raise ApiError(
            "InvalidArgument",
            f"The form's field 'bucket' says {fields['bucket'][:100]!r}, but it was sent to {bucket!r}.",
            fields={"ArgumentName": "bucket", "ArgumentValue": fields["bucket"][:100]},
        )
    sizes = Sizes()
    if "policy" in fields:  # always, where signatures are looked at
        sizes = check_policy(fields["policy"], fields, bucket, authority.clock.now())
    return PostedForm(claim, principal, _put(incoming, bucket, fields), bucket, fields, sizes, reader)


def _put(incoming: Incoming, bucket: str, fields: dict[str, str]) -> Incoming:
    """The request that would have stored the same object."""
    headers = {
        name: _wire(name, value)
        for name, value in fields.items()
        if name in _HEADERS or (name.startswith("x-amz-") and name not in _SIGNED)
    }
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    if "tagging" in fields:
        headers["x-amz-tagging"] = _tags(fields["tagging"])
    host = incoming.host if not incoming.host.startswith(f"{bucket}.") else incoming.host.removeprefix(f"{bucket}.")
    path = f"/{quote(bucket)}/{quote(fields['key'])}".encode()
    return Incoming("PUT", path, b"", headers, scheme=incoming.scheme, host=host)


def _wire(name: str, value: str) -> str:
    """A field as the bytes of a header would have arrived."""
    if _CONTROL.search(value):
        raise ApiError(
            "InvalidArgument",
            f"The form field {name!r} becomes a header and cannot hold control characters: {value[:100]!r}.",
            fields={"ArgumentName": name, "ArgumentValue": value[:100]},
        )
    return value.encode().decode("latin-1")


def _tags(document: str) -> str:
    """`<Tagging><TagSet><Tag><Key>…` as the x-amz-tagging header writes it."""
    root = read_xml(document.encode())
    tag_set = root.find("TagSet")
    if root.name != "Tagging" or tag_set is None:
        raise ApiError("MalformedXML", "The field 'tagging' must hold <Tagging><TagSet>…</TagSet></Tagging>.")
    pairs = []
    for tag in tag_set.all("Tag"):
        key, value = tag.find("Key"), tag.find("Value")
        if key is None or value is None:
            raise ApiError("MalformedXML", "In the field 'tagging' every <Tag> needs a <Key> and a <Value>.")
        pairs.append((key.text, value.text))
    return urlencode(pairs)


def _is_url(target: str) -> bool:
    """Whether a browser can be sent there; S3 takes anything else as if it were not given."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and not _CONTROL.search(target)


def _size(code: str, what: str, size: int, name: str, allowed: int) -> ApiError:
    fields = {"ProposedSize": size, name: allowed}
    return ApiError(code, f"Your proposed upload {what}", fields=fields)
