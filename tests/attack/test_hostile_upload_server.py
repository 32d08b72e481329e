"""Servers of uploads whose replies ask for more than was asked for: not one byte is sent."""

from __future__ import annotations

import fsspec
import pytest

from fsspec_osspresigned.errors import (
    NetworkError,
    NotCoveredError,
    OSSPresignedError,
    SignerError,
)
from tests.upload_servers import Companion, UppySign

BUCKET = "examplebucket"
MIB = 1024 * 1024
LARGE = memoryview(bytes(11 * MIB))  # its repr is short
# Names of headers, fields and parameters that give others access, and their values.
OPENING = {
    "OSS": ("x-oss-object-acl", "public-read"),
    "OSS in capitals": ("X-OSS-Object-ACL", "PUBLIC-READ"),
    "S3": ("x-amz-acl", "public-read"),
    "S3 for users": ("x-amz-acl", "authenticated-read"),
    "S3 by name": (
        "x-amz-grant-read",
        'uri="http://acs.amazonaws.com/groups/AllUsers"',
    ),
    "bucket": ("x-oss-acl", "public-read-write"),
}


class OpenCompanion(Companion):
    """A Companion whose forms have the fields *more* as well."""

    more: dict[str, str]

    def answer(self, method, path, query, given):
        """Return the reply with more fields."""
        document = super().answer(method, path, query, given)
        return document | {"fields": document["fields"] | self.more}


class OpenUppySign(UppySign):
    """A back end that returns the headers *headers*, or signs the parameters *query*."""

    more: dict[str, str]
    in_query = False

    def presign(self, method, key, query=None, headers=None):
        """Sign the parameters as well."""
        query = {**(query or {}), **(self.more if self.in_query else {})}
        return super().presign(method, key, query, headers)

    def answer(self, method, path, query, given):
        """Return the reply with headers."""
        document = super().answer(method, path, query, given)
        return document if self.in_query else document | {"headers": self.more}


class HostileCompanion(Companion):
    """A Companion whose reply to each call passes *spoil*, with the path of the call."""

    def __init__(self, oss, spoil):
        super().__init__(oss)
        self.spoil = spoil

    def answer(self, method, path, query, given):
        """Return the damaged reply."""
        return self.spoil(path, super().answer(method, path, query, given))


FLEETING = """
base = "/s3"
[open]
post = "/multipart"
json = { filename = "{path}", type = "{content_type}" }
save = { key = "/key", id = "/uploadId" }
[sign]
get = "/multipart/{upload.id}/batch"
query = { key = "{upload.key}", partNumbers = "{numbers}" }
urls = "/presignedUrls"
[finish]
post = "/multipart/{upload.id}/complete"
"""


def of(name, server, path="", **options):
    """Return a filesystem of the server."""
    place = f"{name}+{server.url}{path}"
    options = {"retries": 0, "part_size": 5 * MIB, **options}
    return fsspec.filesystem("osspresigned", upload_server=place, **options)


@pytest.mark.parametrize("name", [*OPENING, "form of S3"])
def test_no_form_opens_the_object_unasked(oss, name):
    """A field of a form that gives others access needs the word of the user."""
    field, value = OPENING.get(name, ("acl", "public-read"))
    with OpenCompanion(oss) as server:
        server.more = {field: value}
        with pytest.raises(NotCoveredError, match=f"form field {field} gives others"):
            of("companion", server).pipe_file("a", b"1")
    assert not oss.requests


@pytest.mark.parametrize("in_query", [False, True])
@pytest.mark.parametrize("name", OPENING)
def test_no_request_opens_the_object_unasked(oss, name, in_query):
    """A header or parameter that gives others access is refused, unless the user asked for it."""
    field, value = OPENING[name]
    with OpenUppySign(oss) as server:
        server.more, server.in_query = {field: value}, in_query
        said = f"{field}.*(gives others access|may turn)"
        with pytest.raises(SignerError, match=said):
            of("uppy-sign", server, "/presign").pipe_file("a", b"1")
    assert not oss.requests


@pytest.mark.parametrize("value", ["private", "default", "bucket-owner-full-control"])
def test_what_opens_nothing_may_be_added(oss, value):
    """Servers set such an ACL for their own store."""
    with OpenUppySign(oss) as server:
        server.more = {"x-amz-acl": value}
        of("uppy-sign", server, "/presign").pipe_file("a", b"1")
    assert oss.objects(BUCKET) == {"a": b"1"}


def test_an_acl_that_was_asked_for_is_sent(oss):
    """``acl=`` is the word of the user, by each name that stores have for it."""
    with OpenUppySign(oss) as server:
        server.more = {"x-amz-acl": "public-read"}
        fs = of("uppy-sign", server, "/presign")
        fs.pipe_file("a", b"1", acl="public-read")
        with pytest.raises(SignerError, match="gives others access"):
            fs.pipe_file("a", b"2", acl="private")
    with OpenCompanion(oss) as server:
        server.more = {"acl": "public-read"}
        fs = of("companion", server)
        with pytest.raises(NotCoveredError, match="gives others access"):
            fs.pipe_file("a", b"2", acl="private")
        fs.pipe_file("b", b"2", acl="public-read")
    assert sorted(oss.objects(BUCKET).values()) == [b"1", b"2"]


