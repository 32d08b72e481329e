"""Every signer at every stage of a failure: no secret in any variable of ours.

Each signer fails alone, also those whose URLs were written out in the options, and
whatever outlives or surrounds an upload is read: journals, receipts, progress bars,
thread names.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
import threading
import traceback
import warnings
from pathlib import Path

import pytest
from fsspec.callbacks import TqdmCallback

import fsspec_osspresigned
from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART, Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials
from tests.form_signer import grant_of

BUCKET = "examplebucket"
PATH = f"{BUCKET}/a"
PACKAGE = str(Path(fsspec_osspresigned.__file__).parent)
CANARIES = ("CANARYkeySecret0123", "CANARYsecurityToken0123", "CANARYbearerToken0123")
_SIGNATURE = re.compile(
    r"(?i)signature(=|%3D)(?!<hidden>)[0-9a-z%/+]{20,}"
    r"|signature\W+[0-9a-f]{64}\b"  # in the fields of a form
    r"|eyJleHBpcmF0aW9u"  # the beginning of every policy in base64
)


def check(text: str) -> None:
    """Fail if a secret is in *text*, without showing it."""
    for number, canary in enumerate(CANARIES):
        assert canary not in text, f"secret {number}"
    found = _SIGNATURE.search(text)
    assert found is None, text[max(0, found.start() - 300) : found.start()]


def check_error(error: BaseException) -> None:
    """Fail if a secret is in a message, or in a variable of a frame of ours."""
    seen, waiting, frames = set(), [error], 0
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        check(f"{one!r} {one} {getattr(one, '__notes__', '')} {vars(one)}")
        summary = traceback.StackSummary.extract(
            traceback.walk_tb(one.__traceback__), capture_locals=True
        )
        for frame in summary:
            if frame.filename.startswith(PACKAGE):
                frames += 1
                check("".join(f"{k} = {v}\n" for k, v in (frame.locals or {}).items()))
    assert frames


@pytest.fixture
def store_options():
    """The keys of the owner are canaries."""
    key = Credentials("LTAI5tCanary", Secret(CANARIES[0]), Secret(CANARIES[1]))
    return {"credentials": [key]}


@pytest.fixture
def environment(oss, monkeypatch):
    """The environment of ``signer_token=``, and the keys of the store."""
    assert oss.credentials.access_key_secret.reveal() == CANARIES[0]
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", CANARIES[2])


class Function:
    """A signer function of a user, which returns URLs as str and fails on demand."""

    fails: Exception | None = None
    makes = None

    def __call__(self, operations):
        if self.fails is not None:
            raise self.fails
        return [self.makes(operation) for operation in operations]


@pytest.fixture(
    params=["url", "url text", "map", "map text", "grant", "keys", "http", "function"]
)
def options(request, oss, owner, environment):
    """Storage options of each kind of signer; nothing but *a* is granted to maps."""
    kind = request.param
    if kind == "http":
        policy = Policy(
            name="p", prefixes=(f"{BUCKET}/a",), actions=frozenset({Action.PutObject})
        )
        digest = hashlib.sha256(CANARIES[2].encode()).hexdigest()
        app = create_app(KeySigner.from_options(), tokens={digest: policy})
        with LoopbackServer(app) as service:
            yield {"signer": service.url, "signer_token": lambda: CANARIES[2]}
        return
    function = Function()
    function.makes = lambda operation: owner.url(operation.key, operation.action.method)
    yield {
        "url": lambda: {"url": owner.url_file("a")},
        "url text": lambda: {"url": owner.url("a")},
        "map": lambda: {"url_map": owner.map_file("a")},
        "map text": lambda: {"url_map": {PATH: owner.url("a")}},
        "grant": lambda: {"grant": grant_of(oss, BUCKET, "")},
        "keys": lambda: {"signer": "keys"},
        "function": lambda: {"signer": function},
    }[kind]()


FAULTS = {
    "send": {"reset": True},
    "body": {"cut_after": 10},
    "reply": {"status": 403, "code": "SignatureDoesNotMatch"},
    "refused": {"refuse": "signature"},
    "expired": {"refuse": "expired"},
    "token": {"refuse": "token-expired"},
    "retry": {"status": 500, "times": None},
    "lost": {"drop_reply": True, "times": None},
    "damage": {"wrong_crc": True, "times": None},
}


@pytest.mark.parametrize("stage", FAULTS)
def test_failure_of_the_store(oss, options, stage, caplog):
    """Nothing secret in messages, notes, causes, logs and variables."""
    caplog.set_level(logging.DEBUG)
    fs = OSSPresignedFileSystem(**options, retries=1, retry_timeout=0.2)
    action = "PostObject" if "grant" in options else "PutObject"
    for act in (
        lambda: fs.pipe_file(PATH, b"x" * 1000),
        lambda: write(fs, PATH),
        lambda: fs.pipe({PATH: b"x"}),
    ):
        oss.faults.clear()
        oss.faults.add(Fault(**{"action": action, "times": 2, **FAULTS[stage]}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                act()
            except OSError as error:
                check_error(error)
            else:
                assert stage in ("send", "body", "lost"), "it did not fail"
    check(caplog.text)


def test_an_exception_of_the_program(oss, caplog):
    """The log of a discarded file hides a signature in the program's own exception."""
    caplog.set_level(logging.DEBUG)
    fs = OSSPresignedFileSystem(signer="keys")
    with pytest.raises(ValueError, match="mine"), fs.open(PATH, "wb"):
        raise ValueError("mine: https://h/k?Signature=c2VjcmV0")
    assert "mine" in caplog.text
    assert "c2VjcmV0" not in caplog.text


