"""Uploads through fake servers, written from the published APIs of the real ones."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from attrs import frozen

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    ConfigurationError,
    Outcome,
    OutcomeUnknownError,
    SignerError,
    URLExpiredError,
)
from fsspec_osspresigned.model import Action
from tests.published_servers import (
    PDS,
    Databricks,
    Dataverse,
    Gateway,
    Gitea,
    GitLFS,
    HuggingFace,
    Plain,
    Published,
)

MIB = 1024 * 1024
LARGE = memoryview(os.urandom(11 * MIB))  # its repr is short
UPLOAD = """
import fsspec, json, sys
options, source, path = json.loads(sys.argv[1])
fsspec.filesystem("osspresigned", **options).put_file(source, path)
"""
SENDS = {Action.PutObject, Action.UploadPart}
EXPIRED = {"status": 403, "code": "AccessDenied", "ec": "0002-00000236"}
PAGE = Path(__file__).parents[2] / "docs" / "existing-servers.md"
# The two whole examples of the page.
GATEWAY, PLAIN = re.findall(
    r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
)


def by_hash(path, data):
    """Return the name at servers that know objects by their bytes."""
    del path
    return hashlib.sha256(data).hexdigest()


@frozen
class Case:
    """A server, its description, and what it can do."""

    make: type[Published]
    upload_server: str
    last: str | None  # piece of the call that finishes a large file
    root: str = ""  # of the URL
    folder: str = "folder/"  # of paths
    options: Any = None
    parts: bool = True  # of a large file
    renews: bool = True  # the URLs
    resumes: bool = False
    repeats: bool = False  # the last call does no harm twice
    name: Callable[[str, Any], str] = lambda path, _: path


CASES = {
    "pds": Case(
        PDS,
        "pds",
        "file/complete",
        folder="root/",
        options={"drive": "1"},
        resumes=True,
        repeats=True,
        name=lambda path, _: path.removeprefix("root/"),
    ),
    "git-lfs": Case(
        GitLFS, "git-lfs", "verify", "/info/lfs",
        parts=False, renews=False, repeats=True, name=by_hash,
    ),
    "gitea": Case(
        Gitea, "git-lfs", "verify", "/info/lfs",
        parts=False, renews=False, repeats=True, name=by_hash,
    ),
    "hugging-face": Case(
        HuggingFace, "git-lfs-multipart", "complete_multipart", "/info/lfs",
        renews=False, name=by_hash,
    ),
    "gateway": Case(Gateway, "gateway.toml", None, parts=False),
    "plain": Case(Plain, "plain.toml", "complete", resumes=True),
    "dataverse": Case(
        Dataverse, "dataverse", "mpupload",
        options={"dataset": Dataverse.dataset}, renews=False,
    ),
    "databricks": Case(
        Databricks, "databricks", "complete-upload",
        folder="main/default/volume/", repeats=True,
        name=lambda path, _: f"/Volumes/{path}",
    ),
}  # fmt: skip
STORED_BY_OSS = [name for name in CASES if name != "gitea"]


@pytest.fixture
def server(oss, name):
    """The fake of the case."""
    with CASES[name].make(oss) as running:
        yield running


@pytest.fixture
def case(name):
    """The case."""
    return CASES[name]


@pytest.fixture
def usual(case, server, tmp_path, monkeypatch):
    """The options of the server, which another process can have, too."""
    monkeypatch.setenv("OSSPRESIGNED_KEY", server.secret)
    upload_server = case.upload_server
    if upload_server.endswith(".toml"):
        place = tmp_path / upload_server
        place.write_text(PLAIN if case.make is Plain else GATEWAY)
        upload_server = str(place)
        monkeypatch.setenv("OSSPRESIGNED_TRUST", upload_server)
    return {
        "upload_server": f"{upload_server}+{server.url}{case.root}",
        "upload_server_options": case.options,
        "signer_token": "env:OSSPRESIGNED_KEY",
        "part_size": 5 * MIB,
        "retries": 1,
    }


@pytest.fixture
def connect(usual):
    """Return a function that makes a new filesystem of the server."""

    def connect(**options):
        options = {**usual, "skip_instance_cache": True, **options}
        return fsspec.filesystem("osspresigned", **options)

    return connect


def each(names=CASES, **wanted):
    """Parametrise over the cases with these facts."""
    fit = [
        n for n in names if all(getattr(CASES[n], k) == v for k, v in wanted.items())
    ]
    return pytest.mark.parametrize("name", fit)


@each()
@pytest.mark.parametrize("size", [1, len(LARGE)])
def test_a_file_is_stored(oss, case, server, connect, size):
    """A small file and a large one arrive whole; a large one in parts where that is offered."""
    data = LARGE[:size]
    path = f"{case.folder}a b.bin"
    connect().pipe_file(path, data)
    assert server.content(case.name(path, data)) == data
    parts = sum(record.action == Action.UploadPart for record in oss.requests)
    assert (parts > 1) == (case.parts and size > MIB)
    assert not oss.uploads("examplebucket")


@each()
def test_many_small_files_are_stored(case, server, connect):
    """Calls about many files at once mix nothing up."""
    files = {f"{case.folder}{n}.txt": b"%d" % n for n in range(20)}
    connect().pipe(files)
    for path, data in files.items():
        assert server.content(case.name(path, data)) == data


@each(STORED_BY_OSS)
def test_an_expired_url_is_renewed_or_fails_the_upload(oss, case, server, connect):
    """A server with one URL for each part publishes nothing, and the next try works."""
    action = Action.UploadPart if case.parts else Action.PutObject
    times = 1 if case.renews else None
    oss.faults.add(Fault(action=action, times=times, **EXPIRED))
    path = f"{case.folder}a.bin"
    name = case.name(path, LARGE)
    if not case.renews:
        with pytest.raises(URLExpiredError) as caught:
            connect().pipe_file(path, LARGE)
        oss.faults.clear()
        assert caught.value.outcome is Outcome.NOT_STORED
        assert server.content(name) is None
    connect().pipe_file(path, LARGE)
    assert server.content(name) == LARGE


@each(parts=True)
def test_a_killed_client_resumes_where_that_is_offered(
    oss, case, server, connect, tmp_path
):
    """Another process stores the file whole; it sends only what is missing, if it can."""
    (tmp_path / "big").write_bytes(LARGE)
    options = {"resume_dir": str(tmp_path / "journals")}
    path = f"{case.folder}a.bin"
    server.refuse(case.last, 400, document=type(server).refusal("not now"))
    with pytest.raises(OSError):
        connect(**options).put_file(str(tmp_path / "big"), path)
    sent = sum(record.action == Action.UploadPart for record in oss.requests)
    connect(**options).put_file(str(tmp_path / "big"), path)
    assert server.content(case.name(path, LARGE)) == LARGE
    now = sum(record.action == Action.UploadPart for record in oss.requests)
    assert (now == sent) == case.resumes


@pytest.mark.slow
@each(STORED_BY_OSS)
def test_a_client_that_is_killed_stores_nothing(oss, case, server, usual, tmp_path):
    """A second run stores the file; it sends only missing parts where possible."""
    (tmp_path / "big").write_bytes(LARGE)
    path = f"{case.folder}a.bin"
    options = {"resume_dir": str(tmp_path / "journals"), "max_concurrency": 1}
    told = json.dumps([usual | options, str(tmp_path / "big"), path])
    command = [sys.executable, "-W", "ignore", "-c", UPLOAD, told]
    last = {"action": Action.UploadPart, "part_number": 3}
    single = {"action": Action.PutObject}
    oss.faults.add(Fault(stall_after=1000, **(last if case.parts else single)))
    with subprocess.Popen(command) as child:
        while not oss.held:
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
    oss.faults.clear()
    assert server.content(case.name(path, LARGE)) is None
    before = len(oss.requests)
    subprocess.check_call(command)
    assert server.content(case.name(path, LARGE)) == LARGE
    good = [record for record in oss.requests[before:] if record.status == 200]
    sent = [record.action for record in good if record.action in SENDS]
    assert len(sent) == (3 if case.parts and not case.resumes else 1)


@each([n for n in CASES if CASES[n].last])
def test_a_lost_finishing_reply_is_never_called_a_failure(case, server, connect):
    """A last call that may be repeated is; else the outcome is unknown, as it is."""
    path = f"{case.folder}a.bin"
    times = 1 if case.repeats else 2
    server.lose(case.last, times)
    if case.repeats:
        connect(retries=2).pipe_file(path, LARGE)
        assert server.content(case.name(path, LARGE)) == LARGE
        return
    with pytest.raises(OutcomeUnknownError) as caught:
        connect().pipe_file(path, LARGE)
    assert caught.value.outcome is Outcome.UNKNOWN


@each(["dataverse"])
def test_parts_get_the_size_that_the_server_wants(case, server, connect):
    """It says so when an upload begins; the next upload has that size at once."""
    server.part_size = 6 * MIB
    fs = connect(part_size=None)
    for name in ("a.bin", "b.bin"):
        receipt = fs.pipe_file(f"{case.folder}{name}", LARGE)
        assert {part.size for part in receipt.parts[:-1]} == {6 * MIB}
    assert server.content(f"{case.folder}b.bin") == LARGE
    begun = [call for call in server.calls if "uploadurls" in call]
    assert len(begun) == 3  # the first one was given up


@each(["dataverse"])
def test_a_server_that_changes_its_mind_is_asked_twice(
    case, server, connect, monkeypatch
):
    """An upload ends, whatever size of parts each reply names."""
    sizes = itertools.count(6 * MIB)
    monkeypatch.setattr(type(server), "part_size", property(lambda _: next(sizes)))
    with pytest.raises(ValueError, match="give part_size="):
        connect(part_size=None).pipe_file(f"{case.folder}a.bin", LARGE)
    assert len([call for call in server.calls if "uploadurls" in call]) == 2


@each(["dataverse"])
def test_a_lost_registration_repeats_no_other_call(case, server, connect):
    """The parts were completed once, so that call would be refused."""
    server.lose("/add")
    connect(retries=2).pipe_file(f"{case.folder}a.bin", LARGE)
    assert server.content(f"{case.folder}a.bin") == LARGE
    assert sum("mpupload" in call for call in server.calls) == 1


@each(["git-lfs"])
def test_what_a_server_of_git_lfs_has_is_not_sent_again(oss, server, connect):
    """The receipt has the object's hash, and no byte goes to the store."""
    fs = connect()
    for path in ("a", "b"):
        receipt = fs.pipe_file(path, b"1")
        assert receipt.location == by_hash(path, b"1")
    assert [record.method for record in oss.requests] == ["PUT"]
    steps = [call.rpartition("/")[2] for call in server.calls]
    assert steps == ["batch", "verify", "batch"]


