"""Errors in replies to HEAD."""

from __future__ import annotations

import base64

from fsspec_osspresigned.parsing import parse


def test_errors_of_head_come_in_a_header(client):
    """HEAD of an absent object is 404 with the document in x-oss-err."""
    reply = client.call("HEAD", "absent")
    assert (reply.status_code, reply.content) == (404, b"")
    document = parse(base64.b64decode(reply.headers["x-oss-err"]))
    assert document.findtext("Code") == "NoSuchKey"
    assert reply.headers["x-oss-ec"] == document.findtext("EC") == "0026-00000001"
