"""No command prints a signature, a token or a key, whatever fails.

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
