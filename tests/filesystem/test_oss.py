"""``oss://`` with the option names of ossfs: what it signs with, and what stays hidden."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import fsspec
import pandas as pd
import pytest
from fsspec.config import conf

from fsspec_osspresigned.errors import ConfigurationError, SignatureMismatchError
from fsspec_osspresigned.filesystem.oss import OSSFileSystem, register_oss
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials

BUCKET = "examplebucket"
PATH = f"oss://{BUCKET}/a"
OWNER = Credentials("LTAI5tOwnerOfOss", Secret("secret-of-the-owner-0815"))
TEMPORARY = Credentials(
    "STS.TemporaryOfOss",
    Secret("secret-of-a-while-0816"),
    Secret("token+of+oss/0817=="),
)
NAMES = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_ENDPOINT")


@pytest.fixture
def store_options():
    return {"credentials": [OWNER, TEMPORARY]}


@pytest.fixture(autouse=True)
def registered():
    """Have the scheme, and no filesystem of another test."""
    register_oss()
    yield
    OSSFileSystem.clear_instance_cache()


@pytest.fixture
def options(oss, monkeypatch):
    """The options of ossfs; the environment has no key."""
    for name in NAMES:
        monkeypatch.delenv(name)
    return of(OWNER) | {"endpoint": oss.url}


def of(key):
    """Return the options of an access key."""
    names = {"key": key.access_key_id, "secret": key.access_key_secret.reveal()}
    if key.security_token:
        names["token"] = key.security_token.reveal()
    return names


@pytest.mark.parametrize("key", [OWNER, TEMPORARY], ids=["permanent", "temporary"])
def test_options_of_ossfs(options, key, oss):
    """A program for ossfs writes and reads, with nothing but its own options."""
    given = {"endpoint": options["endpoint"], **of(key)}
    frame = pd.DataFrame({"n": [1, 2]})
    frame.to_csv(PATH, index=False, storage_options=given)
    assert oss.objects(BUCKET)["a"] == b"n\n1\n2\n"
    assert pd.read_csv(PATH, storage_options=given).equals(frame)
    fs = fsspec.filesystem("oss", **given)
    assert isinstance(fs, OSSFileSystem)
    assert fs.ls(f"oss://{BUCKET}", detail=False) == [f"{BUCKET}/a"]
    assert fs.unstrip_protocol(f"{BUCKET}/a") == PATH
    assert {r.status for r in oss.requests} <= {200, 206}


def test_a_wrong_secret_is_refused_by_the_store(options):
    """The keys of the options sign, not those of the environment."""
    fs = fsspec.filesystem("oss", **{**options, "secret": "another"})
    with pytest.raises(SignatureMismatchError):
        fs.pipe_file(PATH, b"1")


def test_no_secret_is_shown_or_pickled(options):
    """The key is neither in options nor in pickles; the error names the remedy."""
    fs = fsspec.filesystem("oss", **{**options, **of(TEMPORARY)})
    shown = f"{fs!r} {fs.storage_options!r} {vars(fs)!r}"
    assert TEMPORARY.access_key_secret.reveal() not in shown
    assert TEMPORARY.security_token.reveal() not in shown
    for export in (fs.to_json, lambda: pickle.dumps(fs)):
        with pytest.raises(TypeError, match="'keys' with the key in the environment"):
            export()


def test_keys_of_the_environment(options, oss, monkeypatch):
    """Without a key, and without another source, the environment's sign; it pickles."""
    given = {"endpoint": options["endpoint"]}
    with pytest.raises(ConfigurationError, match="OSS_ACCESS_KEY_ID is not set"):
        fsspec.filesystem("oss", **given)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", OWNER.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", OWNER.access_key_secret.reveal())
    fs = fsspec.filesystem("oss", key=None, secret="", **given)
    assert pickle.loads(pickle.dumps(fs)) is fs
    fs.pipe_file(PATH, b"1")
    assert oss.objects(BUCKET)["a"] == b"1"


def test_keys_of_the_configuration(options, oss, monkeypatch):
    """The configuration of ``oss`` counts, and what is passed wins over it."""
    monkeypatch.setitem(conf, "oss", options | {"part_size": "1MiB"})
    fsspec.filesystem("oss").pipe_file(PATH, b"1")
    assert oss.objects(BUCKET)["a"] == b"1"
    shown = repr(fsspec.filesystem("oss").storage_options)
    assert OWNER.access_key_secret.reveal() not in shown
    with pytest.raises(SignatureMismatchError):
        fsspec.filesystem("oss", key=OWNER.access_key_id, secret="no").ls(BUCKET)
    calls = []

    def sign(operations):
        calls.extend(operations)
        raise RuntimeError("asked")

    with pytest.raises(OSError, match="asked"):
        fsspec.filesystem("oss", signer=sign).pipe_file(PATH, b"2")
    assert calls


def test_two_sources_are_an_error(options):
    """A key signs alone."""
    with pytest.raises(ConfigurationError, match="give one of them"):
        fsspec.filesystem("oss", signer="keys", **options)


def test_a_configured_key_signs_for_no_endpoint_of_others(options, monkeypatch):
    """Options of others may not send what the user's key signs to another host."""
    evil = "https://evil.example.com"
    monkeypatch.setitem(conf, "oss", options)
    with pytest.raises(ConfigurationError, match="would get what your keys sign"):
        fsspec.filesystem("oss", endpoint=evil, region="cn-hangzhou")
    for part in ({"key": "LTAI5tOther"}, {"token": "other"}, {"secret": "other"}):
        with pytest.raises(ConfigurationError, match="key= and secret="):
            fsspec.filesystem("oss", endpoint=evil, region="cn-hangzhou", **part)
    # Whoever has the key may choose where it signs.
    fsspec.filesystem("oss", **{**options, "endpoint": evil}, region="cn-hangzhou")


def test_registration_is_asked_for():
    """Only ``register_oss`` registers the scheme, in place of ossfs."""
    code = (
        "import json, fsspec, fsspec_osspresigned as ours;"
        "before = fsspec.registry.get('oss') or fsspec.available_protocols() and None;"
        "ours.register_oss(); ours.register_oss();"
        "print(json.dumps([before, fsspec.get_filesystem_class('oss').__module__]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert json.loads(done.stdout) == [None, OSSFileSystem.__module__]
