"""Directions of a sync: what differs between uploads and downloads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from ..client.client import Client
from ..concurrency.cancellation import Cancellation
from .compare import ContentComparison
from .plan import Aside, Entry, Plan, Stored
from .send import Listener


class Direction(Protocol):
    """Source and destination of a sync, and the transfer between them."""

    @property
    def client(self) -> Client:
        """Client of the store."""

    @property
    def root(self) -> str:
        """Bucket and prefix of the objects, with a slash at the end."""

    @property
    def verb(self) -> str:
        """Participle for a transferred file: ``sent`` or ``fetched``."""

    @property
    def extras(self) -> str:
        """Noun for deleted items: ``objects`` or ``files``."""

    @property
    def fail_fast(self) -> bool:
        """Whether the first failure ends the run."""

    @property
    def clock(self) -> int:
        """1 if the source has this machine's clock, and the destination the store's.

        -1 is the reverse, 0 means that the source's clock is unknown.
        """

    def entries(self) -> Iterator[Entry | Aside]:
        """Yield the entries of the source."""

    def listed(self) -> dict[str, Stored] | None:
        """Return name -> content of the destination; None if it cannot be listed."""

    def comparison(self) -> ContentComparison:
        """Return the comparison of contents."""

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if the destination cannot hold all of *plan*."""

    def check_signed(self, name: str) -> None:
        """Raise NotSignedError if the signer refuses and needs no request to know."""

    def check_delete(self, name: str) -> None:
        """Raise NotSignedError if deleting *name* is not granted."""

    def transfer(self, entries: Iterable[Entry], listener: Listener) -> None:
        """Transfer *entries*, several at once; return after all have ended."""

    def delete(self, name: str, cancel: Cancellation) -> None:
        """Delete *name* at the destination."""
