"""The examples: signers keep every rule, and entries of URL maps carry an upload.

Those in JavaScript run where Node.js 20 is, and ``NODE_PATH`` leads to their packages.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from fsspec_osspresigned import OSSPresignedFileSystem
from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.emulator.messages import Call
from fsspec_osspresigned.emulator.verifying import verify
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.url_map import parser as url_map_text

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SDKS = EXAMPLES / "sdks"
TOKEN = "tokenCANARYtoken"
KEY = Credentials("LTAIfakeid", Secret("fakesecret"))
PACKAGES = ("ali-oss", "ajv")
ENVIRONMENT = {
    "OSS_ACCESS_KEY_ID": KEY.access_key_id,
    "OSS_ACCESS_KEY_SECRET": KEY.access_key_secret.reveal(),
    "SIGNER_TOKEN": TOKEN,
    "SIGNER_SCHEMA": os.fspath(ROOT / "docs" / "signer-protocol.schema.json"),
}


@contextmanager
def flask() -> Iterator[str]:
    """Serve the example in Flask."""
    serving = pytest.importorskip("werkzeug.serving")
    app = load("signer_flask.py")
    server = serving.make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def fastapi() -> Iterator[str]:
    """Serve the example in FastAPI."""
    with LoopbackServer(load("signer_fastapi.py")) as server:
        yield server.url


def load(name: str) -> object:
    """Return the app of an example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return runpy.run_path(os.fspath(EXAMPLES / name))["app"]


def node(directory: Path) -> tuple[str, dict[str, str]]:
    """Return Node's path, and an environment; *directory* can import packages.

    Modules look for packages beside themselves, so the directory gets a link to them.
    """
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    said = subprocess.run([program, "--version"], capture_output=True, check=True)
    if int(said.stdout.lstrip(b"v").partition(b".")[0]) < 20:
        pytest.skip("the examples need Node.js 20")
    folders = os.environ.get("NODE_PATH", "").split(os.pathsep)
    folders.append(os.fspath(ROOT / "node_modules"))
    found = [
        f for f in folders if f and all((Path(f) / name).is_dir() for name in PACKAGES)
    ]
    if not found:
        pytest.skip(
            f"NODE_PATH leads to no {' and '.join(PACKAGES)}: npm install --prefix "
            f"DIR {' '.join(PACKAGES)}; NODE_PATH=DIR/node_modules"
        )
    (directory / "node_modules").symlink_to(found[0])
    return program, {"PATH": os.environ["PATH"], **ENVIRONMENT}


