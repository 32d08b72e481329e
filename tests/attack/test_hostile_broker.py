"""Servers of uploads whose replies ask for more than was asked for: not one byte is sent."""

from __future__ import annotations

import fsspec
import pytest

from fsspec_osspresigned.errors import NotSignedError, SignerError
from tests.upload_servers import Companion, UppySign

BUCKET = "examplebucket"
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


def of(name, server, path=""):
    """Return a filesystem of the server."""
    place = f"{name}+{server.url}{path}"
    return fsspec.filesystem("osspresigned", broker=place, retries=0)


@pytest.mark.parametrize("name", [*OPENING, "form of S3"])
def test_no_form_opens_the_object_unasked(oss, name):
    """A field of a form that gives others access needs the word of the user."""
    field, value = OPENING.get(name, ("acl", "public-read"))
    with OpenCompanion(oss) as server:
        server.more = {field: value}
        with pytest.raises(NotSignedError, match=f"form field {field} gives others"):
            of("companion", server).pipe_file("a", b"1")
    assert not oss.requests


@pytest.mark.parametrize("in_query", [False, True])
@pytest.mark.parametrize("name", OPENING)
def test_no_request_opens_the_object_unasked(oss, name, in_query):
    """Neither a header nor a parameter gives others access, if nobody asked for it."""
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
        with pytest.raises(NotSignedError, match="gives others access"):
            fs.pipe_file("a", b"2", acl="private")
        fs.pipe_file("b", b"2", acl="public-read")
    assert sorted(oss.objects(BUCKET).values()) == [b"1", b"2"]
