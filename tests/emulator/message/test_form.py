"""Forms as they come in: their shape, their limits, and where they break off."""

from __future__ import annotations

import base64
import hashlib
import random
import threading

import pytest

from fsspec_osspresigned.emulator import Emulator
from tests.emulator.forms import (
    BOUNDARY,
    BUCKET,
    LINE,
    fields_and_file,
    form,
    part,
    signed,
)
from tests.emulator.raw_requests import connect

MIB = 1024 * 1024
MALFORMED = (400, "MalformedPOSTRequest", "0006-00000104")


@pytest.fixture
def fields(oss) -> dict[str, str]:
    """Signed fields, with the key ``k``."""
    oss.store.drop(oss.store.bucket(BUCKET), "k")
    return {**signed(oss.credentials), "key": "k"}


def head(length: int, extra: str = "") -> bytes:
    """Return the head of a request that sends a form."""
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return (
        f"POST /{BUCKET}/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n{extra}\r\n"
    ).encode()


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_wherever_the_network_cuts(oss, fields, step):
    """Pieces of any length give the same bytes, also where a boundary nearly begins."""
    mark = f"\r\n--{BOUNDARY}".encode()
    data = mark[:-1] + b"\r" + mark[:3] + mark[:-2] + b"\r\n--" * 3 + mark[:-1]
    body = form(*fields_and_file(fields, data))
    with connect(oss) as peer:
        peer.sendall(head(len(body)))
        for at in range(0, len(body), step):
            peer.sendall(body[at : at + step])
        reply = b"".join(iter(lambda: peer.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 204 ")
    assert oss.get(BUCKET, "k").data() == data
    assert oss.requests[-1].bytes == len(data)


def test_a_large_file_streams(poster, oss):
    """Some MiB arrive whole, in a file of the store and not in memory."""
    data = random.Random(1).randbytes(9 * MIB + 1)  # noqa: S311 - no secret
    assert poster.post("large", data).status_code == 204
    stored = oss.get(BUCKET, "large")
    assert stored.data() == data
    assert stored.body[0].path is not None


def test_the_boundary_may_be_quoted(poster, oss, fields):
    """Quotes round the boundary are no part of it."""
    kind = f'multipart/form-data; boundary="{BOUNDARY}"'
    body = form(*fields_and_file(fields, b"quoted"))
    assert poster.send(body, headers={"Content-Type": kind}).status_code == 204
    assert oss.get(BUCKET, "k").data() == b"quoted"


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "multipart/mixed; boundary=1"])  # fmt: skip
def test_what_is_no_form(poster, refusal, kind):
    """Another content type, or one without a boundary, is refused."""
    reply = poster.send(b"x", headers={"Content-Type": kind})
    assert refusal(reply) == (400, "RequestIsNotMultiPartContent", "")


