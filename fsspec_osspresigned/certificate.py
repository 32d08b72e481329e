"""The TLS certificate of the signer service, which may be renewed while it runs."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from .errors import ConfigurationError

Stamp = tuple[int, ...] | None


def stamp_of(path: Path) -> Stamp:
    """Return what changes when the file *path* does; None if it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@define
class Certificate:
    """A certificate and its key, in files that something else renews.

    Attributes:
        certfile: PEM, the whole chain.
        keyfile: PEM, not encrypted; None if it stands in *certfile*.
        say: where news go.
        context: what new connections are encrypted with.
    """

    certfile: Path
    keyfile: Path | None
    say: Callable[..., None]
    context: ssl.SSLContext = field(factory=_context)
    _stamps: tuple[Stamp, Stamp] = field(default=(None, None), init=False)

    def load(self) -> None:
        """Read both files; what went before stays if there is a mistake.

        Raises:
            ConfigurationError: they cannot be read, or do not fit together.
        """
        self._stamps = self._look()
        # A pair that does not fit would spoil the context that is in use.
        for context in (_context(), self.context):
            try:
                # The word keeps OpenSSL from asking the terminal for one.
                context.load_cert_chain(self.certfile, self.keyfile, "")
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", None) or error.__class__.__name__
                if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
                    reason = error.strerror
                files = f"{self.certfile} and {self.keyfile or 'its key'}"
                msg = f"the certificate {files} cannot be used: {reason}"
                raise ConfigurationError(msg) from None

    def refresh(self, *, force: bool = False) -> None:
        """Load the files again if they changed, or by *force*, and tell how it went."""
        if not force and self._look() == self._stamps:
            return
        try:
            self.load()
        except ConfigurationError as error:
            self.say("certificate_refused", problems=list(error.problems))
        else:
            self.say("certificate_reloaded")

    def _look(self) -> tuple[Stamp, Stamp]:
        return stamp_of(self.certfile), stamp_of(self.keyfile or self.certfile)
