"""The table of error codes."""

from __future__ import annotations

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.emulator.messages import ERRORS, USUAL_CODES


def test_a_status_brings_its_code_and_a_code_its_status():
    """One of the two is enough; a code that nobody knows is 400."""
    for status, code in USUAL_CODES.items():
        assert Fault(status=status).refusal.code == code
        assert ERRORS[code][0] == status
    for code, (status, message, _) in ERRORS.items():
        refusal = Fault(code=code).refusal
        assert (refusal.status, refusal.message) == (status, message)
    assert Fault(code="Odd").refusal.status == 400
    assert Fault(code="Odd", status=418).refusal.status == 418
    assert Fault(error_body=True).refusal.status == 500
