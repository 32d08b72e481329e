"""A map of 100,000 objects: what it costs to open, to hold and to hand on."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from urllib.parse import quote

import fsspec
import pytest

from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.url_map.source import load

pytestmark = pytest.mark.slow

COUNT = 100_000
QUERY = (
    "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20261125T100000Z"
    "&x-oss-expires=86400&x-oss-credential=EXAMPLEKEYID%2F20261125%2Fcn-hangzhou"
    "%2Foss%2Faliyun_v4_request&x-oss-signature="
)


def entries(count, *, key, full):
    """Yield paths and values, as ``osspresigned sign`` writes them, or bare URLs."""
    host = "https://examplebucket.oss-cn-hangzhou.aliyuncs.com"
    for number in range(count):
        name = f"incoming/{key}/2026/part-{number:08}.parquet"
        url = f"{host}/{quote(name)}?{QUERY}{number:064x}"
        value = url
        if full:
            value = {"url": url, "headers": {"Content-Type": "application/x-parquet"}}
            value["expires_at"] = "2026-11-26T10:00:00Z"
        yield f"examplebucket/{name}", value


def written(path: Path, *, lines=False, full=False, key="data", count=COUNT) -> Path:
    """Write a map and return its place."""
    found = entries(count, key=key, full=full)
    with path.open("w", encoding="utf-8") as file:
        if lines:
            for name, value in found:
                members = value if full else {"url": value}
                row = {"path": name, **members}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            document = {"version": 1, "objects": dict(found)}
            json.dump(document, file, ensure_ascii=False)
    path.chmod(0o600)
    return path


@pytest.mark.slow
def test_filesystem_travels_by_reference(tmp_path):
    """A pickle for a worker names the file; no URL and no object is in it."""
    path = written(tmp_path / "urls")
    fs = fsspec.filesystem("osspresigned", url_map=path, skip_instance_cache=True)
    data = pickle.dumps(fs)
    assert len(data) < 1000
    assert str(path).encode() in data
    assert b"http" not in data
    assert b"part-" not in data
    again = pickle.loads(data)
    name = f"examplebucket/incoming/data/2026/part-{COUNT - 1:08}.parquet"
    assert again.client.signer.grant(name).single


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_short_form_of_an_entry_is_the_same_entry(lines, full, tmp_path):
    """What is kept of 3,000 entries, in several pieces, gives back all of them."""
    path = written(tmp_path / "urls", lines=lines, full=full, count=3000, key="数据")
    url_map = load(path).current()
    for name, value in entries(3000, key="数据", full=full):
        entry = url_map[name]
        assert entry.put.url == SecretURL(value["url"] if full else value)
        assert entry.put.expires_at is None
        if full:
            assert entry.put.headers == value["headers"]
            assert entry.expires_at == 1_795_687_200
        else:
            assert entry.put.headers is None
            assert entry.expires_at is None
    assert len(dict(url_map)) == 3000
