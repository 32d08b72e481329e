"""``osspresigned check upload-server``: a description, walked through with its server."""

from __future__ import annotations

import json

import pytest

from tests.published_servers import Databricks, Dataverse, Gateway
from tests.signers.test_servers import GATEWAY


@pytest.fixture
def gateway(oss, tmp_path):
    """A server of one PUT, and the description of it."""
    place = tmp_path / "gateway.toml"
    place.write_text(GATEWAY)
    with Gateway(oss) as server:
        yield server, place


@pytest.fixture
def token(monkeypatch):
    """The reference to the token of all fakes."""
    monkeypatch.setenv("OSSPRESIGNED_KEY", Gateway.secret)
    return "--token", "env:OSSPRESIGNED_KEY"


def test_a_server_of_single_requests_holds(run, gateway, token):
    """Calls that the server lacks are skipped, and the report lists what holds."""
    server, place = gateway
    name = f"{place}+{server.url}"
    ended = run("check", "upload-server", name, "checks", *token, "--yes", "--json")
    assert ended.code == 0
    rows = {row["name"]: row["outcome"] for row in json.loads(ended.out)["results"]}
    holds = dict.fromkeys(("description", "token", "small"), "passed")
    assert rows == {**holds, "parts": "skipped", "abort": "skipped"}
    assert all(name.startswith("checks/osspresigned-check-") for name in server.files)


def test_a_server_of_parts_holds(run, oss, token):
    """Parts are sent, and an upload is aborted."""
    with Databricks(oss) as server:
        name = f"databricks+{server.url}"
        ended = run("check", "upload-server", name, "main/default/v", *token, "--yes")
    assert ended.code == 0
    assert "5 passed, 0 failed" in ended.out
    assert "2 parts" in ended.out


def test_parts_are_sent_though_one_request_could_hold_the_object(run, oss, token):
    """A mistake in the tables of parts is found beside a table of single requests."""
    with Dataverse(oss) as server:
        options = ("--upload-server-option", f"dataset={Dataverse.dataset}")
        place = f"dataverse+{server.url}", "folder", *token, *options, "--yes"
        ended = run("check", "upload-server", *place)
        assert "passed    parts" in ended.out
        assert "2 parts" in ended.out
        server.refuse("PUT /api/datasets/mpupload", 400, times=9)
        ended = run("check", "upload-server", *place)
    assert ended.code == 1
    assert "FAILED    parts" in ended.out


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("url =", "colour =", "unknown key 'single.colour'"),
        ('"/uploadURL"', '"/url"', "the reply has no URL"),
        ("x-api-key", "x-key", "HTTP 401"),
        ("contentType =", "type =", "missing: ['contentType']"),
        ('{content_type}" }\nurl', 'text/html" }\nurl', "SignatureDoesNotMatch"),
    ],
)  # fmt: skip
def test_what_a_description_has_wrong_is_said(run, gateway, token, before, after, said):
    """The key in the file, or the words of the server, and the exit code is 1."""
    server, place = gateway
    place.write_text(GATEWAY.replace(before, after))
    ended = run("check", "upload-server", f"{place}+{server.url}", *token, "--yes")
    assert ended.code == 1
    assert said in ended.out
    assert Gateway.secret not in ended.out + ended.err
