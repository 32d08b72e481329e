"""Signers that may wait, and the lane: its thread never waits for them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from attrs import evolve

from fsspec_osspresigned import OSSPresignedFileSystem
from fsspec_osspresigned.concurrency.waiting import Event
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    NotSignedError,
    SignerError,
    SignerUnavailableError,
)
from fsspec_osspresigned.http.lane import Lane
from fsspec_osspresigned.model import Operation, SignedRequest
from fsspec_osspresigned.signers.base import Grant
from fsspec_osspresigned.signers.keys import KeySigner
from tests.client.conftest import ROOT, stored, values

pytestmark = pytest.mark.usefixtures("patient")


class OwnSigner:
    """Signs by the keys of the store, and keeps which threads asked for how many."""

    def __init__(self, oss) -> None:
        self.calls: list[tuple[str, int]] = []
        self._keys = KeySigner(
            credentials=lambda: oss.credentials,
            endpoint=oss.endpoint,
            region="cn-hangzhou",
        )

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Sign *operations*."""
        self.calls.append((threading.current_thread().name, len(operations)))
        return self._keys.sign(operations)

    @property
    def threads(self) -> set[str]:
        """The kinds of threads that asked."""
        return {name.rpartition("-")[0] for name, _ in self.calls}


class RemoteSigner(OwnSigner):
    """Says that each of its calls costs a round trip."""

    remote = True


def filesystem(signer: Any, **options: Any) -> OSSPresignedFileSystem:
    """Make a filesystem that waits little before it tries again."""
    fs = OSSPresignedFileSystem(signer=signer, **options)
    fs.client.policy = evolve(fs.client.policy, base=0.01, cap=0.1)
    return fs


def test_functions_are_called_by_workers_and_sent_by_the_lane(oss, tries):
    """The user's code never runs in the lane, and each object costs one call."""
    signer, given = OwnSigner(oss), values(60)
    receipts = filesystem(signer, max_concurrency=4).pipe(given)
    assert [one.path for one in receipts] == list(given)
    assert len(tries) == 60
    assert signer.threads == {"osspresigned-file"}
    assert [count for _, count in signer.calls] == [1] * 60
    assert stored(oss) == given


def test_remote_signers_sign_ahead(oss, tries, tmp_path):
    """A call of theirs signs a hundred objects, and none of them waits in the lane."""
    signer, given = RemoteSigner(oss), values(350)
    fs = filesystem(signer)
    assert len(fs.pipe(given)) == 350
    assert stored(oss) == given
    assert len(tries) == 350
    assert sum(count for _, count in signer.calls) == 350
    assert len(signer.calls) <= 5
    assert signer.threads == {"osspresigned-file"}
    with fs.transaction:
        fs.pipe(values(20))
    assert len(tries) >= 369  # the last one is sent alone


def test_a_call_that_waits_holds_up_only_what_it_signs(oss, tries):
    """What was signed before goes on its way while the next call is under way."""
    sent_meanwhile: list[int] = []

    class Slow(RemoteSigner):
        def sign(self, operations):
            if self.calls:
                at_least = 100 * len(self.calls) - 40
                for _ in range(500):
                    if len(stored(oss)) >= at_least:
                        break
                    Event().wait(0.02)
                sent_meanwhile.append(len(stored(oss)) - at_least)
            return super().sign(operations)

    given = values(250)
    assert len(filesystem(Slow(oss), max_concurrency=8).pipe(given)) == 250
    assert min(sent_meanwhile) >= 0
    assert stored(oss) == given


def test_refusals_are_those_of_their_objects(oss):
    """What the signer refuses fails by its name; the others are stored."""

    class Choosy(RemoteSigner):
        def sign_each(self, operations):
            found = list(self.sign(operations))
            for at, operation in enumerate(operations):
                if operation.key == "007":
                    found[at] = NotSignedError("no", path=operation.path)
            return found

    given = values(40)
    found = filesystem(Choosy(oss)).pipe(given, on_error="return")
    failed = [one for one in found if isinstance(one, Exception)]
    assert [type(one) for one in failed] == [NotSignedError]
    assert failed[0].path == f"{ROOT}/007"
    assert len(stored(oss)) == 39


@pytest.mark.parametrize("kind", [OwnSigner, RemoteSigner])
def test_an_outage_of_the_signer_is_waited_for(oss, kind):
    """Signing is tried again as by one caller, and every object is stored."""

    class Away(kind):  # type: ignore[misc,valid-type]  # one of two
        failures = 5

        def sign(self, operations):
            if self.failures > 0:
                self.failures -= 1
                raise SignerUnavailableError("away", path=operations[0].path)
            return super().sign(operations)

    given = values(40)
    assert len(filesystem(Away(oss)).pipe(given)) == 40
    assert stored(oss) == given