def test_a_form_without_a_length(oss, fields):
    """A form that announces no length is refused before it is read; chunks are taken."""
    plain = head(0).replace(b"Content-Length: 0\r\n", b"")
    with connect(oss) as peer:
        peer.sendall(plain)
        reply = b"".join(iter(lambda: peer.recv(65536), b""))
    assert b"<Code>MissingContentLength</Code>" in reply
    body = form(*fields_and_file(fields, b"chunk"))
    with connect(oss) as peer:
        peer.sendall(plain[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
        peer.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        reply = b"".join(iter(lambda: peer.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 204 ")
    assert oss.get(BUCKET, "k").data() == b"chunk"


@pytest.mark.parametrize(
    "end", ["", "-", "\r\n", "x-\r\n", "--"], ids=["none", "half", "open", "odd", "bare"]
)  # fmt: skip
def test_the_closing_boundary(poster, oss, refusal, fields, end):
    """Without it nothing is stored; what follows it does not matter."""
    reply = poster.send(form(*fields_and_file(fields, b"cut"), end=end))
    if end == "--":
        assert reply.status_code == 204
        return
    assert refusal(reply) == MALFORMED
    assert oss.get(BUCKET, "k") is None


def test_a_file_that_breaks_off(poster, oss, refusal, fields):
    """A body that ends within the file publishes nothing, even if its length is right."""
    body = form(*fields_and_file(fields, b"x" * 5000))
    assert refusal(poster.send(body[:-500])) == MALFORMED
    assert oss.get(BUCKET, "k") is None


def test_a_client_that_leaves(oss, fields):
    """A connection that ends within the file publishes nothing."""
    body = form(*fields_and_file(fields, b"x" * 5000))
    known = len(oss.requests)
    with connect(oss) as peer:
        peer.sendall(head(len(body)) + body[:-500])
    while len(oss.requests) == known:
        threading.Event().wait(0.005)
    assert oss.requests[-1].status is None
    assert oss.get(BUCKET, "k") is None


@pytest.mark.parametrize("left", [5_100, 100], ids=["fields", "file"])
def test_a_client_that_stalls(left):
    """A form that does not go on is RequestTimeout, and the connection is closed."""
    with Emulator(body_timeout=0.05) as oss, connect(oss) as peer:
        fields = {**signed(oss.credentials), "key": "k"}
        body = form(*fields_and_file(fields, b"x" * 5000))
        peer.sendall(head(len(body)) + body[:-left])
        reply = b"".join(iter(lambda: peer.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"<Code>RequestTimeout</Code>" in reply
        assert oss.get(BUCKET, "k") is None


def test_what_follows_the_file(poster, oss, refusal, fields):
    """Fields after it are ignored; a second file is refused; a key there is none."""
    late = part("x-oss-object-acl", "nonsense" * 20_000)
    body = form(*fields_and_file(fields, b"first"), late)
    assert poster.send(body).status_code == 204
    assert oss.get(BUCKET, "k").data() == b"first"
    body = form(*fields_and_file(fields, b"other"), part("file", b"second"))
    assert refusal(poster.send(body))[:2] == (
        400,
        "IncorrectNumberOfFilesInPOSTRequest",
    )
    key = fields.pop("key")
    body = form(*fields_and_file(fields, b"other"), part("key", key))
    assert refusal(poster.send(body))[:2] == (400, "InvalidArgument")
    assert oss.get(BUCKET, "k").data() == b"first"


def test_a_form_without_a_file(poster, refusal):
    """Fields alone are no upload."""
    expected = (400, "MalformedPOSTRequest", "0006-00000107")
    assert refusal(poster.send(form(part("key", "k")))) == expected
    assert refusal(poster.send(form())) == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"preamble\r\n" + form(part("key", "k")), "MalformedPOSTRequest"),
        (b"x" * 100, "MalformedPOSTRequest"),
        (form(part("key", "k")).replace(b"form-data", b"attachment"), "MalformedPOSTRequest"),
        (form(part("key", "k")).replace(b"name=", b"title="), "MalformedPOSTRequest"),
        (form(part("key", "k"), part("KEY", "k")), "InvalidArgument"),
        (form(part("file", "k", "Content-Transfer-Encoding: base64")), "NotImplemented"),
        (form(part("n" * 8193, "v")), "FieldItemTooLong"),
        (form(part("n" * 20_000, "v")), "FieldItemTooLong"),
        (form(part("n", "v" * (2 * MIB + 1))), "FieldItemTooLong"),
        (form(part("n", "v" * (3 * MIB))), "FieldItemTooLong"),
        (form(*(part(f"n{n}", "v" * 2 * MIB) for n in range(5))),
         "MaxPOSTPreDataLengthExceededError"),
    ],
    ids=["preamble", "no boundary", "no form-data", "no name", "twice", "encoded",
         "name", "head", "value", "endless value", "all values"],
)  # fmt: skip
def test_bad_forms(poster, refusal, body, code):
    """What is no form of OSS, or over its limits, is refused by its code."""
    assert refusal(poster.send(body))[:2] == (400, code)


def test_the_longest_value(poster, oss, fields):
    """A value of exactly 2 MiB is read."""
    body = form(*fields_and_file({"n": "v" * 2 * MIB, **fields}, b"ok"))
    assert poster.send(body).status_code == 204
    assert len(oss.requests[-1].fields["n"]) == 2 * MIB


def test_the_whole_body_can_be_checked(poster, oss, refusal, fields):
    """Content-MD5 is that of the whole form; a wrong one stores nothing."""
    parts = fields_and_file(fields, b"checked")
    body = form(*parts, end="--\r\n" + "epilogue" * 50_000)
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    headers = {"Content-MD5": base64.b64encode(digest).decode()}
    wrong = body.replace(b"checked", b"damaged")
    assert refusal(poster.send(wrong, headers=headers))[:2] == (400, "InvalidDigest")
    assert oss.get(BUCKET, "k") is None
    assert poster.send(body, headers=headers).status_code == 204
    assert oss.get(BUCKET, "k").data() == b"checked"


def test_a_refused_form_does_not_end_the_connection(poster, oss):
    """After an early refusal of a large form the connection goes on."""
    assert poster.post("k", b"x" * (3 * MIB), fields={}).status_code == 403
    refused = oss.requests[-1]
    assert poster.post("k", b"next").status_code == 204
    assert oss.get(BUCKET, "k").data() == b"next"
    assert oss.requests[-1].connection == refused.connection


def test_text_is_utf_8(poster, refusal, fields):
    """A value or a head in another encoding is refused."""
    for name, value in ((b"a", b"\xff"), (b"\xff", b"a")):
        body = form(part("NAME", "VALUE"), *fields_and_file(fields, b"x"))
        body = body.replace(b"NAME", name).replace(b"VALUE", value)
        assert refusal(poster.send(body))[:2] == (400, "InvalidArgument")


def test_damaged_forms(poster, oss, fields):
    """Whatever is wrong with a form, it is answered, and not by a crash."""
    chance = random.Random(7)  # noqa: S311 - no secret
    good = form(*fields_and_file(fields, b"hello", filename="a"))
    pieces = [b"\r\n", b"--", b"\xff", b'"', b";", b"*=utf-9'%FF'x", b"\0", b"\\"]
    seen = set()
    for _ in range(200):
        at = chance.randrange(len(good))
        cut = at + chance.choice((0, 1, 30))
        body = good[:at] + chance.choice(pieces) + good[cut:]
        seen.add(poster.send(body).status_code)
    assert seen <= {204, 400, 403}
    assert seen >= {400, 403}


def test_lines_are_those_of_http(poster, refusal, fields):
    """A form with bare newlines is refused."""
    body = form(*fields_and_file(fields, b"x")).replace(LINE.encode(), b"\n")
    assert refusal(poster.send(body)) == MALFORMED
