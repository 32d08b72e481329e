"""From bytes to an object, whatever the store does to it on the way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import logging
import os
import threading
import time

import pytest
from attrs import evolve

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.operations import OSSCalls
from fsspec_osspresigned.client.retry import RetryPolicy
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.engine import background
from fsspec_osspresigned.engine.engine import current, run
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    CallbackFailedWarning,
    ConfigurationError,
    IntegrityError,
    InvalidRequestError,
    NetworkError,
    NotCoveredError,
    Outcome,
    OverwriteProtectionIgnoredError,
    ReceiptFailedError,
    TooLargeError,
    UploadDiscardedError,
    UploadNotFoundError,
)
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import (
    MIN_PART,
    Action,
    Operation,
    PartReceipt,
    Reply,
)
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target, TargetKind
from fsspec_osspresigned.signers.base import Grant, MultipartGrant
from fsspec_osspresigned.signers.presigned_urls import URLMapSigner
from fsspec_osspresigned.upload import upload
from fsspec_osspresigned.upload.modes import Multipart
from fsspec_osspresigned.upload.upload import TransferContext
from fsspec_osspresigned.url_map.source import load
from tests.engine_calls import Call
from tests.uploading import OwnerSigner, PlainUpload, put

BUCKET, PATH = "examplebucket", "examplebucket/a b/k"
KEY = "a b/k"
DATA = os.urandom(2 * MIN_PART + 7)
FORBID = {"x-oss-forbid-overwrite": "true"}
REFUSING = {"status": 403, "code": "AccessDenied", "times": None}
CALLBACK = base64.b64encode(b'{"callbackUrl":"http://cb.example"}').decode()


@pytest.fixture
def store_options() -> dict[str, object]:
    """Versions are kept in a second bucket, and callbacks fail."""
    return {"versioned": ["versioned"], "callback": lambda _: None}


def make(oss: Emulator, signer=None, *, seen=None, retries=3, **options) -> Client:
    """Return a client that never waits between tries."""
    facts = {"part_size": MIN_PART, "multipart_threshold": MIN_PART, **options}
    return Client(
        Options.from_storage_options({"signer": "keys", "max_concurrency": 3, **facts}),
        signer or OwnerSigner(oss),
        Transport(connect_timeout=5.0, progress_timeout=5.0),
        policy=RetryPolicy(retries=retries, base=0.0),
        note=seen,
    )


def store(client: Client, data: bytes = DATA, *, headers=None, path=PATH, **more):
    """Store bytes of known size."""
    progress = more.pop("progress", None)
    target = Target(path, TargetKind(headers, **more))
    return put(client, target, MemoryBody(data), progress)


def stream(client: Client, *pieces: bytes, headers=None):
    """Store pieces whose number is not known beforehand."""
    one = PlainUpload(client, Target.of(path=PATH, headers=headers))
    try:
        for piece in pieces:
            one.add(MemoryBody(piece))
        return one.finish()
    except BaseException as error:
        one.discard(error)
        raise


def actions(oss: Emulator) -> list[str]:
    """Return the calls so far; those of parts are together."""
    return [record.action for record in oss.requests]


def wait_until(fact) -> None:
    """Wait for what happens in the background."""
    end = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.01)


def stored(oss: Emulator) -> bytes | None:
    """Return what is under the key of the tests."""
    return oss.objects(BUCKET).get(KEY)


def test_an_interrupted_initiate_says_nothing_else(oss, caplog):
    """After a cancellation between two tries of Initiate, asyncio has no complaint."""
    oss.faults.add(Fault(action="InitiateMultipartUpload", status=503, times=None))
    client = make(oss, retries=1_000)
    client.policy = evolve(client.policy, base=0.1)
    target = Target.of(PATH)
    call = Call(lambda: upload.upload_source(client, target, MemoryBody(DATA))).begin()
    wait_until(lambda: len(oss.requests) > 1)
    call.cancel()
    assert isinstance(call.wait(), asyncio.CancelledError)
    wait_until(lambda: not current().is_busy)
    del call  # its outcome keeps the frames of the upload
    gc.collect()
    background.finish(5.0)
    assert "never retrieved" not in caplog.text


# -- what arrives -----------------------------------------------------------------------

SIZES = [0, 1, MIN_PART - 1, MIN_PART, MIN_PART + 1, 2 * MIN_PART, 3 * MIN_PART + 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("single", [True, False])
def test_every_size(oss, size, streamed, single):
    """Empty, exact multiples, one byte more or less: what is stored is what was given."""
    data = os.urandom(size)
    client = make(oss, OwnerSigner(oss, Grant(single=single)))
    if streamed:
        cuts = range(0, size, MIN_PART)
        receipt = stream(client, *(data[at : at + MIN_PART] for at in cuts))
    else:
        receipt = store(client, data)
    assert stored(oss) == data
    assert not oss.uploads(BUCKET)
    in_parts = not single or size > MIN_PART
    count = max(1, -(-size // MIN_PART)) if in_parts else 0
    assert [part.part_number for part in receipt.parts] == list(range(1, count + 1))
    assert sum(part.size for part in receipt.parts) == (size if in_parts else 0)
    assert (receipt.size, receipt.crc64, receipt.verified) == (
        size,
        crc64(data),
        "crc64",
    )
    assert (receipt.path, receipt.status) == (PATH, "stored")
    assert receipt.etag == oss.get(BUCKET, KEY).etag
    assert receipt.request_id
    assert bool(receipt.upload_id) == in_parts
    assert len(oss.requests) == (count + 2 if in_parts else 1)


def test_headers_go_where_they_belong(oss):
    """Initiate has the object's headers, Complete the ACL, optional headers stay optional."""
    headers = {"x-oss-meta-a": "1", "x-oss-object-acl": "private", **FORBID}
    receipt = store(
        make(oss), headers=headers, optional_headers={"Content-Type": "a/b"}
    )
    by_action = {record.action: record.request_headers for record in oss.requests}
    initiate = by_action["InitiateMultipartUpload"]
    complete = by_action["CompleteMultipartUpload"]
    assert initiate["x-oss-meta-a"] == "1"
    assert "x-oss-object-acl" not in initiate
    assert complete["x-oss-object-acl"] == "private"
    assert "x-oss-meta-a" not in complete
    assert initiate["x-oss-forbid-overwrite"] == "true"
    assert complete["x-oss-forbid-overwrite"] == "true"
    assert receipt.content_type == "a/b"
    assert oss.get(BUCKET, KEY).headers["content-type"] == "a/b"
    assert Target(path=PATH).kind.content_type is None
    both = Target.of(
        path=PATH, headers={"content-type": "x"}, optional_headers={"Content-Type": "y"}
    )
    assert both.kind.content_type == "x"


