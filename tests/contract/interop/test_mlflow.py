"""MLflow's tracking server, unchanged, and its client with our artifact repository."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import fsspec
import pytest
from fsspec.config import conf

from fsspec_osspresigned.errors import OutcomeUnknownError, URLExpiredError
from tests.contract.interop.conftest import (
    Lazy,
    free_ports,
    kill_during,
    library,
    made,
)
from tests.contract.interop.relay import Relay
from tests.contract.interop.table import UPLOAD_SERVERS
from tests.loopback_server import LoopbackServer

pytestmark = pytest.mark.timeout(600)  # the servers start slowly

MIB = 2**20
DATA = os.urandom(11 * MIB)
STORE = "artifacts"
PROXIED, DIRECT = "mlflow, --serve-artifacts", "mlflow, --no-serve-artifacts"
TOKEN = "token-of-mlflow-4711"
PASSWORD = "CANARY-of-mlflow"
OPTIONS = {"part_size": "5MiB", "retries": "1"}
UPLOAD = """
import mlflow, sys
mlflow.MlflowClient().log_artifact(sys.argv[1], sys.argv[2], "large")
"""
mlflow = Lazy("mlflow")


def does(what, who=PROXIED, note=""):
    """Give a test a cell of docs/interop.md."""
    return pytest.mark.interop(UPLOAD_SERVERS, who, what, note=note)


@pytest.fixture(scope="module")
def store(moto):
    """A relay before the store, by whose address the servers sign."""
    with Relay(moto) as relay:
        yield relay


@pytest.fixture(scope="module")
def owner(moto):
    """The owner of the store, who sees what is in it."""
    client = made(moto, "S3RVER", "s3v4")
    client.create_bucket(Bucket=STORE)
    return client


@pytest.fixture(scope="module")
def servers(store, owner, tmp_path_factory):
    """The tracking server with and without artifacts, each behind a relay."""
    library("mlflow")
    place = tmp_path_factory.mktemp("mlflow")
    root = f"s3://{STORE}/root"
    ways = {
        PROXIED: ["--serve-artifacts", "--artifacts-destination", root],
        DIRECT: ["--no-serve-artifacts", "--default-artifact-root", root],
    }
    environment = {
        **os.environ,
        "MLFLOW_S3_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": "S3RVER",
        "AWS_SECRET_ACCESS_KEY": "S3RVER",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with contextlib.ExitStack() as stack:
        relays = {}
        for number, (who, given) in enumerate(ways.items()):
            (port,) = free_ports(1)
            command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
            command += ["--host", "127.0.0.1", "--port", str(port), *given]
            command += ["--backend-store-uri", f"sqlite:///{place}/{number}.db"]
            log = stack.enter_context((place / f"{number}.log").open("wb"))
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(stop, process)
            relays[who] = stack.enter_context(Relay(f"http://127.0.0.1:{port}"))
        for relay in relays.values():
            wait_for(f"{relay.target}/health")
        yield relays


def stop(process):
    """End a server and its workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    process.wait()


def wait_for(url):
    """Wait until a server answers."""
    end = time.monotonic() + 500
    while True:
        try:
            return urllib.request.urlopen(url).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


@pytest.fixture
def tracking(servers, store, monkeypatch, tmp_path):
    """The server with artifacts; MLflow's client uses it, and our repository."""
    relay = servers[PROXIED]
    store.reset()
    relay.reset()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", relay.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setenv("OSSPRESIGNED_MLFLOW", "true")
    monkeypatch.setitem(conf, "osspresigned", OPTIONS)
    monkeypatch.chdir(tmp_path)
    return relay


@pytest.fixture
def client(tracking):
    """MLflow's client."""
    made = mlflow.MlflowClient(tracking_uri=tracking.url)
    yield made
    for name in ("create", "complete"):  # what each test begins, it sees
        tracking.faults.pop(name, None)


@pytest.fixture
def run(client):
    """The ID of a new run."""
    return client.create_run("0").info.run_id


@pytest.fixture
def large(tmp_path):
    """A file of three parts."""
    file = tmp_path / "model +ü 1.bin"
    file.write_bytes(DATA)
    return file


def names(client, run, path=None):
    """Return the artifacts of a run, as MLflow lists them, with their sizes."""
    listed = {}
    for info in client.list_artifacts(run, path):
        if info.is_dir:
            listed |= names(client, run, info.path)
        else:
            listed[info.path] = info.file_size
    return listed


def read(client, run, name, tmp_path):
    """Return an artifact, as MLflow reads it."""
    place = tmp_path / "read"
    place.mkdir(exist_ok=True)
    return Path(client.download_artifacts(run, name, str(place))).read_bytes()


