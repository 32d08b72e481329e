"""A store or a disk that fails, refuses or lies."""

from __future__ import annotations

import re
import sys
import time

from fsspec_osspresigned.errors import (
    BodyCorruptedError,
    IntegrityError,
    NetworkError,
    Outcome,
    OutcomeUnknownError,
    ReceiptFailedError,
    StoreError,
    StoreUnavailableError,
)

from .. import disk as disks
from ..network import LATE
from ..signers import UserSigner
from ..verbs import Counted
from ..world import Broken, World
from .steps import LARGE, SMALL, NamedStep, Steps


class FailureSteps(Steps):
    """A store or a disk that fails, refuses or lies."""

    @property
    def of_failures(self) -> tuple[NamedStep, ...]:
        return (
            ("reads of a store that refuses", self._unread),
            ("a file whose part is refused", self._failed_file),
            ("a local file that is missing", self._missing),
            ("calls without a known outcome", self._unsure),
            ("the bytes of failed calls", self._let_go),
            ("calls whose requests fail once", self._once),
            ("calls whose requests are refused in turn", self._in_turn),
            ("calls that are given up", self._given_up),
            ("a store with other bytes", self._differing),
            ("a body that is damaged on the way", self._corrupted),
            ("a busy store", self._busy),
            ("a move whose copy is damaged", self._bad_copy),
            ("a store with another clock", self._skewed),
            ("a full disk", self._unwritten),
            ("a receipt that cannot be written", self._unrecorded),
            ("a refusal without a reason", self._denied),
            ("a slow disk", self._slow_disk),
        )

    def _unread(self) -> None:
        """No verb succeeds while the store refuses it, and each error has the status."""
        fs, path, local = self._like(retries=0), f"{self.root}/put", self.place / "kept"
        local.write_bytes(b"old")
        copied, _ = self._data("not copied", 0)
        file = fs.open(path, "rb", block_size=1000)
        file.read(1)
        for status in (400, 500):
            for name, verb in (
                ("info", lambda: fs.info(path)),
                ("cat_file", lambda: fs.cat_file(path)),
                ("a range", lambda: fs.cat_file(path, 5, 9)),
                ("get_file", lambda: fs.get_file(path, str(local))),
                ("read", lambda: (file.seek(90_000), file.read(9))),
                ("find", lambda: fs.find(self.root)),
                ("cp_file", lambda: fs.cp_file(path, copied)),
                ("rm_file", lambda: fs.rm_file(path)),
            ):
                self.network.refusals = (status,)
                try:
                    verb()
                except StoreError as error:
                    if error.status != status:
                        raise Broken(
                            f"{name} was refused by {status}: {error!r}"
                        ) from error
                else:
                    raise Broken(f"{name} succeeds, but was refused by {status}")
                finally:
                    self.network.refusals = ()
        if local.read_bytes() != b"old":
            raise Broken("a download that was refused has changed its file")

    def _failed_file(self) -> None:
        """After a failure, each method of a file raises it, and nothing is published."""
        fs = self._like(retries=0, overwrite=True)
        path, data = self._data("failed", LARGE)
        file = fs.open(path, "wb")
        file.write(data[:1000])
        self.network.refusals = (400,)
        failures: list[OSError] = []
        for verb in (
            lambda: file.write(data),
            lambda: file.write(b"x"),
            file.flush,
            file.close,
            file.close,
        ):
            try:
                verb()
                if not failures:  # the parts are sent in the background
                    time.sleep(5)
                    file.write(data)
            except StoreError as error:
                failures.append(error)
            self.network.refusals = ()
        if len({*map(id, failures)}) != 1 or len(failures) != 5 or not file.failed:
            raise Broken(f"a file whose part was refused raises {failures}")
        self._is(path, None)

    def _missing(self) -> None:
        """The error of a missing file names it, and not the object."""
        local, path = str(self.place / "missing"), f"{self.root}/missing"
        for verb in (self.fs.put_file, self.fs.put):
            try:
                verb(local, path)
            except FileNotFoundError as error:
                if error.filename != local:
                    raise Broken(f"{local} is missing, but {error!r}") from error
            else:
                raise Broken(f"{local} was sent, but it is missing")
        self._is(path, None)

    def _unsure(self) -> None:
        """If nothing shows whether an object is stored, the error says so."""
        world: World = self.network.world
        given = {"signer": UserSigner(world, looks=False), "signer_token": None}
        given |= {"if_unverifiable": "missing", "checksum": "auto", "retries": 0}
        first = len(self.ledger.warned)
        for overwrite, kind in ((True, NetworkError), (None, OutcomeUnknownError)):
            fs = self._like(**given, overwrite=overwrite)
            path, data = self._data(f"unsure {overwrite}", SMALL)
            fs.exists(path)  # the signer hides it, so it must not be replaced
            self.network.fates = ("lose_reply",)
            try:
                fs.pipe_file(path, data)
            except OSError as error:
                notes = " ".join(getattr(error, "__notes__", ()))
                if not isinstance(error, kind) or "unknown" not in f"{error} {notes}":
                    raise Broken(
                        f"an unknown outcome raises {error!r} {notes}"
                    ) from error
            else:
                raise Broken(f"{path} is reported as stored, but nothing shows it")
            self.network.fates = ()
            self._is(path, data)
        del self.ledger.warned[first:]

    def _let_go(self) -> None:
        """The errors of a call of many objects do not keep the bytes of the objects."""
        fs = self._like(overwrite=True)
        objects = dict(self._data(f"let go{number}", SMALL) for number in range(4))
        values, holds = [*objects.values()], sys.getrefcount
        before = [holds(value) for value in values]
        self.network.refusals = (400,)
        failed = fs.pipe(objects, on_error="return", batch_size=1)
        self.network.refusals = ()
        time.sleep(1)
        # the traceback of a task may hold its last object
        if (after := [holds(value) for value in values])[:-1] != before[:-1]:
            raise Broken(f"{failed} hold bytes: {before} references became {after}")

    def _once(self) -> None:
        """Retries repair any failure that occurs once."""
        fs = self._like(retries=8, retry_timeout=300, timeout=5, checksum="auto")
        (small, one), (large, two) = self._data("s", SMALL), self._data("l", LARGE)
        copied, local = self._data("copied once", 0)[0], self.place / "once"
        self.ledger.copying(large, copied)
        self.network.once = set()
        fs.pipe_file(small, one)
        local.write_bytes(two)
        fs.put_file(str(local), large, callback=(counted := Counted()))
        counted.check(LARGE)
        fs.cp_file(large, copied)
        fs.get_file(copied, str(local), callback=(counted := Counted()))
        counted.check(LARGE)
        found = {
            "get_file": local.read_bytes() == two,
            "cat_file": fs.cat_file(small) == one,
            "find": {small, large, copied} <= {*fs.find(self.root)},
        }
        self.ledger.deletes(copied)
        fs.rm_file(copied)
        self.network.once = None
        self._is(copied, None)
        self._all(found, large)

    def _in_turn(self) -> None:
        """A new signature takes no retry away, and the receipt counts both."""
        fs = self._lasting(retries=1)
        self.network.fates = ("expired", "busy")
        told, first = len(self.ledger.texts), len(self.network.events)
        # The request that begins an upload in parts is not counted.
        for size, requests in ((SMALL, 1), (LARGE, 4)):
            path, data = self._data(f"in turn {size}", size)
            receipt = fs.pipe_file(path, data)
            self._is(path, data)
            counts = receipt.retries, receipt.resigns
            if counts != (requests, requests):
                raise Broken(f"{requests} requests were sent again {counts} times")
        self.network.fates = ()
        again = sum(e.fate != "ok" for e in self.network.events[first:])
        logged = sum("; retrying " in text for text in self.ledger.texts[told:])
        if logged != again:
            raise Broken(f"{again} requests were sent again, but {logged} were logged")

    def _given_up(self) -> None:
        """The error of a call that is given up says how often it was tried."""
        fs, path = self._lasting(retries=2, overwrite=True), f"{self.root}/given up"
        for status in (500, 400):
            first = len(self.network.events)
            self.network.refusals = (status,)
            try:
                fs.pipe_file(path, b"x")
            except StoreError as error:
                sent = [e for e in self.network.events[first:] if e.method != "HEAD"]
                tries = len(sent)
                told = any(
                    f"{tries} tries in" in n for n in getattr(error, "__notes__", ())
                )
                if tries != (3 if status == 500 else 1) or told != (tries > 1):
                    raise Broken(f"after {tries} tries: {error!r}") from error
            else:
                raise Broken(f"{path} is stored, although it was refused")
            self.network.refusals = ()
        self._is(path, None)

    def _differing(self) -> None:
        """A call fails if the reply has the checksum of other bytes."""
        fs = self._like(checksum="auto", retries=0)
        self.network.lies = True
        for size in (SMALL, LARGE):
            path, data = self._data(f"differing{size}", size)
            for write in (self._piped, self._streamed):
                try:
                    write(fs, path, data)
                except IntegrityError as error:
                    if error.outcome is Outcome.NOT_STORED:
                        raise Broken(f"{path} is stored, but {error!r}") from error
                    notes = " ".join(getattr(error, "__notes__", ()))
                    if error.differs != ("The visible object differs" in notes):
                        raise Broken(f"{error!r} has the notes {notes}") from error
                else:
                    raise Broken(f"{path} has another checksum, and no error")
        self.network.lies = False

    def _corrupted(self) -> None:
        """A body that the store finds damaged is sent once more, and not a third time."""
        fs = self._lasting(retries=5, overwrite=True)
        for times in (1, 2):
            path, data = self._data(f"corrupted {times}", SMALL)
            self.network.met.clear()
            self.network.fates = ("corrupted",) * times
            try:
                fs.pipe_file(path, data)
            except BodyCorruptedError as error:
                if times == 1 or error.tries != 2:
                    raise Broken(
                        f"a body was damaged {times} times: {error!r}"
                    ) from error
            else:
                if times == 2:
                    raise Broken("a body was damaged twice, and sent a third time")
            self.network.fates = ()
            self._is(path, data if times == 1 else None)

    def _busy(self) -> None:
        """While the store refuses all requests as too many, few are sent."""
        if self.fs.storage_options.get("max_concurrency") is not None:
            return  # the probes of the circuit breaker would take long
        fs = self._lasting(retries=2)
        objects = dict(self._data(f"busy{number}", 17) for number in range(60))
        first = len(self.network.events)
        self.network.refusals = (503,)
        failed = fs.pipe(objects, on_error="return")
        self.network.refusals = ()
        tried = len(self.network.events) - first
        if not all(isinstance(error, StoreUnavailableError) for error in failed):
            raise Broken(f"a store that refuses all requests gives {failed}")
        if tried > len(objects):
            raise Broken(f"{len(objects)} objects were tried {tried} times")

    def _bad_copy(self) -> None:
        """A move deletes its source only if the copy has the same bytes."""
        fs = self._like(overwrite=True, checksum="auto")
        path, data = self._data("source", SMALL)
        other, _ = self._data("bad copy", 0)
        self.ledger.copying(path, other)
        fs.pipe_file(path, data)
        self.network.met.clear()
        self.network.fates = ("damage",)
        try:
            fs.mv(path, other)
        except IntegrityError:
            pass
        else:
            raise Broken(f"{path} was moved, and its copy is damaged")
        finally:
            self.network.fates = ()
        self._is(path, data)

    def _skewed(self) -> None:
        """If the clocks differ, the error of a refused request says by how much."""
        fs = self._like(retries=0, overwrite=True)
        path, data = self._data("skewed", SMALL)
        clock, jumps = self.network.server.clock, [(LATE, "behind")]
        if fs.storage_options.get("signature_version") != "v1":  # it has no beginning
            jumps.append((-LATE, "ahead of"))
        for jump, words in jumps:
            clock.jump(jump)
            seconds = abs(time.time() - clock())
            try:
                fs.pipe_file(path, data)
            except PermissionError as error:
                told = re.search(rf"machine is (\d+) s {words} the store", str(error))
                if told is None or abs(int(told[1]) - seconds) > 2:
                    text = f"a clock that is {seconds:.0f} s {words} the store's gives"
                    raise Broken(f"{text} {error!r}") from error
            else:
                raise Broken(f"{path} is stored, although the clock is wrong")
            clock.jump(-jump)
        self._is(path, None)

    def _unwritten(self) -> None:
        """A resume file that cannot be written stops no upload, and is warned of."""
        path, data = self._data("unwritten", LARGE)
        local, first = self._local("unwritten", data), len(self.ledger.warned)
        assert disks.disk is not None
        disks.disk.full = 1.0
        fs = self._like(resume_dir=str(self.place / "full"), receipts=None)
        fs.put_file(local, path)
        disks.disk.full = 0.0
        self._is(path, data)
        texts = self.ledger.warned[first:]
        del self.ledger.warned[first:]
        if ["cannot be used" in text for text in texts] != [True]:
            raise Broken(f"an upload without a resume file warns: {texts}")

    def _unrecorded(self) -> None:
        """If an object is stored without its receipt, the call says so."""
        fs = self._like(receipts=str(self.place / "unrecorded"), overwrite=True)
        path, data = self._data("unrecorded", SMALL)
        assert disks.disk is not None
        disks.disk.full = 1.0
        try:
            fs.pipe_file(path, data)
        except ReceiptFailedError as error:
            if error.outcome is not Outcome.STORED or error.receipt.size != SMALL:
                raise Broken(f"{path} is stored, but {error!r}") from error
        else:
            raise Broken(f"{path} has no receipt, but no error says so")
        disks.disk.full = 0.0
        self._is(path, data)

    def _denied(self) -> None:
        """A refusal of a URL that is valid now is not said to be about time."""
        fs = self._lasting(retries=0, overwrite=True)
        path, data = self._data("denied", SMALL)
        self.network.refusals = (403,)
        try:
            fs.pipe_file(path, data)
        except PermissionError as error:
            if re.search("expired|not valid yet|clock", str(error)):
                raise Broken(f"a valid URL was refused, but {error!r}") from error
        else:
            raise Broken(f"{path} is stored, although it was refused")
        self.network.refusals = ()
        self._is(path, None)

    def _slow_disk(self) -> None:
        """A disk that is slower than the limit for the store ends no download."""
        path, local = f"{self.root}/put", self.place / "slowly"
        assert disks.disk is not None
        disks.disk.pauses = [8.0]
        self._like(retries=0, timeout=5).get_file(path, str(local))
        if disks.disk.pauses or local.read_bytes() != self._at(path):
            raise Broken("a download to a slow disk has other bytes")
