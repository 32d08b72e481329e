"""Every error: its families, its facts, and which reply becomes which."""

from __future__ import annotations

import base64
import copy
import errno
import inspect
import pickle

import pytest

from fsspec_osspresigned import errors
from fsspec_osspresigned.client.error_codes import MEANINGS, Meaning, from_reply
from fsspec_osspresigned.errors import Explanation, RefusalReason
from fsspec_osspresigned.model import Action, Operation, Reply

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.OSSPresignedError)
]
FAMILIES = [
    (errors.ConfigurationError, ValueError, errno.EINVAL),
    (errors.NotCoveredError, PermissionError, errno.EACCES),
    (errors.SignerUnavailableError, errors.SignerError, errno.EAGAIN),
    (errors.WrongRequestSignedError, PermissionError, errno.EACCES),
    (errors.URLExpiredError, PermissionError, errno.EACCES),
    (errors.SignatureMismatchError, PermissionError, errno.EACCES),
    (errors.ObjectNotFoundError, FileNotFoundError, errno.ENOENT),
    (errors.UploadNotFoundError, FileNotFoundError, errno.ENOENT),
    (errors.ObjectExistsError, FileExistsError, errno.EEXIST),
    (errors.InvalidRequestError, ValueError, errno.EINVAL),
    (errors.NetworkError, ConnectionError, errno.ECONNRESET),
    (errors.NetworkTimeoutError, TimeoutError, errno.ETIMEDOUT),
    (errors.TooLargeError, OSError, errno.EFBIG),
    (errors.UploadDiscardedError, OSError, errno.ECANCELED),
    (errors.UploadInProgressError, BlockingIOError, errno.EAGAIN),
    (errors.IntegrityError, OSError, errno.EIO),
]


CODES = [name for name in MEANINGS if not name[0].isdigit()]


def reply(status: int, code: str = "", *, headers=None, ec="", more="", message="no"):
    """Return the error that a reply of the store becomes."""
    body = (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>"
        f"<RequestId>R-1</RequestId><EC>{ec}</EC>{more}</Error>"
    )
    return failure(status, headers or {}, body.encode())


def failure(status, headers, body, action=Action.PutObject):
    """Return the error for a reply to *action* on b/k."""
    operation = Operation(action=action, bucket="b", key="k")
    return from_reply(operation, Reply(status=status, headers=headers, body=body))


@pytest.mark.parametrize(("kind", "family", "number"), FAMILIES)
def test_family_and_errno(kind, family, number):
    """Each error has the builtin base class and the errno of its cause."""
    error = kind("what", path="b/k")
    assert isinstance(error, family)
    assert error.errno == number
    assert error.filename == "b/k"
    assert error.message == "what"
    assert str(error) == f"[Errno {number}] what: 'b/k'"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_whole(kind):
    """Errno, path, each fact and the notes survive pickles and copies alike."""
    error = kind("what")
    error.filename = "b/k"
    error.add_note("a note")
    vars(error).update(
        {
            "path": "b/k",
            "status": 403,
            "code": "Code",
            "ec": "0001-00000001",
            "request_id": "R-1",
            "action": "PutObject",
            "retry_after": 1.5,
            "tries": 3,
            "explanation": Explanation(
                reason=RefusalReason.DENIED,
                cause="no",
                remedy="ask",
                differences=("a",),
            ),
        }
    )
    assert error.errno in errno.errorcode
    assert error.errno == kind("other").errno
    assert str(error) == f"[Errno {error.errno}] what: 'b/k'"
    pickles = [pickle.dumps(error, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)]
    copies = copy.copy(error), copy.deepcopy(error)
    for again in (*map(pickle.loads, pickles), *copies):
        assert type(again) is kind
        assert again.__dict__ == error.__dict__
        assert again.message == "what"
        assert str(again) == str(error)
        assert (again.errno, again.filename) == (error.errno, "b/k")


