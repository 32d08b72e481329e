"""Whatever is done in whatever order: an object is absent, old or exactly the new bytes.

A search over sequences of steps: writers, files with a checkpoint, faults of the store,
crashes. Next to it runs a model that only knows for each key which bytes must be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.retry import RetryPolicy
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import DiscardWarning, OSSPresignedError, Outcome
from fsspec_osspresigned.http.body import FileBody, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import MIN_PART as PART
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.upload.codecs import PresignedWriter
from fsspec_osspresigned.upload.journal import Checkpoint
from fsspec_osspresigned.upload.modes import Multipart
from fsspec_osspresigned.upload.upload import Upload
from tests.uploading import put

pytestmark = pytest.mark.slow

BUCKET = "examplebucket"
KEYS = ("a", "b")
# What is drawn depends on nothing that the threads of an upload decide: a fault may
# strike before or after the step that provoked it.
NUMBERS = st.integers(0, 2)
_OPEN = 3
SIZES = (0, 1, 999, PART - 1, PART, PART + 1, 2 * PART + 7)

_BODY = (
    {"status": 500},
    {"status": 503, "code": "SlowDown"},
    {"status": 403, "code": "AccessDenied"},
    {"acts": True, "status": 502},
    {"drop_reply": True},
    {"cut_after": 1000},
    {"early_after": 0, "status": 500},
    {"reset": True},
    {"hang_up": True},
    {"wrong_crc": True},
    {"wrong_etag": True},
    {"no_crc": True},
    {"no_etag": True},
)
_ANSWER = (
    {"status": 500},
    {"status": 403, "code": "AccessDenied"},
    {"reset": True},
)
# The reply to InitiateMultipartUpload is never lost after acting: nobody can remove an
# upload whose ID nobody has got.
FAULTS = [
    *({"action": "PutObject", **one} for one in _BODY),
    *({"action": "UploadPart", **one} for one in _BODY),
    *({"action": "UploadPart", "part_number": 2, **one} for one in _BODY),
    *({"action": "InitiateMultipartUpload", **one} for one in _ANSWER),
    *(
        {"action": "CompleteMultipartUpload", **one}
        for one in (
            *_ANSWER,
            {"error_body": True},
            {"acts": True, "status": 500},
            {"drop_reply": True},
            {"cut_reply_after": 20},
            {"wrong_crc": True},
        )
    ),
    *({"action": "AbortMultipartUpload", **one} for one in _ANSWER),
    *({"action": "HeadObject", **one} for one in (*_ANSWER, {"drop_reply": True})),
    *({"action": "ListParts", **one} for one in (*_ANSWER, {"drop_reply": True})),
]


class Crash(BaseException):
    """Ends an upload where it is."""


async def ended(mode):
    """Cancel the parts in flight, and wait until they have ended."""
    mode.cancel()
    if mode.in_flight:
        await asyncio.wait(mode.in_flight)


class Log(logging.Handler):
    """Remembers what was said."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record):
        self.text += record.getMessage() + "\n"


class File:
    """An open writer, and what was written into it."""

    def __init__(self, writer, key, *, autocommit):
        self.writer = writer
        self.key = key
        self.autocommit = autocommit
        self.written = b""
        self.settled = False


