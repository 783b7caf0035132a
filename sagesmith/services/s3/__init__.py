"""S3: buckets and objects over the store of the server."""

from __future__ import annotations

from sagesmith.services.s3 import attributes, buckets, configuration, copying, listing, multipart, objects, tagging

__all__ = ["attributes", "buckets", "configuration", "copying", "listing", "multipart", "objects", "tagging"]
