"""``osspresigned explain``: refusals that other programs got from the emulator."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import requests

from tests.owner.refusals import TOKEN, oss

CURL = shutil.which("curl")
PAGE = (Path(__file__).parents[3] / "docs" / "errors.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Refusals of other programs\n")[2].partition("\n## ")[0]
COMMAND, SHOWN = re.search(
    r"^```console\n\$ osspresigned (.*)\n([^`]*)^```$", SECTION, re.MULTILINE
).groups()


def test_form_that_requests_sends_is_explained(run, url):
    """The reply of a store to a PUT with a form, with its URL."""
    link = url("in/a.csv")
    reply = requests.put(link, data={"a": "b"}, timeout=20)
    text = f"HTTP/1.1 {reply.status_code}\n{link}\n{reply.text}"
    ended = run("explain", stdin=text.encode())
    assert ended.code == 3
    assert "Content-Type 'application/x-www-form-urlencoded'" in ended.out
    assert "object      examplebucket/in/a.csv" in ended.out
    assert "curl --data and HTTP libraries add it" in ended.out


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_output_of_curl_is_explained(run, url, tmp_path):
    """``curl -v`` is piped as it is, with request, reply and body."""
    with (tmp_path / "refusal.url").open("wb") as shown:
        subprocess.run(
            [CURL, "-v", "--noproxy", "*", "-X", "PUT", "-d", "a,b", url("in/a.csv")],
            check=True,
            stdout=shown,
            stderr=subprocess.STDOUT,
            timeout=30,
        )
    ended = run("explain", "refusal.url", "--json")
    members = json.loads(ended.out)
    assert ended.code == 3
    assert members["code"] == "SignatureDoesNotMatch"
    assert members["sent"] == members["received"]
    assert members["sent"].startswith("PUT Content-Type")
    assert members["differences"] == []
    evidence = [cause["evidence"] for cause in members["causes"]]
    assert evidence == ["likely", "possible", "possible"]


def test_change_on_the_way_is_shown(run, url):
    """Sent request, received request and difference have a line each."""
    reply = requests.put(
        url("in/a.csv"), data=b"x", headers={"Content-Type": "a/b"}, timeout=20
    )
    target = f"/in/a.csv?{url('in/a.csv').partition('?')[2]}"
    text = f"> PUT {target} HTTP/1.1\n> Host: {reply.request.url.split('/')[2]}\n>\n"
    ended = run("explain", stdin=f"{text}\n{reply.text}".encode())
    assert ended.code == 3
    assert "sent        PUT without Content-Type" in ended.out
    assert "received    PUT Content-Type 'a/b'" in ended.out
    assert "difference  Content-Type arrived as 'a/b' and was not sent" in ended.out


def test_expired_url_is_explained(run, url):
    """The time of the store decides, and is in the headers of its reply."""
    reply = requests.put(url("in/a.csv", now=time.time() - 7200), timeout=20)
    head = "".join(f"{name}: {value}\n" for name, value in reply.headers.items())
    text = f"HTTP/1.1 {reply.status_code} Forbidden\n{head}\n{reply.text}"
    ended = run("explain", "-", stdin=text.encode())
    assert ended.code == 3
    assert "proven   the URL has expired" in ended.out


@pytest.mark.parametrize(
    ("words", "code", "output"),
    [
        (("SignatureDoesNotMatch",), 3, "exactly the headers that were signed"),
        (("InvalidAccessKeyId", "0002-00000903"), 3, "is disabled"),
        (("HTTP/1.1 503 Service Unavailable",), 4, "retry later"),
        (("NoSuchBucket",), 1, "the bucket does not exist"),
    ],
)
def test_exit_code_is_that_of_the_refusal(run, words, code, output):
    """It is the code with which an upload would have ended."""
    ended = run("explain", *words)
    assert (ended.code, ended.err) == (code, "")
    assert output in ended.out


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("hello", "the text contains no refusal"),
        ("missing/refusal.txt", "there is no file missing/refusal.txt"),
        (f"<SecurityToken>{TOKEN}</SecurityToken>", "save it in a file, or pipe it"),
        ("https://h.example.com/k?x-oss-signature=abc", "can be read by everybody"),
    ],
)
def test_bad_argument_is_refused(run, word, text):
    """A secret in an argument is refused, and not repeated."""
    ended = run("explain", word)
    assert (ended.code, ended.out) == (2, "")
    assert text in ended.err
    assert TOKEN not in ended.err


def test_nothing_of_a_document_steers_the_terminal(run):
    """Control characters of a message are shown as text."""
    text = oss("AccessDenied", "a\x1b[31mb", EC="0003-00000001")
    ended = run("explain", stdin=text.encode())
    assert "\x1b" not in ended.out


def test_example_of_the_page_is_true(run):
    """The command prints what the page shows."""
    ended = run(*shlex.split(COMMAND), terminal=True)
    assert (ended.code, ended.out) == (3, SHOWN)
