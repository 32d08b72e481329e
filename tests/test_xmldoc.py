"""XML is read without trust and written exactly."""

from __future__ import annotations

import pytest

from fsspec_osspresigned import xmldoc


def test_parse_drops_namespaces_and_byte_order_mark():
    """Tags are plain, whatever stands in front."""
    root = xmldoc.parse(
        b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>'
        b'<a xmlns="http://x"><b>1</b></a>',
        "a",
    )
    assert root.tag == "a"
    assert root.findtext("b") == "1"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not XML"),
        (b"<a>", "not XML"),
        (b"\xff\xfe<", "not UTF-8"),
        (b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', "declaration"),
        (b"<a><!ENTITY></a>", "declaration"),
        (b"<b/>", "its root is 'b', not 'a'"),
    ],
)
def test_refused(body, why):
    """Bad documents and declarations are refused before anything is expanded."""
    with pytest.raises(ValueError, match=why):
        xmldoc.parse(body, "a")


def test_any_root():
    """Without a wanted root, any is taken."""
    assert xmldoc.parse(b"<z/>").tag == "z"


def test_complete_document():
    """Parts come in order, ETags with what they hold."""
    document = xmldoc.complete_multipart_upload([(1, '"A&B"'), (2, "C")])
    assert document == (
        b"<CompleteMultipartUpload>"
        b'<Part><PartNumber>1</PartNumber><ETag>"A&amp;B"</ETag></Part>'
        b"<Part><PartNumber>2</PartNumber><ETag>C</ETag></Part>"
        b"</CompleteMultipartUpload>"
    )
