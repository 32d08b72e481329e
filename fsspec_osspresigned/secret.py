"""Secrets as a type: what must never be printed cannot be printed by accident."""

import re
from typing import NoReturn
from urllib.parse import urlsplit

# Compiled by their first use: most processes never have anything to blank out.
_SENSITIVE = r"""(?ix)
    \b( (?:x-(?:oss|amz)-)?(?:signature|security-token|credential)
      | ossaccesskeyid | awsaccesskeyid | accesskeyid | sig
    )
    (\s*[=:]\s*|%3D)
    [^\s&"'<>;,)]+ """
_BEARER = r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]+"


class Secret:
    """A string that hides itself in ``repr``, ``str``, formatting and pickles.

    Comparison and hashing use the hidden text, so equal secrets are equal.

    Raises:
        TypeError: on pickling, because a pickle would spell the secret out.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Hide *text*."""
        self._text = text

    def reveal(self) -> str:
        """Return the hidden text: the only way to it, so that it can be searched for."""
        return self._text

    def __repr__(self) -> str:
        """Name the type, nothing else."""
        return f"<{type(self).__name__}: hidden>"

    def __str__(self) -> str:
        """Return the same as ``repr``."""
        return repr(self)

    def __format__(self, spec: str) -> str:
        """Return ``repr`` whatever the format is."""
        return repr(self)

    def __eq__(self, other: object) -> bool:
        """Compare the hidden texts."""
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        """Hash the hidden text."""
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        msg = (
            f"a {type(self).__name__} cannot be pickled: hand over a reference "
            "(env:NAME, file:PATH) and read it where it is used"
        )
        raise TypeError(msg)


class SecretURL(Secret):
    """A presigned URL: shows scheme, host and path, never the query (RFC 3986)."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show everything in front of the query."""
        return f"<SecretURL {self.shown()}>"

    def shown(self) -> str:
        """Return the URL without user information, query and fragment, for messages."""
        try:
            parts = urlsplit(self._text)
            host = parts.netloc.rpartition("@")[2]
        except ValueError:
            return "(not a URL)"
        if not parts.scheme or not host:
            return "(not a URL)"
        hidden = "?..." if parts.query else ""
        return f"{parts.scheme}://{host}{parts.path}{hidden}"


def redact(text: str) -> str:
    """Return *text* with the values of signatures, tokens and key ids blanked out.

    Used on what others wrote (server messages, transport errors) before it enters one
    of our own messages.
    """
    text = re.sub(_SENSITIVE, lambda m: f"{m[1]}{m[2]}<hidden>", text)
    return re.sub(_BEARER, lambda m: f"{m[1]} <hidden>", text)
