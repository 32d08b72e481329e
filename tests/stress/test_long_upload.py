"""Uploads that outlast their URLs: a signer signs again, a map says when it ended."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.operations import OSSCalls
from fsspec_osspresigned.client.retry import Timing
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.filesystem.put import PutCall
from fsspec_osspresigned.http.json_service import JSONService
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import Action, Operation, split_path
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.owner.service.app import (
    AccessRecord,
    ServiceRules,
    create_ruled_app,
)
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.http import HTTPSigner, token_source
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signers.presigned_urls import URLMapSigner
from fsspec_osspresigned.units import KIB
from fsspec_osspresigned.url_map.source import load, write
from fsspec_osspresigned.url_map.url_map import MapEntry, MapRequest
from tests.owner_keys import owner_signer

pytestmark = pytest.mark.slow

BUCKET = "examplebucket"
PATH = f"{BUCKET}/granted/long.bin"
KEY = PATH.partition("/")[2]
LIFE = 30  # seconds of a URL
PART = 100 * KIB
TOKEN = "a-made-up-token-0"
EXPIRED = "0002-00000236"  # EC of a V4 URL that has ended
ACTIONS = frozenset(
    {
        Action.PutObject,
        Action.InitiateMultipartUpload,
        Action.UploadPart,
        Action.CompleteMultipartUpload,
        Action.AbortMultipartUpload,
    }
)


def data_of(parts: float) -> bytes:
    """Return so many parts, no two of them alike."""
    size = int(parts * PART)
    return b"".join(b"%015d\n" % n for n in range(size // 16 + 1))[:size]


def keys_of(oss: Emulator) -> KeySigner:
    """Return the owner's signer, which goes by the clock of the store."""
    return owner_signer(oss, expires_in=LIFE, clock=oss.clock)


@contextlib.contextmanager
def service(oss: Emulator) -> Iterator[tuple[str, list[AccessRecord]]]:
    """Run a signer whose URLs live 30 seconds; yield its URL and its access log."""
    policy = Policy(
        name="p",
        prefixes=(f"{BUCKET}/granted/",),
        actions=ACTIONS,
        max_expires_in=LIFE,
    )
    rules = ServiceRules(signer=keys_of(oss), tokens={hash_token(TOKEN): policy})
    told: list[AccessRecord] = []
    app = create_ruled_app(lambda: rules, tell=told.append)
    with LoopbackServer(app) as server:
        yield server.url, told


def answers(oss: Emulator, action: str) -> Counter[tuple[int | None, str]]:
    """Count the answers to *action*: status and EC."""
    return Counter((r.status, r.ec) for r in oss.requests if r.action == action)


