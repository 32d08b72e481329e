"""The XML documents of OSS, read without trust and written exactly.

The parsers are loaded with the first document: a small upload has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def parse(body: bytes, root: str | None = None) -> Element:
    """Return the root element of *body*, its tags without namespaces.

    A document type declaration is refused before parsing, so no entity is ever
    expanded; callers bound the size by what they read.

    Args:
        body: the document, UTF-8.
        root: the tag that the root must have; None accepts any.

    Raises:
        ValueError: not XML, a declaration, or another root.
    """
    from xml.etree.ElementTree import ParseError, fromstring  # noqa: PLC0415 - see top
    from xml.parsers.expat import ErrorString  # noqa: PLC0415 - see top

    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"not UTF-8 at byte {error.start}"
        raise ValueError(msg) from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        msg = "holds a document type declaration"
        raise ValueError(msg)
    try:
        tree = fromstring(text)  # noqa: S314 - declarations are refused above
    except ParseError as error:
        # Its own text would repeat names from the document, however long.
        line, column = error.position
        msg = f"not XML: {ErrorString(error.code)} at line {line} column {column + 1}"
        raise ValueError(msg) from None
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root is not None and tree.tag != root:
        msg = f"its root is {tree.tag[:40]!r}, not {root!r}"
        raise ValueError(msg)
    return tree


def complete_multipart_upload(parts: Iterable[tuple[int, str]]) -> bytes:
    """Return the body of CompleteMultipartUpload for ``(part number, ETag)`` pairs."""
    from xml.sax.saxutils import escape  # noqa: PLC0415 - see top

    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