@each(["hugging-face"])
def test_a_file_in_parts_that_the_server_has_is_refused(oss, server, connect):
    """The message says so, and no byte goes to the store."""
    connect().pipe_file("a", LARGE)
    sent = len(oss.requests)
    with pytest.raises(OSError, match="the server has the object already") as caught:
        connect().pipe_file("b", LARGE)
    assert caught.value.outcome is Outcome.NOT_STORED
    assert len(oss.requests) == sent


@each(["git-lfs"])
def test_a_call_at_another_host_needs_permission_and_gets_no_token(
    oss, server, connect
):
    """The key that the reply gives for the call goes with it."""
    with GitLFS(oss) as other:
        server.verify_host, host = other.url, other.url.removeprefix("http://")
        with pytest.raises(ConfigurationError, match=f"names {host}"):
            connect().pipe_file("a", b"1")
        assert not other.calls
        connect(allowed_hosts=[host]).pipe_file("a", b"1")
        assert other.content(by_hash("a", b"1")) == b"1"


def changed(document, change):
    """Return *document* with each URL of the store as *change* makes it."""
    if isinstance(document, dict):
        return {name: changed(value, change) for name, value in document.items()}
    if isinstance(document, list):
        return [changed(item, change) for item in document]
    is_url = isinstance(document, str) and "x-oss-signature=" in document
    return change(document) if is_url else document


