"""Secrets: a type that hides its text in output, and redaction of texts from other programs."""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_left
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import urlsplit

from .errors import ConfigurationError
from .units import KIB

HIDDEN = "<hidden>"  # replaces each secret
# The patterns are compiled on first use, because most processes have nothing to hide. A
# sensitive name can occur in a query, a header, JSON (also in a JSON string), or an XML
# tag, and all of them can be percent-encoded or escaped for JSON, also repeatedly. A
# name may follow such an escape, as in "%26Signature" or "\u0026Signature".
_BEGIN = r"(?: (?<![a-z0-9]) | (?<=[0-9][0-9a-f]) | (?<=\\[nrt]) | (?<=5c[nrt]) )"
_ESCAPE = r"(?: %(?:25)* | \\+u00 )"  # followed by two hexadecimal digits
_SENSITIVE = rf"""(?ix)
    {_BEGIN}
    ( (?:x-(?:oss|amz)-)?
      (?:signature(?:provided)?|(?:security|session)-?token|credential)
    | ossaccesskeyid | awsaccesskeyid | access[-_]?key[-_]?(?:id|secret)
    | secret[-_]?access[-_]?key | sig
    )
    ( (?:(?:\\|u005c|%(?:25)*5c)*(?:["']|(?:u00|%(?:25)*)2[027]))?
      \s*(?:[=:]|{_ESCAPE}3[ad])\s*(?:\\*["'])?
    | > | {_ESCAPE}3e )
    (?: [^\s&"'<>;,)\\] | \\(?![nrt]) )+ """
_BEARER = rf"""(?ix)
    {_BEGIN} ((?:bearer|basic)(?:\s|\+|{_ESCAPE}20)+)
    (?!tokens?\b)[a-z0-9._~+/=%\\-]+ """
# An escaped character in JSON, or in JSON in JSON; an escaped byte in a URL, or in a
# URL in a URL.
_ESCAPED_BYTE = rb"(?s)\\{1,4}(?:u00([0-9a-fA-F]{2})|(.))|%(?:25){0,2}([0-9a-fA-F]{2})"


# fsspec's cache compares options by their ``repr``, so different secrets need different
# texts. The text is a keyed digest, so guesses of a secret cannot be tested against it.
_DIGEST_KEY = os.urandom(16)


def _digest(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8, key=_DIGEST_KEY).hexdigest()


class Secret:
    """A string that hides itself in ``repr``, ``str`` and formatting.

    The output shows digits that distinguish two secrets within this process. Comparison
    and hashing use the hidden text. Pickling raises TypeError, because a pickle would
    contain the secret in the clear.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the hidden text; no other method returns it."""
        return self._text

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: hidden, {_digest(self._text)}>"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled: hand over a reference "
            "(env:NAME, file:PATH) and read it where it is used"
        )


class FormValue(Secret):
    """Value of a form field that is hidden in output, although it is no secret."""

    __slots__ = ()


