"""Application servers of others hand out grants, and this filesystem uploads with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pandas as pd
import pytest

from tests.contract import grant_uploader as program
from tests.contract.interop.conftest import BUCKET, REGION, Identity
from tests.contract.interop.sample_server import SampleServer, answer_v1, answer_v4
from tests.contract.interop.table import GRANTS

DIR = "user-dir/"
TOOLS = "dask's workers, zarr, sync, a stream"


def upload(address: str) -> Any:
    """Write a data set of partitions with nothing but the address of a server."""
    frame = pd.DataFrame({"day": ["mon", "tue", "wed"], "n": [1, 2, 3]})
    options = {"grant": address, "skip_instance_cache": True}
    frame.to_parquet(
        f"osspresigned://{BUCKET}/{DIR}days",
        partition_cols=["day"],
        storage_options=options,
    )
    fs = fsspec.filesystem("osspresigned", **options)
    fs.pipe_file(f"{BUCKET}/{DIR}ü (1).txt", b"x")
    with pytest.raises(PermissionError, match=r"does not meet \[.starts-with"):
        fs.pipe_file(f"{BUCKET}/elsewhere", b"x")


def check(oss: Any) -> None:
    """Compare what is stored with what was written."""
    stored = dict(oss.objects(BUCKET))
    assert stored.pop(f"{DIR}ü (1).txt") == b"x"
    days = {key.rsplit("/", 1)[0] for key in stored}
    assert days == {f"{DIR}days/day={day}" for day in ("mon", "tue", "wed")}
    assert {record.action for record in oss.requests} == {"PostObject"}


@pytest.fixture
def ali_oss(oss: Any, identity: Identity, node_server: Callable[..., str]) -> str:
    """The address of a server that signs with ali-oss."""
    name, secret = identity.pair
    options = {
        "region": f"oss-{REGION}",
        "bucket": BUCKET,
        "accessKeyId": name,
        "accessKeySecret": secret,
        "stsToken": identity.token,
        "refreshSTSTokenInterval": 10**9,
    }
    host = f"{oss.url}/{BUCKET}"
    address = node_server("grants.mjs", "ali-oss", options=options, host=host, dir=DIR)
    return f"{address}/{identity.version}"


@pytest.mark.interop(GRANTS, "ali-oss", "its server", note="V1, V4, STS")
def test_node_server_with_ali_oss(oss, ali_oss):
    """A grant in the reply of Alibaba's sample server for Node is accepted."""
    upload(ali_oss)
    check(oss)


@pytest.mark.timeout(240)  # a cluster's start, on a busy machine
@pytest.mark.interop(GRANTS, "ali-oss", TOOLS, note="V1, V4, STS")
def test_tools_by_a_node_server(oss, ali_oss, tmp_path):
    """Its address is all that the tools need, also in the processes of a cluster."""
    program.run(ali_oss, f"{BUCKET}/user-dir", tmp_path)
    program.check(oss, f"{BUCKET}/user-dir", tmp_path)


@pytest.fixture
def by_hand(oss: Any, identity: Identity) -> Iterator[str]:
    """The address of a server that signs with the standard library of Python."""
    answer = answer_v4 if identity.version == "v4" else answer_v1
    host = f"{oss.url}/{BUCKET}"
    with SampleServer(
        lambda: answer(*identity.pair, identity.token, host=host, directory=DIR)
    ) as server:
        yield server.url


@pytest.mark.interop(GRANTS, "hmac of Python", "its server", note="V1, V4, STS")
def test_python_server(oss, by_hand):
    """A grant that a server signs with the standard library alone is accepted."""
    upload(by_hand)
    check(oss)


@pytest.mark.timeout(240)  # a cluster's start, on a busy machine
@pytest.mark.interop(GRANTS, "hmac of Python", TOOLS, note="V1, V4, STS")
def test_tools_by_a_python_server(oss, by_hand, tmp_path):
    """The tools work with the address of the server, too."""
    program.run(by_hand, f"{BUCKET}/user-dir", tmp_path)
    program.check(oss, f"{BUCKET}/user-dir", tmp_path)
