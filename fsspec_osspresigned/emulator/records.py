"""What came and what was answered, as tests read it."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from .faults.faults import Fault
from .message.answers import Answer
from .message.call import Call

_SECRET_PARAMETERS = frozenset(
    {
        "OSSAccessKeyId",
        "Signature",
        "security-token",
        "x-oss-credential",
        "x-oss-security-token",
        "x-oss-signature",
    }
)


_SECRET_HEADERS = frozenset({"authorization", "security-token", "x-oss-security-token"})


@frozen(kw_only=True)
class Record:
    """One request that came, and what was answered.

    Attributes:
        action: OSS API name of the call.
        method: HTTP method.
        bucket: empty for the service itself.
        key: decoded.
        path: as it came, not decoded, without the query.
        parameters: of the query, without its secrets.
        part_number: of UploadPart and UploadPartCopy.
        upload_id: of the calls that name one.
        status: HTTP status; None if no reply was sent.
        code: OSS error code; None for a success.
        ec: OSS's finer error number; empty without one.
        request_headers: names in lower case, without those that sign.
        response_headers: names in lower case.
        bytes: of the request body that were read.
        request_id: as answered.
        connection: number of the connection; those of one number shared it.
        fault: what struck it; None if nothing did.
    """

    action: str
    method: str
    bucket: str
    key: str
    path: str
    parameters: Mapping[str, str]
    part_number: int | None
    upload_id: str | None
    status: int | None
    code: str | None
    ec: str
    request_headers: Mapping[str, str] = field(repr=False)
    response_headers: Mapping[str, str] = field(repr=False)
    bytes: int
    request_id: str
    connection: int = 0
    fault: Fault | None = field(default=None, repr=False)


def record_of(
    call: Call,
    answer: Answer | None,
    *,
    received: int,
    request_id: str,
    connection: int,
    fault: Fault | None,
) -> Record:
    """Return the record of *call*; *answer* is None if no reply was sent."""
    sent = {} if answer is None else answer.headers
    response = {name.lower(): value for name, value in sent.items()}
    return Record(
        action=call.action,
        method=call.method,
        bucket=call.bucket,
        key=call.key,
        path=call.target.partition("?")[0],
        parameters={
            name: value
            for name, value in call.parameters.items()
            if name not in _SECRET_PARAMETERS
        },
        part_number=call.part_number,
        upload_id=call.upload_id,
        status=None if answer is None else answer.status,
        code=None if answer is None else answer.code,
        ec=response.get("x-oss-ec", ""),
        request_headers={
            name: value
            for name, value in call.headers.items()
            if name not in _SECRET_HEADERS
        },
        response_headers=response,
        bytes=received,
        request_id=request_id,
        connection=connection,
        fault=fault,
    )
