"""The folder of one check of a store: what is found in it, and what is removed."""

from __future__ import annotations

import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.errors import InvalidRequestError
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import Reply
from fsspec_osspresigned.owner.store_folder import (
    CheckFolder,
    CheckKey,
    StoreAccess,
    Trace,
)

BUCKET = "examplebucket"
FOREIGN = [
    "data/mine.txt",
    "data/object",
    "data/osspresigned-check-0123456789abcdef/mine.txt",
    "data/osspresigned-check-0123456789abcdef/inner/object",
    "data/osspresigned-check-0123456789abcdeg/object",
    "data/osspresigned-check-0123/object",
    "data/inner/osspresigned-check-0123456789abcdef/object",
    "osspresigned-check-0123456789abcdef/object",
]


@pytest.fixture
def access(oss: Emulator):
    """Signed requests to the emulator."""
    transport = Transport()
    yield StoreAccess(
        send=transport.send,
        credentials=oss.credentials,
        endpoint=oss.endpoint,
        region="cn-hangzhou",
        bucket=BUCKET,
    )
    transport.close()


def put(access, *keys):
    """Store an object for each key, and begin an upload of it."""
    for key in keys:
        assert access.request("PUT", key, body=b"data").status == 200
        assert access.request("POST", key, query={"uploads": ""}).status == 200


def test_only_what_a_check_makes_is_left_over(oss, access):
    """Folders and keys of other shape, and other prefixes, are not touched."""
    left = [f"data/osspresigned-check-0123456789abcdef/{key}" for key in CheckKey]
    put(access, *FOREIGN, *left)
    folder = CheckFolder(access=access, prefix="data/")
    put(access, f"{folder.path}object")
    found = folder.leftovers()
    assert {trace.key for trace in found} == {*left}
    assert len(found) == 2 * len(left)
    assert folder.remove(found) == []
    assert {*oss.objects(BUCKET)} == {*FOREIGN, f"{folder.path}object"}
    assert {up.key for up in oss.uploads(BUCKET)} == {*oss.objects(BUCKET)}


def test_each_check_has_a_folder_of_its_own(access):
    """Two checks never share a folder."""
    paths = {CheckFolder(access=access, prefix="data/").path for _ in range(100)}
    assert len(paths) == 100
    assert all(path.startswith("data/osspresigned-check-") for path in paths)


def test_folder_is_not_free(access):
    """Anything that is listed in the folder is noticed."""
    folder = CheckFolder(access=access, prefix="data/")
    put(access, "data/object")
    assert folder.is_free()
    put(access, f"{folder.path}anything")
    assert not folder.is_free()


def test_many_leftovers_are_on_several_pages(oss, access):
    """All pages of both listings are read."""
    keys = [f"osspresigned-check-{n:016x}/object" for n in range(5)]
    put(access, *keys)
    found = CheckFolder(access=access, prefix="", page_size=2).leftovers()
    assert sorted(trace.key for trace in found) == sorted(keys * 2)
    assert sum(one.action.startswith("List") for one in oss.requests) == 6


def test_what_cannot_be_removed_is_named(oss, access):
    """Objects, versions and uploads that stay are told, whatever the reason."""
    folder = CheckFolder(access=access, prefix="")
    put(access, f"{folder.path}object")
    oss.faults.add(Fault(action="DeleteObject", times=None, status=403))
    oss.faults.add(Fault(action="AbortMultipartUpload", times=None, reset=True))
    left = [str(trace) for trace in folder.clean_up()]
    assert left == [
        f"{folder.path}object",
        f"{folder.path}object (parts of an upload)",
    ]
    assert str(Trace("key", version_id="1")) == "key (a version)"
    oss.faults.clear()
    assert folder.clean_up() == []


def test_keys_that_may_not_list(oss, access):
    """What the requests of the check made is removed without a listing."""
    folder = CheckFolder(access=access, prefix="")
    put(access, f"{folder.path}object")
    folder.traces.add(Trace(f"{folder.path}object"))
    oss.faults.add(Fault(action="ListObjectsV2", times=None, status=403))
    assert folder.clean_up() == []
    assert [*oss.objects(BUCKET)] == []


def test_listing_that_cannot_be_read(access):
    """A listing that is no XML is an error: what it lists is unknown."""
    reply = Reply(status=200, headers={}, body=b"no document")
    broken = evolve(access, send=lambda *_: reply)
    with pytest.raises(InvalidRequestError, match="listing is invalid"):
        CheckFolder(access=broken, prefix="").leftovers()
