"""Small requests: calls whose first try may be made by an express lane."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from attrs import define, frozen

from ..http.body import Body
from ..http.transport import Exchange
from ..model import Operation, Reply, SignedRequest
from .retry import Attempts

if TYPE_CHECKING:
    from ..signers.batching import Prefetcher

R = TypeVar("R")


@frozen(eq=False)
class SmallRequest:
    """Arguments of ``Client.call``; *ahead* is the signer of the first try."""

    operation: Operation
    body: Body
    exchange: Exchange
    ahead: Prefetcher | None


@define(eq=False)
class FirstTry:
    """First try of a call, made by an express lane: the 2xx reply, or the failure."""

    operation: Operation
    attempts: Attempts
    signed: SignedRequest | None = None
    reply: Reply | None = None
    failure: BaseException | None = None

    def result(self) -> Reply:
        """Return the reply of the first try, or raise its failure."""
        if self.failure is not None or self.reply is None:
            raise self.failure or ValueError("no try was made")
        return self.reply


# Work that stands still where it would wait for the store. It yields a small request, and
# gets its first try, or None if none was made; it yields None before it waits otherwise.
Steps: TypeAlias = Generator["SmallRequest | None", "FirstTry | None", R]