def spoilt(member, value):
    """Return a function that sets *member* of each reply that has it."""

    def spoil(_, document):
        has = isinstance(document, dict) and member in document
        return document | {member: value} if has else document

    return spoil


@pytest.mark.parametrize("member", ["key", "uploadId", "presignedUrls", "fields"])
def test_a_lone_surrogate_is_no_name(oss, member):
    """JSON can spell it, and no request can send it."""
    value = {"1": "\ud800", "key": "\ud800"} if "s" in member else "\ud800"
    data = b"1" if member == "fields" else LARGE
    with (
        HostileCompanion(oss, spoilt(member, value)) as server,
        pytest.raises(OSSPresignedError, match="the reply is not JSON"),
    ):
        of("companion", server).pipe_file("a", data)
    assert not oss.objects(BUCKET)


@pytest.mark.parametrize("name", ["x" * 1_000_000, "a\nFAKE: stored", "\x9b1m"])
def test_an_upload_id_is_short_and_printable(oss, caplog, monkeypatch, tmp_path, name):
    """Logs and lists of uploads have it, so it is not taken from the reply as it is."""
    (tmp_path / "mine.toml").write_text(FLEETING)
    monkeypatch.setenv("OSSPRESIGNED_TRUST", f"{tmp_path}/mine.toml")
    with HostileCompanion(oss, spoilt("uploadId", name)) as server:
        fs = fsspec.filesystem(
            "osspresigned",
            upload_server=f"{tmp_path}/mine.toml+{server.url}",
            retries=0,
        )
        with pytest.raises(NetworkError, match="no UploadId"):
            fs.pipe_file("a", LARGE)
    assert not any(len(record.getMessage()) > 2000 for record in caplog.records)


def test_only_the_parts_that_were_asked_for_are_looked_at(oss):
    """Parts in a reply that were not requested are ignored; the reply's size is limited."""
    bad = {str(n): "ftp://elsewhere.example.com" for n in range(5000, 9000)}

    def more(_, document):
        urls = isinstance(document, dict) and document.get("presignedUrls")
        return {"presignedUrls": {**bad, **urls}} if urls else document

    with HostileCompanion(oss, more) as server:
        of("companion", server).pipe_file("a", LARGE)
    assert [*oss.objects(BUCKET).values()] == [bytes(LARGE)]


def test_a_reply_is_as_long_as_its_parts_need(oss):
    """16 KiB for each part are enough, and the rest is not read."""
    with (
        HostileCompanion(oss, lambda _, document: [document] * 4000) as server,
        pytest.raises(SignerError, match="answered with more than"),
    ):
        of("companion", server).pipe_file("a", b"1")
    assert not oss.requests


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://[x/", "no valid host"),
        ("https://user:CANARY@\u2100.com/k", "a character outside ASCII"),
        ("https://user:CANARY@b.example/k", "user information"),
    ],
)
def test_an_invalid_url_is_no_reply(oss, url, said):
    """It is refused before anything reads it, and the message does not quote it."""
    with (
        HostileCompanion(oss, spoilt("url", url)) as server,
        pytest.raises(
            SignerError, match=f"has a URL at '/url' that .*{said}"
        ) as caught,
    ):
        of("companion", server).pipe_file("a", b"1")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[", "https://user:CANARY@\u2100.com/"])
def test_an_invalid_url_for_a_later_call_is_no_reply(oss, monkeypatch, tmp_path, url):
    """A description may take the URL of a call from an earlier reply."""
    text = FLEETING.replace('id = "/uploadId"', 'id = "/uploadId", next = "/bucket"')
    before, _, after = text.partition("[sign]")
    after = after.partition("urls =")[2]
    text = f'{before}[sign]\nget = "{{upload.next}}"\nurls ={after}'
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setenv("OSSPRESIGNED_TRUST", f"{tmp_path}/mine.toml")
    with (
        HostileCompanion(oss, spoilt("bucket", url)) as server,
        pytest.raises(SignerError, match="an earlier reply has a URL") as caught,
    ):
        of(f"{tmp_path}/mine.toml", server).pipe_file("a", LARGE)
    assert "CANARY" not in str(caught.value)
    assert not oss.objects(BUCKET)


def test_the_number_of_a_part_has_few_digits(oss):
    """Python converts no text of 5,000 digits."""
    spoil = spoilt("presignedUrls", {"1" * 5000: "https://b.example/k"})
    with (
        HostileCompanion(oss, spoil) as server,
        pytest.raises(SignerError, match="names no part at"),
    ):
        of("companion", server).pipe_file("a", LARGE)
