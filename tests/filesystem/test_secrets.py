"""Canaries: no signature, key or token in anything that people or logs can see."""

from __future__ import annotations

import hashlib
import logging
import re
import traceback
import warnings

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials

ROOT = "examplebucket"
KEY_SECRET = "CANARYkeySecret0123456789"
STS = "CANARYsecurityToken0123456789"
TOKEN = "CANARYbearerToken0123456789"
_SIGNATURE = re.compile(r"(?i)signature=[0-9a-z%/+]{20,}")


@pytest.fixture
def store_options():
    """The keys of the owner are canaries."""
    key = Credentials(
        access_key_id="LTAI5tCanary",
        access_key_secret=Secret(KEY_SECRET),
        security_token=Secret(STS),
    )
    return {"credentials": [key]}


class Seen:
    """Everything that a person, a log or an error tracker could see."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def take(self, *things: object) -> None:
        """Keep how each thing shows itself."""
        for thing in things:
            self.texts += [repr(thing), str(thing), f"{thing}"]

    def failure(self, act) -> None:
        """Run what must fail, and keep its tracebacks with the values of all frames."""
        try:
            act()
        except OSError as error:
            self.take(error, *getattr(error, "__notes__", []))
            found = traceback.TracebackException.from_exception(
                error, capture_locals=True
            )
            self.texts.append("".join(found.format(chain=True)))
        else:
            pytest.fail("it did not fail")


def run(fs, seen, oss):
    """Do what succeeds, and fail in every way that tells something."""
    path = f"{ROOT}/in/a"
    seen.take(fs, fs.client, fs.client.signer, fs.client.transport, fs.client.options)
    with fs.open(path, "wb") as file:
        file.write(b"x" * 250_000)
        seen.take(file)
    seen.take(file.receipt, file.receipt.as_dict())
    seen.take(fs.pipe_file(path, b"1"), fs.info(path), fs.client.written)
    for fault in (
        {"status": 403, "code": "SignatureDoesNotMatch"},
        {"status": 403, "ec": "0002-00000069"},
        {"status": 500},
        {"drop_reply": True},
        {"cut_after": 0},
        {"wrong_crc": True},
    ):
        oss.clear()
        oss.faults.add(
            Fault(action="PutObject", times=None, **fault),
            Fault(action="HeadObject", times=None, **fault),  # it would find the object
        )
        seen.failure(lambda: fs.pipe_file(path, b"x"))
        seen.failure(lambda: fs.pipe({path: b"x", f"{ROOT}/in/b": b"y"}))
    oss.clear()
    oss.faults.add(Fault(action="UploadPart", status=403, times=None))
    seen.failure(lambda: stream(fs, path))
    oss.clear()


def stream(fs, path):
    """Write three parts."""
    with fs.open(path, "wb") as file:
        file.write(b"x" * 250_000)


def test_no_canary_is_ever_seen(oss, owner, tmp_path, monkeypatch, caplog):
    """Keys, tokens and signatures stay hidden in success and in failure."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG)
    seen = Seen()
    receipts = tmp_path / "receipts"
    options = {
        "part_size": "100KiB",
        "retries": 1,
        "retry_timeout": 0.2,
        "receipts": str(receipts),
    }
    policy = Policy(name="p", prefixes=(f"{ROOT}/in/",), actions=frozenset(Action))
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(OSSPresignedFileSystem(signer="keys", **options), seen, oss)
        app = create_app(KeySigner.from_options(), tokens={digest: policy})
        with LoopbackServer(app) as service:
            fs = OSSPresignedFileSystem(
                signer=service.url, signer_token="env:OSSPRESIGNED_TOKEN", **options
            )
            run(fs, seen, oss)
            seen.failure(lambda: fs.pipe_file(f"{ROOT}/out/a", b"x"))
        seen.failure(lambda: fs.pipe_file(f"{ROOT}/in/a", b"x"))  # the service is gone
        one = OSSPresignedFileSystem(url=owner.url_file("a"), retries=0)
        oss.faults.add(Fault(action="PutObject", status=403))
        seen.failure(lambda: one.pipe_file("", b"x"))
        seen.failure(lambda: one.pipe_file(f"{ROOT}/b", b"x"))
        listed = OSSPresignedFileSystem(url_map=owner.map_file("a"), retries=0)
        oss.faults.add(Fault(action="PutObject", status=403))
        seen.failure(lambda: listed.pipe_file(f"{ROOT}/a", b"x"))
        seen.failure(lambda: listed.pipe_file(f"{ROOT}/b", b"x"))
        seen.take(one, listed, one.client.signer, listed.client.signer)
        seen.failure(lambda: OSSPresignedFileSystem(url="env:NOT_SET_AT_ALL"))
    seen.take(*(w.message for w in caught))
    seen.texts += [caplog.text, *(p.read_text() for p in receipts.iterdir())]
    assert caplog.records
    assert len(seen.texts) > 100
    for text in seen.texts:
        for canary in (KEY_SECRET, STS, TOKEN):
            found = text.find(canary)
            assert found < 0, text[max(0, found - 500) : found + 100]
        match = _SIGNATURE.search(text)
        assert match is None, text[max(0, match.start() - 500) : match.end()]
