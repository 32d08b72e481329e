"""After a lost reply: stored, not stored, or unknown, and never a guess."""

from __future__ import annotations

import os

import pytest

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.retry import RetryPolicy, may_have_acted
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    IntegrityError,
    NetworkError,
    NetworkTimeoutError,
    Outcome,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.checksums import CRC_HEADER, crc64
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import FORBID_OVERWRITE, MIN_PART
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from tests.conftest import key_variables
from tests.loopback_server import LoopbackServer
from tests.uploading import OwnerSigner, put

BUCKET, KEY = "examplebucket", "a/b"
DATA = os.urandom(2 * MIN_PART + 7)
SMALL = b"small"
BEFORE = {"status": 500, "times": None}


def store(
    oss: Emulator, data: bytes, *refused: str, retries: int = 1, timeout=5.0, **target
):
    """Store *data* where the signer signs all but the *refused* actions."""
    options = {"signer": "keys", "part_size": MIN_PART, "multipart_threshold": MIN_PART}
    client = Client(
        Options.from_storage_options(options),
        OwnerSigner(oss, refuses=refused),
        Transport(connect_timeout=5.0, progress_timeout=timeout),
        policy=RetryPolicy(retries=retries, base=0.0),
    )
    where = Target.of(f"{BUCKET}/{KEY}", **target)
    return put(client, where, MemoryBody(data))


def stored(oss: Emulator) -> bytes | None:
    """Return the object."""
    return oss.objects(BUCKET).get(KEY)


def test_another_md5_is_another_object(oss):
    """Without a CRC-64, the ETag identifies the earlier object."""
    store(oss, b"oldie")
    oss.faults.add(
        Fault(action="PutObject", **BEFORE),
        Fault(action="HeadObject", no_crc=True, times=None),
    )
    with pytest.raises(StoreUnavailableError) as caught:
        store(oss, SMALL)
    assert caught.value.outcome is Outcome.NOT_STORED


def test_unknown_exclusive_put_is_an_error_of_its_own(oss):
    """Trying again would find the object there, ours or not."""
    oss.faults.add(Fault(action="PutObject", drop_reply=True))
    with pytest.raises(OutcomeUnknownError) as caught:
        store(oss, SMALL, "HeadObject", headers={FORBID_OVERWRITE: "true"})
    assert caught.value.outcome is Outcome.UNKNOWN


def test_parts_that_are_still_there_prove_that_nothing_was_completed(oss):
    """Without HEAD, ListParts finds an upload only as long as it is not completed."""
    oss.faults.add(Fault(action="CompleteMultipartUpload", **BEFORE))
    with pytest.raises(StoreUnavailableError) as caught:
        store(oss, DATA, "HeadObject")
    assert caught.value.outcome is Outcome.NOT_STORED
    assert "ListParts" in [record.action for record in oss.requests]


@pytest.mark.parametrize("action", ["HeadObject", "ListParts"])
def test_looking_is_tried_again_where_the_store_answers(oss, action):
    """NoSuchUpload after a lost reply comes from a store that only stumbles now."""
    oss.faults.add(
        Fault(action="CompleteMultipartUpload", drop_reply=True, times=1),
        Fault(action=action, status=503, times=2),
    )
    if action == "HeadObject":
        assert store(oss, DATA, retries=2).verified == "crc64"
    else:
        with pytest.raises(OutcomeUnknownError):
            store(oss, DATA, "HeadObject", retries=2)
    assert [record.action for record in oss.requests].count(action) == 3


def test_a_server_that_is_late_may_store_the_object_yet(oss, monkeypatch):
    """After a timeout, a missing object does not prove that the request had no effect."""
    oss.faults.add(Fault(action="PutObject", status=500, delay=1.5))
    fs = behind(oss, monkeypatch, timeout=0.5)
    with pytest.raises(NetworkTimeoutError) as caught:
        fs.pipe_file(f"{BUCKET}/{KEY}", SMALL)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert any("may still be storing it" in note for note in caught.value.__notes__)


def test_a_late_server_may_act_after_a_retry_was_refused(oss):
    """The first try timed out, so the refusal of the second one proves nothing."""
    oss.faults.add(
        Fault(action="PutObject", status=500, delay=1.5),
        Fault(action="PutObject", status=503, times=None),
    )
    with pytest.raises(StoreUnavailableError) as caught:
        store(oss, SMALL, timeout=0.5)
    assert caught.value.outcome is Outcome.UNKNOWN


