"""``osspresigned doctor``: what is wrong is found, and nothing is sent for it."""

from __future__ import annotations

import base64
import json
import re
import socket
import time

import fsspec
import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.signing.endpoint import region_of
from fsspec_osspresigned.tools.cli import doctor
from fsspec_osspresigned.tools.cli.doctor import about_host, about_machine, proxy_shown
from fsspec_osspresigned.tools.failures import ExitCode
from fsspec_osspresigned.units import GIB, MIB
from tests.tools.cli.conftest import BUCKET, KEYS, stored

PATH = f"{BUCKET}/in/a.csv"


@pytest.fixture(autouse=True)
def no_trust(monkeypatch):
    """Hide what this machine trusts."""
    for name in doctor.TRUST:
        monkeypatch.delenv(name, raising=False)


def lines(ended):
    """Return name -> (word, text)."""
    rows = (line.split(maxsplit=1) for line in ended.out.splitlines())
    return {
        rest.partition(": ")[0]: (word, rest.partition(": ")[2]) for word, rest in rows
    }


def test_machine_alone(run, monkeypatch, tmp_path):
    """Versions, proxies and variables need no store and no signer."""
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "a-made-up-secret-0")
    ended = run("doctor")
    assert ended.code == 0
    found = lines(ended)
    assert found["fsspec"] == ("ok", __import__("fsspec").__version__)
    assert found["proxy"] == ("ok", "none")
    assert found["environment"] == ("ok", "OSS_ACCESS_KEY_SECRET")
    assert "configuration" not in found


def test_proxies_are_shown_without_credentials(monkeypatch):
    """The report shows no password."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:a-made-up-password@proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,.internal")
    found = {one.name: one.text for one in about_machine()}
    assert found["proxy (https)"] == "http://(hidden)@proxy:3128"
    assert found["proxy (no)"] == "localhost,.internal"
    assert "proxy" not in found
    assert found["environment"] == "no OSSPRESIGNED_* variable is set"
    assert proxy_shown("user:pw@proxy") == "(hidden)@proxy"
    assert proxy_shown("http://proxy:1") == "http://proxy:1"


def test_certificates_that_are_not_there(monkeypatch, tmp_path):
    """A variable that leads nowhere breaks every https request."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path))
    found = {one.name: one for one in about_machine()}
    assert found["REQUESTS_CA_BUNDLE"].word == "BAD"
    assert found["SSL_CERT_FILE"].word == "ok"


def test_all_is_well(run, oss, signer):
    """Signer, store, clocks and plan; nothing is stored, and no object is read."""
    call = ("doctor", PATH, "--size", "1G", "--signer", signer)
    ended = run(*call, "--token", "env:OSSPRESIGNED_TOKEN")
    assert ended.code == 0
    found = lines(ended)
    assert found["plan"] == ("ok", "1 GiB in 64 parts of 16 MiB")
    calls = "InitiateMultipartUpload, UploadPart 1, UploadPart 64, CompleteMultipart"
    assert found["signer"] == ("ok", f"signs {calls}Upload of {PATH}")
    assert found["signer's host"][1].startswith(f"{signer} answers (status 404")
    assert found["store"][1].startswith(f"{oss.url} answers (status 403")
    assert found["clock (store)"] == ("ok", "this machine's clock agrees")
    assert found["life of the URL"][0] == "ok"
    assert stored(oss) == {}
    assert {one.method for one in oss.requests} == {"HEAD"}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_size": 100 * MIB, "max_part_size": 16 * MIB}, "UploadPart 64 of"),
        ({"max_size": 2 * GIB, "max_part_size": 4 * MIB}, "UploadPart 1 of"),
        ({"actions": ("InitiateMultipartUpload",)}, "UploadPart 1 of"),
        ({"actions": ("InitiateMultipartUpload", "UploadPart")}, "CompleteMulti"),
    ],
)
def test_policy_that_lets_an_upload_only_begin(run, signer_of, limits, said):
    """Every kind of call is asked for, so that no gigabyte is sent in vain."""
    parts = ("InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
    actions = map(Action, limits.pop("actions", parts))
    ended = run("doctor", PATH, "--size", "1G", *signer_of(*actions, **limits))
    assert ended.code != 0
    word, text = lines(ended)["signer"]
    assert word == "BAD"
    assert f"the signer refused {said}" in text


def test_one_put(run, oss, url_map):
    """A small file by a map is one PutObject."""
    found = lines(run("doctor", f"osspresigned://{PATH}", "--map", url_map("in/a.csv")))
    assert found["plan"] == ("ok", "1 MiB in one PutObject (assumed: give --size)")
    assert found["signer"] == ("ok", f"signs PutObject of {PATH}")


def test_owners_upload(run, oss, tmp_path):
    """Parts of a map are those of its owner's upload."""
    made = ("sign", PATH, "--file-size", "20MiB", "--output", "urls.json")
    assert run(*made).code == 0
    found = lines(run("doctor", PATH, "--size", "20MiB", "--map", "urls.json"))
    assert "20 MiB in 3 parts of 8 MiB, upload " in found["plan"][1]
    calls = "UploadPart 1, UploadPart 3, CompleteMultipartUpload"
    assert found["signer"] == ("ok", f"signs {calls} of {PATH}")


def test_owner_completes(run, oss, tmp_path, monkeypatch):
    """A call that is the owner's is not asked of the signer."""
    made = ("sign", PATH, "--file-size", "20MiB", "--output", "urls.json")
    assert run(*made, "--owner-completes").code == 0
    own = {"receipts": str(tmp_path / "receipts")}
    monkeypatch.setitem(fsspec.config.conf, "osspresigned", own)
    found = lines(run("doctor", PATH, "--size", "20MiB", "--map", "urls.json"))
    assert found["signer"] == ("ok", f"signs UploadPart 1, UploadPart 3 of {PATH}")


def test_mistyped_file_is_no_bucket(run):
    """A bucket of OSS has no dot, so the name is that of a file."""
    ended = run("doctor", "grnt.json")
    assert ended.code == 2
    assert ended.err.endswith("grnt.json: No such file or directory\n")
    assert ended.out == ""


def test_v1_is_noted(run, oss, tmp_path):
    """It works where it works; new buckets refuse it."""
    made = ("sign", PATH, "--signature-version", "v1", "--output", "urls.json")
    assert run(*made).code == 0
    found = lines(run("doctor", PATH, "--map", "urls.json"))
    assert found["signature"][0] == "note"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "the URL has no signature; it may have been cut at '?'"),
        ("?x=1", "the URL shows none: it may not be a presigned URL"),
    ],
)
def test_url_without_a_signature_is_noted(run, oss, url, tmp_path, query, text):
    """It was copied without its query, or is no presigned URL at all."""
    (tmp_path / "one.url").write_text(url("k").partition("?")[0] + query)
    found = lines(run("doctor", "--url-file", "one.url"))
    assert found["signature"] == ("note", text)


