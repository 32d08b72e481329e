"""How many calls of the signer an upload costs, and how many URLs it leaves unused."""

from __future__ import annotations

import contextlib
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.errors import BlindAnswerWarning
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.json_service import JSONService
from fsspec_osspresigned.owner.service.app import ServiceRules, create_ruled_app
from fsspec_osspresigned.owner.service.policy import hash_token, parse_policies
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.base import Grant, MultipartGrant, Signer
from fsspec_osspresigned.signers.http import HTTPSigner
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.units import MIB

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
    """Small files are signed a hundred a call; two calls learn that nobody may look."""
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


class Clock:
    """Time that passes only when a test says so."""

    now = time.time()

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time of the filesystem ``timed``."""
    return Clock()


@pytest.fixture
def timed(service, clock) -> Iterator[OSSPresignedFileSystem]:
    """A filesystem that asks the service, and measures time by the clock."""
    transport = JSONService()
    with service.serving() as url:
        token = Secret(TOKEN)
        ask = transport.exchange
        signer = HTTPSigner(url, exchange=ask, token=lambda: token, clock=clock)
        yield OSSPresignedFileSystem(signer=signer)


def test_names_that_nobody_may_look_at_cost_two_calls(service, timed, owner):
    """The refusal of HEAD, and that of GET, answer for all names of the bucket."""
    with pytest.warns(BlindAnswerWarning):
        assert not any(timed.exists(f"{BUCKET}/{n}") for n in range(1_000))
    assert not any(timed.isdir(f"{BUCKET}/{n}") for n in range(1_000))
    assert service.calls == [1, 1]
    assert timed.find(f"{BUCKET}/d") == []
    assert timed.glob(f"{BUCKET}/d/*") == []
    assert service.calls == [1, 1, 1]  # one more learns that nobody may list
    timed.pipe_file(f"{BUCKET}/own", b"own")
    assert timed.exists(f"{BUCKET}/own")
    assert owner.actions() == ["PutObject"]


def test_new_grant_is_seen_after_5_seconds(service, timed, clock, fs):
    """A process that lives long need not be started again."""
    fs.pipe_file(f"{BUCKET}/there", b"abc")
    with pytest.warns(BlindAnswerWarning):
        assert not timed.exists(f"{BUCKET}/there")
    service.policy = POLICY.replace('["Put', '["HeadObject", "Put')
    assert not timed.exists(f"{BUCKET}/there")
    assert service.calls == [1, 1]
    clock.now += 5
    assert timed.info(f"{BUCKET}/there")["size"] == 3


def test_map_shows_what_the_signer_after_it_does_not(service, fs, owner, monkeypatch):
    """A refusal of the service says nothing about the URLs of the map before it."""
    fs.pipe_file(f"{BUCKET}/there", b"abc")
    place = owner.map_file("there", methods=("PUT", "HEAD"))
    with service.filesystem(monkeypatch, url_map=place) as blind:
        with pytest.warns(BlindAnswerWarning):
            assert not blind.exists(f"{BUCKET}/other")
        assert blind.info(f"{BUCKET}/there")["size"] == 3


def test_values_share_calls_and_each_error_is_its_own(service, owner, monkeypatch):
    """Many values take one call; one that is bad fails as itself."""
    with service.filesystem(monkeypatch) as fs:
        fs.pipe({f"{BUCKET}/v/{n}": bytes([n]) for n in range(90)})
        assert service.calls == [90]
        with pytest.raises(TypeError):
            fs.pipe({f"{BUCKET}/v/1": "text", f"{BUCKET}/v/2": b"x"})
    assert len(owner.stored()) >= 90


def test_a_transaction_signs_at_its_end_in_one_call(service, owner, monkeypatch):
    """What waits needs no signature yet, and then shares one call."""
    with service.filesystem(monkeypatch) as fs:
        with fs.transaction:
            for n in range(90):
                fs.pipe_file(f"{BUCKET}/t/{n}", bytes([n]))
            assert service.calls == []
        assert service.calls == [90]
    assert len(owner.stored()) == 90


def test_large_files_of_a_tree_begin_in_one_call(service, owner, monkeypatch, tmp_path):
    """What a tree needs first, one PUT or an upload ID, is signed along for all."""
    (tmp_path / "small").write_bytes(b"s")
    (tmp_path / "large").write_bytes(bytes(300_000))
    options = {"part_size": 100 * 1024, "multipart_threshold": 200_000}
    with service.filesystem(monkeypatch, **options) as fs:
        names = [str(tmp_path / name) for name in ("small", "large")]
        fs.put(names, [f"{BUCKET}/small", f"{BUCKET}/large"])
    # Both beginnings in one call; then the three parts; then the end of the large one.
    assert service.calls == [2, 3, 1]
    assert owner.stored() == {"small": b"s", "large": bytes(300_000)}


def test_stream_signs_parts_in_growing_batches(service, owner, monkeypatch):
    """A stream of unknown length leaves at most one batch unused."""
    data = bytes(range(256)) * 4_000  # ten parts
    options = {"part_size": 100 * 1024, "multipart_threshold": 100 * 1024}
    with (
        service.filesystem(monkeypatch, **options) as fs,
        fs.open(f"{BUCKET}/stream", "wb") as file,
    ):
        file.write(data)
    assert owner.stored() == {"stream": data}
    assert max(service.calls) <= 100
    # Four, then up to eight times as many; the last part has a length of its own.
    unused = service.signed.count("UploadPart") - 10
    assert 0 <= unused <= 32


def test_no_part_beyond_those_granted_is_signed(owner, environment):
    """A stream asks for as many parts as there may be, and uses all of them."""

    class Few:
        remote = True

        def __init__(self) -> None:
            self.numbers: list[int] = []

        def grant(self, path):
            return Grant(single=False, multipart=MultipartGrant(max_parts=3))

        def sign(self, operations):
            self.numbers += [o.part_number for o in operations if o.part_number]
            return KeySigner.from_options().sign(operations)

    few = Few()
    fs = OSSPresignedFileSystem(signer=few, part_size=100 * 1024)
    with fs.open(f"{BUCKET}/stream", "wb") as file:
        file.write(bytes(300 * 1024))
    assert few.numbers == [1, 2, 3]
    assert owner.stored() == {"stream": bytes(300 * 1024)}


class _Sink(socketserver.StreamRequestHandler):
    """Takes multipart uploads, counts and forgets them."""

    def handle(self) -> None:
        buffer = memoryview(bytearray(MIB))
        while line := self.rfile.readline():
            target = line.split()[1].decode()
            left = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    left = int(value)
            crc = 0
            while left:
                got = self.rfile.readinto(buffer[: min(left, MIB)])
                crc = crc64(buffer[:got], crc)
                left -= got
            self.wfile.write(self.reply(target, crc))

    def reply(self, target: str, crc: int) -> bytes:
        """Return what OSS would say to the call at *target*."""
        more, body = "", b""
        if re.search(r"[?&]uploads(&|=|$)", target):
            body = (
                b"<InitiateMultipartUploadResult><UploadId>U</UploadId>"
                b"</InitiateMultipartUploadResult>"
            )
            self.server.initiated += 1
        elif "partNumber=" in target:
            more = f'ETag: "0"\r\nx-oss-hash-crc64ecma: {crc}\r\n'
            with self.server.lock:
                self.server.parts.append(urlsplit(target).query)
        else:
            body = b"<CompleteMultipartUploadResult/>"
        head = f"HTTP/1.1 200 OK\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_ten_gibibytes_hold_few_urls(monkeypatch, capsys):
    """1,280 parts: under twenty calls, few URLs held, at most one batch unused."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Sink) as sink:
        sink.daemon_threads = True
        sink.parts, sink.initiated, sink.lock = [], 0, threading.Lock()
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        signer = KeySigner(
            credentials=lambda: Credentials("LTAIfakeid", Secret("fakesecret")),
            endpoint=Endpoint.parse(f"http://127.0.0.1:{sink.server_address[1]}"),
            region="cn-hangzhou",
        )
        service = Service(signer)
        held: list[int] = []
        plain = service.sign

        def sign(operations):
            signed = plain(operations)
            held.append(service.signed.count("UploadPart") - len(sink.parts))
            return signed

        service.sign = sign
        block = memoryview(bytes(8 * MIB))
        with service.filesystem(monkeypatch, part_size=8 * MIB) as fs:
            with fs.open(f"{BUCKET}/stream", "wb") as file:
                for _ in range(1_280):
                    file.write(block)
            assert file.receipt.size == 10 * 1024 * MIB
        sink.shutdown()
    unused = service.signed.count("UploadPart") - len(sink.parts)
    with capsys.disabled():
        print(  # noqa: T201 - the figures that this test is for
            f"\n10 GiB in {len(sink.parts)} parts: {len(service.calls)} signer calls "
            f"{service.calls}, at most {max(held)} URLs held (those in flight "
            f"included), {unused} never used"
        )
    assert len(set(sink.parts)) == 1_280
    assert sink.initiated == 1
    assert len(service.calls) < 20
    assert max(held) <= 100 + fs.client.options.connections
    assert unused <= 100
