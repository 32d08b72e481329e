"""The emulator's clock."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest

from fsspec_osspresigned.emulator import Emulator, Fault

both = pytest.mark.parametrize("version", ["v1", "v4"])
OWN = {
    "expired": {"v1": "0002-00000069", "v4": "0002-00000236"},
    "signature": {"v1": "0002-00000040", "v4": "0002-00000201"},
}


@pytest.fixture(autouse=True)
def without_faults(oss):
    """Leave no fault for the next test."""
    oss.faults.clear()
    yield
    oss.faults.clear()


@both
def test_a_clock_that_is_ahead(make_client, refusal, version):
    """The server judges and dates its answers by its own clock."""
    with Emulator(clock_offset=3600) as oss:
        client = make_client(oss)
        ec = OWN["expired"][version]
        reply = client.call("PUT", "k", data=b"x", version=version)
        assert refusal(reply) == (403, "AccessDenied", ec)
        assert parsedate_to_datetime(reply.headers["Date"]).timestamp() == (
            pytest.approx(time.time() + 3600, abs=30)
        )
        oss.clock.offset = 0
        client.put("k", version=version)
        oss.clock.jump(-3600)
        reply = client.call("PUT", "k", data=b"x", version=version)
        if version == "v4":
            assert refusal(reply) == (403, "AccessDenied", "0002-00000235")
        assert oss.clock.offset == -3600


def test_a_jump_that_expires_nothing(client, oss):
    """A short jump changes the time and the request goes on."""
    before = oss.clock.offset
    oss.faults.add(Fault(clock_jump=1))
    client.put("k")
    assert oss.clock.offset == before + 1
    oss.clock.offset = before
