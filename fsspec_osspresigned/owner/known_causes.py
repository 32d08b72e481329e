"""Causes of refusals that neither a code nor an EC number names.

Any program can meet them. ``tests/owner/refusals.py`` names the public threads from which
the rows come.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from ..errors import Refused
from ..other_stores import S3_TOKEN

Evidence = Literal["proven", "likely", "possible"]
EVIDENCE: tuple[Evidence, ...] = ("proven", "likely", "possible")


@frozen
class Cause:
    """One possible cause of a refusal, and what to do about it.

    *evidence* is ``proven`` if the text itself shows the cause, ``likely`` if it is the
    usual one of several, else ``possible``.
    """

    evidence: Evidence
    cause: str
    remedy: str


ELSEWHERE = "must be addressed using the specified endpoint"
# What the message of the store says, and no code: pattern -> reason, or cause.
MESSAGES: tuple[tuple[str, Refused | Cause], ...] = (
    (
        r"aws-chunked|MultiChunkedEncoding|0017-00000804",
        Cause(
            "proven",
            "the SDK sent the body in chunks, followed by a checksum (aws-chunked), which "
            "OSS does not accept",
            "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required (boto3: "
            "Config(request_checksum_calculation='when_required'); Java: "
            "chunkedEncodingEnabled(false)), or upload through a presigned URL, or with an "
            "SDK of OSS",
        ),
    ),
    (
        "Only one auth mechanism|Either the Signature query string parameter or",
        Cause(
            "proven",
            "the request has an Authorization header in addition to the signature in its URL",
            "send no Authorization: HTTP clients with a default token, such as an "
            "instance of axios, add it to every request",
        ),
    ),
    (
        "Please use AWS4-HMAC-SHA256",
        Cause(
            "proven",
            "the request is signed with version 2, and this region accepts version 4 only",
            "tell the owner, who signs with version 4 (boto3: "
            "Config(signature_version='s3v4'))",
        ),
    ),
    (
        "less than a week|less than 604800",
        Cause(
            "proven",
            "the URL is signed for more than seven days",
            "ask for one of 7 days at most",
        ),
    ),
    (
        "Security Token may be lost",
        Cause(
            "proven",
            "a temporary (STS) key signed, and its token is missing in the request",
            "sign with the token, too; in a URL it is the parameter security-token (V1), "
            f"x-oss-security-token (V4) or {S3_TOKEN}",
        ),
    ),
    (
        "Anonymous (access|user)",
        Cause(
            "proven",
            "the request arrived without a signature",
            "send the whole URL with its query; in a shell, quote it, because & ends a "
            "command",
        ),
    ),
    (
        "Private address is forbidden to callback",
        Cause(
            "proven",
            "the callback of the upload names a private address",
            "tell the owner, whose callback server needs a public address",
        ),
    ),
    (
        "CallbackFailed",
        Cause(
            "proven",
            "the object is stored, but OSS could not call the callback server",
            "do not upload again; tell the owner of the callback server",
        ),
    ),
    ("the region '[^']*' is wrong|Invalid signing region", Refused.WRONG_REGION),
    (ELSEWHERE, Refused.WRONG_REGION),
    ("Policy expired|Request has expired", Refused.EXPIRED),
    ("Policy Condition failed|Extra input fields", Refused.POLICY),
)
# Content types that programs add unasked: which, and how to send the file without.
UNASKED = {
    "application/x-www-form-urlencoded": (
        "curl --data and HTTP libraries add it to a body without a type",
        "curl: -T FILE; axios: headers {'Content-Type': false}",
    ),
    "multipart/form-data": (
        "the body is a form, and would be stored with its boundaries",
        "send the file itself as the body, not FormData; Postman: body binary",
    ),
    "application/json": (
        "axios and other libraries add it to a body of JSON",
        "axios: headers {'Content-Type': false}",
    ),
    "false": ("the library sent a setting as the value", "give it a type as text"),
}
NO_RULE = Cause(
    "possible",
    "no rule is known for this refusal",
    "look the EC or the code up in the error reference of the store, or give the request "
    "ID to its support",
)
BUSY = Cause(
    "likely",
    "the store is down or overloaded",
    "retry later, with fewer requests at once",
)
NO_BODY = Cause(
    "possible",
    "the status alone does not say why",
    "give the body of the reply too: response.text of requests, curl without -f",
)
# Of a signature that does not match.
NOT_SHOWN = Cause(
    "likely",
    "a header, the method or the path is not the signed one",
    "send exactly the signed headers; the usual cause is Content-Type. The body of the "
    "reply shows what the store received: give it, too",
)
OTHER_SECRET = Cause(
    "possible",
    "the signer's secret does not belong to its key, or it signs another method or header",
    "compare the text that the signer signs with what the store received, and check the "
    "secret for blanks around it",
)
