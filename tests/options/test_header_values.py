"""Headers of an object: OSS's limits, and their format."""

from __future__ import annotations

import base64
import json

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.options.header_values import callback, encryption, tagging
from fsspec_osspresigned.options.options import Options

CALL = {"callbackUrl": "https://example.com/done", "callbackBody": "key=${object}"}


def decoded(value):
    """Return what a callback header says."""
    return json.loads(base64.b64decode(value))


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"a": "b"}, "a=b"),
        ({"Team": "data lake", "v": "1+1=2"}, "Team=data%20lake&v=1%2B1%3D2"),
        ({"empty": ""}, "empty="),
        ("a=b&c=d", "a=b&c=d"),
        ("a=x+y&c", "a=x%20y&c="),
        ({"k" * 128: "v" * 256}, f"{'k' * 128}={'v' * 256}"),
        ({str(n): "" for n in range(10)}, "&".join(f"{n}=" for n in range(10))),
    ],
)
def test_tags(given, header):
    """Mappings and the text of OSS become the same header, encoded."""
    assert tagging(given) == header
    assert tagging(header) == header


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "a mapping of strings, or"),
        ("", "a mapping of strings, or"),
        (7, "a mapping of strings, or"),
        ({"a": 1}, "a mapping of strings, or"),
        ({1: "a"}, "a mapping of strings, or"),
        ("a=b&a=c", "whose names differ"),
    ],
)
def test_bad_tags(given, problem):
    """Values that OSS would refuse are refused before they are signed."""
    with pytest.raises(ValueError, match=problem):
        tagging(given)


def test_encryption():
    """The algorithm alone, or KMS with a key and what encrypts the data."""
    name = "x-oss-server-side-encryption"
    assert encryption("AES256") == {name: "AES256"}
    assert encryption({"algorithm": "SM4"}) == {name: "SM4"}
    given = {"algorithm": "KMS", "key_id": "9468da86-3509", "data_encryption": "SM4"}
    assert encryption(given) == {
        name: "KMS",
        f"{name}-key-id": "9468da86-3509",
        "x-oss-server-side-data-encryption": "SM4",
    }


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("aes256", "an algorithm of AES256, KMS, SM4"),
        ({}, "an algorithm of"),
        (7, "one of AES256, KMS, SM4, or a mapping"),
        ({"algorithm": "KMS", "key": "k"}, "or a mapping of algorithm, key_id"),
        ({"algorithm": "KMS", "key_id": "a\r\nb: c"}, "not printable ASCII"),
        ({"algorithm": "KMS", "key_id": 7}, "or a mapping of algorithm, key_id"),
    ],
)
def test_bad_encryption(given, problem):
    """Contradictory options are refused."""
    with pytest.raises(ValueError, match=problem):
        encryption(given)


def test_callback():
    """OSS's own fields are encoded as they are; variables have a header of their own."""
    assert {n: decoded(v) for n, v in callback(CALL).items()} == {
        "x-oss-callback": CALL
    }
    assert callback(json.dumps(CALL)) == callback(CALL)
    full = {
        **CALL,
        "callbackHost": "example.com",
        "callbackBodyType": "application/json",
        "callbackSNI": True,
    }
    found = callback({**full, "callback-var": {"x:who": "ü"}})
    assert decoded(found["x-oss-callback"]) == full
    assert decoded(found["x-oss-callback-var"]) == {"x:who": "ü"}
    assert callback({**CALL, "callbackUrl": "a.example/x;b.example/y"})


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("not json", "a mapping of OSS's callback fields"),
        ("[1]", "a mapping of OSS's callback fields"),
        (7, "a mapping of OSS's callback fields"),
        ({}, "with a callbackUrl"),
        ({**CALL, "callbackUrl": 7}, "with a callbackUrl"),
        ({"callbackUrl": "https://example.com"}, "with a callbackBody"),
        ({**CALL, "callbackurl": "x"}, "without 'callbackurl'"),
        ({**CALL, "callback-var": ["x:a"]}, "callback-var is a mapping of strings"),
        ({**CALL, "callback-var": {"x:a": 1}}, "callback-var is a mapping of strings"),
    ],
)
def test_bad_callback(given, problem):
    """A callback that OSS would refuse, or never make, is refused."""
    with pytest.raises(ValueError, match=problem):
        callback(given)


def test_all_problems_of_an_object_come_at_once():
    """Each bad option has its own line, and none shows what may be a secret."""
    given = {
        "signer": "keys",
        "acl": "open",
        "tagging": {"": 1},
        "server_side_encryption": "rot13",
        "traffic_limit": 1,
        "callback": {"callbackUrl": "https://example.com/?token=s3cret"},
    }
    with pytest.raises(ConfigurationError) as caught:
        Options.from_storage_options(given)
    assert len(caught.value.problems) == 5
    assert "s3cret" not in str(caught.value)
