"""Exceptions and calls of signal handlers, at each line of an upload in parts."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine import abort_at_exit, engine, limits
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.engine.limits import memory_budget
from fsspec_osspresigned.errors import AccessDeniedError, OSSPresignedError
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.options.of_objects import Target
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.upload import buffer, writer
from fsspec_osspresigned.upload.upload import Upload
from fsspec_osspresigned.upload.writer import PresignedWriter
from tests.interrupts import Interrupt, at_line
from tests.uploading import put

BUCKET = "examplebucket"
SECONDS = 20.0


def raising(_):
    """Raise, as the handler of Ctrl-C does."""
    raise Interrupt


def giving_up(one):
    """Give the upload up as the handler of SIGTERM does, which waits for a thread."""
    if one is not None:
        thread = threading.Thread(target=abort_at_exit.end_all, args=(5.0, [one]))
        thread.start()
        thread.join(SECONDS)
        assert one.is_over


class Run:
    """One stream of five parts with two at a time, in a thread that may hang."""

    def __init__(self, client, file, line, act):
        self.client, self.file, self.line = client, file, line
        self.act = act
        self.upload = self.raised = None
        self.reached = False
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        thread.join(SECONDS)
        assert not thread.is_alive(), f"{file}, {line}. line: it hangs"

    def _run(self):
        try:
            with at_line(self.file, self.line, self._act):
                self._write()
        except (Interrupt, OSSPresignedError) as error:
            self.raised = type(error)

    def _act(self):
        self.reached = True
        self.act(self.upload)

    def _write(self):
        target = Target(path=f"{BUCKET}/k")
        self.upload = run(Upload.begin, self.client, target)
        with PresignedWriter(self.upload, path=target.path) as file:
            for _ in range(4):
                file.write(bytearray(MIN_PART))
            file.write(b"x")


@pytest.fixture
def client(oss):
    """A client that sends two parts at a time."""
    options = {"signer": "keys", "max_concurrency": 2, "part_size": MIN_PART}
    key = KeySigner(
        credentials=lambda: oss.credentials, endpoint=oss.endpoint, region=oss.region
    )
    transport = Transport(connect_timeout=5.0, progress_timeout=5.0)
    yield Client(Options.from_storage_options(options), key, transport)
    transport.close()


# A file that was interrupted while it was closed is given up by its finalizer.
@pytest.mark.filterwarnings(
    "ignore:.*was not published:fsspec_osspresigned.errors.DiscardWarning"
)
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("act", [raising, giving_up])
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize(
    "module",
    [writer, buffer, engine, limits],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_each_line(oss, client, module, act, refused):
    """No lock stays locked, no part stays, and the next upload of the client is whole."""
    if refused:  # what comes of a failure is interrupted, too
        oss.faults.add(Fault(action="UploadPart", status=403, times=None))
    line, reached = 0, True
    while reached:
        made = Run(client, module.__file__, line, act)
        reached = made.reached
        end = time.monotonic() + SECONDS
        while oss.uploads(BUCKET):
            assert time.monotonic() < end, f"line {line}: parts stay"
            time.sleep(0.01)
        line += 1
    assert made.raised is (AccessDeniedError if refused else None)
    assert line > 3
    oss.faults.clear()
    data = bytes(3 * MIN_PART)
    put(client, Target(path=f"{BUCKET}/next"), MemoryBody.of(data))
    assert oss.objects(BUCKET)["next"] == data
    del made
    gc.collect()
    assert memory_budget().used == 0