def test_url_that_was_cut_at_its_query(run, oss, url, tmp_path):
    """A bucket may let anyone write, so it is sent; after a refusal, it is the cause."""
    (tmp_path / "one.url").touch(0o600)
    (tmp_path / "one.url").write_text(url("k").partition("?")[0])
    (tmp_path / "a.csv").write_bytes(b"1")
    told = "the URL has no signature; it may have been cut at '?'"
    ended = run("doctor", "file:one.url")
    assert ended.code == 0
    assert lines(ended)["warning"] == ("note", told)
    ended = run("put", "a.csv", "--url-file", "one.url")
    assert ended.code == 3
    assert f"not uploaded: {told}: copy the whole URL again" in ended.err
    assert "owner" not in ended.err
    (tmp_path / "one.url").write_text(url("k"))
    assert "warning" not in lines(run("doctor", "file:one.url"))


def test_edited_url_is_no_ok(run, url, tmp_path):
    """Without the key only the store can check a signature, and doctor says so."""
    (tmp_path / "one.url").write_text(url("k").replace("/k?", "/other?"))
    for how in (["--url-file", "one.url"], ["one.url"]):
        found = lines(run("doctor", *how))
        assert found["signature"] == (
            "note",
            "only the store can tell whether a URL was edited",
        )


@pytest.mark.parametrize("path", [PATH, BUCKET])
def test_keys_that_work(run, oss, path):
    """A signed request to the bucket shows it; a missing object is no problem."""
    ended = run("doctor", path, *KEYS)
    assert ended.code == 0
    assert lines(ended)["bucket"] == (
        "ok",
        "is there, and the store accepts the signature",
    )
    assert "signature" not in lines(ended)
    oss.faults.add(Fault(refuse="denied", times=None))
    assert run("doctor", path, *KEYS).code == 0  # the key is known, and may not look


@pytest.mark.parametrize(
    ("path", "variable", "words"),
    [
        (PATH, "OSS_ACCESS_KEY_SECRET", "correct OSS_ACCESS_KEY_SECRET"),
        (BUCKET, "OSS_ACCESS_KEY_SECRET", "correct OSS_ACCESS_KEY_SECRET"),
        (PATH, "OSS_ACCESS_KEY_ID", "correct OSS_ACCESS_KEY_ID"),
        (PATH, "OSS_REGION", "set --region or OSS_REGION to that of the bucket"),
        ("nosuchbucket/a", "", "the bucket does not exist: check its name, and --reg"),
    ],
)
def test_what_is_wrong_with_keys_is_named(run, oss, monkeypatch, path, variable, words):
    """A wrong secret, key ID, region or bucket is found before an upload."""
    if variable:
        monkeypatch.setenv(variable, "cn-beijing")
    ended = run("doctor", path, *KEYS)
    word, text = lines(ended)["bucket"]
    assert word == "BAD"
    assert ended.code != 0
    assert words in text
    assert "owner" not in text


