"""What an object may be stored with: limits of OSS, and how it is written as headers."""

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
        ({}, "a mapping, or a text"),
        ("", "a mapping, or a text"),
        (7, "a mapping, or a text"),
        ({"a": 1}, "strings to strings"),
        ({1: "a"}, "strings to strings"),
        ("a=b&a=c", "whose names differ"),
        ({str(n): "" for n in range(11)}, "10 tags at most, not 11"),
        ({"": "v"}, "names of 1 to 128"),
        ({"k" * 129: "v"}, "names of 1 to 128"),
        ({"k": "v" * 257}, "at most 256 characters"),
        ({"k": "a&b"}, "letters, digits, blanks"),
        ({"k;": "a"}, "letters, digits, blanks"),
        ({"k": "a\nb"}, "letters, digits, blanks"),
    ],
)
def test_bad_tags(given, problem):
    """What OSS would refuse is refused before it is signed."""
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
        ({"algorithm": "AES256", "key_id": "k"}, "KMS where there is a key_id"),
        ({"algorithm": "KMS", "key_id": "a b"}, "the ID of a KMS key"),
        ({"algorithm": "KMS", "key_id": 7}, "the ID of a KMS key"),
        ({"algorithm": "KMS", "data_encryption": "AES256"}, "data_encryption is SM4"),
    ],
)
def test_bad_encryption(given, problem):
    """What does not go together is refused."""
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
        ({}, "callbackUrl is one URL"),
        ({**CALL, "callbackUrl": ";"}, "callbackUrl is one URL"),
        ({**CALL, "callbackUrl": ";".join("abcdef")}, "up to 5"),
        ({**CALL, "callbackUrl": "https://example.com/a b"}, "URL-encoded"),
        ({**CALL, "callbackUrl": "https://example.com/ü"}, "URL-encoded"),
        ({**CALL, "callbackUrl": 7}, "callbackUrl is a text"),
        ({"callbackUrl": "https://example.com"}, "with a callbackBody"),
        ({**CALL, "callbackBodyType": "text/plain"}, "callbackBodyType is"),
        ({**CALL, "callbackSNI": "true"}, "callbackSNI is true or false"),
        ({**CALL, "callbackurl": "x"}, "without 'callbackurl'"),
        ({**CALL, "callback-var": ["x:a"]}, "callback-var has names such as"),
        ({**CALL, "callback-var": {"x:A": "v"}}, "callback-var has names such as"),
        ({**CALL, "callback-var": {"x:a": 1}}, "callback-var has names such as"),
        ({**CALL, "callbackBody": "b" * 5000}, "at most 5120 bytes"),
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
        "tagging": {"": ""},
        "server_side_encryption": "rot13",
        "traffic_limit": 1,
        "callback": {"callbackUrl": "https://example.com/?token=s3cret"},
    }
    with pytest.raises(ConfigurationError) as caught:
        Options.from_storage_options(given)
    assert len(caught.value.problems) == 5
    assert "s3cret" not in str(caught.value)
