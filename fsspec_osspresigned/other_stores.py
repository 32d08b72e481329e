"""Facts of stores other than OSS: names in URLs, headers and replies, and limits."""

from __future__ import annotations

# Prefix of S3's headers. A signature includes each of them that is sent.
S3_HEADER = "x-amz-"
S3_CHECKSUM = "x-amz-checksum-"  # followed by the name of the algorithm
S3_ENCRYPTION = "x-amz-server-side-encryption"
S3_CUSTOMER_KEY = "x-amz-server-side-encryption-customer-algorithm"
S3_REQUEST_ID = "x-amz-request-id"
# Headers that give access to an object, by a canned ACL of the store or by a list of
# accounts.
S3_ACL, S3_GRANT = "x-amz-acl", "x-amz-grant-"
S3_COPY_SOURCE = "x-amz-copy-source"

# Prefixes of query parameters in presigned URLs of version 4. Parameters of version 2
# have no prefix.
S3_QUERY, GOOGLE_QUERY = "X-Amz-", "X-Goog-"
AZURE_REQUEST_ID = "x-ms-request-id"
S3_KEY_V2, GOOGLE_KEY_V2 = "AWSAccessKeyId", "GoogleAccessId"
S3_ALGORITHM, GOOGLE_ALGORITHM = "X-Amz-Algorithm", "X-Goog-Algorithm"
SIGNATURES = ("X-Amz-Signature", "X-Goog-Signature")
S3_TOKEN = "X-Amz-Security-Token"  # noqa: S105 - the name of a parameter

S3_MIN_PART = 5 * 1024 * 1024  # bytes (S3 API reference, CompleteMultipartUpload)
