"""Servers repeat the token that they got, as their libraries spell it; no error shows it."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import traceback
from http.server import BaseHTTPRequestHandler
from urllib.parse import quote, quote_plus

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import SignerError
from fsspec_osspresigned.secret import without
from tests.loopback_server import LoopbackServer

TOKEN = "tok/CANARY+secret/4711=="
PASSWORD = "CANARY/pass word+4711"
PAIR = f"user:{PASSWORD}"
BASE64 = base64.b64encode(PAIR.encode()).decode()
# Encoding that a server may apply to a text -> JSON of its message.
SPELLINGS = {
    "as sent": json.dumps,
    "slashes of PHP": lambda text: json.dumps(text).replace("/", r"\/"),
    "all escaped": lambda text: '"' + "".join(rf"\u{ord(c):04X}" for c in text) + '"',
    "one escaped": lambda text: json.dumps(text).replace("C", r"\u0043", 1),
    "percent": lambda text: json.dumps(quote(text, safe="")),
    "small percent": lambda text: json.dumps(
        quote(text, safe="").replace("%2F", "%2f")
    ),
    "percent of a form": lambda text: json.dumps(quote_plus(text)),
    "percent twice": lambda text: json.dumps(quote(quote(text, safe=""))),
    "JSON in JSON": lambda text: json.dumps(
        json.dumps({"got": text}).replace("/", r"\/")
    ),
}


class Repeating(LoopbackServer):
    """Refuses each call; *message* is the JSON of what it says."""

    message = '""'

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Answer HTTP 400, as each of the three kinds of servers does."""
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        text = self.message
        data = f'{{"detail": {text}, "message": {text}, "error": {text}}}'.encode()
        request.send_response(400)
        request.send_header("Content-Type", "application/problem+json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


@pytest.fixture
def server():
    """A server that repeats what it got."""
    with Repeating() as running:
        yield running


def options_of(kind, server):
    """Return the options with which the server is asked."""
    return {
        "signer": {"signer": server.url},
        "grant": {"grant": server.url},
        "upload_server": {"upload_server": f"uppy-sign+{server.url}"},
    }[kind]


def shown_by(kind, server, token, caplog):
    """Return all that a refused upload shows."""
    caplog.clear()
    fs = fsspec.filesystem(
        "osspresigned",
        **options_of(kind, server),
        signer_token=lambda: token,
        retries=0,
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(SignerError) as caught:
        fs.pipe_file("examplebucket/a", b"1")
    error = caught.value
    assert "400" in str(error)
    texts = [str(error), repr(error), *traceback.format_exception(error), caplog.text]
    return "\n".join([*texts, pickle.dumps(error).decode("latin-1")])


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", ["signer", "grant", "upload_server"])
def test_no_spelling_of_the_token_is_shown(server, caplog, kind, spelling):
    """The message of the server stays, without the token."""
    server.message = SPELLINGS[spelling](f"got {TOKEN} from you")
    shown = shown_by(kind, server, TOKEN, caplog)
    assert "<hidden>" in shown
    for piece in ("CANARY", "4711", "secret"):
        assert piece not in shown


ESCAPES = (
    lambda char: char,
    lambda char: rf"\u{ord(char):04x}",
    lambda char: rf"\\u{ord(char):04X}",
    lambda char: f"%{ord(char):02X}",
    lambda char: f"%25{ord(char):02x}",
    lambda char: char.replace("/", r"\/"),
)


@given(
    token=st.text("abAB09/+=-._~", min_size=5, max_size=40),
    escapes=st.lists(st.sampled_from(ESCAPES), min_size=40, max_size=40),
    times=st.integers(1, 3),
)
def test_any_mixture_of_escapes_is_hidden(token, escapes, times):
    """The text around it stays as it is, and JSON stays JSON."""
    spelt = "".join(escape(char) for escape, char in zip(escapes, token, strict=False))
    body = '{"m": "' + rf"X \n\"%20|{spelt}\\ Y" * times + '"}'
    left = json.loads(without(body.encode(), token))["m"]
    assert left == 'X \n"%20|<hidden>\\ Y' * times


def test_a_token_after_a_backslash_leaves_json():
    """The message stays, although only the first character is escaped."""
    body = b'{"detail": "got \\/abcdef"}'
    left = without(body, "/abcdef")
    assert json.loads(left) == {"detail": "got <hidden>"}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("repeated", [PAIR, PASSWORD, BASE64, BASE64.rstrip("=")])
def test_no_piece_of_a_pair_is_shown(server, caplog, spelling, repeated):
    """The password and the base64 form of ``user:password`` are secret, too."""
    server.message = SPELLINGS[spelling](f"got {repeated} from you")
    shown = shown_by("upload_server", server, PAIR, caplog)
    assert "<hidden>" in shown
    for piece in ("CANARY", "4711", "pass", BASE64[8:20]):
        assert piece not in shown
