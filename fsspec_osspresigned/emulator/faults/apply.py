"""What a fault makes of an answer before it is sent."""

from __future__ import annotations

from attrs import evolve

from ...http.body import CRC_HEADER
from ..message.answers import Answer, RefusedError
from .faults import Fault
from .refusals import Case, refused


def refusal_of(fault: Fault, case: Case) -> RefusedError:
    """Return the error that *fault* answers."""
    headers = {}
    if fault.is_early and fault.hang_up:
        headers["Connection"] = "close"
    if fault.refuse is None:
        status, code, message = (
            fault.shown_status,
            fault.shown_code,
            fault.shown_message,
        )
        ec, extras = fault.ec, fault.extras
    else:
        usual = refused(fault.refuse, case)
        status, code = usual.status, usual.code
        message = fault.message or usual.message
        ec = fault.ec or usual.ec
        extras = {**usual.extras, **fault.extras}
    return RefusedError(status, code, message, ec, headers=headers, extras=extras)


def distorted(answer: Answer, fault: Fault) -> Answer:
    """Return *answer* with what *fault* changes in it."""
    headers = dict(answer.headers)
    body = answer.body
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
    return evolve(answer, headers=headers, body=body)
