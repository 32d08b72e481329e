"""Every script of examples/uploading, run as it stands against a store that verifies.

Their signer grants what an upload needs and no more.
"""

from __future__ import annotations

import configparser
import gzip
import io
import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.tools import cli
from tests.form_signer import grant_of

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "examples" / "uploading"
BUCKET = "examplebucket"
TOKEN = "a-made-up-token-0"
WRITING = frozenset(
    {
        Action.PutObject,
        Action.InitiateMultipartUpload,
        Action.UploadPart,
        Action.CompleteMultipartUpload,
        Action.AbortMultipartUpload,
    }
)


@pytest.fixture
def signer(oss, monkeypatch) -> Iterator[str]:
    """The address of a service that signs uploads; its token is in the environment."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    keys = KeySigner(
        credentials=lambda: oss.credentials, endpoint=oss.endpoint, region="cn-hangzhou"
    )
    policy = Policy(name="examples", prefixes=(f"{BUCKET}/",), actions=WRITING)
    app = create_app(keys, tokens={hash_token(TOKEN): policy})
    with LoopbackServer(app) as server:
        monkeypatch.setenv("SIGNER_URL", server.url)
        yield server.url


@pytest.fixture
def keys(oss, monkeypatch) -> None:
    """The owner's keys, in the environment."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", oss.credentials.access_key_id)
    secret = oss.credentials.access_key_secret.reveal()
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)
    monkeypatch.setenv("OSS_ENDPOINT", oss.url)
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")


