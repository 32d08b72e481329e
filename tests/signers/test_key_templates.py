"""Keys: requests of one second that differ only in their keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.model import FORBID_OVERWRITE, Action, Operation
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.signing.endpoint import check_key

KEYS = Credentials("id", "secret")


class Clock:
    """A clock that the test sets."""

    now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


def signer(clock: Clock, style: str = "virtual", **facts) -> KeySigner:
    """Return a signer with the time of *clock*."""
    endpoint = Endpoint.parse("oss-cn-hangzhou.aliyuncs.com", style=style)
    facts = {"credentials": lambda: KEYS, "region": "cn-hangzhou", **facts}
    return KeySigner(endpoint=endpoint, clock=clock, **facts)


def put(key: str, **facts) -> Operation:
    """Return a PutObject of *key*."""
    return Operation(action=Action.PutObject, bucket="examplebucket", key=key, **facts)


keys = st.text(min_size=1, max_size=60).filter(lambda key: check_key(key) is None)
names = st.sampled_from(["Content-Type", "x-oss-meta-a", "Cache-Control"])
headers = st.dictionaries(names, st.sampled_from(["a", "b c", "d/e"]))


@given(keys, keys, headers, st.sampled_from(["virtual", "path"]), st.booleans())
def test_equal_to_the_whole_signature(first, second, sent, style, has_token):
    """Requests signed by a template equal those of ``sign``, to the byte.

    A property: keys, headers, style and token are drawn.
    """
    token = "token/+=" if has_token else None
    used = Credentials("id", "secret", token)
    clock = Clock()
    one, other = (signer(clock, style, credentials=lambda: used) for _ in range(2))
    assert one.sign_at_once(put(first, headers=sent)) is None
    one.sign([put(first, headers=sent)])
    for key in (first, second):
        operation = put(key, headers=sent)
        assert one.sign_at_once(operation) == other.sign([operation])[0]


@pytest.mark.parametrize(
    "operation",
    [
        put("k", headers={"Content-Type": "text/plain"}),
        put("k", optional_headers={FORBID_OVERWRITE: "true"}),
        put("k", expires_in=5),
        put("k", query={"x-oss-traffic-limit": "819200"}),
        Operation(action=Action.PutObject, bucket="otherbucket", key="k"),
        Operation(action=Action.GetObject, bucket="examplebucket", key="k"),
        put("/k"),
        put(""),
        put("k\ud800"),
    ],
)
def test_other_requests_are_signed_as_a_whole(operation):
    """Requests that differ in more than the key use no template; bad keys are refused."""
    one = signer(Clock())
    one.sign([put("a")])
    assert one.sign_at_once(put("b")) is not None
    assert one.sign_at_once(operation) is None


def test_next_second_reads_the_credentials_again():
    """Credentials are read again a second later, or after the store refused them."""
    clock, reads = Clock(), []

    def credentials() -> Credentials:
        reads.append(clock.now)
        return KEYS

    one = signer(clock, credentials=credentials)
    (signed,) = one.sign([put("a")])
    assert one.sign_at_once(put("b")) is not None
    assert len(reads) == 1
    one.invalidate(signed)
    assert one.sign_at_once(put("b")) is None
    one.sign([put("a")])
    clock.now += 1
    assert one.sign_at_once(put("b")) is None


def test_own_way_to_sign():
    """A subclass that signs in its own way signs everything in this way."""

    class Own(KeySigner):
        def sign(self, operations):
            raise AssertionError

    assert Own.sign_at_once is Signer.sign_at_once
