"""One operation from end to end: sign, send, try again, sign again."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

from fsspec_osspresigned.client.client import (
    Client,
    reset,
    shared_client,
)
from fsspec_osspresigned.client.retry import RetryPolicy, Timing
from fsspec_osspresigned.errors import (
    IntegrityError,
    NetworkError,
    NotSignedError,
    ObjectNotFoundError,
    SignerError,
    SignerUnavailableError,
    StoreUnavailableError,
    URLExpiredError,
)
from fsspec_osspresigned.http.body import EMPTY, MemoryBody
from fsspec_osspresigned.http.transport import Exchange
from fsspec_osspresigned.model import Action, Operation, Receipt, Reply, SignedRequest
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.chain import ChainSigner

PUT = Operation(action=Action.PutObject, bucket="b", key="k")
EXPIRED = Reply(status=403, headers={"x-oss-ec": "0002-00000069"})
BUSY = Reply(status=503)
OK = Reply(status=200)


class Signer:
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

    def send(self, signed, body, exchange):
        self.sent.append((signed.url.reveal(), body, exchange))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def make(*answers, signer=None, retries=5, now=time.time, **more) -> Client:
    """Return a client that never waits."""
    policy = RetryPolicy(retries=retries, base=0.0)
    timing = Timing(now=now, draw=lambda: 0.5)
    facts = {"policy": policy, "timing": timing, **more}
    return Client(Options(), signer or Signer(), Transport(*answers), **facts)


def test_one_try():
    """Everything that was asked for reaches the transport."""
    client, body = make(OK), MemoryBody.of(b"abc")
    exchange = Exchange(free_headers={"Range": "x"}, with_crc=True)
    reply = client.call(PUT, body, exchange)
    assert (reply.status, reply.retries, reply.resigns) == (200, 0, 0)
    ((_, sent, exchange),) = client.transport.sent
    assert sent is body
    assert exchange.path == "b/k"
    assert (exchange.free_headers, exchange.with_crc) == ({"Range": "x"}, True)
    assert exchange.cancel is None


@pytest.mark.parametrize(
    "failure", [BUSY, NetworkError("lost"), SignerUnavailableError("busy")]
)
def test_another_try(failure, caplog):
    """Trouble of the moment costs a try, and a line in the log without a secret."""
    at_signer = isinstance(failure, SignerUnavailableError)
    signer = Signer(*[failure] if at_signer else [])
    client = make(*[OK] if at_signer else [failure, OK], signer=signer)
    with caplog.at_level(logging.INFO):
        reply = client.call(PUT)
    assert (reply.retries, reply.resigns) == (1, 0)
    assert "PutObject of b/k" in caplog.text
    assert "Signature=" not in caplog.text


def test_signature_is_used_again():
    """A try that follows sends the same URL."""
    client = make(BUSY, BUSY, OK)
    assert client.call(PUT).retries == 2
    assert len({url for url, *_ in client.transport.sent}) == 1
    assert len(client.signer.asked) == 1


def test_stale_signature_is_renewed():
    """A URL about to end is not sent."""
    now = iter([100.0, 3590.0])
    client = make(BUSY, OK, signer=Signer(expires_at=3600.0), now=lambda: next(now))
    assert client.call(PUT).resigns == 0
    assert len({url for url, *_ in client.transport.sent}) == 1
    later = make(BUSY, OK, signer=Signer(expires_at=3600.0), now=lambda: 3590.0)
    later.call(PUT)
    assert len({url for url, *_ in later.transport.sent}) == 2


def test_expired_is_signed_again_once():
    """An expired URL costs a signature, not a try; twice is final."""
    client = make(EXPIRED, BUSY, OK, retries=1)
    reply = client.call(PUT)
    assert (reply.retries, reply.resigns) == (1, 1)
    client = make(EXPIRED, EXPIRED)
    with pytest.raises(URLExpiredError) as caught:
        client.call(PUT)
    assert caught.value.tries == 2


def test_a_signer_learns_what_had_expired():
    """A signer that signs by something it holds is told that this has ended."""
    told = []

    class Holder(Signer):
        def distrust(self, refused):
            told.append(refused.url.reveal())

    client = make(EXPIRED, OK, signer=ChainSigner(Signer(), Holder()))
    client.call(PUT)
    assert told == [client.transport.sent[0][0]]


def test_last_failure_is_raised():
    """It knows how many tries there were, and says so."""
    client = make(*[BUSY] * 3, retries=2)
    with pytest.raises(StoreUnavailableError) as caught:
        client.call(PUT)
    assert caught.value.tries == 3
    assert caught.value.__notes__[0].startswith("PutObject of b/k: 3 tries in ")
    with pytest.raises(ObjectNotFoundError) as caught:
        make(Reply(status=404)).call(PUT)
    assert caught.value.tries == 1
    assert not hasattr(caught.value, "__notes__")


def test_what_is_parsed_is_returned():
    """A reply that cannot be parsed is a failure like any other, and its bytes go back."""
    seen, moved = [], []

    def parse(reply):
        seen.append(reply.retries)
        if len(seen) == 1:
            raise IntegrityError("differs")
        return "parsed"

    sent = Reply(status=200, body_bytes=3)
    exchange = Exchange(progress=moved.append)
    assert make(sent, sent).call(PUT, EMPTY, exchange, parse=parse) == "parsed"
    assert seen == [0, 1]
    assert moved == [-3]


def test_parse_that_fails_without_progress():
    """The failure of the last try is what parse has raised."""

    def parse(_):
        raise IntegrityError("differs")

    with pytest.raises(IntegrityError) as caught:
        make(OK, OK, retries=1).call(PUT, parse=parse)
    assert caught.value.tries == 2


@pytest.mark.parametrize("error", [ValueError("x"), OSError(28, "disk full")])
def test_errors_of_the_source_pass_through(error):
    """What is not ours is not tried again."""
    with pytest.raises(type(error)):
        make(error).call(PUT)


def test_cancelled_before_another_try():
    """Who gave up gets the failure at once."""
    cancel = threading.Event()
    cancel.set()
    client = make(BUSY)
    with pytest.raises(StoreUnavailableError):
        client.call(PUT, EMPTY, Exchange(cancel=cancel))
    assert client.transport.sent[0][2].cancel is cancel


def test_cancelled_while_waiting():
    """A wait ends when the upload is given up, and nothing is sent after it."""

    class Cancel(threading.Event):
        def wait(self, timeout=None):
            self.set()
            return True

    client = make(BUSY, OK)
    with pytest.raises(StoreUnavailableError):
        client.call(PUT, EMPTY, Exchange(cancel=Cancel()))
    assert len(client.transport.sent) == 1


def test_refusal_of_writing_is_not_remembered():
    """What was refused may be granted by now, so the signer is asked again."""
    client = make(OK, signer=Signer(NotSignedError("no", final=True)))
    with pytest.raises(NotSignedError):
        client.call(PUT)
    assert client.call(PUT).status == 200


def test_no_more_requests_at_once_than_allowed():
    """However many threads call, the server sees a bounded crowd."""
    lock, gate = threading.Lock(), threading.Event()
    crowd, most = [], []

    class Crowded:
        def send(self, *_, **__):
            with lock:
                crowd.append(1)
                most.append(len(crowd))
            assert gate.wait(5)
            with lock:
                crowd.pop()
            return OK

    client = Client(Options(max_concurrency=2), Signer(), Crowded())
    threads = [threading.Thread(target=client.call, args=(PUT,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    gate.wait(0.05)  # time enough for a third one to slip in
    gate.set()
    for thread in threads:
        thread.join(5)
    assert len(most) == 6
    assert max(most) == 2


def test_can_sign():
    """Asking costs a signature and sends nothing; other trouble is raised."""
    client = make(signer=Signer(NotSignedError("no"), None, SignerError("broken")))
    assert not client.can_sign(PUT)
    assert client.can_sign(PUT)
    with pytest.raises(SignerError):
        client.can_sign(PUT)
    assert client.transport.sent == []


def test_notes():
    """A receipt is remembered, with or without somebody to tell."""
    seen = []
    client = make(note=seen.append)
    client.note(Receipt(path="b/k", size=3), b"abc")
    assert client.written.body("b/k") == b"abc"
    assert [receipt.path for receipt in seen] == ["b/k"]
    make().note(Receipt(path="b/k", size=3))


@pytest.mark.parametrize(
    ("failure", "kept"), [(NetworkError("cut"), None), (BUSY, b"old")]
)
def test_what_may_have_been_replaced_is_not_answered(failure, kept):
    """A body of before is forgotten if a later one may be stored, and kept if not."""
    client = make(failure, retries=0)
    client.note(Receipt(path="b/k", size=3), b"old")
    with pytest.raises((NetworkError, StoreUnavailableError)):
        client.call(PUT)
    assert client.written.body("b/k") == kept


def test_policy_comes_from_the_options():
    """Retries and total are those of the user."""
    client = Client(Options(retries=1, retry_timeout=7.0), Signer(), Transport())
    assert (client.policy.retries, client.policy.total) == (1, 7.0)


def test_shared_client():
    """Equal options share one client; a forked child begins anew."""
    made = []

    def build(options):
        made.append(options)
        return make()

    options = Options(presigned_url="https://shared.example/k")
    first = shared_client(options, build)
    assert (
        shared_client(Options(presigned_url="https://shared.example/k"), build) is first
    )
    assert len(made) == 1


def test_shared_client_after_a_fork(monkeypatch):
    """Locks, threads and sockets of the parent are not touched by the child."""
    reset()
    in_child = []

    def build(_):
        # The fork comes here, while the parent holds the lock of its clients.
        monkeypatch.setattr(os, "getpid", lambda: -1)
        in_child.append(shared_client(Options(), lambda _: make()))
        return make()

    assert shared_client(Options(), build) is not in_child[0]
    reset()
