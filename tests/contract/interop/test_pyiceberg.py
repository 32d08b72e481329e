"""pyiceberg, unchanged, keeps its tables in the store by our FileIO."""

from __future__ import annotations

import io
import json
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.config import conf
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import ConfigurationError, ObjectExistsError
from fsspec_osspresigned.owner.service.policy import hash_token
from tests.contract.interop.conftest import BUCKET, OWNER, REGION, Lazy, kill_during
from tests.contract.interop.table import TABLES
from tests.serve_child import Serve

catalogs = Lazy("pyiceberg.catalog")
exceptions = Lazy("pyiceberg.exceptions")
iceberg = Lazy("fsspec_osspresigned.iceberg")
transforms = Lazy("pyiceberg.transforms")
types = Lazy("pyiceberg.types")

IMPLEMENTATION = "fsspec_osspresigned.iceberg.OSSFileIO"
WAREHOUSE = f"oss://{BUCKET}/warehouse/ü 1"
TOKEN = "token-of-tables-4711"
SOURCES = ("keys", "signer service")
POLICY = """
[[tokens]]
name = "tables"
sha256 = "{hash}"
buckets = ["examplebucket"]
prefixes = ["warehouse/"]
actions = ["PutObject", "InitiateMultipartUpload", "UploadPart", "DeleteObject",
           "CompleteMultipartUpload", "AbortMultipartUpload", "HeadObject", "GetObject"]
"""
ROWS = pa.table(
    {
        "n": [1, 2, 3, 4],
        "name": ["a b", "a/b", "c?d=%2F", "ü#"],
        "amount": [0.5, None, 2.5, -1.0],
    }
)
KILLED = """
import json, pyarrow.parquet as pq, sys
from pyiceberg.catalog import load_catalog
rows = pq.read_table(sys.argv[2])
load_catalog("lake", **json.loads(sys.argv[1])).load_table("days.t").append(rows)
"""


def does(what: str) -> pytest.MarkDecorator:
    """Say on the page that pyiceberg does *what*, with both sources of signatures."""
    return pytest.mark.interop(TABLES, "pyiceberg", what, note="keys, signer service")


@pytest.fixture(params=SOURCES)
def properties(
    request: pytest.FixtureRequest,
    oss: Any,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, str]]:
    """A catalog in SQLite, whose tables are signed for in each way."""
    common = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": WAREHOUSE,
        "py-io-impl": IMPLEMENTATION,
        "osspresigned.part-size": "100KiB",
        "osspresigned.multipart-threshold": "100KiB",
    }
    if request.param == "keys":
        yield {**common, "osspresigned.signer": "keys"}
        return
    with Serve(oss, tmp_path, "other", POLICY.format(hash=hash_token(TOKEN))) as serve:
        for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("OSSPRESIGNED_TABLES", TOKEN)
        configured = {
            "signer": serve.url,
            "signer_token": "env:OSSPRESIGNED_TABLES",
        }
        monkeypatch.setitem(conf, "osspresigned", configured)
        for name, value in configured.items():  # of child processes
            monkeypatch.setenv(f"FSSPEC_OSSPRESIGNED_{name.upper()}", value)
        yield common


@pytest.fixture
def catalog(properties: dict[str, str]) -> Any:
    """The catalog, with a namespace."""
    made = catalogs.load_catalog("lake", **properties)
    made.create_namespace("days")
    yield made
    made.close()


@pytest.fixture
def table(catalog: Any) -> Any:
    """A table with four rows, which our FileIO has written: nothing falls back."""
    made = catalog.create_table("days.t", schema=ROWS.schema)
    assert type(made.io) is iceberg.OSSFileIO
    made.append(ROWS)
    return made


