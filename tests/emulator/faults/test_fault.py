"""Faults: what they match, how often they strike, and what they answer."""

from __future__ import annotations

import threading

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, Fault, Faults
from fsspec_osspresigned.emulator.messages import Call
from fsspec_osspresigned.errors import ConfigurationError

BUCKET = "examplebucket"
CALL = Call(action="PutObject", bucket=BUCKET, key="k")
CRC = "x-oss-hash-crc64ecma"
PART_CALL = Call(
    action="UploadPart", bucket="b", key="a/[1].bin", parameters={"partNumber": "2"}
)


@pytest.fixture(autouse=True)
def without_faults(oss):
    """Leave no fault for the next test."""
    oss.faults.clear()
    yield
    oss.faults.clear()


def test_a_fault_strikes_as_often_as_it_says():
    """Times counts strikes, after counts matching requests that pass."""
    faults = Faults()
    faults.add(Fault(action="PutObject", times=2, after=1, status=500))
    faults.add(Fault(action="GetObject", times=None, status=503))
    struck = [faults.strike(CALL) is not None for _ in range(5)]
    assert struck == [False, True, True, False, False]
    getting = Call(action="GetObject", bucket=BUCKET, key="k")
    assert all(faults.strike(getting) for _ in range(5))
    assert [fault.action for fault in faults.pending] == ["GetObject"]
    assert len(list(faults)) == 2
    faults.clear()
    assert faults.strike(getting) is None


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({}, True),
        ({"key": "k"}, True),
        ({"key": "other"}, False),
        ({"part_number": 2}, False),
    ],
)
def test_a_fault_matches_what_it_names(rule, matches):
    """What a rule leaves out matches everything."""
    assert Fault(**rule).matches(CALL) is matches


def test_a_status_instead_of_acting(client, oss, refusal):
    """A fault with a status answers it, its code and EC, and stores nothing."""
    oss.faults.add(
        Fault(action="PutObject", status=503, ec="0099-1", retry_after=7,
              extras={"Endpoint": "elsewhere"})
    )  # fmt: skip
    reply = client.call("PUT", "faulty", data=b"data")
    assert refusal(reply) == (503, "ServiceUnavailable", "0099-1")
    assert reply.headers["Retry-After"] == "7"
    assert b"<Endpoint>elsewhere</Endpoint>" in reply.content
    assert oss.requests[-1].bytes == 4
    assert oss.get(BUCKET, "faulty") is None
    client.put("faulty")


def test_a_status_can_be_anything(client, oss, refusal):
    """Code and message can be given; an unknown status gets a usual code."""
    oss.faults.add(
        Fault(status=403, code="UserDisable", message="disabled", early=True),
        Fault(status=418),
    )
    reply = client.call("PUT", "k", data=b"data")
    assert refusal(reply)[:2] == (403, "UserDisable")
    assert b"disabled" in reply.content
    assert oss.requests[-1].bytes == 0
    assert refusal(client.call("GET", "k"))[:2] == (418, "InternalError")


def test_wrong_checksums(client, oss):
    """Wrong CRC-64 and ETag differ from the right ones; the object is right."""
    right = client.put("sums", b"x").headers
    oss.faults.add(Fault(wrong_crc=True), Fault(wrong_etag=True))
    first, second = client.put("sums", b"x").headers, client.put("sums", b"x").headers
    assert first[CRC] != right[CRC]
    assert first["ETag"] == right["ETag"]
    assert second[CRC] == right[CRC]
    assert second["ETag"] == f'"{"0" * 32}"'
    assert oss.get(BUCKET, "sums").data() == b"x"


def test_missing_checksums(client, oss):
    """no_crc and no_etag leave the headers out."""
    oss.faults.add(Fault(no_crc=True), Fault(no_etag=True))
    first, second = client.put("none").headers, client.put("none").headers
    assert CRC not in first
    assert "ETag" in first
    assert CRC in second
    assert "ETag" not in second


