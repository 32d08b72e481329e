"""Secrets cannot be printed by accident."""

from __future__ import annotations

import copy
import json
import pickle
import re
from base64 import b64encode
from urllib.parse import quote

import pytest

from fsspec_osspresigned.secret import (
    HiddenList,
    HiddenMapping,
    Secret,
    SecretURL,
    redact,
)

URL = "https://u:p@b.example/k%20y?Expires=1&Signature=TOPSECRET#f"


@pytest.mark.parametrize("kind", [Secret, SecretURL])
def test_hides_itself(kind):
    """Neither repr nor str nor any format shows the text."""
    secret = kind(URL)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>99}", f"{secret:>99}"]
    assert not any("TOPSECRET" in text or "u:p" in text for text in shown)
    assert "%s" % secret == repr(secret)  # noqa: UP031 - as logging does
    assert secret.reveal() == URL


@pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy])
def test_refuses_pickling(use):
    """A pickle would spell it out."""
    with pytest.raises(TypeError, match="env:NAME"):
        use(SecretURL(URL))


def test_equality_and_hash():
    """Equal texts are equal secrets, a text itself is not."""
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not hasattr(Secret("a"), "__dict__")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "https://b.example/k%20y?..."),
        ("http://h:9/", "http://h:9/"),
        ("http://[bad/", "(not a URL)"),
        ("no url", "(not a URL)"),
        ("https:///path", "(not a URL)"),
    ],
)
def test_shown(url, shown):
    """Scheme, host and path are shown, never the user or the query."""
    assert SecretURL(url).shown() == shown
    assert re.fullmatch(
        rf"<SecretURL {re.escape(shown)}, [0-9a-f]{{16}}>", repr(SecretURL(url))
    )


@pytest.mark.parametrize(
    "text",
    [
        "x-oss-signature=TOPSECRET",
        "x-oss-signature%3DTOPSECRET",
        "Signature=TOPSECRET&a=b",
        "security-token: TOPSECRET",
        "X-Amz-Credential=TOPSECRET",
        "OSSAccessKeyId=TOPSECRET",
        "accessKeyId = TOPSECRET",
        "Authorization: Bearer TOPSECRET",
        "basic TOPSECRET==",
        '{"signature": "TOPSECRET"}',
        '{"x-oss-security-token":"TOPSECRET"}',
        r"{\"sessionToken\": \"TOPSECRET\"}",
        "{'AccessKeySecret': 'TOPSECRET'}",
        "<SignatureProvided>TOPSECRET=</SignatureProvided>",
        "<OSSAccessKeyId>TOPSECRET</OSSAccessKeyId>",
        "AWS_SECRET_ACCESS_KEY=TOPSECRET",
    ],
)
def test_redact(text):
    """Values of signatures, tokens and key ids are blanked out."""
    assert "TOPSECRET" not in redact(text)
    assert "<hidden>" in redact(text)


V1 = "https://b.example/k?OSSAccessKeyId=SECRETID&security-token=SECRET/+=&Signature=SECRET%3D"
V4 = V1.replace("OSSAccessKeyId", "x-oss-credential").replace("&S", "&x-oss-s")
PAIR = "Authorization: Basic " + b64encode(b"user:SECRET?>SECRET").decode()
XML = "<Error>\n<SignatureProvided>SECRET</SignatureProvided></Error>"
DUMP = "\nSignature: SECRET\r\nOSSAccessKeyId = SECRETID\nsecurity-token:SECRET"


REPEATED = {
    "percent": lambda text: quote(text, safe=""),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON in percent": lambda text: quote(json.dumps(text), safe=""),
    "JSON in JSON in percent": lambda text: quote(json.dumps(json.dumps(text))),
    "JSON of Go": lambda text: re.sub("[&<=>?]", lambda m: f"\\u{ord(m[0]):04x}", text),
    "JSON of PHP": lambda text: json.dumps(text).replace("/", r"\/"),
}


@pytest.mark.parametrize("form", REPEATED)
@pytest.mark.parametrize("text", [V1, V4, PAIR, XML, DUMP, '{"sig": "SECRET"}'])
def test_redact_knows_the_escapes_of_other_programs(text, form):
    """A server may repeat a request percent-encoded or in JSON, also more than once."""
    shown = redact(f"refused: {REPEATED[form](text)}")
    assert "<hidden>" in shown
    assert "SECRET" not in shown
    assert PAIR[-16:-4] not in shown


def test_redact_hides_each_name_after_an_escape():
    """No other value before it is hidden with it."""
    for name in ("Signature", "OSSAccessKeyId", "sig", "security-token"):
        for before in ("%3F", "%26", "%2526", "%253f", r"\u0026", r"\u003F", r"\n"):
            for sign in ("=", "%3D", "%253d", r"\u003d", r"\\u003D"):
                text = f"a=1{before}{name}{sign}"
                assert redact(text + "TOPSECRET") == text + "<hidden>"


def test_redact_leaves_the_rest():
    """Other text stays readable."""
    text = "no signature was sent for b/k?partNumber=3"
    assert redact(text) == text
    assert redact("no valid bearer token") == "no valid bearer token"
    document = "<Code>SignatureDoesNotMatch</Code><Message>signature</Message>"
    assert redact(document) == document
    assert redact("bearer token8") == "bearer <hidden>"


def test_redact_is_linear():
    """Text that almost is a secret does not hold up a message."""
    texts = ('signature"', "signature\\", "signature ", "signature=\"'")
    for text in (*texts, "signature%25", "26sig%2520", r"\\u00", "bearer%20"):
        assert redact(text * 20_000 + " " * 200_000)
    for text in ("\\", "%5C", r"\u005c", "%25"):
        assert redact("signature" + text * 100_000)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (Secret, "TOPSECRET", "ANOTHER"),
        (SecretURL, URL, URL.replace("TOPSECRET", "ANOTHER")),
        (HiddenMapping, {"b/k": URL}, {"b/k": "ANOTHER"}),
        (HiddenList, [URL], ["ANOTHER"]),
    ],
)
def test_two_secrets_have_two_reprs(kind, one, other):
    """The cache of fsspec compares options by their text: two secrets are never one."""
    assert repr(kind(one)) == repr(kind(one)) != repr(kind(other))
    assert "TOPSECRET" not in f"{kind(one)} {kind(one)!r}"
    assert kind(one) == kind(one) != kind(other)
