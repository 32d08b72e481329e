"""Uppy, unchanged, uploads by ``osspresigned serve --uppy``, as docs/serve.md shows."""

from __future__ import annotations

import hashlib
import re
from functools import partial

import pytest

from fsspec_osspresigned.emulator import Fault
from tests.contract.interop.conftest import BUCKET, SITE
from tests.contract.interop.table import PAGE, SERVED
from tests.owner.service.conftest import TOKEN

MIB = 1024 * 1024
BLOCKS = re.findall(
    r"(?ms)^```javascript\n(.*?)^```$", PAGE.with_name("serve.md").read_text("utf-8")
)
PACKAGES = ("@uppy/core", "@uppy/aws-s3", "jsdom")
# Marks a test as a cell of docs/interop.md.
cell = partial(pytest.mark.interop, SERVED, "@uppy/aws-s3, signRequest")


@pytest.fixture
def upload(node):
    """Let Uppy in a page of the documentation upload files by a signer."""

    def run(signer, *files, origin=SITE, token=TOKEN, **options):
        (page,) = [block for block in BLOCKS if "signRequest" in block]
        page = page.replace("https://sign.example.com", signer).replace("TOKEN", token)
        return node(
            "uppy.mjs", *PACKAGES, page=page, origin=origin, files=files, **options
        )

    return run


def file(name, size=1000, kind="text/csv"):
    """Return a file to make; more than 5 MiB go in parts."""
    return {"name": name, "type": kind, "size": size}


def check(oss, stored):
    """Compare what Uppy reports with what is in the bucket, by bytes and name."""
    objects = oss.objects(BUCKET)
    keys = set()
    for report in stored:
        key = report["key"]
        assert re.fullmatch(rf"data/[0-9a-f-]{{36}}-{re.escape(report['name'])}", key)
        assert hashlib.sha256(objects[key]).hexdigest() == report["sha256"]
        assert oss.get(BUCKET, key).headers["content-type"] == "text/csv"
        keys.add(key)
    assert keys == set(objects)


def called(oss, action):
    """Return the status of each call of *action*."""
    return [record.status for record in oss.requests if record.action == action]


@cell("small files and parts")
def test_upload(oss, served, upload):
    """Each file is stored whole, under a name of its own below the prefix."""
    files = [file(f"ü +{number} (1).csv", 1 + 997 * number) for number in range(20)]
    (outcome,) = upload(served(), *files, file("large.csv", 12 * MIB), file("0", 0))
    assert outcome["failed"] == {}
    assert len(outcome["stored"]) == 22
    check(oss, outcome["stored"])
    assert called(oss, "UploadPart") == [200] * 3


@cell("expired URL", note="stored when the user retries")
def test_expired_url(oss, served, upload):
    """A part with an expired URL fails the file, and a retry of the user stores it.

    Uppy sends only the parts that are missing.
    """
    oss.faults.add(Fault(action="UploadPart", part_number=2, refuse="expired", times=1))
    first, second = upload(served(), file("a.csv", 12 * MIB), retries=True)
    assert first["stored"] == []
    assert [*first["failed"]] == ["a.csv"]
    check(oss, second["stored"])
    assert len(second["stored"]) == 1
    assert called(oss, "UploadPart") == [200, 403, 200, 200]


@cell("refusals")
def test_refusals(oss, served, upload):
    """Only the file that the policy refuses fails, and nothing of it reaches the store."""
    signer = served('content_types = ["text/csv"]')
    files = [
        file("a.csv"),
        file("a.png", kind="image/png"),
        file("b.png", 6 * MIB, "image/png"),
    ]
    (outcome,) = upload(signer, *files)
    assert {*outcome["failed"]} == {"a.png", "b.png"}
    check(oss, outcome["stored"])
    assert len(outcome["stored"]) == 1
    assert oss.uploads(BUCKET) == []
    for wrong in (
        {"token": "another-made-up-token"},
        {"origin": "https://other.example"},
    ):
        (outcome,) = upload(signer, file("c.csv"), **wrong)
        assert [*outcome["failed"]] == ["c.csv"]
    assert len(oss.objects(BUCKET)) == 1


@cell("abort")
def test_abort(oss, served, upload):
    """An upload that is cancelled leaves no part."""
    (outcome,) = upload(served(), file("a.csv", 12 * MIB), cancels=True)
    assert outcome["stored"] == []
    assert called(oss, "AbortMultipartUpload") == [204]
    assert oss.uploads(BUCKET) == []
    assert oss.objects(BUCKET) == {}