# -- what fails -------------------------------------------------------------------------


def test_progress_takes_back_what_failed_its_check(oss):
    """Bytes of a try whose reply is damaged are counted once, when they are good."""
    counts: list[int] = []
    oss.faults.add(
        Fault(action="UploadPart", part_number=2, wrong_crc=True),
        Fault(action="PutObject", wrong_crc=True),
    )
    store(make(oss), progress=counts.append)
    assert sum(counts) == len(DATA)
    assert min(counts) < 0
    counts.clear()
    store(make(oss), b"abc", progress=counts.append)
    assert (sum(counts), min(counts)) == (3, -3)


def test_every_call_says_who_pays(oss):
    """A bucket whose readers pay refuses each call that does not, not the first alone."""
    headers = {"X-Oss-Request-Payer": "requester", "x-oss-meta-a": "1"}
    client = make(oss, retries=0)
    oss.faults.add(Fault(action="CompleteMultipartUpload", drop_reply=True))
    store(client, headers=headers)
    oss.faults.add(Fault(action="UploadPart", status=400))
    with pytest.raises(InvalidRequestError):
        store(client, headers=headers)
    store(client, b"x", headers=headers)
    assert {"InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} | {
        *("AbortMultipartUpload", "HeadObject", "PutObject")
    } == set(actions(oss))
    for record in oss.requests:
        assert record.request_headers["x-oss-request-payer"] == "requester"


