"""One thing that a command could not do: what, why, and what became of it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from .errors import OSSPresignedError
from .outcome import Outcome
from .secret import redact
from .units import shown_text


@frozen
class Failure:
    """A file or object that failed.

    Attributes:
        path: ``bucket/key``.
        local: the file here, or ``-``; empty where none is concerned.
        error: why not.
    """

    path: str
    local: str
    error: BaseException

    @property
    def outcome(self) -> Outcome:
        """Whether it is stored, as far as anybody can tell."""
        return getattr(self.error, "outcome", Outcome.NOT_STORED)

    def as_dict(self) -> dict[str, Any]:
        """Return plain members for JSON; they never hold a URL."""
        return {
            "path": self.path,
            "local": self.local,
            "error": type(self.error).__name__,
            "message": why(self.error),
            "outcome": str(self.outcome),
            "status": getattr(self.error, "status", None),
            "code": getattr(self.error, "code", None),
            "request_id": getattr(self.error, "request_id", None),
        }


def why(error: BaseException) -> str:
    """Return the reason alone, fit for a terminal: no path, no secret, no traceback."""
    if isinstance(error, OSSPresignedError):
        text = error.message
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = f"{type(error).__name__}: {error}"
    return "\n".join(shown_text(line) for line in redact(text).splitlines())