def check_one_upload(oss: Emulator, data: bytes) -> None:
    """One upload from its begin to its end, and every byte where it belongs."""
    stored = oss.get(BUCKET, KEY)
    assert stored is not None
    assert bytes(stored.data()) == data
    counts = Counter(record.action for record in oss.requests if record.status == 200)  # fmt: skip
    assert counts["InitiateMultipartUpload"] == 1
    assert counts["CompleteMultipartUpload"] == 1
    assert "AbortMultipartUpload" not in {record.action for record in oss.requests}
    assert len({r.upload_id for r in oss.requests if r.upload_id}) == 1
    good = [r for r in oss.requests if r.action == "UploadPart" and r.status == 200]
    numbers = [record.part_number for record in good]
    assert sorted(numbers) == list(range(1, -(-len(data) // PART) + 1))
    assert sum(record.bytes for record in good) == len(data)
    assert not oss.uploads(BUCKET)


# -- a signer ----------------------------------------------------------------------------


def by_stream(fs: Any, data: bytes, place: Path) -> Any:
    """Write as pandas and pyarrow do: the length is not known beforehand."""
    del place
    with fs.open(PATH, "wb") as file:
        for at in range(0, len(data), 30_000):
            file.write(data[at : at + 30_000])
    return file.receipt


def by_file(fs: Any, data: bytes, place: Path) -> Any:
    """Send a local file."""
    place.write_bytes(data)
    return fs.put_file(str(place), PATH)


SENDERS = pytest.mark.parametrize("send", [by_stream, by_file])
WIDTHS = pytest.mark.parametrize("width", [1, 4])


def filesystem(url: str, monkeypatch: Any, **options: Any) -> OSSPresignedFileSystem:
    """Return a filesystem that asks the signer at *url*, its token by reference."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    return OSSPresignedFileSystem(
        signer=url,
        signer_token="env:OSSPRESIGNED_TOKEN",
        part_size=PART,
        multipart_threshold=PART,
        **options,
    )


@SENDERS
@WIDTHS
def test_expiry_half_way_is_signed_again(oss, monkeypatch, tmp_path, send, width):
    """Refused by the store as expired, at a part and at the end: the upload continues."""
    data = data_of(11.5)
    oss.faults.add(
        Fault(action="UploadPart", part_number=3, clock_jump=LIFE + 1),
        Fault(action="CompleteMultipartUpload", clock_jump=LIFE + 1),
    )
    with service(oss) as (url, told):
        fs = filesystem(url, monkeypatch, max_concurrency=width)
        receipt = send(fs, data, tmp_path / "source")
    check_one_upload(oss, data)
    parts = answers(oss, "UploadPart")
    assert set(parts) == {(200, ""), (403, EXPIRED)}
    assert parts[200, ""] == 12
    refused = parts[403, EXPIRED]  # what had been signed beforehand ended with it
    complete = answers(oss, "CompleteMultipartUpload")
    assert complete == {(403, EXPIRED): 1, (200, ""): 1}
    # Each refusal costs one signature, and none costs a try.
    assert (receipt.resigns, receipt.retries) == (refused + 1, 0)
    assert (receipt.size, receipt.verified) == (len(data), "crc64")
    assert all(record.status == 200 for record in told)
    # Initiate and Complete; the refused ones again; the parts in batches or one by one.
    assert len(told) <= 2 + 12 + receipt.resigns


class Slow:
    """A producer that writes one part in ten seconds, by the clock of everybody."""

    def __init__(self, oss: Emulator) -> None:
        self.oss = oss

    def write(self, file: Any, data: bytes) -> None:
        """Write all; no part is on its way when the clock moves."""
        for number, at in enumerate(range(0, len(data), PART)):
            file.write(data[at : at + PART])
            # The last one is held, and the first too: it may be the only one.
            self.wait_for(number if number > 1 else 0)
            self.oss.clock.jump(10)

    def wait_for(self, parts: int) -> None:
        """Wait until so many parts are stored."""
        while parts and parts > sum(len(u.parts) for u in self.oss.uploads(BUCKET)):
            threading.Event().wait(0.002)


def client_of(oss: Emulator, by: Any, transport: Transport, **more: Any) -> Client:
    """Return an engine whose clock is the store's."""
    given = {"part_size": PART, "multipart_threshold": PART, **more}
    return Client(
        Options.from_storage_options(given), by, transport, timing=Timing(now=oss.clock)
    )


def open_file(client: Client) -> Any:
    """Open the object for writing."""
    return PutCall.from_options(client, {}).open(PATH)


def test_slow_producer_outlives_its_urls(oss, monkeypatch):
    """Minutes of upload on URLs of 30 seconds: none is sent too late."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    data = data_of(18.25)
    with service(oss) as (url, told):
        transport = Transport(allow_http=True)
        signer = HTTPSigner(
            url,
            exchange=JSONService(allow_http=True).exchange,
            token=token_source("env:OSSPRESIGNED_TOKEN"),
            clock=oss.clock,
        )
        started = oss.clock()
        client = client_of(oss, signer, transport, signer=url)
        with open_file(client) as file:
            Slow(oss).write(file, data)
        assert oss.clock() - started >= 180
    check_one_upload(oss, data)
    assert {status for status, _ in answers(oss, "UploadPart")} == {200}
    assert file.receipt.resigns == 0
    # One at least whenever the life of what was signed before has ended.
    assert 2 + 180 // LIFE <= len(told) <= 2 + 19 + 180 // LIFE


# -- a URL map ---------------------------------------------------------------------------


def map_request(signer: KeySigner, action: Action, **more: Any) -> MapRequest:
    """Have one request signed by the owner."""
    bucket, key = split_path(PATH)
    operation = Operation(action=action, bucket=bucket, key=key, **more)
    (signed,) = signer.sign([operation])
    return MapRequest(url=signed.url, headers=signed.headers)


def begin(oss: Emulator) -> str:
    """Initiate the owner's upload and return its id."""
    transport = Transport(allow_http=True)
    client = client_of(oss, keys_of(oss), transport, signer="keys")
    return run(OSSCalls(client, Target(path=PATH)).initiate)[0]


def map_file(oss: Emulator, upload: str, place: Path) -> str:
    """Write a map of 40 parts whose URLs all end after 30 seconds."""
    signer = keys_of(oss)
    entry = MapEntry(
        upload_id=upload,
        part_size=PART,
        parts=tuple(
            map_request(signer, Action.UploadPart, upload_id=upload, part_number=n)
            for n in range(1, 41)
        ),
        complete=map_request(signer, Action.CompleteMultipartUpload, upload_id=upload),
    )
    write({PATH: entry}, place)
    return str(place)


def shown(error: BaseException) -> str:
    """Return what a person reads: the text of an uncaught error, notes included."""
    return "\n".join((str(error), *getattr(error, "__notes__", ())))


def check_nothing_happened(oss: Emulator, upload: str) -> None:
    """Nothing is published, and the owner's upload is still there with its parts."""
    assert oss.get(BUCKET, KEY) is None
    (left,) = oss.uploads(BUCKET)
    assert left.upload_id == upload
    assert left.parts
    counts = Counter(record.action for record in oss.requests)
    assert counts["AbortMultipartUpload"] == counts["CompleteMultipartUpload"] == 0
    assert counts["InitiateMultipartUpload"] == 1  # the owner's own


def test_map_that_ends_half_way_is_one_clear_error(oss, tmp_path, caplog):
    """Path, time and what to do, raised once; again by every later write; no parts lost."""
    caplog.set_level(logging.INFO)
    upload = begin(oss)
    source = load(map_file(oss, upload, tmp_path / "urls.json"))
    ends = datetime.fromtimestamp(int(oss.clock()) + LIFE, UTC)
    signer = URLMapSigner(source, clock=oss.clock)
    client = client_of(oss, signer, Transport(), url_map="urls.json")
    data = data_of(8)
    with pytest.raises(NotCoveredError) as caught, open_file(client) as file:
        for number, at in enumerate(range(0, len(data), PART)):
            file.write(data[at : at + PART])
            if number == 4:
                Slow(oss).wait_for(4)
                oss.clock.jump(LIFE + 1)
    said = shown(caught.value)
    assert caught.value.filename == PATH
    assert PATH in said
    assert ends.isoformat("T", "minutes")[:16] in said
    assert "ask the owner" in said
    for later in (lambda: file.write(b"x"), file.close):
        with pytest.raises(NotCoveredError) as again:
            later()
        assert again.value is caught.value
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    noted = [
        r.getMessage() for r in caplog.records if "was discarded" in r.getMessage()
    ]
    assert len(noted) == 1
    assert PATH in noted[0]
    check_nothing_happened(oss, upload)
    sent = [r for r in oss.requests if r.action == "UploadPart"]
    assert sorted(record.part_number for record in sent) == [1, 2, 3, 4]


def test_map_that_is_renewed_in_time_goes_on(oss, tmp_path):
    """A job outside writes fresh URLs of the same upload: no byte is sent twice."""
    upload = begin(oss)
    place = tmp_path / "urls.json"
    source = load(map_file(oss, upload, place))
    signer = URLMapSigner(source, clock=oss.clock)
    client = client_of(oss, signer, Transport(), url_map="urls.json")
    data = data_of(12.5)
    with open_file(client) as file:
        for number, at in enumerate(range(0, len(data), PART)):
            file.write(data[at : at + PART])
            Slow(oss).wait_for(number)
            if number % 4 == 3:
                oss.clock.jump(LIFE + 1)
                map_file(oss, upload, place)
    check_one_upload(oss, data)
    assert file.receipt.upload_id == upload