def rows(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a table in order."""
    return table.scan().to_arrow().sort_by("n").to_pylist()


def check_whole(oss: Any) -> None:
    """Read every file of data in the store by itself."""
    for key, data in oss.objects(BUCKET).items():
        assert key.startswith("warehouse/ü 1/")
        if key.endswith(".parquet"):
            assert pq.read_table(io.BytesIO(data)).num_rows


@does("create")
@does("append")
@does("overwrite")
@does("delete")
def test_life_of_a_table(table, catalog, oss):
    """Every step is what pyiceberg itself reads back, old snapshots included."""
    first = table.current_snapshot().snapshot_id
    table.append(ROWS.set_column(0, "n", pa.array([5, 6, 7, 8])))
    assert [row["n"] for row in rows(table)] == [1, 2, 3, 4, 5, 6, 7, 8]
    table.delete("n > 6")
    assert [row["n"] for row in rows(table)] == [1, 2, 3, 4, 5, 6]
    with table.update_schema() as update:
        update.add_column("more", types.StringType())
    table.overwrite(ROWS)
    assert rows(catalog.load_table("days.t")) == [
        {**row, "more": None} for row in ROWS.to_pylist()
    ]
    old = table.scan(snapshot_id=first).to_arrow().sort_by("n")
    assert old.to_pylist() == ROWS.to_pylist()
    check_whole(oss)
    size = table.io.new_input(table.metadata_location)
    assert len(size) == len(size.open().read())
    catalog.purge_table("days.t")
    assert not catalog.table_exists("days.t")
    assert not [key for key in oss.objects(BUCKET) if key.endswith(".parquet")]


@does("partitions")
def test_partitions(catalog, oss):
    """Values of partitions are parts of names, whatever characters they have."""
    made = catalog.create_table("days.p", schema=ROWS.schema)
    with made.update_spec() as update:
        update.add_field("name", transforms.IdentityTransform(), "name")
    made.append(ROWS)
    assert rows(made) == ROWS.to_pylist()
    some = made.scan("name == 'c?d=%2F'").to_arrow().to_pylist()
    assert some == ROWS.to_pylist()[2:3]
    data = [key for key in oss.objects(BUCKET) if key.endswith(".parquet")]
    assert len(data) == ROWS.num_rows
    check_whole(oss)


@does("concurrent appends")
def test_concurrent_appends(table, catalog, oss):
    """Threads that append at the same time lose no row of each other."""
    errors: list[BaseException] = []

    def append(number: int) -> None:
        try:
            own = catalog.load_table("days.t")
            own.append(ROWS.set_column(0, "n", pa.array([number] * 4)))
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=append, args=(n,)) for n in range(10, 14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = exceptions.CommitFailedException  # whose rows are not in the table
    assert all(isinstance(error, lost) for error in errors), errors
    numbers = [row["n"] for row in rows(catalog.load_table("days.t"))]
    assert len(numbers) == 4 * (1 + 4 - len(errors))
    check_whole(oss)


@does("killed client")
def test_killed_writer(table, properties, catalog, oss, tmp_path):
    """A writer that dies in a file leaves the table as it was; the next run appends."""
    pq.write_table(many(20_000), tmp_path / "rows")
    before = {**oss.objects(BUCKET)}
    oss.faults.add(Fault(action="UploadPart", after=2, stall_after=1000))
    command = [sys.executable, "-c", KILLED, json.dumps(properties)]
    command.append(str(tmp_path / "rows"))
    kill_during(command, lambda: any(upload.parts for upload in oss.uploads(BUCKET)))
    oss.faults.clear()
    assert {**oss.objects(BUCKET)} == before
    assert rows(catalog.load_table("days.t")) == ROWS.to_pylist()
    subprocess.run(command, check=True)
    assert len(rows(catalog.load_table("days.t"))) == 4 + 20_000
    check_whole(oss)


def many(count: int) -> Any:
    """Return rows enough for a file of many parts."""
    draw = random.Random(1)  # noqa: S311 - a fixed file
    names = [draw.randbytes(8).hex() for _ in range(count)]
    amounts = [draw.random() for _ in range(count)]
    return pa.table({"n": range(5, 5 + count), "name": names, "amount": amounts})


@does("parts")
@does("expired URL")
def test_expired_urls(table, catalog, oss):
    """Data, manifests and metadata are signed again if the store says "expired"."""
    for action in ("PutObject", "UploadPart", "CompleteMultipartUpload"):
        oss.faults.add(Fault(action=action, after=1, refuse="expired", times=1))
    large = many(20_000)
    table.append(large)
    refused = [r.action for r in oss.requests if r.status == 403]
    assert {"PutObject", "UploadPart"} <= set(refused)
    want = [*ROWS.to_pylist(), *large.to_pylist()]
    assert rows(catalog.load_table("days.t")) == want
    check_whole(oss)


@does("lost last reply")
@pytest.mark.parametrize("action", ["PutObject", "CompleteMultipartUpload"])
def test_lost_last_replies(table, catalog, oss, action):
    """An object that is stored although no reply came is found by its checksum."""
    oss.faults.add(Fault(action=action, drop_reply=True, times=2))
    large = many(20_000)
    table.append(large)
    assert rows(catalog.load_table("days.t")) == [
        *ROWS.to_pylist(),
        *large.to_pylist(),
    ]
    assert oss.uploads(BUCKET) == []
    check_whole(oss)


def test_what_exists_is_not_replaced(table):
    """The store refuses a second object of a name, unless pyiceberg asks for it."""
    output = table.io.new_output(f"{WAREHOUSE}/a")
    with output.create() as stream:
        stream.write(b"first")
    with pytest.raises(FileExistsError):
        output.create()
    assert output.exists()
    with output.create(overwrite=True) as stream:
        stream.write(b"second")
    assert output.to_input_file().open().read() == b"second"
    table.io.delete(output)
    assert not output.exists()
    with pytest.raises(FileNotFoundError):
        output.to_input_file().open()


def test_a_race_is_decided_by_the_store(table):
    """If two writers begin at the same time, the later one replaces nothing."""
    output = table.io.new_output(f"{WAREHOUSE}/a")
    late = output.create()
    late.write(b"late")
    with output.create() as stream:
        stream.write(b"first")
    with pytest.raises(ObjectExistsError):
        late.close()
    assert output.to_input_file().open().read() == b"first"


def test_pickle(table):
    """A table's FileIO works in another process, and its pickle has no secret."""
    data = pickle.dumps(table.io)
    assert TOKEN.encode() not in data
    assert OWNER.access_key_secret.reveal().encode() not in data
    other = pickle.loads(data)
    assert other.new_input(table.metadata_location).exists()


@pytest.fixture
def made(oss: Any) -> Callable[..., Any]:
    """Make a FileIO with properties."""
    return lambda **given: iceberg.OSSFileIO(
        {f"osspresigned.{name}": value for name, value in given.items()}
    )


def test_a_secret_in_a_property_stays_in_this_process(made):
    """Properties with signatures are neither shown nor pickled."""
    grant = (
        f"https://{BUCKET}.oss-{REGION}.aliyuncs.com/a?Expires=1&Signature=Abc123xyz"
    )
    file_io = made(**{"presigned-url": grant})
    assert "Abc123xyz" not in repr(file_io)
    with pytest.raises(TypeError, match="presigned_url= holds the URL"):
        pickle.dumps(file_io)


@pytest.mark.parametrize(
    ("name", "value", "variable"),
    [
        ("signer-token", "env:OSSPRESIGNED_T", "SIGNER_TOKEN"),
        ("receipts", "/home/me/receipts", "RECEIPTS"),
        ("resume-dir", "/home/me/resume", "RESUME_DIR"),
    ],
)
def test_what_is_the_users_is_not_taken_from_properties(made, name, value, variable):
    """The properties of a table replace the catalog's, and come from its writer."""
    with pytest.raises(ConfigurationError, match=f"FSSPEC_OSSPRESIGNED_{variable}"):
        made(signer="https://sign.example.com", **{name: value})


def test_misspelt_properties_are_refused(made):
    """An option that does not exist is an error before the first byte."""
    with pytest.raises(ConfigurationError, match="did you mean 'part_size'"):
        made(signer="keys", **{"part-sise": "1MiB"})


def test_properties_of_a_table_get_no_token(made, monkeypatch):
    """A signer that a table names is asked without the token of the configuration."""
    tokens = []

    async def answer(request: Request) -> JSONResponse:
        tokens.append(request.headers.get("authorization"))
        return JSONResponse({}, status_code=403)

    monkeypatch.setenv("OSSPRESIGNED_TABLES", TOKEN)
    token = {"signer_token": "env:OSSPRESIGNED_TABLES"}
    monkeypatch.setitem(conf, "osspresigned", {"signer": "https://sign.test", **token})
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    with LoopbackServer(app) as server, pytest.raises(OSError, match="403"):
        made(signer=server.url).new_input(f"{WAREHOUSE}/a").open()
    assert tokens
    assert set(tokens) == {None}


@pytest.mark.parametrize("location", ["gs://bucket/a", "/local/a", "bucket/a"])
def test_other_locations_are_refused(made, location):
    """A location of another store is not taken for a bucket."""
    with pytest.raises(ConfigurationError, match="oss://"):
        made(signer="keys").new_input(location)