def test_lost_reply_of_an_exclusive_complete(oss):
    """The object that forbids the second try is our own."""
    fault = {"acts": True, "status": 409, "code": "FileAlreadyExists"}
    oss.faults.add(
        Fault(action="CompleteMultipartUpload", status=500),
        Fault(action="CompleteMultipartUpload", **fault),
    )
    assert store(make(oss), headers=FORBID).status == "stored"


@pytest.mark.parametrize("data", [b"abc", DATA], ids=["single", "parts"])
def test_exclusive_where_versions_are_kept(oss, data, caplog):
    """OSS ignores forbid-overwrite there: stored, said so, and nothing is removed."""
    with pytest.raises(OverwriteProtectionIgnoredError) as caught:
        store(make(oss), data, headers=FORBID, path="versioned/k")
    assert caught.value.version_id
    assert caught.value.path == "versioned/k"
    assert oss.objects("versioned")["k"] == data
    assert "AbortMultipartUpload" not in actions(oss)
    assert "was discarded" not in caplog.text
    receipt = store(make(oss), data, path="versioned/k")
    assert receipt.version_id not in (None, caught.value.version_id)


@pytest.mark.parametrize("data", [b"abc", DATA], ids=["single", "parts"])
def test_callback_that_fails(oss, data):
    """203: the object is stored, and is not sent again."""
    with pytest.warns(CallbackFailedWarning, match="is stored"):
        receipt = store(make(oss), data, headers={"x-oss-callback": CALLBACK})
    assert receipt.status == "callback_failed"
    assert stored(oss) == data
    assert len(set(actions(oss))) == (1 if data == b"abc" else 3)
    assert receipt.retries == 0


# -- what is verified -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "fault", "verified"),
    [
        ({}, {"no_crc": True}, "md5"),
        ({"checksum": "md5"}, {}, "md5"),
        ({"checksum": "none"}, {"wrong_crc": True, "wrong_etag": True}, "none"),
        ({"checksum": "crc64"}, {}, "crc64"),
    ],
    ids=range(4),
)
def test_what_verified_a_put(oss, facts, fault, verified):
    """The receipt says whether CRC-64, MD5 or nothing was compared."""
    oss.faults.add(Fault(action="PutObject", times=None, **fault))
    assert store(make(oss), b"abc", **facts).verified == verified


@pytest.mark.parametrize(
    ("lacking", "verified"),
    [
        ({"UploadPart": None}, "crc64"),
        ({"UploadPart": None, "CompleteMultipartUpload": None}, "md5"),
        ({"UploadPart": 1, "CompleteMultipartUpload": None}, "none"),
        ({"CompleteMultipartUpload": None}, "crc64"),
    ],
)
def test_what_verified_the_parts(oss, lacking, verified):
    """The CRC of the whole counts most, else what all parts were compared by."""
    for action, times in lacking.items():
        oss.faults.add(Fault(action=action, no_crc=True, times=times))
    assert store(make(oss)).verified == verified


def test_part_without_an_etag(oss):
    """Complete needs it, so the upload cannot be published."""
    oss.faults.add(Fault(action="UploadPart", part_number=2, no_etag=True, times=None))
    with pytest.raises(IntegrityError, match="part 2 has no ETag"):
        store(make(oss))
    assert not oss.uploads(BUCKET)


def test_parts_are_not_compared_if_that_is_not_wanted(oss):
    """No checksum is computed then, not even a wrong one of no parts."""
    oss.faults.add(Fault(action="CompleteMultipartUpload", wrong_crc=True))
    receipt = store(make(oss), checksum="none")
    assert (receipt.verified, receipt.crc64) == ("none", None)


# -- an owner's upload, handed out as a URL map -----------------------------------------


