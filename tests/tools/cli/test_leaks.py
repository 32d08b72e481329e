"""Whatever goes wrong, no command prints a signature, a token or a key.

The fixture ``run`` searches what every command of every test has printed; this module
makes them fail in all the ways that there are.
"""

from __future__ import annotations

import pytest

from fsspec_osspresigned.emulator import Fault
from tests.tools.cli.conftest import BUCKET, KEYS

PATH = f"{BUCKET}/in/a.csv"
COMMANDS = {
    "put": ("put", "data", f"{BUCKET}/in/"),
    "put one": ("put", "data/a.csv", "--url-file", "one.url"),
    "put stdin": ("put", "-", PATH),
    "put parts": ("put", "big", PATH, "--part-size", "100KiB"),
    "get": ("get", PATH, "x"),
    "get all": ("get", f"{BUCKET}/in/", "x/", "-r"),
    "cat": ("cat", PATH),
    "ls": ("ls", f"{BUCKET}/in"),
    "rm": ("rm", PATH),
    "doctor": ("doctor", PATH),
}
FAULTS = {
    "none": {"after": 10_000},
    "denied": {"refuse": "denied"},
    "expired": {"refuse": "expired"},
    "signature": {"refuse": "signature"},
    "skewed": {"refuse": "skewed"},
    "token": {"refuse": "token-expired"},
    "unavailable": {"status": 503},
    "odd": {
        "status": 418,
        "code": "Teapot",
        "extras": {"Detail": "x-oss-signature=c2VjcmV0c2Vj"},
    },
    "reset": {"reset": True},
    "lost reply": {"drop_reply": True},
    "cut reply": {"cut_reply_after": 20},
    "cut body": {"cut_after": 0},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_failure_prints_a_secret(run, oss, url, tree, signer, command):
    """By keys and by a signer service; for people and for programs."""
    (tree.parent / "one.url").touch(0o600)
    (tree.parent / "one.url").write_text(url("k"))
    (tree.parent / "big").write_bytes(b"x" * 20_000_000 if "parts" in command else b"x")
    words = COMMANDS[command]
    by_keys, by_signer = KEYS, ("--signer", signer, "--token", "env:OSSPRESIGNED_TOKEN")
    if "--url-file" in words:
        by_keys = by_signer = ()
    for fault in FAULTS.values():
        run("put", "data/a.csv", f"{BUCKET}/in/", *KEYS)
        oss.faults.add(Fault(times=None, **fault))
        run(*words, *by_keys, "--retries", "0", stdin=b"abc")
        if command != "get stdout":
            run(*words, *by_signer, "--retries", "0", "--json", stdin=b"abc")
        oss.faults.clear()


@pytest.mark.parametrize("reply", [b"", b"<html>", b'{"version": 1}'])
def test_signer_that_talks_nonsense_leaks_no_token(run, oss, tree, reply, monkeypatch):
    """Nor one that refuses, or is none at all."""
    import http.server  # noqa: PLC0415 - for this test alone
    import threading  # noqa: PLC0415

    class Odd(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            said = self.headers["Authorization"].encode() + reply
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_HEAD = do_POST  # noqa: N815 - the server asks for it

        def log_message(self, *_):
            pass

    monkeypatch.setenv("OSSPRESIGNED_TOKEN", "a-made-up-token-0")
    with http.server.HTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever).start()
        where = f"http://127.0.0.1:{server.server_port}"
        by = ("--signer", where, "--token", "env:OSSPRESIGNED_TOKEN", "--retries", "0")
        for command in (("put", "data", f"{BUCKET}/x/"), ("ls", BUCKET), ("url", PATH)):
            assert run(*command, *by).code in (1, 3)
        server.shutdown()
