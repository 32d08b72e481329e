"""Rules that decide about retries."""

from __future__ import annotations

import pytest

from fsspec_osspresigned import errors
from fsspec_osspresigned.client.retry import (
    GIVE_UP,
    RULES,
    SIGN_AGAIN,
    RetryPolicy,
    Verb,
    may_have_acted,
)

POLICY = RetryPolicy(retries=5, total=100.0, base=1.0, cap=10.0)


def decide(failure, *, attempt=1, elapsed=0.0, draw=0.5, policy=POLICY, **more):
    """Decide with a fair coin."""
    return policy.decide(failure, attempt=attempt, elapsed=elapsed, draw=draw, **more)


@pytest.mark.parametrize(
    ("kind", "tries"),
    [
        (errors.StoreUnavailableError, 5),
        (errors.NetworkError, 5),
        (errors.NetworkTimeoutError, 5),
        (errors.SignerUnavailableError, 5),
        (errors.BodyCorruptedError, 1),
        (errors.IntegrityError, 1),
        (errors.SignerError, 0),
        (errors.NotCoveredError, 0),
        (errors.AccessDeniedError, 0),
        (errors.SignatureMismatchError, 0),
        (errors.InvalidRequestError, 0),
        (errors.ObjectExistsError, 0),
        (errors.UploadDiscardedError, 0),
    ],
)
def test_how_often(kind, tries):
    """Trouble of the moment is tried again, damage once, refusals never."""
    verbs = [decide(kind("x"), attempt=n).verb for n in range(1, 8)]
    assert verbs == [Verb.WAIT] * tries + [Verb.GIVE_UP] * (7 - tries)


def test_expired_is_signed_again_once():
    """A second expiry in a row is a wrong clock, not bad luck."""
    assert decide(errors.URLExpiredError("x")) is SIGN_AGAIN
    assert decide(errors.URLExpiredError("x"), resigned=True) is GIVE_UP


@pytest.mark.parametrize(("attempt", "wait"), [(1, 0.5), (2, 1.0), (4, 4.0), (5, 5.0)])
def test_wait_doubles_up_to_a_cap(attempt, wait):
    """The draw spreads clients over the whole wait."""
    assert decide(errors.NetworkError("x"), attempt=attempt).seconds == wait
    assert decide(errors.NetworkError("x"), attempt=attempt, draw=0.0).seconds == 0


def test_server_is_obeyed():
    """Retry-After is a lower bound of the wait, and can end the tries."""
    assert decide(errors.StoreUnavailableError("x", retry_after=30)).seconds == 30
    assert decide(errors.StoreUnavailableError("x", retry_after=101)) is GIVE_UP


def test_total_time_is_bounded():
    """No try starts after the total."""
    assert decide(errors.NetworkError("x"), elapsed=99.4).verb is Verb.WAIT
    assert decide(errors.NetworkError("x"), elapsed=99.6) is GIVE_UP


def test_every_failure_has_one_rule():
    """No rule is hidden behind an earlier one, and the last one covers all."""
    for place, rule in enumerate(RULES):
        failures = [
            rule.kind("x", status=status) for status in rule.statuses or (None,)
        ]
        for failure in failures:
            first = next(n for n, one in enumerate(RULES) if one.covers(failure))
            assert first == place
    assert RULES[-1].kind is errors.OSSPresignedError
    assert not RULES[-1].statuses


def test_text_decides_nothing():
    """A message that speaks of another failure changes no decision."""
    texts = ("x", "503 ServiceUnavailable", "connection reset", "SlowDown", "expired")
    for kind in (errors.AccessDeniedError, errors.NetworkError, errors.IntegrityError):
        assert len({(decide(kind(t)), may_have_acted(kind(t))) for t in texts}) == 1
