"""The folder of one check of a store: what is found in it, and what is removed."""

from __future__ import annotations

from functools import partial

import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.check.store_folder import (
    CheckFolder,
    CheckKey,
    StoreAccess,
    Trace,
)

BUCKET = "examplebucket"


@pytest.fixture
def store_options(request: pytest.FixtureRequest):
    """The options that a test gives, or none."""
    return getattr(request, "param", {})


@pytest.fixture
def access(oss: Emulator):
    """Signed requests to the emulator."""
    transport = Transport()
    yield StoreAccess(
        send=partial(run, transport.send),
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


@pytest.mark.parametrize("store_options", [{"versioned": [BUCKET]}], indirect=True)
def test_versions_are_removed_by_their_ids(oss, access):
    """Nothing stays in a bucket with versioning, and no delete marker is added."""
    put(access, "osspresigned-check-1/a")
    folder = CheckFolder(access=access, prefix="")
    put(access, f"{folder.path}object", f"{folder.path}object")
    access.request("DELETE", f"{folder.path}object")
    folder.call(Action.PutObject, CheckKey.OBJECT, b"data", query={})
    assert folder.is_versioned
    assert folder.clean_up() == []
    assert [*oss.store.buckets[BUCKET].versions] == ["osspresigned-check-1/a"]


@pytest.mark.parametrize("store_options", [{"versioned": [BUCKET]}], indirect=True)
def test_versioning_that_is_noticed_late(oss, access):
    """If the reply to the only PUT was lost, the deletion shows the versioning."""
    folder = CheckFolder(access=access, prefix="")
    put(access, f"{folder.path}object")
    assert not folder.is_versioned
    assert folder.clean_up() == []
    assert oss.store.buckets[BUCKET].versions == {}


def test_what_cannot_be_removed_is_named(oss, access):
    """Objects, versions and uploads that stay are listed, whatever the reason."""
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


def test_listing_that_cannot_be_read(oss, access):
    """Objects of the check are removed although the listing is invalid."""

    def send(signed, body):
        reply = access.send(signed, body)
        return evolve(reply, body=b"no document") if signed.method == "GET" else reply

    folder = CheckFolder(access=evolve(access, send=send), prefix="")
    folder.call(Action.PutObject, CheckKey.OBJECT, b"data", query={})
    assert folder.clean_up() == []
    assert [*oss.objects(BUCKET)] == []
