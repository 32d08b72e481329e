"""However often a request breaks off, the next try sends its body from the first byte."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.retry import RetryPolicy
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.http.body import BLOCK, Body, FileBody, MemoryBody, SpooledBody
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.upload.transaction import HeldCopies
from fsspec_osspresigned.upload.upload import TransferContext, Upload
from tests.owner_keys import owner_signer

pytestmark = pytest.mark.slow

BUCKET = "examplebucket"
NOISE = random.Random(5).randbytes(3 * BLOCK)  # noqa: S311 - the same in every run
CUTS = 3


@frozen
class Bench:
    """A store, a client that retries without waiting, and a directory for files."""

    oss: Emulator
    client: Client
    folder: Path
    names: Iterator[int]

    def target(self) -> Target:
        """Return where nothing is yet."""
        return Target(path=f"{BUCKET}/{next(self.names)}")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Emulator() as oss:
        options = {
            "signer": "keys",
            "part_size": MIN_PART,
            "multipart_threshold": 3 * BLOCK,
            "max_concurrency": 2,
        }
        client = Client(
            Options.from_storage_options(options),
            owner_signer(oss),
            Transport(connect_timeout=20.0, progress_timeout=20.0),
            policy=RetryPolicy(retries=CUTS, base=0.0),
        )
        folder = tmp_path_factory.mktemp("bodies")
        yield Bench(oss, client, folder, itertools.count())


@contextlib.contextmanager
def memory(bench: Bench, data: bytes) -> Iterator[Body]:
    yield MemoryBody(data)


@contextlib.contextmanager
def whole_file(bench: Bench, data: bytes) -> Iterator[Body]:
    place = bench.folder / "whole"
    place.write_bytes(data)
    yield FileBody.of(str(place))


@contextlib.contextmanager
def part_of_a_file(bench: Bench, data: bytes) -> Iterator[Body]:
    place = bench.folder / "part"
    place.write_bytes(b"before" + data + b"behind")
    yield FileBody.of(str(place)).part(2, len(data) + 6).part(4, len(data))


@contextlib.contextmanager
def spool(bench: Bench, data: bytes) -> Iterator[Body]:
    body = SpooledBody()
    for at in range(0, len(data), 100_000):
        body.append(MemoryBody(data[at : at + 100_000]))
    yield body
    body.close()


@contextlib.contextmanager
def held_for_a_transaction(bench: Bench, data: bytes) -> Iterator[Body]:
    holding = HeldCopies(limit=0)
    holding.keep(MemoryBody(b"before"))
    body = holding.keep(MemoryBody(data))
    holding.keep(MemoryBody(b"behind"))
    yield body
    holding.close()


KINDS: tuple[Callable[..., contextlib.AbstractContextManager[Body]], ...] = (
    memory,
    whole_file,
    part_of_a_file,
    spool,
    held_for_a_transaction,
)
sizes = st.one_of(
    st.sampled_from([0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK]),
    st.integers(0, len(NOISE)),
)
# Where it breaks: a share of the body, and by RST or FIN.
breaks = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=CUTS)


def break_off(bench: Bench, target: Target, size: int, places, **more) -> None:
    """Let the next requests for *target* break where *places* say."""
    key = target.path.partition("/")[2]
    bench.oss.clear()
    bench.oss.faults.add(
        *(
            Fault(key=key, cut_after=int(share * size), reset=reset, **more)
            for share, reset in places
        )
    )


@pytest.mark.parametrize("kind", KINDS)
@given(size=sizes, places=breaks, start=st.integers(0, 100))
def test_body_is_sent_from_its_start(bench, kind, size, places, start):
    """The object equals the body, after any number of interrupted tries."""
    data = NOISE[start : start + size]
    target = bench.target()
    break_off(bench, target, len(data), places)
    taken: list[int] = []
    with kind(bench, data) as body:
        context = TransferContext(progress=taken.append)
        upload = run(
            Upload.begin, bench.client, target, size=body.size, context=context
        )
        run(upload.add, body)
        receipt = run(upload.finish)
    assert (receipt.size, receipt.retries) == (len(data), len(places))
    assert bench.oss.get(BUCKET, target.path.partition("/")[2]).data() == data
    assert sum(taken) == len(data)  # what a broken try has sent is taken back
    assert not bench.oss.faults.pending
