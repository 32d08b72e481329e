"""Uploads through servers that speak their own words; the store verifies what it gets."""

from __future__ import annotations

import os
import pickle

import fsspec
import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    BlindAnswerWarning,
    ConfigurationError,
    NotSignedError,
    Outcome,
    OutcomeUnknownError,
    PublishWarning,
    SignerError,
    TooLargeError,
)
from fsspec_osspresigned.model import Action
from tests.upload_servers import Companion, DashScope

MIB = 1024 * 1024
LARGE = memoryview(os.urandom(11 * MIB))  # its repr is short
KEY = "sk-CANARYdashscope"


@pytest.fixture
def dashscope(oss, monkeypatch):
    """Model Studio's server of policies."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    with DashScope(oss) as server:
        yield server


@pytest.fixture
def companion(oss):
    """A Companion without a proxy before it."""
    with Companion(oss) as server:
        yield server


def studio(server, **options):
    """Return a filesystem of files for a model."""
    usual = {
        "broker": f"dashscope+{server.url}",
        "broker_options": {"model": "qwen-vl-plus"},
        "retries": 1,
    }
    return fsspec.filesystem("osspresigned", **{**usual, **options})


def uppy(server, **options):
    """Return a filesystem of Companion's uploads."""
    options = {"retries": 1, "part_size": 5 * MIB, **options}
    return fsspec.filesystem(
        "osspresigned", broker=f"companion+{server.url}", **options
    )


def stored(oss, location):
    """Return the bytes of the object with the server's name *location*."""
    return oss.objects("examplebucket").get(location.removeprefix("oss://"))


def parts_sent(oss):
    """Return the number of parts that the store got."""
    return sum(record.action == Action.UploadPart for record in oss.requests)


# -- one form ---------------------------------------------------------------------------------


def test_files_for_a_model_are_one_form_each(oss, dashscope):
    """The receipt has the URL that a model reads, and a warning tells its lifetime."""
    fs = studio(dashscope)
    with pytest.warns(PublishWarning, match="48 hours") as caught:
        receipt = fs.pipe_file("files/photo.jpg", b"picture")
    assert receipt.location.startswith("oss://dashscope-instant/qwen-vl-plus/")
    assert receipt.location.endswith("/photo.jpg")
    assert receipt.location in str(caught[0].message)
    assert stored(oss, receipt.location) == b"picture"
    assert receipt.verified == "crc64"
    assert fs.url("files/photo.jpg") == receipt.location
    assert dashscope.calls == ["GET /api/v1/uploads"]


def test_one_policy_stores_many_files_while_it_is_valid(oss, dashscope):
    """Names below the first folder keep their place, so equal names do not collide."""
    fs = studio(dashscope)
    with pytest.warns(PublishWarning):
        receipts = fs.pipe({f"files/{n}/a.jpg": bytes([n]) for n in range(20)})
    assert dashscope.calls == ["GET /api/v1/uploads"]
    assert len({receipt.location for receipt in receipts}) == 20
    for receipt in receipts:
        number = int(receipt.path.split("/")[1])
        assert stored(oss, receipt.location) == bytes([number])


def test_an_expired_policy_is_asked_for_anew(oss, dashscope):
    """What the store refuses as expired is sent once more, with another policy."""
    oss.faults.add(Fault(status=403, code="AccessDenied", ec="0006-00000213", times=1))
    with pytest.warns(PublishWarning):
        receipt = studio(dashscope).pipe_file("files/a", b"1")
    assert receipt.resigns == 1
    assert dashscope.calls == ["GET /api/v1/uploads"] * 2


def test_too_large_a_file_is_refused_before_it_is_sent(oss, dashscope):
    """The limit of the model is that of the policy, and of the reply."""
    dashscope.largest_mb = 1
    fs = studio(dashscope)
    with pytest.raises(TooLargeError, match="at most 1048576 bytes"):
        fs.pipe_file("files/a", bytes(MIB + 1))
    with (
        pytest.raises(TooLargeError, match="at most"),
        fs.open("files/a", "wb") as file,
    ):
        for _ in range(20):
            file.write(bytes(MIB))
    assert not oss.objects("examplebucket")
    assert not oss.requests


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"broker_options": None}, "name of the model that will read"),
        ({"broker_options": {"modell": "x"}}, "no option 'modell'"),
        ({"signer": "keys"}, "broker= stands alone"),
        ({"broker": "dashscop"}, "known are companion, dashscope"),
    ],
)
def test_wrong_options_are_named_before_anything_is_asked(dashscope, options, match):
    """What is missing or wrong is said at once, with what is right."""
    with pytest.raises(ConfigurationError, match=match):
        studio(dashscope, **options)
    assert not dashscope.calls


def test_a_missing_key_is_named(oss, dashscope, monkeypatch):
    """Without a token, the variable that holds it is named."""
    monkeypatch.delenv("DASHSCOPE_API_KEY")
    with pytest.raises(ConfigurationError, match="DASHSCOPE_API_KEY is not set"):
        studio(dashscope).pipe_file("files/a", b"1")