@each(STORED_BY_OSS)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda url: re.sub("http://[^/]+", "https://evil.example", url),
            "neither an OSS host",
        ),
        (lambda url: url + "&x-oss-object-acl=public-read", "acl"),
        (
            lambda url: url.partition("?")[0] + "?acl&x-oss-signature=1",
            "acl|uploadId|partNumber",
        ),
    ],
    ids=["another host", "a public object", "another call"],
)
def test_urls_that_do_something_else_are_refused(
    oss, server, connect, case, change, match
):
    """The upload is refused before a byte is sent."""
    server.change = lambda document: changed(document, change)
    with pytest.raises(SignerError, match=match):
        connect().pipe_file(f"{case.folder}a", LARGE)
    assert all(record.action not in SENDS for record in oss.requests)
    assert not oss.objects("examplebucket")


@each(["git-lfs", "databricks"])
def test_headers_that_make_an_object_public_are_refused(oss, server, connect, case):
    """A reply may name headers, but none that gives others access."""

    def change(document):
        if not isinstance(document, dict):
            return document
        opened = {name: change(value) for name, value in document.items()}
        if "upload" in opened:
            opened["upload"]["header"]["x-oss-object-acl"] = "public-read"
        for row in opened.get("upload_part_urls", ()):
            row["headers"].append({"name": "x-amz-acl", "value": "public-read"})
        if isinstance(opened.get("objects"), list):
            opened["objects"] = [change(each) for each in opened["objects"]]
        return opened

    server.change = change
    with pytest.raises(SignerError, match="acl"):
        connect().pipe_file(f"{case.folder}a", LARGE)
    assert not oss.objects("examplebucket")