@pytest.mark.parametrize(
    ("arguments", "name", "code"),
    [
        ((f"{BUCKET}/other", "--map", "urls.json"), "plan", 3),
        ((PATH, "--map", "no-such-map"), "configuration", 2),
        ((PATH,), "configuration", 2),
        ((PATH, *KEYS, "--size", "100T"), "plan", 2),
    ],
)
def test_what_is_wrong_has_its_code(run, oss, url_map, arguments, name, code):
    """The first bad line decides the exit code; all lines are printed."""
    url_map("in/a.csv")
    ended = run("doctor", *arguments)
    assert lines(ended)[name][0] == "BAD"
    assert ended.code == code


def test_expired_url(run, oss, url_map):
    """It is found without a request."""
    map_ = url_map("in/a.csv", now=time.time() - 3600)
    ended = run("doctor", PATH, "--map", map_)
    assert "expired" in lines(ended)["plan"][1]
    assert ended.code == 3


def test_signer_that_is_not_there(run, oss):
    """Its host, and its signatures; both are of the network."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"http://127.0.0.1:{server.getsockname()[1]}"
    ended = run("doctor", PATH, "--signer", place, "--retries", "0", "--json")
    found = {one["name"]: one for one in json.loads(ended.out)["findings"]}
    assert found["signer's host"]["state"] == "BAD"
    assert found["signer"]["state"] == "BAD"
    assert ended.code == json.loads(ended.out)["exit_code"] == 4


def test_clocks(oss, signer):
    """A minute is noted, a quarter of an hour is refused by the store."""
    client = OSSPresignedFileSystem(signer="keys").client

    def clock(offset):
        now = lambda: time.time() + offset  # noqa: E731 - two lines would be no better
        *_, last = about_host(client, "store", oss.url, now=now)
        return last

    assert re.fullmatch(
        "this machine's clock is 5 min( [12] s)? ahead of it", clock(300).text
    )
    assert clock(300).code is ExitCode.OK
    assert clock(-2000).text.startswith("this machine's clock is 33 min ")
    assert clock(-2000).text.endswith(" s behind it")
    assert clock(-2000).code is ExitCode.FAILED
    assert clock(300).word == "note"


async def closed_host(scope, receive, send):
    """Answer as OSS's public host answers HEAD for a new account."""
    document = b"<Error><Code>PublicEndpointForbidden</Code></Error>"
    headers = [(b"x-oss-err", base64.b64encode(document))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body"})


def test_closed_public_host(signer):
    """The line is bad and names the remedies: a domain, an internal host, a region."""
    client = OSSPresignedFileSystem(signer="keys").client
    with LoopbackServer(closed_host) as server:
        place = f"http://127.0.0.1:{server.port}"
        found, *_ = about_host(client, "store", place)
    assert (found.word, found.code) == ("BAD", ExitCode.FAILED)
    assert found.text.startswith("PublicEndpointForbidden: the account may not use ")
    for way in ("addressing style cname", "internal host", "outside mainland China"):
        assert way in found.text


@pytest.mark.parametrize(
    ("host", "noted"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", True),
        ("cn-hangzhou.oss.aliyuncs.com", True),
        ("oss-cn-hzfinance.aliyuncs.com", True),
        ("oss-cn-hangzhou-internal.aliyuncs.com", False),
        ("cn-hangzhou.oss-internal.aliyuncs.com", False),
        ("oss-cn-hongkong.aliyuncs.com", False),
        ("oss-eu-central-1.aliyuncs.com", False),
        ("oss-accelerate.aliyuncs.com", False),
    ],
)
def test_public_host_of_mainland_china_is_noted(run, oss, monkeypatch, host, noted):
    """It may be closed to a new account, so it is a note and not bad."""
    monkeypatch.setattr(doctor, "about_host", lambda *_: ())
    call = ("doctor", PATH, *KEYS, "--endpoint", f"https://{host}")
    ended = run(*call, "--region", region_of(host) or "cn-hangzhou")
    found = lines(ended)
    assert ended.code == 0
    assert found.get("endpoint", ("",))[0] == ("note" if noted else "")


def test_url_that_was_cut_off(run, url, tmp_path):
    """It is bad, and nothing is sent: the store would blame the owner."""
    (tmp_path / "cut.url").touch(0o600)
    (tmp_path / "cut.url").write_text(url("in/a.csv")[:-70], encoding="utf-8")
    ended = run("doctor", "--url-file", "cut.url")
    assert ended.code == ExitCode.USAGE
    word, text = lines(ended)["configuration"]
    assert word == "BAD"
    assert "has no signature; it was cut off or changed" in text
    (tmp_path / "a.csv").write_bytes(b"1")
    assert run("put", "a.csv", "--url-file", "cut.url").code == ExitCode.USAGE
