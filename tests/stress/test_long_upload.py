"""An upload that outlasts the URLs of its map: the map is renewed, or says when it ended."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.operations import OSSCalls
from fsspec_osspresigned.client.retry import Timing
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.filesystem.put import PutCall
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import Action, Operation, split_path
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
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


def data_of(parts: float) -> bytes:
    """Return so many parts, no two of them alike."""
    size = int(parts * PART)
    return b"".join(b"%015d\n" % n for n in range(size // 16 + 1))[:size]


def keys_of(oss: Emulator) -> KeySigner:
    """Return the owner's signer, which goes by the clock of the store."""
    return owner_signer(oss, expires_in=LIFE, clock=oss.clock)


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


def wait_for(oss: Emulator, parts: int) -> None:
    """Wait until so many parts are stored."""
    while parts > sum(len(u.parts) for u in oss.uploads(BUCKET)):
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
                wait_for(oss, 4)
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
            wait_for(oss, number)
            if number % 4 == 3:
                oss.clock.jump(LIFE + 1)
                map_file(oss, upload, place)
    check_one_upload(oss, data)
    assert file.receipt.upload_id == upload