def test_a_wrong_etag_is_wrong_in_the_document_too(client, oss, tree):
    """Complete says the same wrong ETag in header and body."""
    upload = client.initiate("whole")
    etag = client.part("whole", upload, 1, b"x").headers["ETag"]
    oss.faults.add(Fault(action="CompleteMultipartUpload", wrong_etag=True))
    reply = client.complete("whole", upload, [(1, etag)])
    wrong = f'"{"0" * 32}-1"'
    assert reply.headers["ETag"] == tree(reply).findtext("ETag") == wrong


def test_distortions_of_replies_without_checksums(client, oss):
    """A streamed body keeps its bytes; a reply without checksums stays as it is."""
    client.put("plain", b"data")
    oss.faults.add(Fault(wrong_etag=True, wrong_crc=True))
    assert client.call("GET", "plain").content == b"data"
    oss.faults.add(Fault(wrong_etag=True, wrong_crc=True, no_etag=True, no_crc=True))
    assert client.call("DELETE", "plain").status_code == 204


def test_success_with_an_error_in_it(client, oss, refusal):
    """error_body answers 200 with an error document and completes nothing."""
    upload = client.initiate("half")
    etag = client.part("half", upload, 1, b"x").headers["ETag"]
    oss.faults.add(Fault(action="CompleteMultipartUpload", error_body=True))
    reply = client.complete("half", upload, [(1, etag)])
    assert refusal(reply)[:2] == (200, "InternalError")
    assert oss.requests[-1].code == "InternalError"
    assert oss.get(BUCKET, "half") is None
    assert client.complete("half", upload, [(1, etag)]).status_code == 200


def test_one_part_of_one_object(client, oss):
    """A rule for a part strikes that part only."""
    upload = client.initiate("parts")
    oss.faults.add(
        Fault(action="UploadPart", key="parts", part_number=2, times=None, status=500)
    )
    statuses = [client.part("parts", upload, n, b"x").status_code for n in (1, 2, 3, 2)]
    assert statuses == [200, 500, 200, 500]


def test_leaving_does_not_wait_for_a_delay(monkeypatch, make_client):
    """An emulator that ends while a reply is held back breaks the connection."""
    monkeypatch.setattr("fsspec_osspresigned.emulator.server.GRACE", 0.05)
    seen: list[BaseException] = []
    with Emulator() as oss:
        client = make_client(oss)
        oss.faults.add(Fault(delay=600))
        url = client.url("PUT", "k")

        def put():
            try:
                client.send("PUT", url, data=b"x")
            except requests.ConnectionError as error:
                seen.append(error)

        thread = threading.Thread(target=put)
        thread.start()
        while oss.get(BUCKET, "k") is None:
            thread.join(0.01)
    thread.join()
    assert len(seen) == 1
    assert oss.requests[-1].status is None


@pytest.mark.parametrize(
    ("members", "piece"),
    [
        ({"rate": 0}, "rate=0"),
        ({"rate": 1.5}, "rate=1.5"),
        ({"times": 0}, "times=0"),
        ({"status": 100}, "interim"),
        ({"refuse": "because"}, "one of denied"),
        ({"refuse": "denied", "status": 500}, "brings its own"),
        ({"interim": [101]}, "of 100, 102, 103"),
        ({"bytes_per_second": 0}, "above 0"),
        ({"early": True}, "need status"),
        ({"acts": True}, "need status"),
        ({"cut_after": -1}, "cut_after=-1"),
        ({"stall_for": -0.5}, "stall_for=-0.5"),
    ],
)
def test_a_fault_checks_itself(members, piece):
    """A member that is out of range is an error when the fault is made."""
    with pytest.raises(ConfigurationError, match=piece):
        Fault(**members)


def test_patterns():
    """Action and key may be patterns, and a key is itself whatever it holds."""
    assert Fault(action="Upload*", key="a/*").matches(PART_CALL)
    assert Fault(key="a/[1].bin").matches(PART_CALL)
    assert not Fault(key="A/*").matches(PART_CALL)
    assert not Fault(reused=True).matches(PART_CALL)
    assert Fault(reused=True).matches(PART_CALL, reused=True)
