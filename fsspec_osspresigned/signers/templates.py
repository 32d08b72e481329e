"""Templates of calls, and JSON pointers into replies.

A template such as ``/multipart/{upload.id}`` has names in braces: ``{+name}`` keeps
slashes in a path, ``{name:int}`` is a number in JSON. A field with ``{name?}`` is left
out if the name has no value. Two pieces are repeated for each part: an element of a
list that contains ``{number}``, ``{etag}`` or ``{bare_etag}``, and a field of an object
whose own name contains one of them. Everything else in JSON is sent as written. If a
pointer (RFC 6901) ends in ``?``, its value may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import ConfigurationError

# Names with a separate value for each part.
OF_PART = frozenset(("number", "etag", "bare_etag"))
# Names whose values are known only at the end of a stream.
OF_OBJECT = frozenset(("size", "part_size", "part_count", "sha256", "md5"))
PARTS = "parts"  # value with these names for each part of a call
_NAME = r"[a-z_][a-z0-9_]*"
_HOLE = re.compile(rf"\{{(\+?)({_NAME}(?:\.{_NAME})?)(:int)?(\??)\}}")
_ABSENT: Any = object()

Values = Mapping[str, Any]


def names_in(template: Any, *, repeated: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield each name in *template*, a text or JSON, and whether it is repeated.

    *repeated* means that *template* is within a piece that is repeated for each part.
    """
    if isinstance(template, str):
        yield from ((match[2], repeated) for match in _HOLE.finditer(template))
    elif isinstance(template, Mapping):
        for name, item in template.items():
            is_repeated = repeated or not _is_alike(name)
            yield from names_in(name, repeated=is_repeated)
            yield from names_in(item, repeated=is_repeated)
    elif isinstance(template, list):
        for item in template:
            yield from names_in(item, repeated=repeated or not _is_alike(item))


def _is_alike(item: Any) -> bool:
    return OF_PART.isdisjoint(name for name, _ in names_in(item, repeated=True))


def filled(template: str, values: Values, *, in_url: bool = False) -> str:
    """Return *template* filled with *values*, which are percent-encoded in a URL."""

    def text(match: re.Match[str]) -> str:
        value = _value(match, values)
        text = "" if value is _ABSENT else str(value)
        return quote(text, safe="/" if match[1] else "") if in_url else text

    return _HOLE.sub(text, template)


def filled_url(path: str, query: Mapping[str, Any], values: Values) -> str:
    """Return path and query of a call, in which values are percent-encoded."""
    path = filled(path, values, in_url=True)
    text = urlencode(filled_json(query, values), quote_via=quote)
    return f"{path}?{text}" if text else path


def filled_json(template: Any, values: Values) -> Any:
    """Return *template* filled with *values*.

    ``values["parts"]`` has the values of each part, for repeated pieces.
    """
    if isinstance(template, str):
        match = _HOLE.fullmatch(template)
        if match is None:
            return filled(template, values)
        value = _value(match, values)
        return int(value) if match[3] and value is not _ABSENT else value
    if isinstance(template, Mapping):
        members = (
            (filled(name, row), filled_json(item, row))
            for name, item in template.items()
            for row in _rows(name, values)
        )
        return {name: value for name, value in members if value is not _ABSENT}
    if isinstance(template, list):
        return [filled_json(t, row) for t in template for row in _rows(t, values)]
    return template


def _rows(template: Any, values: Values) -> Iterator[Values]:
    if PARTS not in values or _is_alike(template):
        yield values
        return
    others = {name: value for name, value in values.items() if name != PARTS}
    yield from ({**others, **part} for part in values[PARTS])


def _value(match: re.Match[str], values: Values) -> Any:
    value = values.get(match[2])
    if value is None and not match[4]:
        text = f"{{{match[2]}}} has no value in this upload"
        if match[2] in OF_OBJECT:
            text = f"the server needs the {match[2]} before the upload begins, and a stream has none: upload a file"
        raise ConfigurationError(text)
    return _ABSENT if value is None else value


def at(document: Any, pointer: str) -> Any:
    """Return the value at the JSON *pointer* in *document*; None if there is none."""
    for token in pointer.removesuffix("?").split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdecimal():
            document = document[int(name)] if int(name) < len(document) else None
        else:
            return None
    return document