def begun(owner, key=""):
    """Return the uploads in the store that are neither finished nor aborted."""
    listed = owner.list_multipart_uploads(Bucket=STORE).get("Uploads", [])
    return [upload for upload in listed if key in upload["Key"]]


def sent(relay, *pieces):
    """Return how many calls have each of *pieces*."""
    return sum(all(piece in call for piece in pieces) for call in relay.calls)


@does("parts")
def test_a_large_artifact(tracking, store, owner, client, run, large, tmp_path):
    """Its parts go to the store, without the token; MLflow reads the same bytes."""
    client.log_artifact(run, str(large), "a b/ü")
    name = f"a b/ü/{large.name}"
    assert names(client, run) == {name: len(DATA)}
    assert sent(store, "PUT ", "partNumber=") == 3
    assert (sent(tracking, "POST ", "/mpu/"), sent(tracking, "PUT ")) == (2, 0)
    assert set(tracking.tokens) == {f"Bearer {TOKEN}"}
    assert not any(TOKEN in str(token) for token in store.tokens)
    assert read(client, run, name, tmp_path) == DATA
    assert not begun(owner, run)


@does("small files")
def test_many_small_artifacts(tracking, client, run, tmp_path):
    """Each file of a directory is an artifact with its bytes, an empty one too."""
    folder = tmp_path / "folder"
    wanted = {}
    for number in range(40):
        file = folder / f"{number % 4}" / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x" * number)
        wanted[f"many/{number % 4}/{number}.txt"] = number
    client.log_artifacts(run, str(folder), "many")
    assert {name: size or 0 for name, size in names(client, run).items()} == wanted
    place = Path(client.download_artifacts(run, "many", str(tmp_path)))
    for number in range(40):
        file = place / f"{number % 4}" / f"{number}.txt"
        assert file.read_text() == "x" * number


@does("expired URL", note="an error; a new upload is stored")
def test_an_expired_url(store, owner, client, run, large, tmp_path):
    """The server has no other URL: nothing is left, and the artifact is logged again."""
    store.faults["partNumber=2"] = ("expire", 100)
    with pytest.raises(URLExpiredError):
        client.log_artifact(run, str(large))
    assert names(client, run) == {}
    assert not begun(owner, run)
    store.faults.clear()
    client.log_artifact(run, str(large))
    assert read(client, run, large.name, tmp_path) == DATA


@does("killed client", note="starts over; its parts stay in the store")
def test_a_killed_client(store, owner, client, run, large, tmp_path):
    """No artifact appears; the second run of the same program stores it whole."""
    store.faults["partNumber=3"] = ("hold", 1)
    options = {f"FSSPEC_OSSPRESIGNED_{n.upper()}": v for n, v in OPTIONS.items()}
    command = [sys.executable, "-c", UPLOAD, run, str(large)]
    environment = {**os.environ, **options}
    kill_during(
        command,
        lambda: sent(store, "partNumber=3") and sent(store, "PUT ") == 3,
        env=environment,
    )
    store.released.set()
    assert names(client, run) == {}
    subprocess.run(command, env=environment, check=True)
    assert read(client, run, f"large/{large.name}", tmp_path) == DATA
    assert len(begun(owner, run)) == 1  # the server has no call that lists it


@does("lost last reply")
def test_a_lost_last_reply(tracking, client, run, large, tmp_path):
    """The call is repeated, and the store knows what it stored."""
    tracking.faults["/mpu/complete/"] = ("lose", 1)
    client.log_artifact(run, str(large))
    assert sent(tracking, "/mpu/complete/") == 2
    assert read(client, run, large.name, tmp_path) == DATA


def test_a_lost_repetition(tracking, client, run, large, tmp_path):
    """Without any reply, no outcome is claimed; a new upload replaces the artifact."""
    tracking.faults["/mpu/complete/"] = ("lose", 2)
    with pytest.raises(OutcomeUnknownError):
        client.log_artifact(run, str(large))
    client.log_artifact(run, str(large))
    assert names(client, run) == {large.name: len(DATA)}
    assert read(client, run, large.name, tmp_path) == DATA


def test_only_who_chose_it_gets_it(tracking, client, run, large, monkeypatch):
    """Without the variable, MLflow stores artifacts through its server, as ever."""
    monkeypatch.delenv("OSSPRESIGNED_MLFLOW")
    client.log_artifact(run, str(large))
    assert sent(tracking, "PUT ") == 1
    assert sent(tracking, "/mpu/") == 0
    assert names(client, run) == {large.name: len(DATA)}


