"""Numbers of signer calls of an upload, and of URLs that it leaves unused."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.owner.service.app import ServiceRules, create_ruled_app
from fsspec_osspresigned.owner.service.policy import hash_token, parse_policies
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.keys import KeySigner

BUCKET = "examplebucket"
TOKEN = "a-made-up-token-0"
POLICY = f"""
[[tokens]]
name = "writer"
sha256 = "{hash_token(TOKEN)}"
buckets = ["{BUCKET}"]
prefixes = [""]
actions = ["PutObject", "InitiateMultipartUpload", "UploadPart",
  "CompleteMultipartUpload", "AbortMultipartUpload"]
"""


class Service:
    """A signer service, and what it was asked."""

    def __init__(self, signer: KeySigner) -> None:
        self.calls: list[int] = []
        self.signed: list[str] = []
        self.policy = POLICY
        self._signer = signer
        self._app = create_ruled_app(
            self._rules, tell=lambda record: self.calls.append(record.requests)
        )

    def _rules(self) -> ServiceRules:
        return ServiceRules(signer=self, tokens=parse_policies(self.policy).tokens)

    def sign(self, operations):
        """Sign by the keys, and keep the actions."""
        self.signed += [str(operation.action) for operation in operations]
        return self._signer.sign(operations)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve; yield the URL."""
        with LoopbackServer(self._app) as server:
            yield server.url

    @contextlib.contextmanager
    def filesystem(self, monkeypatch, **options) -> Iterator[OSSPresignedFileSystem]:
        """Serve; yield a filesystem that asks here."""
        monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
        with self.serving() as url:
            yield OSSPresignedFileSystem(
                signer=url,
                signer_token="env:OSSPRESIGNED_TOKEN",
                **options,
            )


@pytest.fixture
def service(oss) -> Service:
    """A service that signs for the test's own OSS."""
    signer = KeySigner(
        credentials=lambda: oss.credentials,
        endpoint=oss.endpoint,
        region="cn-hangzhou",
    )
    return Service(signer)


class Overstating(Signer):
    """Says of the URLs of its first call that they are valid, although they are not."""

    remote = True

    def __init__(self, oss) -> None:
        self.calls = 0
        self._facts = {
            "credentials": lambda: oss.credentials,
            "endpoint": oss.endpoint,
            "region": "cn-hangzhou",
        }

    def sign(self, operations):
        """Sign at an earlier time first."""
        self.calls += 1
        now = time.time()
        signed_at = now - 7200 if self.calls == 1 else now
        keys = KeySigner(**self._facts, clock=lambda: signed_at)
        life = {"issued_at": now, "expires_at": now + 3600}
        return [evolve(signed, **life) for signed in keys.sign(operations)]


def test_urls_that_came_with_an_expired_one_are_not_sent(oss, owner):
    """The store has refused one of them: the others are signed again, in one call."""
    signer = Overstating(oss)
    fs = OSSPresignedFileSystem(signer=signer, max_concurrency=1)
    values = {f"{BUCKET}/{number}": b"x" for number in range(60)}
    fs.pipe(values)
    assert len(owner.stored()) == 60
    assert [record.status for record in oss.requests].count(403) == 1
    assert signer.calls <= 3


@pytest.mark.slow
def test_a_thousand_files_cost_twelve_calls(service, owner, monkeypatch, tmp_path):
    """A call signs a hundred small files; two more find out that reading is not granted."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1_000):
        (source / f"{number:04}").write_bytes(number.to_bytes(2) * 2048)
    with service.filesystem(monkeypatch) as fs:
        receipts = fs.put(f"{source}/", f"{BUCKET}/data/", recursive=True)
    assert len(receipts) == 1_000
    assert len(service.calls) <= 12
    assert service.signed.count("PutObject") == 1_000
    stored = owner.stored()
    assert len(stored) == 1_000
    assert stored["data/0777"] == (777).to_bytes(2) * 2048


def test_values_share_calls_and_each_error_is_its_own(service, owner, monkeypatch):
    """Many values take one call; one that is bad fails as itself."""
    with service.filesystem(monkeypatch) as fs:
        fs.pipe({f"{BUCKET}/v/{n}": bytes([n]) for n in range(90)})
        assert service.calls == [90]
        with pytest.raises(TypeError):
            fs.pipe({f"{BUCKET}/v/1": "text", f"{BUCKET}/v/2": b"x"})
    assert len(owner.stored()) >= 90


def test_a_transaction_signs_at_its_end_in_one_call(service, owner, monkeypatch):
    """Files that wait request no signature yet, and then share one call."""
    with service.filesystem(monkeypatch) as fs:
        with fs.transaction:
            for n in range(90):
                fs.pipe_file(f"{BUCKET}/t/{n}", bytes([n]))
            assert service.calls == []
        assert service.calls == [90]
    assert len(owner.stored()) == 90