@contextmanager
def node_signer(directory: Path) -> Iterator[str]:
    """Serve the example in Node.js."""
    program, environment = node(directory)
    script = shutil.copy(EXAMPLES / "signer_node.mjs", directory)
    with subprocess.Popen(
        [program, script],
        env={**environment, "PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture(params=["flask", "fastapi", "node"])
def signer(request, monkeypatch, tmp_path) -> Iterator[str]:
    """The URL of each example, running."""
    for name, value in {**ENVIRONMENT, "OSSPRESIGNED_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    serve = {"flask": flask, "fastapi": fastapi}.get(request.param)
    with serve() if serve else node_signer(tmp_path) as url:
        yield url


def test_every_rule_is_kept(signer, capsys):
    """The signers of the page pass the check that the page recommends."""
    call = ["check", "signer", signer, "--bucket", "examplebucket", "--prefix", "in/"]
    code = cli.main([*call, "--token", "env:OSSPRESIGNED_TOKEN"])
    said = capsys.readouterr().out
    assert (code, "FAIL" in said) == (0, False), said
    assert said.endswith(" passed, 0 failed, 5 skipped\n")


def ask(url: str, *requests: dict[str, object]) -> list[dict[str, object]]:
    """Return the results of one call."""
    call = urllib.request.Request(
        f"{url}/v1/sign",
        json.dumps({"requests": requests}).encode(),
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(call) as reply:
        results: list[dict[str, object]] = json.load(reply)["results"]
    return results


REQUESTS = [
    {"action": "PutObject", "content_length": 3},
    {"action": "PutObject", "content_length": 0, "headers": {"Content-Type": "a/b"}},
    {
        "action": "PutObject",
        "content_length": 3,
        "headers": {"content-md5": "kAFQmDzST7DWlj99KOF/cg=="},
        "query": {"x-oss-traffic-limit": "819200"},
    },
    {"action": "InitiateMultipartUpload", "headers": {"Content-Type": "a/b"}},
    {
        "action": "UploadPart",
        "upload_id": "U+/=~",
        "part_number": 7,
        "content_length": 3,
    },
    {"action": "CompleteMultipartUpload", "upload_id": "U+/=~", "content_length": 3},
]


@pytest.mark.parametrize(
    "key", ["in/a", "in/a b+c/%41/é目/q?&=#/~'()*!", "in/x/../y//z"]
)
def test_every_signature_is_right(signer, key):
    """OSS, going by its own rules, lets through what was signed."""
    asked = [{"bucket": "examplebucket", "key": key, **r} for r in REQUESTS]
    for request, result in zip(asked, ask(signer, *asked), strict=True):
        headers = {n.lower(): v for n, v in result["headers"].items()}
        for name, value in request.get("headers", {}).items():
            assert headers[name.lower()] == value
        url = urlsplit(result["url"])
        assert url.netloc == "examplebucket.oss-cn-hangzhou.aliyuncs.com"
        received = Call(
            method=result["method"],
            bucket="examplebucket",
            key=unquote(url.path[1:]),
            query=url.query,
            headers=headers,
        )
        assert received.key == key
        refusal = verify(received, find=lambda _: KEY, now=time.time())
        assert refusal is None, refusal


def test_key_that_is_too_long_fails_alone(signer):
    """A key has at most 1,023 bytes, however few characters they are."""
    put = {"action": "PutObject", "bucket": "examplebucket", "content_length": 1}
    long, good = ask(
        signer, {**put, "key": "in/" + "目" * 400}, {**put, "key": "in/目"}
    )
    assert long == {"error": {"status": 400, "code": "invalid_request"}}
    assert good["method"] == "PUT"


def test_caller_that_breaks_off_ends_nothing(signer):
    """A body that never comes whole is forgotten, and the next call answered."""
    place = urlsplit(signer)
    head = f"POST /v1/sign HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    put = {"action": "PutObject", "bucket": "examplebucket", "key": "in/a"}
    for _ in range(3):
        (result,) = ask(signer, {**put, "content_length": 1})
        assert result["method"] == "PUT"


HOST = "https://examplebucket.oss-cn-hangzhou.aliyuncs.com/"
PATH = "examplebucket/in/a b.csv"
STS = Credentials("STS.fakeid", Secret("fakesecret"), Secret("CAIS+fake/token=="))


@pytest.fixture
def store_options() -> dict[str, Any]:
    """The owner has two keys, one of them temporary."""
    return {"credentials": [KEY, STS]}


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    """Put both keys into the environment, as the examples read them."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def upload(oss: Emulator, printed: str, path: str, data: bytes) -> Any:
    """Write *data* through the map that was printed, and return what is stored.

    The name of the host is not signed, so its URLs can lead to an emulator.
    """
    url_map = json.loads(printed.replace(HOST, f"{oss.url}/examplebucket/"))
    OSSPresignedFileSystem(url_map=url_map).pipe_file(path, data)
    stored = oss.get(*path.split("/", 1))
    assert stored is not None
    assert stored.data() == data
    return stored


def run_python(name: str, capsys) -> str:
    """Return what an example in Python prints."""
    pytest.importorskip("oss2" if "oss2" in name else "alibabacloud_oss_v2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the SDKs, old as they are
        runpy.run_path(os.fspath(SDKS / name))
    return capsys.readouterr().out


def run_node(directory: Path, name: str, more: str = "") -> str:
    """Return what an example in JavaScript prints, with *more* code behind it."""
    program, environment = node(directory)
    script = directory / name
    script.write_text(
        (SDKS / name).read_text(encoding="utf-8") + more, encoding="utf-8"
    )
    found = subprocess.run(
        [program, script], env=environment, capture_output=True, text=True, check=True
    )
    return found.stdout


@pytest.mark.parametrize("name", ["python_oss2.py", "python_v2.py"])
def test_entry_made_in_python_carries_an_upload(oss, capsys, name):
    """The bytes arrive, and so do the headers that were signed."""
    stored = upload(oss, run_python(name, capsys), PATH, b"a,b")
    assert stored.headers["content-type"] == "text/csv"
    printed = run_python(name, capsys).replace(HOST, f"{oss.url}/examplebucket/")
    fs = OSSPresignedFileSystem(url_map=json.loads(printed))
    with pytest.raises(FileExistsError):
        fs.pipe_file(PATH, b"other")


def test_entry_in_parts_made_in_python_carries_an_upload(oss, capsys, monkeypatch):
    """Three parts of twenty are used, and the object is whole."""
    sdk = pytest.importorskip("alibabacloud_oss_v2")

    def initiate(client, request):
        # The emulator understands signatures in the query only, not in a header.
        url = client.presign(request).url.replace(HOST, f"{oss.url}/examplebucket/")
        call = urllib.request.Request(url, method="POST")
        with urllib.request.urlopen(call) as reply:
            found = re.search(b"<UploadId>(.*)</UploadId>", reply.read())
        return sdk.InitiateMultipartUploadResult(upload_id=found[1].decode())

    monkeypatch.setattr(sdk.Client, "initiate_multipart_upload", initiate)
    data = bytes(range(256)) * 70_000
    printed = run_python("python_v2_parts.py", capsys)
    upload(oss, printed, "examplebucket/in/big.bin", data)
    sent = [r.part_number for r in oss.requests if r.action == "UploadPart"]
    assert sorted(sent) == [1, 2, 3]
    assert oss.uploads("examplebucket") == []


def test_entry_made_in_node_carries_an_upload(oss, tmp_path):
    """The bytes arrive, and so do the headers that were signed."""
    printed = run_node(tmp_path, "node.mjs")
    stored = upload(oss, printed, "examplebucket/in/b+c.csv", b"a,b")
    assert stored.headers["content-type"] == "text/csv"


def test_examples_together_are_a_map(oss, capsys, tmp_path):
    """One line after the other is JSON Lines, and the check finds nothing."""
    lines = run_python("python_oss2.py", capsys) + run_node(tmp_path, "node.mjs")
    file = tmp_path / "urls.jsonl"
    file.touch(0o600)
    file.write_text(lines, encoding="utf-8")
    assert cli.main(["check", "map", os.fspath(file)]) == 0
    assert "2 objects in the map" in capsys.readouterr().out


def test_entry_made_in_a_browser_carries_an_upload(oss, tmp_path):
    """The code signs with a temporary key, whose token is in the URL."""
    more = f"""
        import OSS from 'ali-oss'
        const oss = new OSS({{
            region: 'oss-cn-hangzhou', bucket: 'examplebucket', secure: true,
            accessKeyId: '{STS.access_key_id}', accessKeySecret: 'fakesecret',
            stsToken: 'CAIS+fake/token==',
        }})
        const entry = await entryFor(oss, {{ type: 'text/csv' }}, 'in/a b.csv')
        console.log(JSON.stringify(entry))
    """
    printed = run_node(tmp_path, "browser.mjs", more)
    assert "x-oss-security-token=CAIS%2Bfake%2Ftoken%3D%3D" in printed
    upload(oss, printed, PATH, b"a,b")


def signed(headers: dict[str, str], version: str) -> str:
    """Return the URL that an SDK would return."""
    return (
        PresignRequest(
            KEY,
            Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com"),
            method="PUT",
            bucket="examplebucket",
            key="in/a b.csv",
            headers=headers,
            version=version,
            region="cn-hangzhou",
            now=time.time(),
            expires_in=3600,
        )
        .url()
        .reveal()
    )


def slashed(entry: object) -> str:
    """Return JSON as PHP, Android and iOS write it."""
    return json.dumps(entry).replace("/", "\\/")


def marshalled(entry: object) -> str:
    """Return JSON as Go writes it."""
    return json.dumps(entry, sort_keys=True).replace("&", "\\u0026") + "\n"


TYPE = {"Content-Type": "text/csv"}


@pytest.mark.parametrize("headers", [TYPE, {}])
@pytest.mark.parametrize(
    ("name", "version", "written"),
    [
        ("entry.php", "v4", slashed),
        ("go_v1.go", "v4", marshalled),
        ("go_v2.go", "v4", marshalled),
        ("Android.java", "v1", slashed),
        ("iOS.m", "v1", slashed),
    ],
)
def test_what_other_sdks_return_is_an_entry(oss, name, version, written, headers):
    """The members that each example prints, escaped as its language does, are read."""
    entry: dict[str, Any] = {"path": PATH, "url": signed(headers, version)}
    if name == "go_v2.go":
        end = "2099-11-25T15:11:34.869674123+08:00"
        more = {"expiration": end, "signed_headers": headers or None}
        entry.update(method="PUT", **more)
    else:
        entry["headers"] = headers
    if name == "go_v1.go":
        entry["url"] = entry["url"].replace("in/a", "in%2Fa")
    source = (SDKS / name).read_text(encoding="utf-8")
    assert entry.keys() <= set(re.findall(r"""["'](\w+)["'](?: =>|:|,)""", source))
    printed = written(entry)
    assert url_map_text.parse(printed)[PATH].put.url.reveal() == entry["url"]
    upload(oss, printed.replace("\\/", "/").replace("\\u0026", "&"), PATH, b"a,b")


def test_what_java_prints_is_an_entry(oss):
    """The format in the example makes JSON of what the SDK returns."""
    source = (SDKS / "Entry.java").read_text(encoding="utf-8")
    (text,) = re.findall(r'printf\("(.*)",\n', source)
    text = text.replace('\\"', '"').replace("%n", "\n")
    printed = text % (*PATH.split("/", 1), signed(TYPE, "v4"), "text/csv")
    upload(oss, printed, PATH, b"a,b")