def test_a_refusal_hides_the_token(oss, dashscope, monkeypatch):
    """The server repeats what it got, and the error does not."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-CANARYwrong")
    with pytest.raises(SignerError, match="HTTP 401") as caught:
        studio(dashscope).pipe_file("files/a", b"1")
    assert "CANARY" not in str(caught.value)
    assert "check signer_token=" in str(caught.value)


def test_a_token_is_sent_only_where_its_owner_is(oss, dashscope):
    """Options of others cannot send the token of the environment elsewhere."""
    with pytest.raises(ConfigurationError, match="OSSPRESIGNED_TRUST"):
        fsspec.filesystem(
            "osspresigned",
            broker="dashscope+https://elsewhere.example.com",
            broker_options={"model": "m"},
        )


# -- forms and parts --------------------------------------------------------------------------


def test_small_files_are_one_form_at_companion(oss, companion):
    """The server's key is in the receipt; two calls store a small file."""
    receipt = uppy(companion).pipe_file("photos/a b.jpg", b"picture")
    assert receipt.location.endswith("-photos/a b.jpg")
    assert stored(oss, receipt.location) == b"picture"
    assert companion.calls == ["GET /s3/params"]


def test_large_files_are_parts_at_companion(oss, companion):
    """URLs of parts come together; the server completes the upload."""
    receipt = uppy(companion).pipe_file("photos/a.bin", LARGE)
    assert stored(oss, receipt.location) == LARGE
    assert receipt.verified == "crc64"
    assert [part.size for part in receipt.parts] == [5 * MIB, 5 * MIB, MIB]
    kinds = [call.split("/")[-1] for call in companion.calls]
    assert kinds == ["multipart", "batch", "complete"]


def test_a_stream_of_unknown_length_is_stored(oss, companion):
    """A stream needs no length, and an exception publishes nothing."""
    fs = uppy(companion)
    with fs.open("a/b", "wb") as file:
        for start in range(0, len(LARGE), MIB):
            file.write(LARGE[start : start + MIB])
    assert stored(oss, file.receipt.location) == LARGE
    with pytest.raises(ZeroDivisionError), fs.open("a/c", "wb") as file:
        file.write(LARGE)
        raise ZeroDivisionError
    assert companion.calls[-1].startswith("DELETE ")
    assert len(oss.objects("examplebucket")) == 1
    assert not oss.uploads("examplebucket")


def test_an_expired_part_is_signed_again(oss, companion):
    """What the store refuses as expired is asked for once more."""
    oss.faults.add(
        Fault(
            action=Action.UploadPart,
            status=403,
            code="AccessDenied",
            ec="0002-00000236",
            times=1,
        )
    )
    receipt = uppy(companion, max_concurrency=1).pipe_file("a/b", LARGE)
    assert receipt.resigns == 1
    assert stored(oss, receipt.location) == LARGE


def test_a_lost_last_reply_is_an_unknown_outcome(oss, companion):
    """The object may be stored, and nothing that the server offers could tell."""
    companion.lose("complete", times=2)
    with pytest.raises(OutcomeUnknownError) as caught:
        uppy(companion).pipe_file("a/b", LARGE)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert len(oss.objects("examplebucket")) == 1


def test_a_last_call_that_failed_is_known_to_have_failed(oss, companion):
    """The server still lists the parts, so nothing was published."""
    companion.refuse("complete", 503, times=9)
    with pytest.raises(OSError, match="HTTP 503") as caught:
        uppy(companion).pipe_file("a/b", LARGE)
    assert caught.value.outcome is Outcome.NOT_STORED
    assert not oss.objects("examplebucket")
    assert not oss.uploads("examplebucket")


def test_refused_calls_are_tried_again_as_any_other(oss, companion):
    """Each call of the server goes through the one loop of attempts."""
    for piece in ("POST /s3/multipart", "batch", "complete"):
        companion.refuse(piece, 503)
    receipt = uppy(companion, retries=3).pipe_file("a/b", LARGE)
    assert stored(oss, receipt.location) == LARGE
    assert receipt.retries >= 1


def test_an_upload_is_resumed_by_another_client(oss, companion, tmp_path):
    """The journal has what a later process needs; stored parts are not sent again."""
    (tmp_path / "big").write_bytes(LARGE)
    options = {"checkpoint": str(tmp_path / "journals")}
    companion.refuse("complete", 400, document={"error": "not now"})
    with pytest.raises(OSError, match="not now"):
        uppy(companion, **options).put_file("big", "a/big")
    sent = parts_sent(oss)
    uppy(companion, retries=2, **options).put_file("big", "a/big")
    assert parts_sent(oss) == sent == 3
    assert [*oss.objects("examplebucket").values()] == [LARGE]


def test_what_a_server_does_not_offer_is_refused(oss, companion):
    """Headers that no call of the server takes are refused before the first byte."""
    fs = uppy(companion)
    with pytest.raises(NotSignedError, match="x-oss-meta-a"):
        fs.pipe_file("a/b", LARGE, metadata={"a": "b"})
    with (
        pytest.warns(BlindAnswerWarning),
        pytest.raises(FileNotFoundError, match="not visible"),
    ):
        fs.cat_file("a/c")
    assert not oss.requests


def test_a_filesystem_of_a_broker_can_be_pickled(oss, companion):
    """Another process gets the spelling, and makes its own broker."""
    fs = pickle.loads(pickle.dumps(uppy(companion)))
    assert fs.pipe_file("a/b", b"1").location
