"""Signs with one presigned URL: the commonest thing that an owner hands out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from attrs import frozen

from ..errors import ConfigurationError, NotSignedError
from ..model import Operation, SignedRequest
from ..secret import Secret, SecretURL
from ..sendable import object_of, url_problem
from ..signed_url import describe
from ..url_map import MapEntry, MapRequest
from .base import Grant
from .url_map import grant_of, request_of


class OneURLSigner:
    """Hands out one presigned URL for the one object that it is for.

    The path may be empty, or must be that object's own, so that two different files
    never land in one object.

    Args:
        read: returns the URL; asked for each call, so that it can be renewed.
        allow_http: plain http may leave this machine.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: what *read* returns is no presigned URL of a whole object.
    """

    remote = False

    def __init__(
        self,
        read: Callable[[], Secret],
        *,
        allow_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the URL once, so that a bad one is found before the first byte."""
        self._read = read
        self._allow_http = allow_http
        self._clock = clock
        self._known = _Target.of(read())

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return the URL for a PutObject of its object.

        Raises:
            NotSignedError: another object or action, or the URL has expired.
            ConfigurationError: the URL is plain http and must not be, or became bad.
        """
        return [
            request_of(
                self._entry(operation.path),
                operation,
                now=self._clock(),
                allow_http=self._allow_http,
                local=True,
            )
            for operation in operations
        ]

    def grant(self, path: str) -> Grant:
        """Return that one PutObject is granted for the URL's own object.

        Raises:
            NotSignedError: *path* is another object.
        """
        return grant_of(self._entry(path), path)

    def preflight(self, operation: Operation) -> None:
        """Raise what ``sign`` would raise; the body's length need not be known."""
        self.sign([operation])

    @property
    def path(self) -> str:
        """``bucket/key`` of the URL's object; the key alone if no bucket is seen."""
        return self._target().path

    def _target(self) -> _Target:
        text = self._read()
        if text != self._known.text:
            self._known = _Target.of(text)
        return self._known

    def _entry(self, path: str) -> MapEntry:
        target = self._target()
        own = target.path
        if path in ("", own):
            return target.entry
        if target.bucket is None and path.partition("/")[2] == target.key:
            return target.entry
        msg = (
            f"the presigned URL is for {own!r}, not for {path!r}: leave the path empty, "
            "or ask for a URL of that object"
        )
        raise NotSignedError(msg, path=path, nearest=(own,))


@frozen
class _Target:
    """A URL as it was read, and the object that it is for (no bucket: not seen)."""

    text: Secret
    entry: MapEntry
    bucket: str | None
    key: str

    @property
    def path(self) -> str:
        return self.key if self.bucket is None else f"{self.bucket}/{self.key}"

    @classmethod
    def of(cls, text: Secret) -> _Target:
        url = SecretURL(text.reveal())
        if problem := url_problem(url.reveal()):
            msg = f"the text of url= {problem}: give the presigned URL as it was made"
            raise ConfigurationError(msg)
        shown = url.shown()
        try:
            bucket, key = object_of(url.reveal())
        except ValueError:
            msg = f"the path of {shown} is not UTF-8"
            raise ConfigurationError(msg) from None
        if not key:
            msg = f"{shown} names no object: ask for a URL of PutObject"
            raise ConfigurationError(msg)
        if describe(url).upload_id is not None:
            msg = f"{shown} is for one step of a multipart upload: use url_map="
            raise ConfigurationError(msg)
        return cls(text, MapEntry(put=MapRequest(url=url)), bucket, key)
