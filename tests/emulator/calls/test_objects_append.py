"""AppendObject."""

from __future__ import annotations

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.http.checksums import crc64

BUCKET = "examplebucket"
NEXT = "x-oss-next-append-position"


def append(client, key, position, data, **options):
    """Append at a position."""
    query = {"append": "", "position": str(position)}
    return client.call("POST", key, query=query, data=data, **options)


def test_appends_add_up(client, oss):
    """The first makes the object with its properties, the next go behind it."""
    headers = {"Content-Type": "text/plain", "x-oss-meta-a": "1"}
    first = append(client, "append/a", 0, b"abc", headers=headers)
    assert (first.status_code, first.headers[NEXT]) == (200, "3")
    bad = {"x-oss-tagging": "a=1&a=2", "x-oss-meta-a": "2"}  # ignored from here on
    second = append(client, "append/a", 3, b"defg", headers=bad)
    assert second.headers[NEXT] == "7"
    stored = oss.get(BUCKET, "append/a")
    assert (stored.data(), stored.kind) == (b"abcdefg", "Appendable")
    assert stored.crc64 == crc64(b"abcdefg")
    assert second.headers["x-oss-hash-crc64ecma"] == str(stored.crc64)
    assert stored.headers["x-oss-meta-a"] == "1"
    assert first.headers["ETag"] != second.headers["ETag"]
    head = client.call("HEAD", "append/a")
    assert head.headers["x-oss-object-type"] == "Appendable"
    assert head.headers[NEXT] == client.call("GET", "append/a").headers[NEXT] == "7"
    assert "Content-MD5" not in head.headers


def test_the_wrong_place(client, oss, refusal):
    """Another position is a 409 with the right one, and nothing is added."""
    append(client, "append/b", 0, b"abc")
    for key, position, right in (("append/b", 2, "3"), ("append/new", 1, "0")):
        reply = append(client, key, position, b"x")
        assert refusal(reply)[:2] == (409, "PositionNotEqualToLength")
        assert reply.headers[NEXT] == right
    assert oss.get(BUCKET, "append/b").data() == b"abc"
    assert refusal(append(client, "append/b", "x", b""))[:2] == (400, "InvalidArgument")


def test_other_kinds_target(client, refusal):
    """What was put cannot be appended to; what was appended can be put over."""
    client.put("append/c", b"x")
    reply = append(client, "append/c", 1, b"y")
    assert refusal(reply)[:2] == (409, "ObjectNotAppendable")
    append(client, "append/d", 0, b"x")
    client.put("append/d", b"new")
    assert client.call("GET", "append/d").content == b"new"


def test_a_body_that_is_damaged_or_too_large(make_client, refusal):
    """Checksums count as for a put, and so does the limit, for the whole object."""
    with Emulator(max_put=5) as oss:
        client = make_client(oss)
        md5 = {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
        reply = append(client, "k", 0, b"abc", headers=md5)
        assert refusal(reply)[:2] == (400, "InvalidDigest")
        append(client, "k", 0, b"abc")
        reply = append(client, "k", 3, b"def")
        assert refusal(reply)[:2] == (400, "EntityTooLarge")
        assert oss.get(BUCKET, "k").data() == b"abc"


def test_two_appends_at_once(client, oss, monkeypatch, refusal):
    """Of two at one position the later is refused, though both came in time."""
    store = oss.store
    real = store.replace

    def late(bucket, stored, before):
        real(bucket, stored, before)
        return real(bucket, stored, before)

    monkeypatch.setattr(store, "replace", late)
    reply = append(client, "append/e", 0, b"abc")
    assert refusal(reply)[:2] == (409, "PositionNotEqualToLength")
    assert reply.headers[NEXT] == "3"
    assert oss.get(BUCKET, "append/e").data() == b"abc"


def test_append_to_what_is_gone_meanwhile(client, oss, monkeypatch, refusal):
    """If the object vanishes while the body comes, the right position is the start."""
    append(client, "append/f", 0, b"abc")
    store = oss.store
    real = store.replace

    def late(bucket, stored, before):
        store.drop(bucket, stored.key)
        return real(bucket, stored, before)

    monkeypatch.setattr(store, "replace", late)
    reply = append(client, "append/f", 3, b"def")
    assert refusal(reply)[:2] == (409, "PositionNotEqualToLength")
    assert reply.headers[NEXT] == "0"
