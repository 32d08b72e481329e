"""Request records: received requests and their replies, for tests."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from ..signing.canonical import SIGNATURES, TOKENS
from ..signing.post_policy import SIGNATURE_FIELDS
from .faults.fault import Fault

_SECRETS = {"authorization", "OSSAccessKeyId", "x-oss-credential", *SIGNATURES, *TOKENS}


# Requests that are kept: an emulator that runs for days must not fill the memory.
MOST_RECORDS = 100_000


def _without_secrets(values: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in values.items() if name not in _SECRETS}


def _without_signature(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {name: v for name, v in fields.items() if name not in SIGNATURE_FIELDS}


@frozen(kw_only=True)
class RequestRecord:
    """One request and its reply.

    Names of headers and fields are in lower case. Secrets are omitted.

    Attributes:
        action: OSS API name of the call.
        path: path of the URL as received, not decoded, without the query.
        fields: fields of a form, before its file.
        status: HTTP status; None if no reply was sent.
        code: OSS error code; None for a success.
        ec: detailed error number of OSS; empty without one.
        bytes: number of bytes read of the request body, or of the file of a form.
        connection: number of the connection; requests with the same number shared it.
        fault: the fault that was applied; None without one.
    """

    action: str
    method: str
    bucket: str
    key: str
    path: str
    parameters: Mapping[str, str] = field(converter=_without_secrets)
    fields: Mapping[str, str] = field(converter=_without_signature, repr=False)
    part_number: int | None
    upload_id: str | None
    status: int | None
    code: str | None
    ec: str
    request_headers: Mapping[str, str] = field(converter=_without_secrets, repr=False)
    response_headers: Mapping[str, str] = field(repr=False)
    bytes: int
    request_id: str
    connection: int
    fault: Fault | None = field(repr=False)
