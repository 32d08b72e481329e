"""XML is read without trust and written exactly."""

from __future__ import annotations

import pytest

from fsspec_osspresigned import parsing as xmldoc


def test_parse_drops_namespaces_and_byte_order_mark():
    """Namespaces and a byte order mark are dropped."""
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
        (b"<a>", "not XML: no element found at line 1 column 4"),
        (b"\xff\xfe<", "not UTF-8 at byte 0"),
        (b"<a>&secret;</a>", "undefined entity at line 1"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/hostname"><a/>', "declaration"),
        (b'<!DOCTYPE a PUBLIC "x" "http://127.0.0.1/">\n<a>&x;</a>', "declaration"),
        (b'<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///x"> %p;]><a/>', "declaration"),
        (b"<a>\x00</a>", "not XML"),
        (b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', "declaration"),
        (b"<a><!ENTITY></a>", "declaration"),
        (b"<b/>", "its root is 'b', not 'a'"),
    ],
)
def test_refused(body, why):
    """Bad documents and declarations are refused before anything is expanded."""
    with pytest.raises(ValueError, match=why):
        xmldoc.parse(body, "a")


def test_no_entity_is_expanded():
    """A billion laughs is refused before the first one."""
    lines = "".join(
        f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' if n else '<!ENTITY l0 "lol">'
        for n in range(10)
    )
    with pytest.raises(ValueError, match="declaration"):
        xmldoc.parse(f"<!DOCTYPE a [{lines}]><a>&l9;</a>".encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7", "ebcdic-cp-be", "nonsense"])
def test_no_other_encoding_hides_a_declaration(encoding):
    """Documents are UTF-8, whatever they say of themselves."""
    hidden = '<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>'
    named = f'<?xml version="1.0" encoding="{encoding}"?>'
    assert xmldoc.parse(f"{named}<a>é</a>".encode()).text == "é"
    with pytest.raises(ValueError, match="declaration"):
        xmldoc.parse((named + hidden).encode())
    with pytest.raises(ValueError, match=r"not UTF-8|not XML"):
        xmldoc.parse((named + hidden).encode("utf-16"))
    seven = "+ADw-+ACE-DOCTYPE a+AD4-+ADw-a/+AD4-"
    with pytest.raises(ValueError, match="not XML"):
        xmldoc.parse((named + seven).encode())


def test_error_repeats_nothing_of_the_document():
    """Names of entities and tags can be secrets, or a novel."""
    name = "TOPSECRET" * 1000
    for body in (f"<a>&{name};</a>", f"<a><{name}></a>", f"<a {name}></a>"):
        with pytest.raises(ValueError, match="not XML") as caught:
            xmldoc.parse(body.encode())
        assert "TOPSECRET" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 50_001 + b"</a>" * 50_001,
        b"<a>" + b"<b/>" * 100_000 + b"</a>",
        b"<a " + b" ".join(b"n%d=''" % number for number in range(100_001)) + b"/>",
    ],
)
def test_more_markup_than_any_reply(body):
    """Each tag would take thirty times its bytes of memory."""
    with pytest.raises(ValueError, match="more than 100,000 tags or attributes"):
        xmldoc.parse(body)


def test_complete_document():
    """Parts come in order, ETags with what they hold."""
    document = xmldoc.complete_multipart_upload([(1, '"A&B"'), (2, "C")])
    assert document == (
        b"<CompleteMultipartUpload>"
        b'<Part><PartNumber>1</PartNumber><ETag>"A&amp;B"</ETag></Part>'
        b"<Part><PartNumber>2</PartNumber><ETag>C</ETag></Part>"
        b"</CompleteMultipartUpload>"
    )
