"""A signed form goes over the wire as OSS takes it, or not at all."""

from __future__ import annotations

import re
import threading
import traceback

import pytest

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import (
    ConfigurationError,
    SourceChangedError,
)
from fsspec_osspresigned.http.body import BLOCK, FileBody, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.form import form_frame
from fsspec_osspresigned.http.transfer import Exchange
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedForm, SignedRequest
from fsspec_osspresigned.secret import Secret

HIDDEN = "TOPSECRET"
FIELDS = {"policy": f"eyJ{HIDDEN}==", "x-oss-signature": HIDDEN}


def form(**fields: str) -> SignedForm:
    """Return a form with a policy and *fields*."""
    values = {**FIELDS, "key": "in/a", **fields}
    return SignedForm(fields={n: Secret(v) for n, v in values.items()})


def post(origin: str, **fields: str) -> SignedRequest:
    """Return the signed request of a form."""
    return SignedRequest(method="POST", url=f"{origin}/", form=form(**fields))


def parts_of(head: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the heads and values of the parts, split as RFC 7578 says."""
    found = re.search(rb"\r\nContent-Type: multipart/form-data; boundary=(\S+)", head)
    assert found
    first, *parts, last = (b"\r\n" + body).split(b"\r\n--" + found[1])
    assert (first, last) == (b"", b"--\r\n")
    assert all(part.startswith(b"\r\n") for part in parts)
    pairs = (part[2:].partition(b"\r\n\r\n") for part in parts)
    return [(head, value) for head, _, value in pairs]


def accept(peer) -> None:
    """Answer every request."""
    while peer.request():
        peer.answer('ETag: "E"', status="204 No Content", body=b"")


@pytest.fixture
def transport():
    """A transport with short timeouts."""
    one = Transport(connect_timeout=5.0, progress_timeout=5.0)
    yield one
    one.close()


def everything(error: BaseException) -> str:
    """Return a traceback with the variables of all frames below the test."""
    frames = error.__traceback__
    found = traceback.TracebackException(
        type(error), error, frames.tb_next, capture_locals=True
    )
    return "".join(found.format(chain=True))


# -- what is sent --------------------------------------------------------------------------


def test_form_to_the_byte(serve, transport):
    """The key comes first, then the fields in order, then the file; the length is known."""
    server = serve(accept)
    fields = {"success_action_status": "200", "Content-Type": "text/csv"}
    signed = post(server.origin, **fields)
    run(transport.send, signed, MemoryBody(b"a,b\r\n"))
    (head,), (body,) = server.heads, server.bodies
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert b"Transfer-Encoding" not in head
    assert f"\r\nContent-Length: {len(body)}".encode() in head
    field = b'Content-Disposition: form-data; name="%b"'
    assert parts_of(head, body) == [
        (field % b"key", b"in/a"),
        (field % b"policy", FIELDS["policy"].encode()),
        (field % b"x-oss-signature", HIDDEN.encode()),
        (field % b"success_action_status", b"200"),
        (field % b"Content-Type", b"text/csv"),
        (
            field % b"file" + b'; filename="file"\r\nContent-Type: text/csv',
            b"a,b\r\n",
        ),
    ]


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, 5 * BLOCK])
@pytest.mark.parametrize("on_disk", [False, True])
def test_data_counts_alone(serve, transport, tmp_path, size, on_disk):
    """Checksum, progress and bytes sent are those of the file, of whatever size."""
    server, sent = serve(accept), []
    data = bytes(i % 251 for i in range(size))
    (tmp_path / "f").write_bytes(data)
    body = FileBody.of(str(tmp_path / "f")) if on_disk else MemoryBody(data)
    exchange = Exchange(with_crc=True, progress=sent.append)
    for _ in range(2):  # over one connection, so the first was sent to its end
        reply = run(transport.send, post(server.origin), body, exchange)
        assert (reply.body_bytes, reply.crc64) == (size, crc64(data))
    assert sum(sent) == 2 * size
    assert server.accepted == 1
    for head, whole in zip(server.heads, server.bodies, strict=True):
        assert parts_of(head, whole)[-1][1] == data


@pytest.mark.parametrize(
    "key",
    ['a"b', "a\\b", "a\r\nb", "a; name=b", "\u4e2d/\xe9 ~%0A+&=", "--", "a$b{c}"],
)
def test_any_key_is_sent_as_it_is(serve, transport, key):
    """Any character of a value arrives unchanged, without quoting."""
    server = serve(accept)
    run(transport.send, post(server.origin, key=key), MemoryBody(b"abc"))
    (head,), (body,) = server.heads, server.bodies
    assert parts_of(head, body)[0][1] == key.encode()


def test_data_with_an_older_boundary(serve, transport):
    """Each form has a boundary of its own, so no data can end it."""
    server = serve(accept)
    run(transport.send, post(server.origin), MemoryBody(b"abc"))
    data = server.bodies[0]
    run(transport.send, post(server.origin), MemoryBody(data))
    assert parts_of(server.heads[1], server.bodies[1])[-1][1] == data


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, None),
        ({"Content-Type": "a/b"}, b"a/b"),
        ({"x-oss-content-type": "c/d", "content-type": "a/b"}, b"c/d"),
        ({"Content-Type": "a/\xe9"}, None),
    ],
)
def test_type_of_the_data(fields, kind):
    """The part says what its field says, for OSS lets the part win."""
    before = bytes(form_frame(form(**fields)).before)
    last = before.rpartition(b'filename="file"')[2]
    assert last == (
        b"\r\n\r\n" if kind is None else b"\r\nContent-Type: %b\r\n\r\n" % kind
    )


# -- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({'a"b': HIDDEN}, "field 4 has a name that needs quoting"),
        ({"a\\b": HIDDEN}, "needs quoting"),
        ({"a\r\nb": HIDDEN}, "needs quoting"),
        ({"a b": HIDDEN}, "needs quoting"),
        ({"\xe9": HIDDEN}, "needs quoting"),
        ({"a%22": HIDDEN}, "needs quoting"),
        ({"": HIDDEN}, "needs quoting"),
        ({"n" * 8193: HIDDEN}, "too long"),
        ({"FILE": HIDDEN}, "the field FILE is the data"),
        ({"success_action_redirect": HIDDEN}, "redirect hides whether"),
        ({"Policy": HIDDEN}, "the field Policy appears twice"),
        ({"x-oss-meta-a": f"{HIDDEN}\r\n"}, "end of a line"),
        ({"x-oss-meta-a": f"{HIDDEN}\0"}, "control character"),
        ({"x-oss-meta-a": f"{HIDDEN}\udcff"}, "UTF-8"),
        ({"key": f"{HIDDEN}\udcff"}, "the field key has characters that UTF-8"),
        ({"key": ""}, "the field key must have 1 to 1023 bytes"),
        ({"key": "\u4e2d" * 342}, "the field key must have 1 to 1023 bytes"),
        ({"key": f"/{HIDDEN}"}, "begin with no slash"),
        ({"key": f"\\{HIDDEN}"}, "begin with no slash"),
        ({"key": HIDDEN + "${filename}"}, r"the field key has \${"),
        ({"x:a": HIDDEN + "v" * 2**21}, "x:a has more than 2 MiB"),
        ({f"x:{i}": HIDDEN + "v" * 2**20 for i in range(8)}, "more than 8 MiB in all"),
    ],
)
def test_form_that_cannot_be_sent(transport, fields, words):
    """It is refused before there is a connection, and no value is shown."""
    signed = post("http://127.0.0.1:9", **fields)
    with pytest.raises(ConfigurationError, match=words) as caught:
        run(transport.send, signed, path="b/in/a")
    assert HIDDEN not in everything(caught.value)
    assert caught.value.path == "b/in/a"


def test_lines_in_a_policy():
    """Its characters are signed, so they go out even where an encoder broke its lines."""
    frame = form_frame(
        form(policy="eyJ\r\nabc=\n", callback="eyJ\n", **{"x:a": "1\n2"})
    )
    assert b"\r\n\r\neyJ\r\nabc=\n\r\n--" in bytes(frame.before)


# -- what goes wrong -----------------------------------------------------------------------


def test_source_that_changes(serve, transport, tmp_path):
    """The end of the form is not sent behind data that is not what it was."""
    ends = threading.Event()
    got = bytearray()

    def count(peer):
        peer.head()
        got.extend(peer.ahead)
        while block := peer.sock.recv(65536):
            got.extend(block)
        ends.set()

    server = serve(count)
    (tmp_path / "f").write_bytes(b"x" * (3 * BLOCK))
    body = FileBody.of(str(tmp_path / "f"))
    (tmp_path / "f").write_bytes(b"y" * (3 * BLOCK))
    with pytest.raises(SourceChangedError) as caught:
        run(transport.send, post(server.origin), body)
    assert ends.wait(5)
    assert not got.endswith(b"--\r\n")
    assert HIDDEN not in everything(caught.value)