def run(name: str, *arguments: object) -> str:
    """Run a script as its reader would, and return what it prints."""
    command = [sys.executable, os.fspath(SCRIPTS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored(oss: Emulator) -> Mapping[str, bytes]:
    """Return all that the store has."""
    return {key: oss.get(BUCKET, key).data() for key in oss.objects(BUCKET)}


def secret_file(name: str, text: str) -> str:
    """Write what only its owner may read."""
    place = Path(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch(0o600)
    place.write_text(text, encoding="utf-8")
    return name


def test_one_url(oss, signed, tmp_path):
    """The file is the object, and its checksum was compared."""
    Path("a.csv").write_bytes(b"a,b")
    printed = run("one_url.py", "a.csv", secret_file("upload.url", signed("in/a.csv")))
    assert printed == "examplebucket/in/a.csv: 3 bytes stored, checked by crc64\n"
    assert stored(oss) == {"in/a.csv": b"a,b"}


def test_pandas(oss, signed):
    """CSV, Parquet and Excel arrive, and pandas reads them."""
    names = [f"reports/{n}" for n in ("daily.csv.gz", "daily.parquet", "monthly.xlsx")]
    objects = {f"{BUCKET}/{name}": signed(name) for name in names}
    run("pandas_report.py", secret_file("urls.json", json.dumps(objects)))
    found = stored(oss)
    text = gzip.decompress(found["reports/daily.csv.gz"])
    assert len(pd.read_csv(io.BytesIO(text))) == 365
    assert len(pd.read_parquet(io.BytesIO(found["reports/daily.parquet"]))) == 365
    assert len(pd.read_excel(io.BytesIO(found["reports/monthly.xlsx"]))) == 12


def test_by_grant(oss, monkeypatch):
    """Partitions and a note arrive by one file, without any key; pandas reads them."""
    grant = grant_of(oss, BUCKET, "incoming/")
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name)
    place = secret_file("grant.json", json.dumps(grant))
    assert run("by_grant.py", place) == "3 months stored\n"
    found = stored(oss)
    assert found.pop("incoming/measured/README.txt") == b"hourly, by month\n"
    months = {key.rsplit("/", 1)[0] for key in found}
    wanted = {f"incoming/measured/month=2026-0{number}" for number in (1, 2, 3)}
    assert months == wanted
    frames = [pd.read_parquet(io.BytesIO(data)) for data in found.values()]
    assert sum(frame["n"].sum() for frame in frames) == sum(range(90 * 24))
    assert {record.action for record in oss.requests} == {"PostObject"}


@pytest.mark.slow
def test_dask_cluster(oss, signer):
    """Every partition arrives from a process of its own, and the table is whole."""
    assert run("dask_cluster.py") == "four parts stored\n"
    parts = [key for key in oss.objects(BUCKET) if key.endswith(".parquet")]
    assert len(parts) == 4
    frames = [pd.read_parquet(io.BytesIO(oss.get(BUCKET, k).data())) for k in parts]
    assert sum(frame["n"].sum() for frame in frames) == sum(range(1000))


def test_scheduled_task_may_run_again(oss, signer):
    """Two runs of a day leave one object, with what was demanded for it."""
    for _ in range(2):
        printed = run("scheduled_task.py", "2026-11-25")
    assert "'path': 'examplebucket/exports/day=2026-11-25/data.parquet'" in printed
    (key,) = oss.objects(BUCKET)
    assert oss.get(BUCKET, key).headers["x-oss-meta-rows"] == "3"


@pytest.mark.usefixtures("command_on_path")
def test_ci_artifacts(oss, signed, monkeypatch):
    """The map comes from a variable; a file that it lacks fails the job beforehand."""
    Path("built").mkdir()
    for name in ("a.whl", "b.tar.gz"):
        Path("built", name).write_text(name)
    names = ["artifacts/a.whl", "artifacts/b.tar.gz"]
    objects = {f"{BUCKET}/{name}": signed(name) for name in names}
    command = [shutil.which("sh"), os.fspath(SCRIPTS / "ci_artifacts.sh"), "built"]
    for given, code in ((dict([*objects.items()][:1]), 1), (objects, 0)):
        monkeypatch.setenv("UPLOAD_MAP", json.dumps(given))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert sorted(oss.objects(BUCKET)) == (names if code == 0 else [])


def test_signer_function(oss, keys, monkeypatch):
    """A granted object is stored; a refused one raises an error that says so."""
    assert run("my_signing.py") == "examplebucket/in/hello.txt stored\n"
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setenv("OSSPRESIGNED_TRUST", "my_signing")
    fs = OSSPresignedFileSystem(signer="my_signing:sign")
    with pytest.raises(PermissionError, match="is not granted"):
        fs.pipe_file("examplebucket/out/hello.txt", b"hello")
    assert stored(oss) == {"in/hello.txt": b"hello"}
    sys.modules.pop("my_signing")


def test_nightly_sync(oss, signer, tmp_path):
    """The command of the unit sends what is new, and then nothing."""
    secret_file(".config/osspresigned/token", TOKEN)
    for name in ("exports/a.csv", "exports/2026/b.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read(SCRIPTS / "nightly" / "osspresigned-sync.service", encoding="utf-8")
    text = unit["Service"]["ExecStart"].replace("%h", os.fspath(tmp_path))
    words = shlex.split(text.replace("https://sign.example.com", signer))
    assert Path(words[0]).name == "osspresigned"
    for sent in (2, 2):
        assert cli.main(words[1:]) == 0
        assert len([r for r in oss.requests if r.action == "PutObject"]) == sent
    assert sorted(oss.objects(BUCKET)) == ["exports/2026/b.csv", "exports/a.csv"]
    unit.read(SCRIPTS / "nightly" / "osspresigned-sync.timer", encoding="utf-8")
    assert unit["Timer"]["Persistent"] == "true"


def test_notebook(oss, signer):
    """Its cells run one after the other, and it was saved without their output."""
    cells = json.loads((SCRIPTS / "notebook.ipynb").read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code)
    Path("notebook.py").write_text("\n".join("".join(c["source"]) for c in code))
    runpy.run_path("notebook.py")
    assert sorted(stored(oss)) == ["notebook/frame.csv", "notebook/frame.json"]
