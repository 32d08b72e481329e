"""zarr's tests of a store and its two state machines, on our filesystem."""

from __future__ import annotations

import itertools

import fsspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from zarr.core.buffer import Buffer, cpu
from zarr.storage import FsspecStore
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine
from zarr.testing.store import StoreTests

from tests.contract.ecosystem.redirect import BUCKET, options

ROOT = f"{BUCKET}/zarr"

_REPEATABLE = settings(
    derandomize=True,
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class TestStore(StoreTests[FsspecStore, cpu.Buffer]):
    """Every promise of zarr's stores."""

    store_cls = FsspecStore
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store_kwargs(self):
        fs = fsspec.filesystem("osspresigned", asynchronous=True, **options)
        return {"fs": fs, "path": ROOT, "read_only": False}

    @pytest.fixture
    async def store(self, store_kwargs):
        return await FsspecStore.open(**store_kwargs)

    async def get(self, store: FsspecStore, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(_plain().cat_file(f"{ROOT}/{key}"))

    async def set(self, store: FsspecStore, key: str, value: Buffer) -> None:
        _plain().pipe_file(f"{ROOT}/{key}", value.to_bytes())

    def test_store_repr(self, store):
        assert "FsspecStore" in repr(store)

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing


class ClearedStore(FsspecStore):
    """As zarr's own, whose ``clear`` ends at the first path that has gone with another."""

    async def clear(self) -> None:
        if names := await self.fs._find(self.path):
            await self.fs._rm(names)


@pytest.mark.parametrize("machine", [ZarrStoreStateMachine, ZarrHierarchyStateMachine])
def test_state_machine(machine):
    """Any order of calls leaves what zarr's own model says."""
    numbers = itertools.count()

    def begin():
        fs = fsspec.filesystem("osspresigned", asynchronous=True, **options)
        return machine(
            ClearedStore(fs, path=f"{ROOT}-{machine.__name__}-{next(numbers)}")
        )

    run_state_machine_as_test(begin, settings=_REPEATABLE)


def _plain():
    return fsspec.filesystem("osspresigned", skip_instance_cache=True, **options)
