"""A chain takes each operation to the first signer that signs it."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.errors import NotCoveredError, SignerError
from fsspec_osspresigned.model import Action, Operation, SignedRequest
from fsspec_osspresigned.signers.base import ChainSigner, Grant, Signer

URL = "https://b.oss-cn-hangzhou.aliyuncs.com/k?Signature=x"


class Some(Signer):
    """A signer of the keys that it is given."""

    remote = False

    def __init__(self, *keys: str, name: str = "some") -> None:
        self.keys = keys
        self.name = name
        self.calls: list[list[str]] = []

    def sign(self, operations):
        self.calls.append([operation.key for operation in operations])
        for operation in operations:
            self.preflight(operation)
        urls = [URL.replace("/k", f"/k/{o.key}") for o in operations]
        return [SignedRequest(method="PUT", url=url) for url in urls]

    def grant(self, path):
        self.preflight(put(path.removeprefix("b/")))
        return Grant(expires_at=float(len(self.keys)))

    def preflight(self, operation):
        if operation.key not in self.keys:
            raise NotCoveredError(f"not of {self.name}", path=operation.path)


class Far(Some):
    """A signer each of whose calls costs a round trip."""

    remote = True


def put(key: str) -> Operation:
    """Return a PutObject."""
    return Operation(action=Action.PutObject, bucket="b", key=key)


def test_refused_operations_go_to_the_next_signer_in_one_call():
    """The first one is asked for each alone, the last one for all that is left."""
    first, last = Some("a"), Far("b", "c")
    chain = ChainSigner(first, last)
    found = chain.sign([put("b"), put("a"), put("c")])
    keys = [request.url.reveal().partition("/k/")[2][0] for request in found]
    assert keys == ["b", "a", "c"]
    assert (first.calls, last.calls) == ([["b"], ["a"], ["c"]], [["b", "c"]])
    assert chain.remote
    assert not ChainSigner(first).remote


def test_a_chain_waits_if_one_of_its_signers_does():
    """It is called on the loop only if none of them waits."""

    class Here(Some):
        waits = False

    here, elsewhere = ChainSigner(Here()), ChainSigner(Here(), Some())
    assert (here.waits, elsewhere.waits) == (False, True)


def test_a_refusal_has_the_reasons_of_all_signers():
    """If no signer signs, the error has the messages of all, and the last one's facts."""
    last = Some("b", name="the last")
    chain = ChainSigner(Some("a", name="the first"), Some("c", name="the second"), last)
    words = "not of the first; .*not of the second; .*not of the last"
    with pytest.raises(NotCoveredError, match=words):
        chain.sign([put("a"), put("z")])
    found = chain.sign_each([put("a"), put("z")])
    assert [type(one) for one in found] == [SignedRequest, NotCoveredError]
    (alone,) = last.sign_each([put("z")])
    assert (found[1].path, found[1].action) == (alone.path, alone.action)
    for ask in (lambda: chain.grant("b/z"), lambda: chain.preflight(put("z"))):
        with pytest.raises(NotCoveredError, match=words):
            ask()


def test_all_signers_of_a_chain_drop_what_the_store_refused():
    """Any of them may have signed it."""

    class Dropping(Some):
        dropped: tuple[SignedRequest, ...] = ()

        def invalidate(self, refused):
            self.dropped += (refused,)

    signers = Dropping("a"), Dropping("b")
    (refused,) = signers[0].sign([put("a")])
    ChainSigner(*signers).invalidate(refused)
    assert [signer.dropped for signer in signers] == [(refused,)] * 2


def test_a_short_answer_is_noticed():
    """Requests never slide to another operation's place."""

    class Short(Signer):
        def sign(self, operations):
            return [SignedRequest(method="PUT", url=URL)]

    with pytest.raises(SignerError, match="answered 1 requests to 2"):
        ChainSigner(Some("a"), Short()).sign([put("a"), put("y"), put("z")])
