"""Permissions of a token: the call, the method, the command, and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator

import fsspec
import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.errors import ConfigurationError, SignerError
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.base import Permissions, Signer
from fsspec_osspresigned.tools.cli.app import run
from tests.owner.service.test_app import KEYS, TOKENS, send

TOKEN = "a-made-up-token-0"
GIVEN = ("--token", "env:OSSPRESIGNED_TOKEN")
LAB = Policy(
    name="a name for the log",
    prefixes=("examplebucket/lab/", "examplebucket/tables/"),
    actions=frozenset({Action.PutObject, Action.HeadObject}),
    max_expires_in=900,
    max_size=1 << 20,
    content_types=("text/csv",),
    overwrite=False,
)


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    """The service with the token of the lab, and others."""
    tokens = {**TOKENS, hash_token(TOKEN): LAB}
    with LoopbackServer(create_app(KEYS, tokens=tokens)) as found:
        yield found


@pytest.fixture(autouse=True)
def token(monkeypatch):
    """The token is in the environment."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)


def filesystem(url, reference="env:OSSPRESIGNED_TOKEN"):
    """Return the filesystem of a signer."""
    return fsspec.filesystem("osspresigned", signer=url, signer_token=reference)


def test_method_returns_what_the_policy_says(server):
    """The reply contains nothing that only concerns the owner, such as the name."""
    assert filesystem(server.url).permissions() == Permissions(
        prefixes=("examplebucket/lab/", "examplebucket/tables/"),
        actions=("HeadObject", "PutObject"),
        overwrite=False,
        max_expires_in=900,
        max_size=1 << 20,
        content_types=("text/csv",),
    )
    asked = send(
        server, b"", token=f"Bearer {TOKEN}", method="GET", path="/v1/permissions"
    )
    assert LAB.name not in str(asked)
    assert asked[2]["Cache-Control"] == "no-store"


def test_refusals_name_what_is_granted(server):
    """The holder of a token reads what it permits instead of what he asked for."""
    fs = filesystem(server.url)
    with pytest.raises(
        PermissionError, match="prefixes: examplebucket/lab/, examplebucket/tables/"
    ):
        fs.pipe_file("examplebucket/elsewhere/a.csv", b"a", content_type="text/csv")
    with pytest.raises(
        PermissionError, match="GetObject is not granted: only HeadObject, PutObject"
    ):
        fs.sign("examplebucket/lab/a.csv")
    with (
        pytest.warns(UserWarning, match="reported as missing"),
        pytest.raises(
            PermissionError, match="prefixes: examplebucket/lab/, "
        ) as outside,
    ):
        fs.info("examplebucket/elsewhere/a.csv")
    assert "unknown whether the object exists" in str(outside.value)


def test_signer_without_the_call_is_told_plainly():
    """A signer without the call for permissions gives a clear message."""
    app = create_app(KEYS, tokens=TOKENS)
    app.router.routes[:] = [r for r in app.routes if r.path != "/v1/permissions"]
    with (
        LoopbackServer(app) as server,
        pytest.raises(
            SignerError, match=r"does not report its permissions \(HTTP 404\)"
        ),
    ):
        filesystem(server.url).permissions()


def test_other_sources_do_not_know():
    """A key permits what its own policy says, which nobody here can read."""
    with pytest.raises(ConfigurationError, match="only a signer service reports"):
        Signer().permissions()


def test_command_prints_them(server, capsys):
    """For people as lines, for programs as JSON."""
    assert run(["permissions", "--signer", server.url, *GIVEN]) == 0
    assert capsys.readouterr().out == (
        "paths          below examplebucket/lab/, examplebucket/tables/\n"
        "actions        HeadObject, PutObject\n"
        "size           1 MiB for each object at most\n"
        "content types  text/csv\n"
        "overwrite      existing objects are kept\n"
        "URLs           valid for 15 min at most\n"
    )
    assert run(["permissions", "--signer", server.url, *GIVEN, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["prefixes"] == ["examplebucket/lab/", "examplebucket/tables/"]
    assert "expires_at" not in printed


def test_command_with_a_wrong_token_is_denied(server, monkeypatch, capsys):
    """The exit code is that of a refusal."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", "another-made-up-token")
    assert run(["permissions", "--signer", server.url, *GIVEN]) == 3
    assert "check --token" in capsys.readouterr().err