def owners(oss, count=3, *, part_size=MIN_PART, without=(), external=False, **headers):
    """Begin an upload as the owner does and return a signer of its URL map."""
    signer = OwnerSigner(oss)

    def sign(action, **facts):
        operation = Operation(action=action, bucket=BUCKET, key=KEY, **facts)
        return signer.sign([operation])[0]

    initiate = Operation(action=Action.InitiateMultipartUpload, bucket=BUCKET, key=KEY)
    begun = run(make(oss).call, initiate)
    upload_id = begun.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    facts = {"upload_id": upload_id}
    complete = sign(Action.CompleteMultipartUpload, headers=headers, **facts)
    entry = {
        "upload_id": upload_id,
        "part_size": part_size,
        "parts": [
            sign(Action.UploadPart, part_number=n, **facts).url.reveal()
            for n in range(1, count + 1)
        ],
        "complete": "external"
        if external
        else {"url": complete.url.reveal(), "headers": dict(complete.headers)},
        "abort": sign(Action.AbortMultipartUpload, **facts).url.reveal(),
        "list": sign(Action.ListParts, **facts).url.reveal(),
        "head": sign(Action.HeadObject).url.reveal(),
    }
    for name in without:
        del entry[name]
    oss.clear()
    return URLMapSigner(load({PATH: entry}))


@pytest.mark.parametrize("aborts", [False, True])
def test_owners_upload_that_fails(oss, aborts, caplog):
    """It is kept for a second try, unless the user says otherwise."""
    signer = owners(oss)
    oss.faults.add(Fault(action="UploadPart", part_number=3, **REFUSING))
    (begun,) = oss.uploads(BUCKET)
    with pytest.raises(AccessDeniedError) as caught:
        store(make(oss, signer, abort_owner_uploads=aborts))
    assert bool(oss.uploads(BUCKET)) is not aborts
    assert ("is kept" in caplog.text) is not aborts
    notes = getattr(caught.value, "__notes__", [])
    assert any(f"{begun.upload_id} is kept, with" in n for n in notes) is not aborts
    oss.clear()
    if not aborts:
        store(make(oss, signer))
        assert stored(oss) == DATA


def test_owners_upload_that_has_ended(oss, caplog):
    """Its URLs are used up: nothing is said to be kept, and a new map is advised."""
    signer = owners(oss)
    store(make(oss, signer))
    with pytest.raises(UploadNotFoundError, match="ask its owner for a new") as caught:
        store(make(oss, signer))
    assert not getattr(caught.value, "__notes__", [])
    assert "is kept" not in caplog.text


def test_owner_completes(oss):
    """Parts are stored, the receipt lists them, and nothing is published."""
    seen = []
    signer = owners(oss, external=True)
    receipt = store(make(oss, signer, receipts=seen.append, seen=seen.append))
    assert (receipt.status, receipt.etag, receipt.request_id) == ("pending", "", None)
    assert (receipt.crc64, len(receipt.parts)) == (crc64(DATA), 3)
    assert stored(oss) is None
    assert len(oss.uploads(BUCKET)) == 1
    assert seen == [receipt]


@pytest.mark.parametrize("external", [False, True])
def test_receipt_that_nobody_takes(oss, external):
    """The object is stored anyway, and the error says so, and has the receipt."""

    def refuse(_):
        raise ValueError("x-oss-signature=SECRET is down")

    signer = owners(oss, external=external)
    with pytest.raises(ReceiptFailedError, match="but without a receipt") as caught:
        store(make(oss, signer, receipts=refuse, seen=refuse))
    error = caught.value
    assert "SECRET" not in str(error)
    assert (error.path, error.receipt.size) == (PATH, len(DATA))
    assert (stored(oss) is None) is external
    assert error.outcome is (Outcome.NOT_STORED if external else Outcome.STORED)
    assert error.message.startswith("pending" if external else "stored")


def test_owner_completes_but_nobody_would_tell_him(oss):
    """Without receipts= the parts would be lost; with headers that came too late, too."""
    signer = owners(oss, external=True)
    with pytest.raises(ConfigurationError) as caught:
        store(make(oss, signer), headers={"x-oss-meta-a": "1"})
    assert len(caught.value.problems) == 2
    assert "receipts= is required" in caught.value.problems[0]
    assert "x-oss-meta-a cannot be set now" in caught.value.problems[1]
    assert oss.requests == []


@pytest.mark.parametrize("proven", [True, False])
def test_complete_all(oss, proven):
    """Complete takes all parts there are; with a list they are proven before."""
    without = () if proven else ("list",)
    signer = owners(oss, without=without, **{"x-oss-complete-all": "yes"})
    store(make(oss, signer))
    assert stored(oss) == DATA
    assert ("ListParts" in actions(oss)) is proven
    assert oss.requests[-1].bytes == 0