@pytest.mark.parametrize("code", [*CODES, "Other"])
def test_every_reply_is_told_whole(code):
    """The message has code, EC and request ID, and the error has path and errno."""
    facts = code, "0017-00000902", "R-1"
    for status in (400, 403, 404, 409, 503):
        error = reply(status, code, ec="0017-00000902")
        assert f"HTTP {status} {code}" in error.message
        assert error.message.endswith("[EC 0017-00000902, request id R-1]")
        assert (error.code, error.ec, error.request_id) == facts
        assert error.filename == error.path == "b/k"
        assert error.errno == type(error)("what").errno
        assert error.reason is MEANINGS.get(code, Meaning()).reason


def test_problems_are_listed():
    """One problem is the message, several are a list."""
    one = errors.ConfigurationError("bad")
    assert (one.message, one.problems) == ("bad", ("bad",))
    two = errors.ConfigurationError(p for p in ("a", "b"))
    assert two.message == "2 problems:\n- a\n- b"
    assert two.problems == ("a", "b")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "SignatureDoesNotMatch", errors.SignatureMismatchError),
        (403, "SecurityTokenExpired", errors.URLExpiredError),
        (403, "InvalidAccessKeyId", errors.AccessDeniedError),
        (403, "AccessDenied", errors.AccessDeniedError),
        (404, "NoSuchKey", errors.ObjectNotFoundError),
        (404, "NoSuchUpload", errors.UploadNotFoundError),
        (409, "FileAlreadyExists", errors.ObjectExistsError),
        (409, "SomethingElse", errors.StoreError),
        (400, "InvalidPart", errors.InvalidRequestError),
        (400, "BadDigest", errors.BodyCorruptedError),
        (400, "", errors.InvalidRequestError),
        (401, "", errors.AccessDeniedError),
        (403, "", errors.AccessDeniedError),
        (404, "", errors.ObjectNotFoundError),
        (408, "", errors.StoreUnavailableError),
        (429, "", errors.StoreUnavailableError),
        (500, "InternalError", errors.StoreUnavailableError),
        (503, "", errors.StoreUnavailableError),
        (301, "", errors.StoreError),
        (418, "", errors.InvalidRequestError),
    ],
)
def test_reply_becomes(status, code, kind):
    """Code decides before status."""
    error = reply(status, code)
    assert type(error) is kind
    assert (error.status, error.code) == (status, code or None)
    assert error.path == "b/k"
    assert error.action == "PutObject"
    assert f"PutObject was refused with HTTP {status}" in error.message


def test_head_carries_its_document_in_a_header():
    """Without a body, x-oss-err is read; nonsense in it is ignored."""
    text = base64.b64encode(b"<Error><Code>NoSuchKey</Code></Error>").decode()
    error = failure(404, {"x-oss-err": text}, b"", Action.HeadObject)
    assert error.code == "NoSuchKey"
    error = failure(404, {"x-oss-err": "%%%"}, b"", Action.HeadObject)
    assert type(error) is errors.ObjectNotFoundError
    assert error.code is None
    assert error.message == "HeadObject was refused with HTTP 404"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("", None), ("-1", None), ("Wed, 21 Oct", None), ("9999999", None)],
)
def test_retry_after(text, seconds):
    """Whole seconds are understood, up to eleven days."""
    assert reply(503, headers={"retry-after": text}).retry_after == seconds


def test_several_failures_have_the_outcome_that_they_share():
    """Stored objects without receipts are stored, and of a mixture nothing is known."""
    stored = errors.ReceiptFailedError("m", receipt=None)
    lost = errors.OutcomeUnknownError("m")
    plain = ValueError("m")
    for failures, outcome in (
        ([stored, stored], "stored"),
        ([lost], "unknown"),
        ([errors.NetworkError("m"), errors.NetworkError("m")], "not stored"),
        ([plain, errors.NetworkError("m")], "unknown"),
        ([plain], "unknown"),
        ([plain, stored], "unknown"),
        ([], "not stored"),
    ):
        several = errors.UploadErrors("m", failures=dict(enumerate(failures)))
        assert (several.outcome, pickle.loads(pickle.dumps(several)).outcome) == (
            outcome,
            outcome,
        )