class SecretURL(Secret):
    """A presigned URL; its ``repr`` shows scheme, host and path, never the query."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<SecretURL {self.shown()}, {_digest(self._text)}>"

    def shown(self) -> str:
        """Return the URL for messages, without user name, password, query and fragment."""
        with suppress(ValueError):
            parts = urlsplit(self._text)
            host = parts.netloc.rpartition("@")[2]
            if parts.scheme and host:
                hidden = "?..." if parts.query else ""
                return f"{parts.scheme}://{host}{parts.path}{hidden}"
        return "(not a URL)"


class HiddenMapping(dict[Any, Any]):
    """A dictionary of signatures (a URL map or a grant) whose ``repr`` hides them."""

    def __repr__(self) -> str:
        return f"<hidden: {len(self)} entries, {_digest(super().__repr__())}>"


class HiddenList(list[Any]):
    """A list of signatures (a URL map) whose ``repr`` hides them."""

    def __repr__(self) -> str:
        return f"<hidden: {len(self)} entries, {_digest(super().__repr__())}>"


def without(data: bytes, text: str) -> bytes:
    """Return *data* with the secret *text* hidden, even if some of its characters are escaped.

    Characters may be escaped for JSON, for URLs, and for JSON in JSON. Time and memory
    are proportional to *data*.
    """
    if not text:
        return data
    secret, plain = text.encode(), re.sub(_ESCAPED_BYTE, _unescaped, data)
    if (at := plain.find(secret)) >= 0:
        data = _cut(data, plain, at, secret)
    # The password itself may contain text that looks like an escape.
    return data.replace(secret, HIDDEN.encode())


def _cut(data: bytes, plain: bytes, at: int, secret: bytes) -> bytes:
    """Return *data* without *secret*, whose first position in *plain* is *at*."""
    # Positions of escapes in *plain*, and how many extra bytes *data* has before each.
    starts, excess = [], [0]
    for escape in re.finditer(_ESCAPED_BYTE, data):
        starts.append(escape.start() - excess[-1])
        excess.append(excess[-1] + len(escape[0]) - 1)
    pieces, end = [], 0
    while at >= 0:
        pieces += [data[end : at + excess[bisect_left(starts, at)]], HIDDEN.encode()]
        at += len(secret)
        end = at + excess[bisect_left(starts, at)]
        at = plain.find(secret, at)
    return b"".join([*pieces, data[end:]])


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code = escape[1] or escape[3]
    return bytes.fromhex(code.decode()) if code else escape[2]


def redact(text: str) -> str:
    """Return *text* without the values of signatures, tokens and key IDs.

    Text from other programs (server messages, transport errors) passes through this
    function before it becomes part of a message.
    """
    text = re.sub(_SENSITIVE, lambda m: f"{m[1]}{m[2]}{HIDDEN}", text)
    return re.sub(_BEARER, lambda m: f"{m[1]}{HIDDEN}", text)


# Untrusted options may choose a reference, which must not send OSS keys as a token.
_TOKEN_REFERENCE = r"env:(?:FSSPEC_)?OSSPRESIGNED_[A-Za-z0-9_]+|file:.+"  # noqa: S105 - a pattern


def token_reference(value: Any) -> Any:
    """Return *value* if it is a callable or a reference to a token; else raise ValueError.

    References are ``env:OSSPRESIGNED_...``, ``env:FSSPEC_OSSPRESIGNED_...`` and
    ``file:PATH``.
    """
    text = value if isinstance(value, str) else ""
    if callable(value) or re.fullmatch(_TOKEN_REFERENCE, text):
        return value
    if text.startswith("env:"):
        raise ValueError(
            "env:OSSPRESIGNED_...: no other variable is read, since options could "
            "send it elsewhere; copy the token into one of that name"
        )
    if text and os.path.isfile(text):
        raise ValueError(f"a reference: for the token in that file, file:{text}")
    raise ValueError("a reference: env:OSSPRESIGNED_... or file:PATH")


def resolve_text(reference: str) -> Secret:
    """Return the text to which ``env:NAME`` or ``file:PATH`` refers, as a Secret.

    Any other text is the secret itself. Blanks around the text are removed. Raises
    ConfigurationError if the variable or file cannot be read, or is empty.
    """
    kind, _, name = reference.partition(":")
    text, missing = reference, ""
    if kind == "env":
        text = os.environ.get(name, "")
        missing = f"the environment variable {name} is not set"
    elif kind == "file":
        missing = f"{name} is empty"
        try:
            with open(os.path.expanduser(name), encoding="utf-8-sig") as handle:
                text = handle.read(64 * KIB)
        except UnicodeDecodeError:
            raise ConfigurationError(f"{name} is not UTF-8") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"cannot read {name}: {reason}") from None
    if missing and not text.strip():
        raise ConfigurationError(missing)
    return Secret(text.strip())
