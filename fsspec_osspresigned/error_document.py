"""What a store says about an error: read without trust, cleaned of what it echoes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from . import xmldoc
from .secret import redact

_MAX_MESSAGE = 300
# Any query: whole URLs are echoed by gateways, and a signed one is a permission.
_QUERY = re.compile(r"\?[^\s\"'<>]*=[^\s\"'<>]*")
# Elements and members of echoed documents, by their names in OSS's and S3's errors.
_ECHO = re.compile(
    r"""(?ix)
    \b( (?:security|session)[-_]?token | token | signature(?:provided)?
      | string-?to-?sign(?:bytes)? | canonicalrequest | credential
      | (?:oss|aws)?accesskeyid | (?:access-?key-?)?secret
    )
    ( ["']? \s* [=:>] \s* ["']? )
    [^\s"'<>&,;)]+ """
)
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_is_mark = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch


def members(body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the members of an ``<Error>`` document; empty if there is none.

    Args:
        body: of the reply; that of a HEAD stands in the header ``x-oss-err``, base64.
        headers: of the reply, names in lower case.
    """
    if not body and "x-oss-err" in headers:
        try:
            body = base64.b64decode(headers["x-oss-err"], validate=True)
        except (binascii.Error, ValueError):
            return {}
    try:
        root = xmldoc.parse(body, "Error")
    except ValueError:
        return {}
    return {child.tag: (child.text or "").strip() for child in root}


def clean(text: str) -> str:
    """Return what a store wrote for people: one line, no secret, not endless."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = redact(_QUERY.sub("?<hidden>", " ".join(text.split())))
    return _ECHO.sub(lambda m: f"{m[1]}{m[2]}<hidden>", text)[:_MAX_MESSAGE].strip()


def name(text: str) -> str:
    """Return *text* if it can be an error code or number, else nothing."""
    return text if _is_name(text) else ""


def mark(text: str) -> str:
    """Return *text* if it can be a request id, else nothing."""
    return text if _is_mark(text) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of ``Retry-After``, up to eleven days; None without them."""
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() and len(value) < 7 else None  # noqa: PLR2004 - digits
