"""Lane signing: gets signatures for the express lane, whose thread must not wait.

A signer that works in this process signs when a request is sent. Other signers are
called by worker threads: a remote signer for many requests in one call, a function of
the user for one request in each call. A grant is fetched by one worker thread; the
lane's thread signs by the grant.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from attrs import define

from ..concurrency.job_runner import Task
from ..concurrency.thread_pool import Workers
from ..errors import SignerUnavailableError
from ..model import SignedRequest
from ..signers.base import MAX_REQUESTS, without_waiting
from .client import Client
from .small_request import SmallRequest

if TYPE_CHECKING:
    from ..signers.batching import Prefetcher


@define(eq=False)
class Unsent:
    """A task with a request to send; *signed* is the signed request, or an error."""

    task: Task
    request: SmallRequest
    signed: SignedRequest | BaseException | None = None

    def result(self) -> SignedRequest | None:
        """Return the signed request; None if it is not signed yet.

        Raises the error of the signer if signing failed.
        """
        if isinstance(self.signed, BaseException):
            raise self.signed
        return self.signed


class LaneSigning:
    """Gets the signatures for the requests of one run of an express lane.

    Worker threads call *wake* when ``take_back`` has results. All methods must be
    called in the lane's thread.

    Attributes:
        held: number of requests that wait for a signature.
    """

    def __init__(self, client: Client, pool: Workers, wake: Callable[[], None]) -> None:
        self._client, self._pool, self._wake = client, pool, wake
        self._here = without_waiting(client.signer)
        self._tries_here = self._here is not client.signer
        is_here = getattr(client.signer, "remote", None) is False
        self._signs_here = is_here and not self._tries_here
        # Of what is not announced; None if calls are not to be saved.
        self._batches = client.prefetcher(lambda: None, first=MAX_REQUESTS)
        self._announced: Prefetcher | None = None
        self._unsigned: list[Unsent] = []
        self._ended: deque[list[Unsent]] = deque()  # of workers, what they signed
        self._calls = 0
        self.held = 0

    @property
    def is_calling(self) -> bool:
        """True while a worker thread calls the signer."""
        return self._calls > len(self._ended)

    def keep(self, one: Unsent) -> bool:
        """Keep *one* until it is signed; return False if it can be sent now."""
        if self._signs_here:
            return False
        signed, announced = one.signed, one.request.ahead
        if isinstance(signed, SignedRequest) and self._client.is_stale(signed):
            signed = one.signed = None
        if signed is None and announced is not None:
            self._announced = announced
            try:
                signed = one.signed = announced.signed_already(one.request.operation)
            except Exception as error:  # noqa: BLE001 - raised by the call in a worker
                signed = one.signed = error.with_traceback(None)
        if signed is None and self._tries_here:
            signed = one.signed = self._signed_here(one)
        if signed is not None:
            return False
        self._unsigned.append(one)
        self.held += 1
        return True

    def take_back(self) -> list[Unsent]:
        """Return the kept requests that may be signed by now, in their order."""
        found: list[Unsent] = []
        if self._ended:
            while self._ended:
                self._calls -= 1
                found += self._ended.popleft()
            found += self._unsigned  # the signatures may be there by now
            self._unsigned = []
            self.held -= len(found)
        return found

    def ask(self) -> None:
        """Let worker threads sign the kept requests, or sign coming requests ahead."""
        if self._batches is None:
            asked = self._unsigned
            if self._tries_here:  # the first call fetches the grant of all
                asked = [] if self.is_calling else asked[:1]
            for one in asked:
                self._submit(partial(self._sign, one), [one])
            self._unsigned = self._unsigned[len(asked) :]
        elif self.is_calling:
            return
        elif self._unsigned:
            together: defaultdict[Prefetcher, list[Unsent]] = defaultdict(list)
            for one in self._unsigned:
                together[one.request.ahead or self._batches].append(one)
            self._unsigned = []
            for ahead, some in together.items():
                self._submit(partial(_sign_together, ahead, some), some)
        elif self._announced is not None and self._announced.wants_more():
            self._submit(self._announced.request_more, [])

    def abandon(self) -> None:
        """Cancel all kept tasks; call this only when no worker thread is signing."""
        for one in (*self._unsigned, *self.take_back()):
            one.task.abandon()

    def _submit(self, sign: Callable[[], None], some: list[Unsent]) -> None:
        self._calls += 1
        self._pool.submit(self._run, sign, some)

    def _run(self, sign: Callable[[], None], some: list[Unsent]) -> None:
        """Call *sign* in a worker; if it fails, each request of *some* gets the error."""
        try:
            sign()
        except BaseException as error:  # noqa: BLE001 - raised by each call in a worker
            for one in some:
                one.signed = error.with_traceback(None)
        finally:
            self._ended.append(some)
            self._wake()

    def _signed_here(self, one: Unsent) -> SignedRequest | BaseException | None:
        """Return the signed request or the error; None if the signer would wait."""
        try:
            return self._client.signed(one.request.operation, self._here)
        except SignerUnavailableError:
            return None
        except Exception as error:  # noqa: BLE001 - raised by the call in a worker
            return error.with_traceback(None)

    def _sign(self, one: Unsent) -> None:
        one.signed = self._client.signed(one.request.operation, None)


def _sign_together(ahead: Prefetcher, some: list[Unsent]) -> None:
    found = ahead.sign_each([one.request.operation for one in some])
    for one, signed in zip(some, found, strict=True):
        one.signed = signed
