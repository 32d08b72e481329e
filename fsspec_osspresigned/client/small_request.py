"""Small requests: calls whose first try may be made by an express lane."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from attrs import define, frozen

from ..http.body import Body
from ..http.exchange import Exchange
from ..model import Operation, Reply, SignedRequest
from .retry import Attempts

if TYPE_CHECKING:
    from ..signers.batching import Prefetcher

R = TypeVar("R")


@frozen(eq=False)
class SmallRequest:
    """Arguments of ``Client.call``; *ahead* is the signer of the first try.

    *parse* must not wait, because an express lane calls it.
    """

    operation: Operation
    body: Body
    exchange: Exchange
    parse: Callable[[Reply], Any]
    ahead: Prefetcher | None = None


@define(eq=False)
class FirstTry:
    """First try of a call, made by an express lane.

    *parsed* is what ``SmallRequest.parse`` returned for the 2xx reply, unless the try
    has a failure.
    """

    operation: Operation
    attempts: Attempts
    signed: SignedRequest | None = None
    parsed: Any = None
    failure: BaseException | None = None


# Work that stands still where it would wait for the store. It yields a small request, and
# gets its first try, or None if none was made; it yields None before it waits otherwise.
Steps: TypeAlias = Generator["SmallRequest | None", "FirstTry | None", R]