def write(fs, path):
    """Write one small object."""
    with fs.open(path, "wb") as file:
        file.write(b"x")


def test_failure_to_sign(options, monkeypatch, caplog):
    """No error of a signer shows a secret: no entry, a refusal, or a defect."""
    caplog.set_level(logging.DEBUG)
    fs = OSSPresignedFileSystem(**options, retries=0)
    other = "otherbucket/other" if "grant" in options else f"{BUCKET}/other"
    signer = options.get("signer")
    if isinstance(signer, Function):
        signer.fails = LookupError("no such thing")
    elif signer == "keys":
        monkeypatch.delenv("OSS_ACCESS_KEY_SECRET")
    for act in (
        lambda: fs.pipe_file(other, b"x"),
        lambda: write(fs, other),
    ):
        with pytest.raises(Exception) as caught:
            act()
        check_error(caught.value)
    check(caplog.text)


@pytest.mark.parametrize(
    "answer", ["TOPSECRET0 TOPSECRET0", Secret("TOPSECRET0\nTOPSECRET0")]
)
@pytest.mark.parametrize("place", ["function", "variable", "file"])
def test_token_that_is_refused(monkeypatch, tmp_path, place, answer):
    """It stays in no variable, wherever it came from."""
    text = answer if isinstance(answer, str) else answer.reveal()
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", text)
    (tmp_path / "osspresigned-token").write_text(text + "\n")
    token = {
        "function": lambda: answer,
        "variable": "env:OSSPRESIGNED_TOKEN",
        "file": f"file:{tmp_path / 'osspresigned-token'}",
    }[place]
    fs = OSSPresignedFileSystem(signer="https://sign.example.com", signer_token=token)
    with pytest.raises(OSError, match="no bearer token") as caught:
        fs.pipe_file(PATH, b"x")
    monkeypatch.setattr(sys.modules[__name__], "CANARIES", ("TOPSECRET0",))
    check_error(caught.value)


def test_whatever_surrounds_an_upload(
    oss, environment, tmp_path, monkeypatch, capsys, caplog
):
    """Thread names, a progress bar, receipts, a journal and what is said of it."""
    caplog.set_level(logging.DEBUG)
    local = tmp_path / "local"
    local.write_bytes(bytes(5 * MIN_PART))
    journals, receipts = tmp_path / "journals", tmp_path / "receipts"
    fs = OSSPresignedFileSystem(
        signer="keys",
        part_size=MIN_PART,
        multipart_threshold=MIN_PART,
        resume_dir=str(journals),
        receipts=str(receipts),
        retries=0,
    )
    names = set()
    bar = TqdmCallback(tqdm_kwargs={"desc": PATH})
    send = fs.client.transport.send

    def spy(*args, **kwargs):
        names.update(thread.name for thread in threading.enumerate())
        return send(*args, **kwargs)

    monkeypatch.setattr(fs.client.transport, "send", spy)
    oss.faults.add(Fault(action="UploadPart", part_number=4, status=403, times=None))
    with pytest.raises(OSError) as caught:
        fs.put_file(str(local), PATH, callback=bar)
    check_error(caught.value)
    found = [path for path in journals.iterdir() if path.stat().st_size]
    assert found
    for path in found:
        check(path.read_text())
    oss.faults.clear()
    fs.put_file(str(local), PATH, callback=bar)
    bar.close()
    assert names
    check(" ".join(names))
    for path in receipts.iterdir():
        check(path.read_text())
    said = capsys.readouterr()
    check(said.out + said.err + caplog.text)
