"""Request records: what came and what was answered, as tests read it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from attrs import field, frozen

from .faults.fault import Fault
from .message.call import Call
from .message.replies import EmulatorReply

_SECRET_PARAMETERS = {
    *("OSSAccessKeyId", "Signature", "security-token"),
    *("x-oss-credential", "x-oss-security-token", "x-oss-signature"),
}
_SECRET_HEADERS = {"authorization", "security-token", "x-oss-security-token"}


@frozen(kw_only=True)
class RequestRecord:
    """One request and its answer.

    Names of headers are in lower case. Secrets are left out.

    Attributes:
        action: OSS API name of the call.
        path: as it came, not decoded, without the query.
        status: HTTP status; None if no reply was sent.
        code: OSS error code; None for a success.
        ec: OSS's finer error number; empty without one.
        bytes: bytes of the request body that were read.
        connection: number of the connection; requests with the same number shared it.
        fault: the fault that struck it; None without one.
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

    @classmethod
    def from_call(
        cls, call: Call, reply: EmulatorReply | None, **more: Any
    ) -> RequestRecord:
        """Return the record of *call*; *reply* is None if none was sent."""
        sent = {} if reply is None else reply.headers
        headers = {name.lower(): value for name, value in sent.items()}
        return cls(
            action=call.action,
            method=call.method,
            bucket=call.bucket,
            key=call.key,
            path=call.path,
            parameters=_without(call.parameters, _SECRET_PARAMETERS),
            part_number=call.part_number,
            upload_id=call.upload_id,
            status=None if reply is None else reply.status,
            code=None if reply is None else reply.code,
            ec=headers.get("x-oss-ec", ""),
            request_headers=_without(call.headers, _SECRET_HEADERS),
            response_headers=headers,
            **more,
        )


def _without(values: Mapping[str, str], secrets: Container[str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in secrets}
