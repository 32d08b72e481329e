"""Facts of stores other than OSS: names in URLs, headers and replies, and limits."""

from __future__ import annotations

# Headers of S3: a signature includes each one that is sent.
S3_HEADER = "x-amz-"
S3_CHECKSUM = "x-amz-checksum-"  # with the name of the algorithm
S3_ENCRYPTION = "x-amz-server-side-encryption"
S3_CUSTOMER_KEY = "x-amz-server-side-encryption-customer-algorithm"
S3_REQUEST_ID = "x-amz-request-id"
# Access to an object, as a canned ACL of the store or as a list of accounts.
S3_ACL, S3_GRANT = "x-amz-acl", "x-amz-grant-"
S3_COPY_SOURCE = "x-amz-copy-source"

# Query parameters of presigned URLs: of version 4 with a prefix, of version 2 without.
S3_QUERY, GOOGLE_QUERY = "X-Amz-", "X-Goog-"
AZURE_REQUEST_ID = "x-ms-request-id"
S3_KEY_V2, GOOGLE_KEY_V2 = "AWSAccessKeyId", "GoogleAccessId"
S3_ALGORITHM, GOOGLE_ALGORITHM = "X-Amz-Algorithm", "X-Goog-Algorithm"
SIGNATURES = ("X-Amz-Signature", "X-Goog-Signature")
S3_TOKEN = "X-Amz-Security-Token"  # noqa: S105 - the name of a parameter

S3_MIN_PART = 5 * 1024 * 1024  # bytes; S3 API reference, CompleteMultipartUpload