class Machine(RuleBasedStateMachine):
    """What users, stores and networks do to each other."""

    steps = 0

    def __init__(self):
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.oss = Emulator()
        self.oss.start()
        self.checkpoint = Checkpoint(self.place / "journals")
        self.log = Log()
        logging.getLogger("fsspec_osspresigned").addHandler(self.log)
        self.random = random.Random(1)  # noqa: S311 - bytes that repeat themselves
        self.clients = []
        self.client = self.new_client()
        self.expected: dict[str, bytes | None] = dict.fromkeys(KEYS)
        self.files: list[File] = []
        self.failed: list[File] = []
        self.crashed: set[str] = set()
        self.dead: list[File] = []
        self.local = self.place / "local"
        self.local.write_bytes(b"")
        self.pending: set[str] = set()

    def new_client(self, checkpoint=None):
        """Return the engine of one process."""
        client = Client(
            Options.from_storage_options(
                {
                    "signer": "keys",
                    "max_concurrency": 3,
                    "part_size": PART,
                    "multipart_threshold": PART,
                    "checkpoint": checkpoint and checkpoint.directory,
                }
            ),
            KeySigner(
                credentials=lambda: self.oss.credentials,
                endpoint=self.oss.endpoint,
                region=self.oss.region,
            ),
            Transport(connect_timeout=5.0, progress_timeout=5.0),
            policy=RetryPolicy(retries=1, base=0.0),
        )
        self.clients.append(client)
        return client

    def teardown(self):
        """End everything; nothing of ours is left open but what crashed."""
        try:
            self.heal()
            for file in self.files + self.dead:
                file.writer.discard()
            for key in sorted(self.pending):
                self.put_file(key, 0)
                assert key not in self.pending
            self.nothing_else_is_visible()
            end = time.monotonic() + 30
            while self.left() and time.monotonic() < end:
                time.sleep(0.005)
            assert not self.left(), self.log.text
            assert not list((self.place / "journals").glob("*.jsonl"))
        finally:
            logging.getLogger("fsspec_osspresigned").removeHandler(self.log)
            for client in self.clients:
                client.transport.close()
            self.oss.close()
            shutil.rmtree(self.place)

    def left(self):
        """Return the open uploads that neither crashed nor were told to be left."""
        return [
            upload.upload_id
            for upload in self.oss.uploads(BUCKET)
            if upload.upload_id not in self.crashed
            and upload.upload_id not in self.log.text
        ]

    def some(self, size):
        """Return bytes that are nowhere else."""
        return self.random.randbytes(size)

    # -- the model -----------------------------------------------------------------------

    def actual(self, key):
        found = self.oss.objects(BUCKET).get(key)
        return None if found is None else bytes(found)

    @invariant()
    def nothing_else_is_visible(self):
        """Every object is what the model says, to the byte."""
        for key in KEYS:
            assert self.actual(key) == self.expected[key]

    @invariant()
    def positions_agree(self):
        """tell() counts what was written."""
        Machine.steps += 1
        for file in self.files:
            assert file.writer.tell() == len(file.written)
            assert file.writer.receipt is None

    def is_published(self, key, data, receipt):
        """Expect *data* from now on; what the receipt says is true."""
        self.expected[key] = data
        assert receipt.path == f"{BUCKET}/{key}"
        assert receipt.size == len(data)
        assert receipt.status == "stored"
        assert receipt.crc64 in (None, crc64(data))
        assert sum(part.size for part in receipt.parts) in (0, len(data))

    def is_failed(self, key, data, error):
        """Let the error say what is visible: the old bytes, the new ones, or either."""
        old, now = self.expected[key], self.actual(key)
        allowed = {
            Outcome.NOT_STORED: (old,),
            Outcome.STORED: (data,),
            Outcome.UNKNOWN: (old, data),
        }[error.outcome]
        assert now in allowed, f"{type(error).__name__} says {error.outcome}"
        self.expected[key] = now

    # -- steps ---------------------------------------------------------------------------

    @initialize(size=st.sampled_from((None, 3, PART)))
    def begin(self, size):
        """One object may have been there before."""
        if size is not None:
            data = self.some(size)
            receipt = put(self.client, Target(path=f"{BUCKET}/a"), MemoryBody.of(data))
            self.is_published("a", data, receipt)

    @rule(
        key=st.sampled_from(KEYS),
        autocommit=st.booleans(),
        sizes=st.lists(st.sampled_from(SIZES), max_size=3),
    )
    def open(self, key, autocommit, sizes):
        """Also a second writer of the same key; and write something."""
        if len(self.files) == _OPEN:
            self.discard(0)
        path = f"{BUCKET}/{key}"
        upload = run(Upload.begin, self.client, Target(path=path))
        writer = PresignedWriter(upload, path=path, autocommit=autocommit)
        file = File(writer, key, autocommit=autocommit)
        self.files.append(file)
        self.write_all(file, sizes)

    def one(self, number):
        """Return a file; an empty one if none is open, so that no step is void."""
        if not self.files:
            self.open("a", autocommit=True, sizes=[])
        return self.files[number % len(self.files)]

    def drop(self, file):
        self.files.remove(file)

    @contextlib.contextmanager
    def may_fail(self, file, data=None):
        """A step of *file*; a failure poisons it, and publishes *data* at most."""
        try:
            yield
        except OSSPresignedError as error:
            self.is_failed(file.key, data, error)
            self.drop(file)
            self.failed.append(file)
            assert file.writer.failed

    @rule(
        number=NUMBERS,
        sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=4),
    )
    def write(self, number, sizes):
        """More bytes."""
        file = self.one(number)
        if file.settled:
            with pytest.raises(ValueError, match="closed"):
                file.writer.write(b"x")
        else:
            self.write_all(file, sizes)

    def write_all(self, file, sizes):
        with self.may_fail(file):
            for size in sizes:
                file.writer.flush()
                more = self.some(size)
                assert file.writer.write(more) == size
                file.written += more

    @rule(
        number=NUMBERS,
        fault=st.none() | st.sampled_from(FAULTS),
        times=st.sampled_from((1, 2, 3)),
    )
    def break_and_close(self, number, fault, times):
        """A fault at the last moment."""
        if fault is not None:
            self.oss.faults.add(Fault(**fault, times=times))
        self.close(number)

    @rule(number=NUMBERS)
    def close(self, number):
        """Publishes, or with autocommit=False only sends the parts."""
        file = self.one(number)
        with self.may_fail(file, file.written if file.autocommit else None):
            file.writer.close()
            file.settled = True
            if file.autocommit:
                self.drop(file)
                self.is_published(file.key, file.written, file.writer.receipt)

    @rule(number=NUMBERS)
    def commit(self, number):
        """Publishes whatever the state is."""
        file = self.one(number)
        with self.may_fail(file, file.written):
            file.writer.commit()
            self.drop(file)
            self.is_published(file.key, file.written, file.writer.receipt)

    @rule(number=NUMBERS)
    def discard(self, number):
        """Publishes nothing, now or later."""
        file = self.one(number)
        self.drop(file)
        file.writer.discard()
        file.writer.close()
        assert file.writer.receipt is None

    @rule(number=NUMBERS)
    def forget(self, number):
        """Garbage collection publishes nothing."""
        file = self.one(number)
        self.drop(file)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del file.writer
            gc.collect()
        assert [w.category for w in caught] == [DiscardWarning]

    @rule(number=NUMBERS)
    def crash(self, number):
        """The process of a writer is gone: nobody cleans up, nobody publishes."""
        file = self.one(number)
        self.drop(file)
        upload = file.writer.upload
        if isinstance(upload.mode, Multipart):
            run(ended, upload.mode)
        self.crashed.add(getattr(upload.mode, "upload_id", ""))
        self.dead.append(file)  # its finalizer would clean up

    @rule(number=NUMBERS)
    def close_what_failed(self, number):
        """It fails again, and sends nothing."""
        if not self.failed:
            return
        file = self.failed[number % len(self.failed)]
        sent = self.published()
        with pytest.raises(OSSPresignedError):
            file.writer.close()
        with pytest.raises(OSSPresignedError):
            file.writer.commit()
        assert self.published() == sent

    def published(self):
        """Return how many requests could have published something."""
        publishing = ("PutObject", "CompleteMultipartUpload")
        return sum(record.action in publishing for record in self.oss.requests)

    @rule()
    def retry(self):
        """What failed is stored as one value."""
        if not self.failed:
            return
        file = self.failed.pop()
        self.store(file.key, MemoryBody.of(file.written), file.written, self.client)

    def store(self, key, source, data, client, progress=None):
        try:
            receipt = put(client, Target(path=f"{BUCKET}/{key}"), source, progress)
        except OSSPresignedError as error:
            self.is_failed(key, data, error)
            return False
        except Crash:
            now = self.actual(key)
            assert now in (self.expected[key], data)
            self.expected[key] = now
            return False
        self.is_published(key, data, receipt)
        return True

    # Always in parts: a file that became small goes by one PutObject, which leaves the
    # journal of the large one to `osspresigned uploads abort`.
    @rule(size=st.sampled_from((2 * PART, 3 * PART + 5, 5 * PART)))
    def change_file(self, size):
        """The local file is another one."""
        self.local.write_bytes(self.some(size))

    @rule(key=st.sampled_from(KEYS), interrupted=st.integers(0, 4))
    def put_file(self, key, interrupted):
        """Store the file, or go on with it where a try before this one ended."""
        left = interrupted

        def progress(size):
            nonlocal left
            left -= 1
            if left == 0:
                raise Crash

        client = self.new_client(self.checkpoint)
        source = FileBody.of(str(self.local))
        data = self.local.read_bytes()
        if self.store(key, source, data, client, progress):
            self.pending.discard(key)
        else:
            self.pending.add(key)

    @rule(
        fault=st.sampled_from(FAULTS),
        times=st.integers(1, 3),
        after=st.integers(0, 2),
    )
    def break_something(self, fault, times, after):
        """The store, or the way to it, fails now and then."""
        self.oss.faults.add(Fault(**fault, times=times, after=after))

    @rule()
    def heal(self):
        """All is well again."""
        self.oss.faults.clear()


def search(examples, steps):
    """Run the machine; return how many steps it took."""
    Machine.steps = 0
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            phases=[Phase.explicit, Phase.generate],
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return Machine.steps


@pytest.mark.hypothesis
@pytest.mark.timeout(180)
def test_any_sequence_of_steps():
    """After each of some hundred steps every object is what the model says."""
    assert search(examples=30, steps=30) > 500


@pytest.mark.heavy
@pytest.mark.timeout(0)
def test_thousands_of_steps(capsys):
    """The same for thousands of them."""
    steps = search(examples=120, steps=50)
    with capsys.disabled():
        print(f"\n{steps} steps, every object as the model says")  # noqa: T201
    assert steps > 2_000