def test_complete_all_with_foreign_parts(oss):
    """Parts of an earlier try that would end up in the object stop it."""
    signer = owners(oss, **{"x-oss-complete-all": "yes"})
    long = PlainUpload(make(oss, signer), Target(path=PATH), size=3 * MIN_PART)
    for _ in range(3):
        long.add(MemoryBody(bytes(MIN_PART)))
    run(long.mode.wait)
    with pytest.raises(IntegrityError, match="differ from the sent parts"):
        store(make(oss, signer), bytes(2 * MIN_PART))
    assert stored(oss) is None


class Listing:
    """A client that answers a list of parts, and confirms all else."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def call(self, operation, *_, parse=None, **__):
        if operation.action == "ListParts":
            return Reply(status=200, body=self.body)
        return parse(Reply(status=200, body=b"<CompleteMultipartUploadResult/>"))


def prove(body: str, count: int) -> None:
    """Prove *count* parts by a listing."""
    parts = tuple(
        PartReceipt(part_number=n, size=5, etag=f'"E{n}"') for n in range(1, count + 1)
    )
    text = f"<ListPartsResult>{body}</ListPartsResult>".encode()
    target = Target(path=PATH)
    grant = MultipartGrant(complete_all=True, complete_all_proven=True)
    run(OSSCalls(Listing(text), target).complete, "U", parts, None, grant)


def row(number: int, size=5, etag: str | None = None) -> str:
    """Return a listed part."""
    etag = etag or f"&quot;e{number}&quot;"
    return (
        f"<Part><PartNumber>{number}</PartNumber><Size>{size}</Size>"
        f"<ETag>{etag}</ETag></Part>"
    )


def test_parts_that_are_proven():
    """Number, size and ETag of each part must be those sent."""
    prove(row(1) + row(2), 2)
    prove("<IsTruncated>true</IsTruncated>" + row(1) + row(2), 3)


@pytest.mark.parametrize(
    "rows",
    [
        row(1),
        row(1) + row(2) + row(3),
        row(1) + row(2, size=6),
        row(1) + row(2, etag="other"),
        "<IsTruncated>true</IsTruncated>",
        row(1) + "<Part/>",
    ],
    ids=range(6),
)
def test_parts_that_are_not_proven(rows):
    """One part too many, too few or another one is enough."""
    with pytest.raises((IntegrityError, NetworkError)):
        prove(rows, 2)


def test_more_parts_than_urls(oss):
    """A stream that needs more URLs than there are is not published."""
    pieces = [bytes(MIN_PART)] * 4
    with pytest.raises(TooLargeError, match="all 3 parts are used up"):
        stream(make(oss, owners(oss)), *pieces)
    assert stored(oss) is None


def test_expired_grant(oss):
    """An upload whose URL has expired is refused before the first byte."""
    signer = OwnerSigner(oss, Grant(expires_at=time.time() - 1))
    with pytest.raises(NotCoveredError, match="expired at") as caught:
        store(make(oss, signer))
    assert caught.value.path == PATH
    store(make(oss, OwnerSigner(oss, Grant(expires_at=time.time() + 99))))
    assert stored(oss) == DATA


# -- streams that only one PUT can carry ------------------------------------------------


def test_spool_when_initiate_is_refused(oss):
    """The signer's word comes late; the stream goes on by way of the disk."""
    refusing = OwnerSigner(oss, refuses=["InitiateMultipartUpload"])
    stream(make(oss, refusing), b"a" * MIN_PART, b"b")
    assert stored(oss) == b"a" * MIN_PART + b"b"
    refusing.given = Grant(single=False)
    with pytest.raises(NotCoveredError):
        stream(make(oss, refusing), b"a")


# -- giving up --------------------------------------------------------------------------