@does("parts", who=DIRECT, note="one PUT")
@does("small files", who=DIRECT)
@pytest.mark.parametrize("kind", ["mlflow", "mlflow-model"])
def test_presigned_puts(servers, store, owner, kind):
    """Artifacts of runs and models are stored by one PUT, with the type of MLflow."""
    fs, name, key = direct(servers, store, kind)
    receipts = fs.pipe({f"{name}/a b/{n}.csv": b"n" * n for n in range(20)})
    assert all(receipt.verified == "md5" for receipt in receipts)
    fs.pipe_file(f"{name}/ü.bin", DATA)
    for number in range(20):
        stored = owner.get_object(Bucket=STORE, Key=f"{key}/a b/{number}.csv")
        assert stored["Body"].read() == b"n" * number
        assert stored["ContentType"] == "text/csv"
    assert owner.get_object(Bucket=STORE, Key=f"{key}/ü.bin")["Body"].read() == DATA


@does("expired URL", who=DIRECT)
@does("lost last reply", who=DIRECT)
@pytest.mark.parametrize("fault", ["expire", "lose"])
def test_a_presigned_put_that_fails(servers, store, owner, fault):
    """An expired URL is replaced by a new one, and a PUT without reply is repeated."""
    fs, name, key = direct(servers, store, "mlflow")
    store.faults["PUT "] = (fault, 1)
    receipt = fs.pipe_file(f"{name}/a.bin", DATA)
    assert sent(store, "PUT ") == 2
    assert receipt.location == f"runs:/{name}/a.bin"
    assert owner.get_object(Bucket=STORE, Key=f"{key}/a.bin")["Body"].read() == DATA


@does("killed client", who=DIRECT, note="nothing is stored; starts over")
def test_a_killed_presigned_put(servers, store, owner, tmp_path):
    """Half a PUT is no artifact; the second run of the same program stores it."""
    _, name, key = direct(servers, store, "mlflow")
    (tmp_path / "a.bin").write_bytes(DATA)
    store.faults["PUT "] = ("hold", 1)
    command = [sys.executable, "-m", "fsspec_osspresigned", "put", "a.bin"]
    command += [f"{name}/a.bin", "--upload-server", f"mlflow+{servers[DIRECT].url}"]
    kill_during(command, lambda: sent(store, "PUT "), cwd=tmp_path)
    store.released.set()
    assert owner.list_objects_v2(Bucket=STORE, Prefix=key)["KeyCount"] == 0
    subprocess.run(command, cwd=tmp_path, check=True)
    assert owner.get_object(Bucket=STORE, Key=f"{key}/a.bin")["Body"].read() == DATA


def direct(servers, store, kind):
    """Return a filesystem of a new run or model, its name there, and its key."""
    relay = servers[DIRECT]
    store.reset()
    relay.reset()
    client = mlflow.MlflowClient(tracking_uri=relay.url)
    if kind == "mlflow":
        info = client.create_run("0").info
        name, place = info.run_id, info.artifact_uri
    else:
        model = client.create_logged_model("0", "m")
        name, place = model.model_id, model.artifact_location
    fs = fsspec.filesystem(
        "osspresigned", upload_server=f"{kind}+{relay.url}", retries=1
    )
    return fs, name, place.removeprefix(f"s3://{STORE}/")


class Odd(LoopbackServer):
    """A tracking server that repeats the password, or says more than anybody wants."""

    endless = False
    sent = 0

    def serve(self, request):
        """Answer each call."""
        request.rfile.read(int(request.headers["Content-Length"]))
        code, length = (200, 10**12) if self.endless else (400, None)
        body = b'{"message": "bad password: ' + PASSWORD.encode() + b'"}'
        request.send_response(code)
        request.send_header("Content-Length", str(length or len(body)))
        request.end_headers()
        with contextlib.suppress(OSError):
            request.wfile.write(body)
            while self.endless:
                request.wfile.write(bytes(MIB))
                self.sent += MIB
        request.close_connection = True


@pytest.mark.parametrize("endless", [False, True])
def test_an_odd_server(monkeypatch, tmp_path, endless):
    """The password that MLflow sends shows in no error; a reply is not read forever."""
    library("mlflow")
    from fsspec_osspresigned.mlflow import artifact_repository  # noqa: PLC0415

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "user")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("OSSPRESIGNED_MLFLOW", "true")
    monkeypatch.setitem(conf, "osspresigned", {"retries": "0"})
    file = tmp_path / "a.bin"
    file.write_bytes(b"1")
    with Odd() as server:
        server.endless = endless
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        place = "mlflow-artifacts:/0/r/artifacts"
        with pytest.raises(OSError, match="more than" if endless else "HTTP 400") as at:
            artifact_repository(place).log_artifact(str(file))
    assert PASSWORD not in repr(at.value)
    assert server.sent < 64 * MIB
