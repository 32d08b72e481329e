"""Effects of a fault on the answer: errors in its place, wrong or missing checksums."""

from __future__ import annotations

from attrs import evolve

from ...http.body import CRC_HEADER
from ...signing.verifying import Refusal
from ..message.errors import RefusedError
from ..message.replies import EmulatorReply
from .fault import Fault
from .refusals import REASONS, RefusedCall


def error_of(fault: Fault, case: RefusedCall) -> RefusedError:
    """Return the error that *fault* answers."""
    headers = {"Connection": "close"} if fault.is_early and fault.hang_up else {}
    if fault.refuse is None:
        status, code = fault.shown_status, fault.shown_code
        usual = Refusal(status=status, code=code, message=fault.shown_message)
    else:
        usual = REASONS[fault.refuse](case)
    refusal = evolve(
        usual,
        message=fault.message or usual.message,
        ec=fault.ec or usual.ec,
        extras={**usual.extras, **fault.extras},
    )
    return RefusedError(refusal, headers)


def distorted(reply: EmulatorReply, fault: Fault) -> EmulatorReply:
    """Return *reply* with what *fault* changes in it."""
    headers = dict(reply.headers)
    body = reply.body
    etag = headers.get("ETag")
    if fault.wrong_crc and CRC_HEADER in headers:
        headers[CRC_HEADER] = str(int(headers[CRC_HEADER]) ^ 1)
    if fault.wrong_etag and etag is not None:
        headers["ETag"] = wrong = f'"{"0" * 32}{etag.strip(chr(34))[32:]}"'
        if isinstance(body, bytes):
            body = body.replace(etag.encode(), wrong.encode())
    if fault.no_crc:
        headers.pop(CRC_HEADER, None)
    if fault.no_etag:
        headers.pop("ETag", None)
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    return evolve(reply, headers=headers, body=body)