@pytest.mark.parametrize("kind", [OwnSigner, RemoteSigner])
def test_nonsense_of_a_signer_fails_each_object(oss, tries, kind):
    """What is no signed request is not sent, and the error names the object."""

    class Wrong(kind):  # type: ignore[misc,valid-type]  # one of two
        def sign(self, operations):
            return [None for _ in operations]

    given = values(12)
    found = filesystem(Wrong(oss)).pipe(given, on_error="return")
    assert [(type(one), one.path) for one in found] == [
        (SignerError, path) for path in given
    ]
    assert not tries


def test_an_exit_of_a_function_ends_the_call(oss):
    """What is no Exception gives the rest up, and is raised as itself."""

    class Leaving(OwnSigner):
        def sign(self, operations):
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        filesystem(Leaving(oss)).pipe(values(30))
    assert not stored(oss)


def test_signatures_that_end_soon_are_made_again(oss, tries):
    """What became stale while it waited is not sent."""

    class Short(RemoteSigner):
        def sign(self, operations):
            found = super().sign(operations)
            is_first = len(self.calls) == 1
            ends = 0.0 if is_first else None
            return [evolve(one, expires_at=ends) for one in found]

    signer, given = Short(oss), values(20)
    assert len(filesystem(signer).pipe(given)) == 20
    assert stored(oss) == given
    assert all(one.signed.expires_at is None for one in tries)


def test_what_the_store_refuses_as_expired_is_signed_again(oss):
    """All that was signed with it is distrusted, and every object is stored."""
    oss.faults.add(Fault(refuse="expired", times=3))
    given = values(60)
    assert len(filesystem(RemoteSigner(oss)).pipe(given)) == 60
    assert stored(oss) == given


def test_a_signer_that_grants_is_asked_by_workers(oss, tries):
    """Its grant may wait as its signatures do, so nothing of it is asked in the lane."""
    asked = set()

    class Granting(OwnSigner):
        def grant(self, path):
            asked.add(threading.current_thread().name.rpartition("-")[0])
            return Grant()

    assert len(filesystem(Granting(oss)).pipe(values(20))) == 20
    assert asked == {"osspresigned-file"}
    assert not tries


@contextlib.contextmanager
def held_up(signer: OwnSigner) -> Iterator[Callable[[], None]]:
    """Let calls of *signer* wait until the yielded function is called."""
    free, sign = Event(), signer.sign

    def wait(operations):
        assert free.wait(30)
        return sign(operations)

    signer.sign = wait  # type: ignore[method-assign]  # for this test
    try:
        yield free.set
    finally:
        free.set()


def test_other_calls_go_on_while_a_signer_waits(oss, fs_of_keys):
    """The lane of one call waits for no signer of another one."""
    signer = OwnSigner(oss)
    slow = filesystem(signer)
    with held_up(signer) as release:
        call = threading.Thread(target=slow.pipe, args=(values(5),))
        call.start()
        try:
            assert len(fs_of_keys.pipe({f"{ROOT}/k{n}": b"x" for n in range(9)})) == 9
        finally:
            release()
            call.join()
    assert len(stored(oss)) == 14


@pytest.fixture
def fs_of_keys(oss) -> OSSPresignedFileSystem:
    """A filesystem that signs here."""
    return OSSPresignedFileSystem(signer="keys")


@pytest.mark.parametrize("kind", [OwnSigner, RemoteSigner])
def test_a_lane_that_breaks_waits_for_its_signer(oss, kind):
    """The call ends when the signer was called for the last time."""
    signing = 0

    class Counted(kind):  # type: ignore[misc,valid-type]  # one of two
        def sign(self, operations):
            nonlocal signing
            signing += 1
            try:
                return super().sign(operations)
            finally:
                signing -= 1

    def fail(*_):
        raise MemoryError

    signer, given = Counted(oss), values(9)
    fs = filesystem(signer, max_concurrency=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "wait", fail)
        with pytest.raises(MemoryError):
            fs.pipe(given)
    assert signing == 0
    assert len(fs.pipe(given)) == 9
    assert stored(oss) == given


def test_signatures_that_end_while_they_wait_for_a_turn_are_made_again(oss, tries):
    """What is sent is the last that was signed for its object."""
    last: dict[str, SignedRequest] = {}
    again = Event()

    class Brief(OwnSigner):
        def sign(self, operations):
            (operation,), now = operations, time.time()
            (made,) = super().sign(operations)
            if operation.key in last:
                again.set()
            else:
                made = evolve(made, issued_at=now, expires_at=now + 1)
            last[operation.key] = made
            return [made]

    oss.faults.add(Fault(delay=1.5, times=None))
    fs, given = filesystem(Brief(oss), max_concurrency=2), values(12)
    held = fs.client.turns.take(wait=False)
    call = threading.Thread(target=fs.pipe, args=(given,))
    call.start()
    assert again.wait(60)
    oss.faults.clear()
    held.close()
    fs.client.turns.tell()
    call.join()
    assert stored(oss) == given
    valid = [one.url for one in last.values()]
    assert all(one.signed.url in valid for one in tries)