def test_a_late_complete_may_publish_the_object_yet(oss, monkeypatch):
    """The parts are there as long as the server has not published them."""
    oss.faults.add(Fault(action="CompleteMultipartUpload", status=500, delay=1.5))
    fs = behind(
        oss, monkeypatch, timeout=0.5, part_size=MIN_PART, multipart_threshold=1
    )
    with pytest.raises(OutcomeUnknownError, match="may still be storing it"):
        fs.pipe_file(f"{BUCKET}/{KEY}", DATA)


class Gateway(LoopbackServer):
    """Loses the reply to each PUT; replies to HEAD in chunks, without a length."""

    def __init__(self, data=None):
        super().__init__()
        self.data = data  # what HEAD describes; None stands for the body of the PUT

    def serve(self, request):
        """Answer *request*."""
        if request.command == "PUT":
            body = request.rfile.read(int(request.headers["Content-Length"]))
            self.data = body if self.data is None else self.data
            request.close_connection = True
            return
        request.send_response(200)
        request.send_header(CRC_HEADER, str(crc64(self.data)))
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()


def behind(gateway, monkeypatch, **options):
    """Return a filesystem that holds keys, and does not retry."""
    for name, value in key_variables(Emulator()).items():
        monkeypatch.setenv(name, value)
    where = {"endpoint": gateway.url, "region": "cn-hangzhou"}
    return OSSPresignedFileSystem(signer="keys", retries=0, **where, **options)


def test_without_a_length_an_equal_checksum_proves_the_object(monkeypatch):
    """A gateway that sends the reply to HEAD in chunks has not denied the object."""
    with Gateway() as gateway:
        fs = behind(gateway, monkeypatch)
        assert fs.pipe_file(f"{BUCKET}/{KEY}", SMALL).verified == "crc64"


def test_without_a_length_another_checksum_is_another_object(monkeypatch):
    """The object of before is still there, so the upload is not stored."""
    with Gateway(b"before") as gateway:
        fs = behind(gateway, monkeypatch)
        with pytest.raises(NetworkError) as caught:
            fs.pipe_file(f"{BUCKET}/{KEY}", SMALL)
        assert caught.value.outcome is Outcome.NOT_STORED


@pytest.mark.parametrize("acts", [False, True])
@pytest.mark.parametrize("code", ["InternalError", "NotInAnyTable"])
def test_an_error_document_behind_a_200_of_complete_is_not_final(oss, code, acts):
    """The store may have completed the upload, so the call is made again."""
    oss.faults.add(
        Fault(action="CompleteMultipartUpload", code=code, error_body=True, acts=acts)
    )
    assert store(oss, DATA).verified == "crc64"
    assert stored(oss) == DATA


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_wrong_object_is_named_as_visible(oss, data):
    """If the checksum of the last reply differs, the error says that the object exists."""
    action = "PutObject" if data is SMALL else "CompleteMultipartUpload"
    oss.faults.add(Fault(action=action, wrong_crc=True, times=None))
    with pytest.raises(IntegrityError) as caught:
        store(oss, data)
    assert caught.value.outcome is Outcome.STORED
    assert any("visible object" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("refused", [(), ("HeadObject",)])
def test_an_object_with_a_wrong_checksum_is_not_forgotten_by_the_retry(oss, refused):
    """The first try stored it, so the failure of the second is not ``not stored``."""
    oss.faults.add(
        Fault(action="PutObject", wrong_crc=True),
        Fault(action="PutObject", status=503, times=None),
    )
    if refused:
        with pytest.raises(StoreUnavailableError) as caught:
            store(oss, SMALL, *refused)
        assert caught.value.outcome is Outcome.UNKNOWN
    else:
        assert store(oss, SMALL).verified == "crc64"
    assert stored(oss) == SMALL


@pytest.mark.parametrize(
    ("failure", "doubt"),
    [
        (NetworkError("x"), True),
        (NetworkTimeoutError("x", sent=False), False),
        (StoreUnavailableError("x", status=500), True),
        (StoreUnavailableError("x", status=502), True),
        (StoreUnavailableError("x", status=504), True),
        (StoreUnavailableError("x", status=503), False),
        (StoreUnavailableError("x", status=429), False),
        (AccessDeniedError("x", status=403), False),
        (IntegrityError("x"), True),
    ],
)
def test_which_failures_leave_a_doubt(failure, doubt):
    """A failure leaves a doubt only if the server may have acted on the request."""
    assert may_have_acted(failure) is doubt