@pytest.mark.parametrize("at_exit", [False, True])
def test_discard_does_not_wait_for_ever_for_an_upload_id(oss, monkeypatch, at_exit):
    """An upload that begins later is removed anyway, and once."""
    monkeypatch.setattr(upload, "_DISCARD_TIMEOUT", 0.05)
    monkeypatch.setattr(upload, "SHORT", 0.05)
    oss.faults.add(Fault(action="InitiateMultipartUpload", delay=1.0))
    one = PlainUpload(make(oss), Target(path=PATH))
    one.add(MemoryBody(bytes(MIN_PART)))

    def begin():
        with contextlib.suppress(UploadDiscardedError):
            one.add(MemoryBody(bytes(MIN_PART)))

    thread = threading.Thread(target=begin)
    thread.start()
    wait_until(lambda: type(one.mode) is Multipart)
    one.discard(at_exit=at_exit)
    assert one.is_over
    thread.join(20)
    wait_until(lambda: "AbortMultipartUpload" in actions(oss))
    assert actions(oss) == ["InitiateMultipartUpload", "AbortMultipartUpload"]
    assert not oss.uploads(BUCKET)


def test_after_finish(oss):
    """A published object stays, and its writer cannot publish again."""
    one = PlainUpload(make(oss), Target(path=PATH))
    one.add(MemoryBody(b"x"))
    one.finish()
    one.discard()
    one.abandon()
    with pytest.raises(UploadDiscardedError):
        one.finish()
    assert stored(oss) == b"x"
    assert actions(oss) == ["PutObject"]


def test_discard_does_not_wait_for_ever(oss, caplog, monkeypatch):
    """A part whose callback hangs is left behind, and the upload is aborted."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(upload, "_DISCARD_TIMEOUT", 0.05)
    gate, hangs = threading.Event(), threading.Event()

    def progress(_):
        hangs.set()
        gate.wait(20)

    context = TransferContext(progress=progress)
    one = PlainUpload(make(oss), Target(path=PATH), context=context)
    for _ in range(2):
        one.add(MemoryBody(bytes(MIN_PART)))
    assert hangs.wait(20)
    one.discard(ValueError("why"))
    assert "was discarded: why" in caplog.text
    assert actions(oss)[-1] == "AbortMultipartUpload"
    gate.set()
    wait_until(lambda: not one.mode.in_flight)


@pytest.mark.parametrize(
    ("fault", "words", "level"),
    [
        ({"status": 404, "code": "NoSuchUpload"}, "no longer exists", logging.INFO),
        (REFUSING, "could not be aborted", logging.WARNING),
    ],
)
def test_abort_that_fails(oss, caplog, fault, words, level):
    """It is logged with the upload ID, and hides no other failure."""
    oss.faults.add(
        Fault(action="AbortMultipartUpload", **fault),
        Fault(action="UploadPart", part_number=1, **REFUSING),
    )
    with caplog.at_level(logging.INFO), pytest.raises(AccessDeniedError):
        store(make(oss))
    (record,) = [r for r in caplog.records if words in r.getMessage()]
    assert record.levelno == level


# -- replies that no store should give --------------------------------------------------


class Answering:
    """A client that lets each call parse one reply."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def call(self, *_, parse, **__):
        return parse(self.reply)


def completed(reply: Reply, headers=None):
    """Judge a reply to Complete."""
    target = Target.of(path=PATH, headers=headers)
    run(OSSCalls(Answering(reply), target).complete, "U", (), None, MultipartGrant())


@pytest.mark.parametrize(
    "facts",
    [
        {"body": b"<CompleteMultipartUploadResult/>"},
        {"status": 203, "body": b"<Error><Code>CallbackFailed</Code></Error>"},
        {"body": b'{"html": "<Error>"}'},
    ],
    ids=range(3),
)
def test_replies_that_end_an_upload(facts):
    """The document, or the reply of a callback server, confirms the object."""
    completed(Reply(**{"status": 200, **facts}))
    completed(Reply(status=200, body=b"any"), {"X-OSS-Callback": "x"})


@pytest.mark.parametrize("body", [b"", b"<CompleteMultipartUploadRes", b"<html/>"])
def test_replies_that_do_not(body):
    """A reply that is cut, empty or from a proxy proves nothing, even with an ETag."""
    with pytest.raises(NetworkError):
        completed(Reply(status=200, headers={"etag": '"E"'}, body=body))
