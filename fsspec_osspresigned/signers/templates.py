"""Templates of calls, and JSON pointers into replies.

A template such as ``/multipart/{upload.id}`` has names in braces: ``{+name}`` keeps
slashes in a path, ``{name:int}`` is a number in JSON, and a member with ``{name?}`` is
left out if the name has no value. A list in JSON is repeated for each part. A pointer
(RFC 6901) that ends in ``?`` may lead nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import ConfigurationError

_HOLE = re.compile(r"\{(\+?)([a-z_]+(?:\.[a-z_]+)?)(:int)?(\??)\}")
_ABSENT: Any = object()

Values = Mapping[str, Any]


def names_in(template: Any) -> Iterator[str]:
    """Yield the names in *template*, a text or JSON."""
    if isinstance(template, str):
        yield from (match[2] for match in _HOLE.finditer(template))
    elif isinstance(template, Mapping | list):
        nested = template.values() if isinstance(template, Mapping) else template
        for item in nested:
            yield from names_in(item)


def lists_in(template: Any, pointer: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield each list in the JSON *template*, with its pointer, a dotted name."""
    if isinstance(template, list):
        yield pointer, template
        template = dict(enumerate(template))
    if isinstance(template, Mapping):
        for name, item in template.items():
            yield from lists_in(item, f"{pointer}.{name}")


def filled(template: str, values: Values) -> str:
    return _HOLE.sub(lambda match: str(_value(match, values)), template)


def filled_url(path: str, query: Mapping[str, Any], values: Values) -> str:
    """Return path and query of a call, in which values are percent-encoded."""

    def encoded(match: re.Match[str]) -> str:
        return quote(str(_value(match, values)), safe="/" if match[1] else "")

    path = _HOLE.sub(encoded, path)
    text = urlencode(filled_json(query, values), quote_via=quote)
    return f"{path}?{text}" if text else path


def filled_json(template: Any, values: Values) -> Any:
    """Return *template* with *values* in place of its names.

    A list is repeated for each item of ``values["parts"]``, which has the part's values.
    """
    if isinstance(template, str):
        match = _HOLE.fullmatch(template)
        if match is None:
            return filled(template, values)
        value = _value(match, values)
        return int(value) if match[3] and value is not _ABSENT else value
    if isinstance(template, Mapping):
        members = ((name, filled_json(v, values)) for name, v in template.items())
        return {name: value for name, value in members if value is not _ABSENT}
    if isinstance(template, list):
        parts = values.get("parts", ())
        return [filled_json(t, {**values, **part}) for part in parts for t in template]
    return template


def _value(match: re.Match[str], values: Values) -> Any:
    value = values.get(match[2])
    if value is None and not match[4]:
        raise ConfigurationError(f"the server's replies have named no {match[2]!r}")
    return _ABSENT if value is None else value


def at(document: Any, pointer: str) -> Any:
    """Return the value to which the JSON *pointer* leads in *document*; None if nowhere."""
    for token in pointer.removesuffix("?").split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdecimal():
            document = document[int(name)] if int(name) < len(document) else None
        else:
            return None
    return document
