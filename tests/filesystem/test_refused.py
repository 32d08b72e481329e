"""Refusals are explained: each one provoked by a real upload that a store refuses."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
import traceback
from contextlib import contextmanager
from typing import Any

import pytest

from fsspec_osspresigned import errors
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.errors import RefusalReason
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest

BUCKET = "examplebucket"
PATH = f"{BUCKET}/dir/a.csv"
TOKEN = "CANARYsecurityToken0123456789"
KEY = Credentials("LTAI5tOwner", "CANARYsecret0123456789")
STS = Credentials("STS.NUowner", "CANARYsecret0123456789", TOKEN)
VERSIONS = pytest.mark.parametrize("version", ["v1", "v4"])
WAYS = pytest.mark.parametrize("way", ["url", "url_map", "keys"])


@pytest.fixture
def uploaded(tmp_path, monkeypatch):
    """Return what uploads an object in one of three ways, and returns its failure."""

    def upload(
        way: str,
        version: str,
        address: str,
        *,
        key: Credentials = KEY,
        name: str = "dir/a.csv",
        headers: dict[str, str] | None = None,
        at: float = 0.0,
        spoil: Any = str,
        **options: Any,
    ) -> errors.StoreError:
        path = f"{BUCKET}/{name}"
        url = PresignRequest(
            key,
            Endpoint.parse(address),
            method="PUT",
            bucket=BUCKET,
            key=name,
            headers=headers or {},
            version=version,
            region="cn-hangzhou",
            now=time.time() + at,
            expires_in=600,
        ).url()
        text = spoil(url.reveal())
        if way == "url":
            (tmp_path / "url").touch(mode=0o600)
            (tmp_path / "url").write_text(text)
            options["url"] = f"file:{tmp_path / 'url'}"
        elif way == "url_map":
            entry = {"url": text, "headers": headers or {}}
            whole = {"version": 1, "objects": {path: entry}}
            (tmp_path / "map.json").write_text(json.dumps(whole))
            (tmp_path / "map.json").chmod(0o600)
            options["url_map"] = str(tmp_path / "map.json")
        else:
            monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
            monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
            monkeypatch.setenv("OSS_ENDPOINT", address)
            monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
            if key.security_token:
                monkeypatch.setenv("OSS_SESSION_TOKEN", key.security_token.reveal())
            options |= {"signer": "keys", "signature_version": version}
        fs = OSSPresignedFileSystem(retries=0, **options)
        with pytest.raises(errors.StoreError) as caught:
            fs.pipe_file(path, b"x")
        error = caught.value
        check_harmless(error, key)
        assert error.path == error.filename == path
        return error

    return upload


def check_harmless(error: errors.StoreError, key: Credentials) -> None:
    """Check that nothing secret can be seen, and that a pickle keeps all."""
    own = error.__traceback__
    assert own is not None
    frames = traceback.StackSummary.extract(  # the first frame is that of the test
        traceback.walk_tb(own.tb_next), capture_locals=True
    )
    shown = "".join(frames.format()) + str(error) + repr(error.__dict__)
    shown += "".join(getattr(error, "__notes__", []))
    for secret in ("CANARY", "ignature=", key.access_key_id):
        at = shown.find(secret)
        assert at < 0, shown[max(0, at - 300) : at + 100]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.__dict__ == error.__dict__
    assert (again.errno, str(again)) == (error.errno, str(error))
    assert f"request id {error.request_id}" in error.message
    assert f"HTTP {error.status} {error.code}" in error.message
    assert error.ec is None or f"EC {error.ec}" in error.message


@VERSIONS
@WAYS
@pytest.mark.parametrize("key", [KEY, STS], ids=["key", "sts"])
def test_another_secret(uploaded, way, version, key):
    """For keys, the first cause is a wrong secret; for a URL, that it was edited."""
    server = Credentials(key.access_key_id, "another", key.security_token)
    with Emulator([server]) as oss:
        error = uploaded(way, version, oss.url, key=key)
    assert type(error) is errors.SignatureMismatchError
    assert error.reason is RefusalReason.MISMATCH
    assert error.explanation.differences == ()
    said = "the URL was changed or cut, or it is signed for another method or other headers"
    if way == "keys":
        said = "the secret does not belong to the access key ID: correct OSS_ACCESS_KEY_SECRET"
        assert "owner" not in error.message
    assert said in error.message


@VERSIONS
def test_a_content_type_that_was_sent_and_not_signed(uploaded, version):
    """The usual cause comes first, with the type."""
    with Emulator([KEY]) as oss:
        error = uploaded("url", version, oss.url, content_type="text/csv")
    assert "Content-Type 'text/csv' was sent, but the URL is probably" in error.message
    assert "send no Content-Type if none was signed" in error.message


@contextmanager
def gateway(oss: Emulator, change):
    """Stand between client and store, and change the head of each request."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = oss.url.removeprefix("http://").split(":")

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, socket.create_connection((host, int(port))) as store:
                data = b""
                while b"\r\n\r\nx" not in data:
                    data += client.recv(65536)
                head, _, body = data.partition(b"\r\n\r\n")
                head = change(head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                store.sendall(head + b"\r\n\r\n" + body)
                while block := store.recv(65536):
                    client.sendall(block)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


CHANGES = [
    (
        lambda head: head + b"\r\nContent-Type: text/html",
        "Content-Type arrived as 'text/html' and was not sent",
    ),
    (
        lambda head: head.replace(b"/a.csv", b"/A.csv", 1),
        f"the path was sent as '/{PATH}' and arrived as '/{BUCKET}/dir/A.csv'",
    ),
]


@VERSIONS
@pytest.mark.parametrize(("change", "line"), CHANGES)
def test_what_changes_on_the_way_is_named(uploaded, version, change, line):
    """The store's text beside the request shows header, parameter or path."""
    with Emulator([STS]) as oss, gateway(oss, change) as address:
        error = uploaded("url_map", version, address, key=STS)
    assert type(error) is errors.SignatureMismatchError
    assert error.explanation.differences == (line,)
    assert line in error.message
    assert "look for a proxy" in error.message


def test_the_offset_is_kept(environment, oss):
    """A client learns the offset of its clock from successes and failures."""
    fs = OSSPresignedFileSystem(signer="keys")
    assert fs.client.clock_offset is None
    fs.pipe_file(PATH, b"x")
    assert abs(fs.client.clock_offset) <= 2
    fs.client.clock_offset = None
    fs.cat_file(PATH)
    assert fs.client.clock_offset is None  # the Date of a long body is an old one
    with pytest.raises(FileNotFoundError):
        fs.cat_file(f"{PATH}.not")
    assert abs(fs.client.clock_offset) <= 2
