"""npm's ali-oss as a client of the emulator, with signatures in headers."""

from __future__ import annotations

from functools import partial

import pytest

from tests.contract.interop.conftest import BUCKET
from tests.contract.interop.signers import ali_oss_options
from tests.contract.interop.table import CLIENTS

KEY = "dir/a b+~%ü/x.bin"
DATA = bytes(range(256)) * 1600  # 400 KiB: four parts of the smallest size
# Marks a test as a cell of docs/interop.md.
does = partial(pytest.mark.interop, CLIENTS, "ali-oss")


@does("put")
@does("get")
@does("range")
@does("head")
@does("multipart")
@does("resumable")
@does("append")
@does("copy")
@does("list")
@does("delete")
@does("buckets")
@does("refusals")
def test_everything(oss, node, identity, tmp_path):
    """The emulator understands each of its calls, and it sees the real objects."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA)
    seen = node(
        "client.mjs", "ali-oss", options=ali_oss_options(oss.url, identity),
        key=KEY, file=str(source), target=str(target),
    )  # fmt: skip
    assert (seen["put"], seen["same"], seen["type"]) == (200, True, "text/csv")
    assert seen["range"] == list(DATA[10:20])
    assert seen["head"] == [{"owner": "me"}, len(DATA)]
    assert seen["meta"] == len(DATA)
    assert target.read_bytes() == DATA
    assert seen["absent"] == [404, "NoSuchKey"]
    assert (seen["broken"], seen["open"]) == ("stop", ["big"])
    assert 1 <= seen["stored"] < 4
    assert seen["completed"] == 200
    assert oss.get(BUCKET, "big").kind == "Multipart"
    sent = [r.part_number for r in oss.requests
            if r.action == "UploadPart" and r.key == "big"]  # fmt: skip
    assert sorted(sent) == [1, 2, 3, 4]
    assert (seen["next"], seen["misplaced"]) == (6, [409, "PositionNotEqualToLength"])
    assert seen["copy"] == 200
    names = sorted(f"list/d{n % 3}/ü {n}" for n in range(6))
    assert seen["list"] == seen["listV2"] == names
    assert seen["folders"] == ["list/d0/", "list/d1/", "list/d2/"]
    left = ["big", "copied in parts", "copy", KEY, "stream"]
    assert seen["left"] == sorted(left)
    assert {oss.get(BUCKET, name).data() for name in left} == {DATA}
    assert seen["buckets"] == [BUCKET, "second"]
    assert seen["info"] == BUCKET
    assert seen["acl"] == "private"
    assert seen["refused"] == [403, "SignatureDoesNotMatch"]
    assert not oss.uploads(BUCKET)


@does("put")
def test_by_address(oss, node, identity, tmp_path):
    """With an IP address as endpoint it works as well, and needs no option for it."""
    options = ali_oss_options(oss.url, identity) | {"endpoint": oss.url}
    del options["sldEnable"]
    seen = node("put.mjs", "ali-oss", options=options, key=KEY, text="abc")
    assert seen == {"status": 200, "text": "abc"}
    assert oss.get(BUCKET, KEY).data() == b"abc"


@does("forms")
def test_forms(oss, node, identity):
    """A policy that it signs lets a form in, and only where the policy says."""
    conditions = [
        {"bucket": BUCKET},
        ["starts-with", "$key", "in/"],
        ["in", "$content-type", ["text/csv"]],
        ["content-length-range", 1, 100],
    ]
    seen = node(
        "forms.mjs", "ali-oss", options=ali_oss_options(oss.url, identity),
        url=f"{oss.url}/{BUCKET}/", key="in/${filename}", text="abc", conditions=conditions,
    )  # fmt: skip
    assert seen["stored"] == [200, ""]
    assert "<Key>in/ü 1.csv</Key>" in seen["created"]
    assert seen["refused"] == [403, "0006-00000227"]
    assert oss.objects(BUCKET) == {"in/ü 1.csv": b"abc"}
    assert oss.get(BUCKET, "in/ü 1.csv").headers["content-type"] == "text/csv"
