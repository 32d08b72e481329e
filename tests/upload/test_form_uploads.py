"""An object in one signed form: what is stored, what is proved, and what is refused."""

from __future__ import annotations

import logging
import os

import pytest
from attrs import evolve

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.retry import RetryPolicy
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    NetworkError,
    Outcome,
    OutcomeUnknownError,
    RefusalReason,
    TooLargeError,
)
from fsspec_osspresigned.http.body import FileBody, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import FORBID_OVERWRITE, MAX_POST_OBJECT, Action
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target, TargetKind
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing.post_policy import PolicyCondition
from tests.form_signer import FormSigner
from tests.uploading import PlainUpload, put

BUCKET, KEY = "examplebucket", 'in/\u4e2d "q".csv'
PATH = f"{BUCKET}/{KEY}"
DATA = os.urandom(300_000)
LOST = {"drop_reply": True, "times": None}


class Huge:
    """A body that says it is as large as a form may be."""

    size = MAX_POST_OBJECT

    def blocks(self):
        raise AssertionError("it is not read")


def client_of(signer: FormSigner, *, retries: int = 1, **options) -> Client:
    """Return a client that waits for nothing."""
    return Client(
        Options.from_storage_options({"signer": signer, **options}),
        signer,
        Transport(connect_timeout=5.0, progress_timeout=5.0),
        policy=RetryPolicy(retries=retries, base=0.0),
    )


def store(oss, data: bytes = DATA, *, retries: int = 1, signer=None, **target):
    """Store *data* by a form."""
    client = client_of(signer or FormSigner(oss), retries=retries)
    where = Target(PATH, TargetKind(**target))
    return put(client, where, MemoryBody(data))


def stored(oss) -> bytes | None:
    """Return the object."""
    return oss.objects(BUCKET).get(KEY)


def actions(oss) -> list[str]:
    """Return the calls that came."""
    return [record.action for record in oss.requests]


# -- what is stored ------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_receipt_of_a_form(oss, version, size):
    """The CRC-64 of the file alone is compared; the ETag is no MD5, and proves nothing."""
    data = DATA[:size]
    receipt = store(oss, data, signer=FormSigner(oss, version=version))
    assert stored(oss) == data
    assert (receipt.size, receipt.verified) == (size, "crc64")
    assert (receipt.crc64, receipt.status) == (crc64(data), "stored")
    assert (receipt.parts, receipt.upload_id) == ((), None)
    assert actions(oss) == ["PostObject"]


def test_a_form_is_not_resumed(oss, tmp_path, caplog):
    """A form cannot be resumed: a remark says so, and the file is sent whole."""
    caplog.set_level(logging.INFO, "fsspec_osspresigned.upload.resume")
    client = client_of(
        FormSigner(oss), multipart_threshold=100_000, resume_dir=tmp_path / "journals"
    )
    for name, size in (("large", 100_001), ("small", 100_000)):
        (tmp_path / name).write_bytes(DATA[:size])
        source = FileBody.of(str(tmp_path / name))
        put(client, Target(path=f"{BUCKET}/{name}"), source)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{BUCKET}/large: a grant has no parts to resume")
    assert actions(oss) == ["PostObject"] * 2


# -- what is refused before the first byte -------------------------------------------------


def test_more_than_a_form_holds(oss):
    """It is refused with what could send it, and there is never an attempt of parts."""
    client = client_of(FormSigner(oss))
    PlainUpload(client, Target(path=PATH), size=MAX_POST_OBJECT).discard()
    with pytest.raises(ConfigurationError) as caught:
        PlainUpload(client, Target(path=PATH), size=MAX_POST_OBJECT + 1)
    first, second = caught.value.problems
    assert "the form of a grant holds 5112 MiB (5 GiB with its fields) at most" in first
    assert "use a signer or part URLs" in second
    assert not oss.requests


@pytest.mark.parametrize("largest", [len(DATA), 2**40])
def test_stream_that_grows_too_large(oss, largest):
    """The disk takes no more than the form can carry: what is granted, or OSS's limit."""
    signer = FormSigner(oss)
    grant = evolve(signer.grant(PATH), largest=largest)
    signer.grant = lambda path: grant
    upload = PlainUpload(client_of(signer), Target(path=PATH))
    upload.add(MemoryBody(DATA))
    upload.add(MemoryBody(b""))
    with pytest.raises(TooLargeError, match=r"form of a grant holds .* at most"):
        upload.add(Huge())
    upload.discard()
    assert not oss.requests


def test_md5_cannot_be_insisted_on(oss):
    """No MD5 comes back from a form, so to insist on one is refused before any byte."""
    with pytest.raises(ConfigurationError, match="ETag of a form upload is not an MD5"):
        store(oss, checksum="md5")
    assert not oss.requests


# -- what the reply proves -----------------------------------------------------------------


@pytest.mark.parametrize("checksum", ["auto", "none"])
def test_reply_without_a_checksum(oss, checksum):
    """The receipt says so; an ETag that looks like an MD5 is not taken for one."""
    oss.faults.add(Fault(action="PostObject", no_crc=True))
    receipt = store(oss, checksum=checksum)
    assert receipt.verified == "none"
    assert stored(oss) == DATA


# -- retries -------------------------------------------------------------------------------


class LookingSigner(FormSigner):
    """A grant together with a signer that permits HeadObject."""

    def sign(self, operations):
        keys = KeySigner.from_options()
        looks = [one for one in operations if one.action is Action.HeadObject]
        return keys.sign(looks) if looks else super().sign(operations)


@pytest.mark.parametrize("checksum", ["auto", "none"])
def test_lost_replies_where_it_can_be_seen(oss, checksum):
    """HEAD shows size and CRC-64 of what was sent; its ETag, no MD5, is not compared."""
    oss.faults.add(Fault(action="PostObject", **LOST))
    if checksum == "auto":
        assert store(oss, signer=LookingSigner(oss)).verified == "crc64"
        oss.faults.add(Fault(action="HeadObject", no_crc=True, times=None))
    with pytest.raises(NetworkError) as caught:
        store(oss, signer=LookingSigner(oss), checksum=checksum)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert stored(oss) == DATA


@pytest.mark.parametrize("by_policy", [False, True])
def test_own_first_try_may_be_what_exists(oss, by_policy):
    """If a retry may not replace, an existing object may be its own: outcome unknown."""
    lock = {FORBID_OVERWRITE: "true"}
    signer = FormSigner(oss, more=lock if by_policy else {})
    oss.faults.add(Fault(action="PostObject", drop_reply=True, times=1))
    with pytest.raises(OutcomeUnknownError, match="unknown") as caught:
        store(oss, signer=signer, headers={} if by_policy else lock)
    assert caught.value.outcome is Outcome.UNKNOWN


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "ec", "words"),
    [
        (("starts-with", "key", ("out/",)), "0006-00000227", '"starts-with", "$key"'),
        (("eq", "x-oss-meta-a", ("1",)), "0006-00000226", "x-oss-meta-a"),
    ],
)
def test_condition_that_is_not_met(oss, condition, ec, words):
    """The error names the condition; no retry would help."""
    signer = FormSigner(oss, conditions=[PolicyCondition(*condition)])
    with pytest.raises(AccessDeniedError) as caught:
        store(oss, signer=signer)
    error = caught.value
    assert (error.ec, error.reason, error.tries) == (ec, RefusalReason.POLICY, 1)
    assert words.replace(" ", "") in str(error).replace(" ", "")
    assert "the policy of the grant does not allow it" in str(error)
    assert error.outcome is Outcome.NOT_STORED
