"""One operation from end to end: sign, send, try again, sign again."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from fsspec_osspresigned.client.client import Client, reset, shared_client
from fsspec_osspresigned.client.retry import RetryPolicy, Timing
from fsspec_osspresigned.engine.engine import blocking, is_engine_thread, run
from fsspec_osspresigned.engine.limits import (
    RequestLimits,
    RequestPlace,
    request_limiter,
)
from fsspec_osspresigned.errors import (
    NetworkError,
    StoreUnavailableError,
)
from fsspec_osspresigned.http.transfer import LargeReplyError
from fsspec_osspresigned.model import Action, Operation, Receipt, Reply, SignedRequest
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.base import ChainSigner, Signer

PUT = Operation(action=Action.PutObject, bucket="b", key="k")


GET = Operation(action=Action.GetObject, bucket="b", key="k")
EXPIRED = Reply(status=403, headers={"x-oss-ec": "0002-00000069"})
BUSY = Reply(status=503)
OK = Reply(status=200)


class Signing(Signer):
    """Signs everything, or raises what it was given, and counts."""

    def __init__(self, *answers, expires_at=None) -> None:
        self.answers, self.asked, self.expires_at = list(answers), [], expires_at

    def sign(self, operations):
        self.asked += operations
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        url = f"https://b.example/k?Signature={len(self.asked)}"
        return [
            SignedRequest(
                method=one.action.method,
                url=url,
                headers=one.headers,
                issued_at=0.0,
                expires_at=self.expires_at,
            )
            for one in operations
        ]


class Transport:
    """Answers what it was given, and notes what was sent."""

    def __init__(self, *answers) -> None:
        self.answers, self.sent = list(answers), []

    async def send(self, signed, body, exchange, path):
        self.sent.append((signed.url.reveal(), body, exchange, path))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def make(*answers, signer=None, retries=5, now=time.time, **more) -> Client:
    """Return a client that never waits."""
    policy = more.pop("policy", None) or RetryPolicy(retries=retries, base=0.0)
    timing = Timing(now=now, draw=lambda: 0.5)
    facts = {"policy": policy, "timing": timing, **more}
    return Client(Options(), signer or Signing(), Transport(*answers), **facts)


def test_large_reply_takes_the_place_of_a_large_request():
    """It is asked for again in a thread, costs no try, and does not count as small."""
    client, places = make(LargeReplyError(), OK), []

    class Watching(Transport):
        async def send(self, *args):
            limiter = request_limiter()
            room = RequestLimits(small=lambda: 1, large=lambda: 1, threads=1, total=100)
            places.append(
                [
                    limiter.enter_nowait(RequestPlace(client, room, is_small))
                    for is_small in (True, False)
                ]
            )
            for entered, is_small in zip(places[-1], (True, False), strict=True):
                if entered:
                    limiter.leave(RequestPlace(client, room, is_small))
            return await super().send(*args)

    client.transport = Watching(LargeReplyError(), OK)
    reply = run(client.call, GET)
    assert reply.retries == 0
    assert [exchange.in_thread for *_, exchange, _ in client.transport.sent] == [
        False,
        True,
    ]
    assert places == [[False, True], [True, False]]
    assert len(client.signer.asked) == 1


def test_stale_signature_is_renewed():
    """A URL about to end is not sent."""
    now = iter([100.0, 100.0, 3590.0])
    client = make(BUSY, OK, signer=Signing(expires_at=3600.0), now=lambda: next(now))
    assert run(client.call, PUT).resigns == 0
    assert len({url for url, *_ in client.transport.sent}) == 1
    later = make(BUSY, OK, signer=Signing(expires_at=3600.0), now=lambda: 3590.0)
    run(later.call, PUT)
    assert len({url for url, *_ in later.transport.sent}) == 2


def test_a_signer_learns_what_had_expired():
    """A signer is notified when the store refuses its signature as expired."""
    told = []

    class Holder(Signing):
        def invalidate(self, refused):
            told.append(refused.url.reveal())

    client = make(EXPIRED, OK, signer=ChainSigner(Signing(), Holder()))
    run(client.call, PUT)
    assert told == [client.transport.sent[0][0]]


class Watched(Signing):
    """A signer that notes which of its methods were called on the engine's loop."""

    def __init__(self, **members) -> None:
        super().__init__()
        vars(self).update(members)
        self.on_loop = {}

    def note(self, name):
        self.on_loop[name] = is_engine_thread()

    def sign(self, operations):
        self.note("sign")
        return super().sign(operations)

    def grant(self, path):
        self.note("grant")
        return super().grant(path)

    def preflight(self, operation):
        self.note("preflight")

    def invalidate(self, refused):
        self.note("invalidate")


@pytest.mark.parametrize(
    ("members", "on_loop"),
    [
        ({}, set()),
        ({"remote": True}, set()),
        ({"waits": False}, {"sign", "grant", "preflight", "invalidate"}),
    ],
)
def test_a_signer_of_the_user_is_called_in_a_worker_thread(members, on_loop):
    """It may wait, or use a filesystem; only one that says otherwise runs on the loop."""
    client = make(EXPIRED, OK, signer=Watched(**members))

    async def main():
        await client.grant("b/k")
        await client.preflight(PUT)
        await client.call(PUT)

    run(main)
    called = client.signer.on_loop
    assert called.keys() == {"sign", "grant", "preflight", "invalidate"}
    assert {name for name in called if called[name]} == on_loop


@pytest.mark.parametrize("what", ["grant", "signed"])
def test_who_is_cancelled_does_not_wait_for_a_silent_signer(what):
    """Ctrl-C ends an upload although the service of its signer does not answer."""
    entered, opened = threading.Event(), threading.Event()

    class Silent(Signing):
        def grant(self, path):
            entered.set()
            assert opened.wait(10)

        def sign(self, operations):
            return self.grant("")

    client = make(signer=Silent())

    async def main():
        ask = client.grant("b/k") if what == "grant" else client.signed(PUT)
        task = asyncio.ensure_future(ask)
        await blocking(entered.wait, 10)
        task.cancel()
        await asyncio.wait((task,), timeout=5)
        return task.cancelled()

    try:
        assert run(main)
    finally:
        opened.set()


@pytest.mark.parametrize(
    ("failure", "kept"), [(NetworkError("cut"), None), (BUSY, b"old")]
)
def test_what_may_have_been_replaced_is_not_answered(failure, kept):
    """A body of before is forgotten if a later one may be stored, and kept if not."""
    client = make(failure, retries=0)
    run(client.note, Receipt(path="b/k", size=3), b"old")
    with pytest.raises((NetworkError, StoreUnavailableError)):
        run(client.call, PUT)
    assert client.written.body("b/k") == kept


def test_shared_client_whose_maker_needs_it():
    """A signer of the user may use a filesystem with the same options, in any thread."""
    reset()
    inner, options = [], Options(presigned_url="https://shared.example/k")

    def build(_):
        thread = threading.Thread(
            target=lambda: inner.append(shared_client(options, lambda _: make()))
        )
        thread.start()
        thread.join()
        return make()

    assert shared_client(options, build) is inner[0]
    reset()
