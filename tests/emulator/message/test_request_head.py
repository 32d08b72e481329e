"""Host names and buckets of requests."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.signing import Endpoint

BUCKET = "examplebucket"
both = pytest.mark.parametrize("version", ["v1", "v4"])


@both
@pytest.mark.parametrize(
    "host",
    [f"{BUCKET}.localhost", f"{BUCKET.upper()}.LOCALHOST:80",
     f"{BUCKET}.oss-cn-hangzhou.aliyuncs.com", f"{BUCKET}.cn-hangzhou.oss.aliyuncs.com"],
)  # fmt: skip
def test_virtual_hosts(client, oss, host, version):
    """A bucket in front of a known host is the bucket, and the path is the key."""
    endpoint = Endpoint.parse(
        oss.url.replace("127.0.0.1", "localhost"), style="virtual"
    )
    url = client.url("PUT", "dir/a b", endpoint=endpoint, version=version)
    url = url.replace(f"{BUCKET}.localhost", "127.0.0.1")
    assert client.send("PUT", url, headers={"Host": host}, data=b"v").status_code == 200
    assert oss.requests[-1].path == "/dir/a%20b"
    assert oss.get(BUCKET, "dir/a b").data() == b"v"


@both
def test_custom_domains(make_client, version):
    """A host in the table is its bucket; any other host is path style."""
    with Emulator(cnames={"Data.Example.com": BUCKET}) as oss:
        client = make_client(oss)
        endpoint = Endpoint.parse("http://data.example.com", style="cname")
        url = client.url("PUT", "k", endpoint=endpoint, version=version)
        url = url.replace("http://data.example.com", oss.url)
        headers = {"Host": "data.example.com"}
        assert client.send("PUT", url, headers=headers, data=b"c").status_code == 200
        assert oss.get(BUCKET, "k").data() == b"c"
        reply = client.call(
            "PUT", "p", version=version, unsigned={"Host": "proxy.test"}
        )
        assert reply.status_code == 200
