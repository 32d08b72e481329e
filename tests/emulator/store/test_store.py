"""The disk store."""

from __future__ import annotations

from pathlib import Path

from fsspec_osspresigned.emulator import Emulator

BUCKET = "examplebucket"


def files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())


def test_a_disk_store_survives(tmp_path, make_client):
    """Objects, uploads and parts are there at the next start; bodies are shared."""
    with Emulator(root=tmp_path) as oss:
        client = make_client(oss)
        client.put("a/../b", b"one", headers={"x-oss-meta-a": "1"})
        client.put("gone", b"x")
        client.put("a/../b", b"two")
        client.put("empty", b"")
        client.call(
            "PUT", "copy", headers={"x-oss-copy-source": f"/{BUCKET}/a%2F..%2Fb"}
        )
        client.call("DELETE", "gone")
        client.call("DELETE", "gone")
        upload = client.initiate("multi")
        first = client.part("multi", upload, 1, b"y" * 102_400).headers["ETag"]
        aborted = client.initiate("aborted")
        client.part("aborted", aborted, 1, b"z")
        client.call("DELETE", "aborted", query={"uploadId": aborted})
        before = {
            k: s.etag for k, s in ((k, oss.get(BUCKET, k)) for k in oss.objects(BUCKET))
        }
    (tmp_path / "bodies" / "left-by-a-crash").write_bytes(b"x")
    assert files(tmp_path / "bodies") == 4
    with Emulator(root=tmp_path, buckets=[]) as oss:
        client = make_client(oss)
        assert files(tmp_path / "bodies") == 3
        assert oss.buckets == [BUCKET]
        assert {k: oss.get(BUCKET, k).etag for k in oss.objects(BUCKET)} == before
        assert oss.objects(BUCKET) == {"a/../b": b"two", "copy": b"two", "empty": b""}
        client.call("DELETE", "a/../b")
        assert oss.get(BUCKET, "copy").data() == b"two"
        (opened,) = oss.uploads(BUCKET)
        assert opened.key == "multi"
        del opened
        second = client.part("multi", upload, 2, b"end").headers["ETag"]
        reply = client.complete("multi", upload, [(1, first), (2, second)])
        assert reply.status_code == 200
        assert client.call("GET", "multi").content == b"y" * 102_400 + b"end"
        client.call("DELETE", "multi")
        client.call("DELETE", "copy")
        client.call("DELETE", "empty")
        assert files(tmp_path) == 0


def test_versions_survive(tmp_path, make_client):
    """All versions are there at the next start, in their order."""
    options = {"root": tmp_path, "versioned": [BUCKET]}
    with Emulator(**options) as oss:
        client = make_client(oss)
        ids = [
            client.put("k", data).headers["x-oss-version-id"] for data in (b"1", b"2")
        ]
        ids.append(client.call("DELETE", "k").headers["x-oss-version-id"])
    with Emulator(**options) as oss:
        client = make_client(oss)
        assert [*oss.store.buckets[BUCKET].versions["k"]] == ids
        assert oss.get(BUCKET, "k") is None
        client.call("DELETE", "k", query={"versionId": ids.pop()})
        assert [*oss.objects(BUCKET)] == ["k"]
        for version_id in ids:
            client.call("DELETE", "k", query={"versionId": version_id})
        assert files(tmp_path) == 0
