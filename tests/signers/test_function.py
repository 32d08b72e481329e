"""Signers made of functions, chains of signers, and references to tokens."""

from __future__ import annotations

import sys
import types

import pytest

from fsspec_osspresigned.errors import (
    ConfigurationError,
    NotCoveredError,
    SignerError,
    SignerUnavailableError,
)
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.function import FunctionSigner, as_signer
from fsspec_osspresigned.signers.http import token_source

URL = "https://b.oss-cn-hangzhou.aliyuncs.com/k?Expires=1767229200&Signature=CANARY"


def put(key: str = "k", **members: object) -> Operation:
    """Return a PutObject."""
    return Operation(action=Action.PutObject, bucket="b", key=key, **members)  # type: ignore[arg-type]


def signer(answer: object, **options: object) -> FunctionSigner:
    """Return a signer whose function answers *answer*."""
    return FunctionSigner(lambda _: answer, clock=lambda: 1000.0, **options)  # type: ignore[arg-type]


def test_a_string_is_the_url_of_the_demanded_headers():
    """The simplest function returns one URL a request."""
    (request,) = signer([URL]).sign(
        [put(headers={"a": "1"}, optional_headers={"b": "2"})]
    )
    assert request.url.reveal() == URL
    assert request.headers == {"a": "1"}
    assert request.expires_at == 1767229200
    assert signer(URL).sign([put()])[0].method == "PUT"


def test_a_mapping_says_everything():
    """Headers and life can be said as well."""
    answer = {"url": URL, "headers": {"a": "1"}, "method": "PUT", "expires_in": 60}
    (request,) = signer([answer]).sign([put()])
    assert request.headers == {"a": "1"}
    assert (request.issued_at, request.expires_at) == (1000.0, 1060.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "returned a NoneType, not a list"),
        ([], "answered 0 of 1"),
        ([3], "a int, not a URL"),
        ([{}], "it has no url"),
        ([{"url": URL, "header": {}}], "unknown keys header"),
        (["ftp://x"], "is not an absolute"),
        (["http://example.com/?CANARY"], "plain http"),
        ([{"url": URL, "method": 3}], "method is not a string"),
        ([{"url": URL, "headers": [1]}], "headers are not a mapping"),
        ([{"url": URL, "headers": {1: ""}}], "headers are not a mapping"),
        ([{"url": URL, "headers": {"Cookie": "x"}}], "may not be set"),
        ([{"url": URL, "expires_in": 0}], "expires_in is not a positive"),
        ([{"url": URL, "expires_in": True}], "expires_in is not a positive"),
        ([{"url": URL, "expires_in": "9"}], "expires_in is not a positive"),
    ],
)
def test_other_answers_are_errors(answer, said):
    """Each mistake of a function has its message."""
    with pytest.raises(SignerError, match=said) as caught:
        signer(answer).sign([put()])
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotCoveredError("no"), NotCoveredError),
        (SignerUnavailableError("later"), SignerUnavailableError),
        (PermissionError("no"), NotCoveredError),
        (RuntimeError(f"at {URL}"), SignerError),
    ],
)
def test_errors_of_a_function_keep_their_family(error, expected):
    """A refusal stays one, anything else means that the signer is broken."""

    def fail(_: object) -> None:
        raise error

    with pytest.raises(expected) as caught:
        FunctionSigner(fail).sign([put()])
    assert "CANARY" not in str(caught.value)


@pytest.fixture
def module(monkeypatch):
    """A module of the user's."""
    found = types.ModuleType("users_signer")
    found.sign = lambda _: [URL]
    found.ready = signer([URL])
    found.Kind = FunctionSigner
    found.own = types.SimpleNamespace(sign=lambda _: ["own"], remote=True)
    monkeypatch.setitem(sys.modules, "users_signer", found)
    return found


def test_reference_is_imported(module):
    """A function and an object are wrapped, a Signer is taken as it is."""
    assert as_signer("users_signer:sign").sign([put()])
    assert as_signer("users_signer:ready") is module.ready
    own = as_signer("users_signer:own")
    assert isinstance(own, Signer)
    assert (own.sign([put()]), own.remote) == (["own"], True)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("users_signer", "not of the form module:function"),
        ("users signer:sign", "not of the form module:function"),
        ("users_signer:sign()", "not of the form module:function"),
        ("no_such_module_anywhere:sign", "raised ModuleNotFoundError"),
        ("users_signer:gone", "is a NoneType, neither"),
        ("users_signer:sign.gone", "is a NoneType, neither"),
        ("users_signer:Kind", "is a type, neither"),
    ],
)
@pytest.mark.usefixtures("module")
def test_bad_reference_is_named(reference, said):
    """The message says which step failed."""
    with pytest.raises(ConfigurationError, match=said):
        as_signer(reference)


def test_token_comes_from_its_reference(monkeypatch, tmp_path):
    """Each call reads again, so that a token can be renewed."""
    read = token_source("env:OSSPRESIGNED_TOKEN")
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", "abc==")
    assert read() == Secret("abc==")
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", "def")
    assert read() == Secret("def")
    file = tmp_path / "token"
    file.write_bytes(b"a.b-c_d~e+f/g=\r\n")
    assert token_source(f"file:{file}")() == Secret("a.b-c_d~e+f/g=")
    assert token_source(lambda: "abc")() == Secret("abc")
    assert token_source(lambda: Secret("abc"))() == Secret("abc")
    assert token_source(lambda: None)() is None
    assert token_source(None)() is None


def test_name_of_a_token_file_is_no_reference(tmp_path, monkeypatch):
    """The message has the reference to write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").touch()
    with pytest.raises(ConfigurationError, match="in that file, file:token"):
        token_source("token")


@pytest.mark.parametrize(
    "text", ["", "two words", "two\nlines", "x" * 4097, "\u00e9", "a=b"]
)
def test_text_that_is_no_token_is_refused(text, monkeypatch, tmp_path):
    """A key file is no token: one line, RFC 6750, at most 4 KiB."""
    file = tmp_path / "token"
    file.write_text(text)
    for reference in (f"file:{file}", lambda: text):
        with pytest.raises(ConfigurationError, match=r"no bearer token|is empty"):
            token_source(reference)()


def test_missing_token_is_named(tmp_path):
    """The message says what could not be read."""
    with pytest.raises(ConfigurationError, match="OSSPRESIGNED_GONE is not set"):
        token_source("env:OSSPRESIGNED_GONE")()
    with pytest.raises(ConfigurationError, match=r"cannot read .*gone"):
        token_source(f"file:{tmp_path}/gone")()
    with pytest.raises(ConfigurationError, match="returned a int"):
        token_source(lambda: 3)()
