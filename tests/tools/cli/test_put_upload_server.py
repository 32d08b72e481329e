"""``osspresigned put --upload-server``: a file, no destination, and the name that a server gives."""

from __future__ import annotations

import json

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.model import Action
from tests.tools.cli.conftest import BUCKET
from tests.upload_servers import DashScope, FakeServer


@pytest.fixture
def studio(oss, monkeypatch):
    """Model Studio, and the options for it."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-CANARYdashscope")
    with DashScope(oss) as server:
        yield (
            "--upload-server",
            f"dashscope+{server.url}",
            "--upload-server-option",
            "model=qwen-vl-plus",
        )


def test_a_file_for_a_model_needs_no_destination(run, oss, studio, tree):
    """Standard output is the URL for the call of the model; a warning says how long."""
    ended = run("put", "data/a.csv", *studio)
    assert ended.code == 0
    assert ended.out.startswith("oss://dashscope-instant/qwen-vl-plus/")
    key = ended.out.strip().removeprefix("oss://")
    assert oss.objects(BUCKET) == {key: b"a"}
    assert "48 hours" in ended.err
    assert "X-DashScope-OssResourceResolve: enable" in ended.err


def test_events_have_the_location(run, oss, studio, tree):
    """With --json, standard output has events alone."""
    ended = run("put", "data/a.csv", *studio, "--json")
    locations = [event.get("location") for event in ended.events]
    assert [f"oss://{key}" for key in oss.objects(BUCKET)] == [*filter(None, locations)]


def test_a_missing_model_is_named(run, oss, studio, tree):
    """The missing option is named before anything is sent."""
    ended = run("put", "data/a.csv", *studio[:2])
    assert ended.code != 0
    assert "name of the model that will read the file" in ended.err


HOSTILE = "b\x1b[2J\x07\x9b1mc\u202e\nFAKE: stored"
NAMING = """
location = "{upload.name}"
[single]
post = "/sign/{+path}"
url = "/url"
save = { name = "/name" }
"""


class Naming(FakeServer):
    """A server that gives each object a name for terminals."""

    def answer(self, method, path, query, given):
        """Sign a PUT."""
        return {"url": self.presign("PUT", "a"), "name": HOSTILE}


@pytest.mark.parametrize("terminal", [False, True])
def test_no_name_of_a_server_moves_the_cursor(run, oss, tree, tmp_path, terminal):
    """It is one line of printable characters, also in a pipe."""
    place = tmp_path / "naming.toml"
    place.write_text(NAMING)
    with Naming(oss) as server:
        upload_server = ("--upload-server", f"{place}+{server.url}")
        ended = run("put", "data/a.csv", "x/a", *upload_server, terminal=terminal)
    assert ended.code == 0
    (line,) = ended.out.splitlines()
    assert line.isprintable()
    assert line.startswith(r"b\x1b[2J\x07\x9b1mc\u202e\nFAKE")


# -- check store --------------------------------------------------------------------------------


def test_a_store_is_checked_by_the_forms_of_a_server(run, oss, studio):
    """The facts that one form permits hold, and the report is that of a bucket."""
    ended = run("check", "store", *studio, "--yes", "--json")
    assert ended.code == 0, ended.out
    report = json.loads(ended.out)
    assert [(fact["name"], fact["outcome"]) for fact in report["results"]] == [
        (name, "passed")
        for name in (
            *("form-v1", "form-forbid", "form-unlisted"),
            *("form-condition", "form-signature"),
        )
    ]
    assert "CANARY" not in ended.out
    assert len(oss.objects(BUCKET)) == 2


def test_a_store_that_does_not_refuse_is_told(run, oss, studio):
    """A refusal that does not come is a difference, and the code says so."""
    oss.faults.add(
        Fault(action=Action.PostObject, status=500, code="InternalError", times=None)
    )
    ended = run("check", "store", *studio, "--yes")
    assert ended.code == 1


def test_a_bucket_or_an_upload_server_is_checked(run, studio):
    """Without either, or with both, the command is refused."""
    assert run("check", "store").code == 2
    assert run("check", "store", BUCKET, *studio).code == 2
    assert run("check", "store", *studio).code == 2  # no terminal, and no --yes
