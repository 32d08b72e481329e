"""Runs one program in a world: its callers, the disk, the signer, and the checks."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import math
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

import fsspec_osspresigned
from fsspec_osspresigned import OSSPresignedFileSystem
from fsspec_osspresigned.engine import abort_at_exit, background, engine
from fsspec_osspresigned.engine.limits import RequestLimiter, memory_budget
from fsspec_osspresigned.errors import UploadNotFoundError
from fsspec_osspresigned.model import MIN_PART, Action, Operation
from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant
from fsspec_osspresigned.signing import Endpoint

from . import curl, processes, reached
from . import disk as disks
from . import loop as loops
from .disk import Disk
from .ending import Ending
from .ledger import NAMED, Ledger, Write, writes_of_call
from .network import Faults, Network
from .operations import BUCKET, NOTED, Operations
from .programs import Program
from .signers import ManySigner, UserSigner, http_options, key_signer
from .store import HOST, KEY, REGION, Server
from .verbs import Awaited, Plain
from .world import EPOCH, Broken, HangError, World

# maximum seconds from an interrupt or a cancellation to the end of the call
_STOPS = 7.0
_END = 3600.0  # maximum virtual seconds of a call
# Maximum virtual seconds for each file of a tree: 300 s of retries of the PUT, its last
# try, and the same time for the HeadObject after it. The files may go one after the
# other.
_END_OF_FILE = 720.0
# Operations without coroutines. An event loop runs them in a thread.
_IN_THREADS = ("write", "transaction", "sync", "sync_down")
# Operations whose coroutines are cancelled. Files have no coroutines.
_ENDS_SOON = ("pipe", "pipe_many", "put_file", "put_tree", "resume")
# Operation -> its argument with a key. After the operation has ended, no request for
# this key may follow.
_IS_QUIET = {
    **dict.fromkeys(
        ("pipe", "put_file", "write", "resume", "cat", "get", "info"), "key"
    ),
    "copy": "to",
}
_LATEST = 60.0  # seconds until a late signer has answered
_IDLE = 120.0  # seconds until an idle process has only these threads
_OWN_THREADS = ("osspresigned-engine", "osspresigned-worker", "osspresigned-log")
_NO_HANDLERS = ("osspresigned-engine", "osspresigned-worker")
_MOST_THREADS = 64
# Option -> the header that it gives each new object.
_HEADERS = {
    "content_type": ("content-type", ""),
    "metadata": ("x-oss-meta-simulated", "simulated"),
    "storage_class": ("x-oss-storage-class", ""),
}
# maximum number of connections for the last steps, which send some 650 requests
_MOST_OPENED = 90
_STAYS = ("osspresigned-engine", "osspresigned-log")
_PACKAGE = os.path.dirname(fsspec_osspresigned.__file__)


@frozen
class Result:
    """How a program ended."""

    problem: str | None
    steps: int
    seconds: float  # virtual seconds
    digest: str
    calls: int
    reached: dict[str, int]
    # maximum seconds from an interrupt or a cancellation to the end of a call
    longest: float
    crashed: str = ""  # directory that a killed process has left


class _Records(logging.Handler):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.DEBUG)
        self.ledger = ledger
        self.fs: Any = None  # filesystem to which every tenth record is written
        self.count = 0

    # overrides a method that takes a lock
    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        if threading.current_thread().name.startswith(_NO_HANDLERS):
            raise Broken("a log handler runs in a thread of the engine")
        texts = self.ledger.texts
        texts.append(record.getMessage())
        if record.levelno >= logging.WARNING:
            self.ledger.warned.append(record.getMessage())
        if record.exc_info:
            texts.append("".join(traceback.format_exception(*record.exc_info)))
        self.count += 1
        if self._is_of_another_process():
            return
        if self.fs is not None and self.count % 10 == 0:
            data = self.ledger.content(100)
            write = self.ledger.write(f"{BUCKET}/log-{self.count}", data)
            with suppress(OSError, ValueError):
                if self.fs.pipe_file(write.path, data, overwrite=True):
                    write.say("stored")
                    self.ledger.check_said(write)
                # Otherwise the object belongs to the current transaction.

    def _is_of_another_process(self) -> bool:
        running = self.ledger.network.world.running
        return running is not None and running.process > 0


def _is_temporary(file: Path) -> bool:
    return file.name.startswith(".") or file.name.endswith(".new")


class Runner(Operations):
    """One program in one world."""

    def __init__(self, program: Program, place: Path) -> None:
        self.program, self.place = program, place
        self.world = World(program["seed"])
        self.world.switches = program.get("switches", 0.0)
        self.dice = self.world.random
        self.server = Server()
        self.network = Network(self.server, self.world)
        self.ledger = Ledger(self.network)
        self.problems: list[str] = []
        self.numbers = itertools.count()
        self.calls = 0
        self.clients = 1
        # number of interrupts, and the time of the first one
        self.presses, self.pressed = 0, math.inf
        # maximum seconds from an interrupt or a cancellation to the end of its call
        self.longest = 0.0
        self.interruptible: list[Write] = []  # writes that an interrupt ends
        self.main_is_in_call = False
        self.memory_limit = program["options"].get("memory_limit", math.inf)
        self.world.fail = self._fail
        if "SIMULATION_TRACE" in os.environ:
            self.world.lines = []
        self.tell: Callable[[Result], object] = print

    def _fail(self, error: BaseException) -> None:
        """End the process, so that no code of the package catches the error."""
        self.tell(self._result(self._told(error)))
        os._exit(0)

    def _told(self, error: BaseException) -> str:
        if isinstance(error, Broken):
            return f"broken: {error}"
        if isinstance(error, HangError):
            return f"hangs: {error}"
        if isinstance(error, (ImportError, SyntaxError)):
            return f"cannot be loaded: {error!r}"
        return f"raised: {''.join(traceback.format_exception(error))}"

    def _crash(self) -> None:
        """End the process at once, like ``kill -9``; the disk and the store are kept."""
        store, ledger = self.server.store, self.ledger
        if disks.disk is not None:
            disks.disk.lose(self.place / "journals")
        left = {
            "buckets": store.buckets,
            "history": store.history,
            "model": self.server.model,
            "writes": [
                (w.number, w.path, w.contents, "" if ledger.believes(w) else w.said)
                for w in ledger.writes
            ],
            "transactions": ledger.transactions,
            "downloads": ledger.downloads,
            "resumes": ledger.resumes,
            "kept": self._kept_parts(),
        }
        (self.place / "left.pickle").write_bytes(pickle.dumps(left))
        ledger.seen["crash"] += 1
        result = self._result(None)
        self.tell(evolve(result, crashed=str(self.place)))
        os._exit(0)

    def _kept_parts(self) -> int:
        """Return how many parts a later process need not send; 0 if this is uncertain."""
        if not self.program.get("cuts_power"):
            return 0
        confirmed = self.world.now - NOTED
        begun = self.server.store.buckets[BUCKET].uploads
        events = [e for e in self.network.events if e.is_part and e.ended < confirmed]
        return sum(e.upload_id in begun and e.status == 200 for e in events)

    def _result(self, problem: str | None) -> Result:
        world = self.world
        if os.environ.get("SIMULATION_TEXTS"):
            sys.stderr.write("\n".join(self.ledger.texts))
        if world.lines is not None:
            Path(os.environ["SIMULATION_TRACE"]).write_text("\n".join(world.lines))
        digest = world.digest.hexdigest()[:16]
        counts = reached.reached(self.network, self.ledger)
        facts = world.steps, world.now, digest, self.calls
        return Result(problem, *facts, counts, self.longest)

    # -- set-up --------------------------------------------------------------------------

    def run(self) -> Result:
        world = self.world
        before = len(os.listdir("/proc/self/fd"))
        curl.install(self.network)
        reached.install()
        processes.prepare("fsspec_osspresigned")
        asyncio.wait_for = loops.wait_for
        # The second life must not get the upload IDs of the first one.
        seeded = random.Random(f"{type(self).__name__} {self.program['seed']}")
        uuid.uuid4 = lambda: uuid.UUID(int=seeded.getrandbits(128))
        random.seed(self.program["seed"])
        # Each variable takes a step, so all machines have the same ones.
        debug = {n: v for n, v in os.environ.items() if n.startswith("SIMULATION_")}
        os.environ.clear()
        os.environ.update(
            debug,
            TZ=self.program.get("zone", "UTC"),
            OSS_ACCESS_KEY_ID=KEY.access_key_id,
            OSS_ACCESS_KEY_SECRET=KEY.access_key_secret.reveal(),
            OSS_REGION=REGION,
        )
        time.tzset()
        self.server.clock.jump(self.program.get("skew", 0))
        self.records = _Records(self.ledger)
        logging.getLogger().addHandler(self.records)
        warnings.simplefilter("always")
        warnings.showwarning = self._warned
        sys.unraisablehook = lambda raised: self.problem(
            f"unraisable: {raised.exc_value!r} in {raised.object!r}"
        )
        world.begin()
        world.at_step = self._at_step
        gc.disable()
        try:
            self._play()
            self._end_well()
            self._wind_down(before)
        except BaseException as error:  # noqa: BLE001 - it is reported with the seed
            return self._result(self._told(error))
        return self._result(self.problems[0] if self.problems else None)

    def _warned(
        self, message: object, _: object, file: str, line: int, *__: object
    ) -> None:
        if file.startswith(_PACKAGE):
            self._fail(Broken(f"a warning points into the package: {message}"))
        self.ledger.texts.append(str(message))
        self.ledger.warned.append(str(message))
        self.ledger.warned_at = file, line

    def problem(self, text: str) -> None:
        if "KeyboardInterrupt" not in text:
            self.problems.append(text)

    def _at_step(self) -> None:
        self.ledger.check_commits()
        if self.world.steps == self.program["crash"]:
            self._crash()
        # Each client may always send one request, regardless of the other clients.
        limit = self.program["options"].get("max_concurrency") or 128
        if self.network.in_flight > limit + self.clients:
            raise Broken(f"{self.network.in_flight} requests are in flight")
        accounts = [*memory_budget().accounts.values()]
        turns = self.world.turns
        if len(turns) > _MOST_THREADS:
            own = [turn for turn in turns if turn.name.startswith(_OWN_THREADS)]
            if len(own) > _MOST_THREADS:
                raise Broken(f"the engine has {len(own)} threads")
        if sum(accounts) > self.memory_limit + len(accounts) * MIN_PART:
            raise Broken(f"open files use {sum(accounts)} bytes")

    def _options(self) -> dict[str, Any]:
        program = self.program
        options = dict(program["options"])
        if options.get("receipts") is True:
            options["receipts"] = str(self.place / "receipts")
            os.makedirs(options["receipts"], exist_ok=True)
        signer, world = program["signer"], self.world
        by_keys = {"expires_in", "signature_version"}
        if signer in ("grant", "map"):
            # grants and maps are signed before the options are known
            options = {n: v for n, v in options.items() if n not in _HEADERS}
        if signer != "keys":
            options = {n: v for n, v in options.items() if n not in by_keys}
        if signer == "keys":
            return {"signer": "keys", **options}
        if signer == "user":
            return {"signer": UserSigner(world), **options}
        if signer == "many":
            return {"signer": ManySigner(world), **options}
        if signer == "writer":
            return {"signer": UserSigner(world, looks=False), **options}
        if signer == "http":
            return {**http_options(world), **options}
        if signer == "grant":
            if options.get("checksum") == "md5":  # a form has no MD5 to compare
                del options["checksum"]
            terms = GrantTerms(bucket=BUCKET, prefix="", expires_in=86_400)
            version = self.program["options"].get("signature_version", "v4")
            facts = {"version": version, "region": REGION, "now": EPOCH}
            grant = sign_grant(KEY, Endpoint.parse(HOST), terms, **facts)
            fields = json.loads(grant.text())["fields"]
            self.server.signatures.add(
                fields.get("x-oss-signature") or fields["Signature"]
            )
            return {"grant": grant.text(), "signer": "keys", **options}
        return {"url_map": self._map(), "signer": "keys", **options}

    def _map(self) -> dict[str, str]:
        keys = key_signer(expires_in=self.program["options"].get("expires_in", 86_400))
        found = {}
        for key in ("k0", "k1", "tree/f0", "many/f0"):
            operation = Operation(action=Action.PutObject, bucket=BUCKET, key=key)
            (signed,) = keys.sign([operation])
            found[operation.path] = signed.url.reveal()
        return found

    # -- the play ------------------------------------------------------------------------

    def _play(self) -> None:
        program = self.program
        self.options = self._options()
        self.fs = OSSPresignedFileSystem(**self.options)
        self.records.fs = self.fs if program.get("logs") else None
        self.network.faults = Faults(**program["faults"])
        self.world.signer_faults = program["signer_faults"]
        self.world.holds = program.get("holds", 0.0)
        self.ledger.may_refuse = program["signer_faults"] > 0
        self.ledger.options = self.options
        self.ledger.other_faults |= {
            name for name, is_on in self._other_faults() if is_on
        }
        self.server.model.demands = {
            header: value[name] if isinstance(value, dict) else value
            for option, (header, name) in _HEADERS.items()
            if (value := self.options.get(option)) is not None
        }
        self.ledger.unchecked = self.options.get("checksum") == "none"
        self.ledger.is_single = self._is_single()
        self.network.waits = {} if self.ledger.is_single else None
        self.ledger.must_succeed = program.get("is_patient", False)
        self.ledger.may_look = self._may_look()
        has_two = any(operation["do"] == "resume" for operation in self._all())
        are_several = has_two or not self.ledger.is_single
        self.ledger.is_unsure = program["signer_faults"] > 0 and are_several
        self.ledger.is_blind = program["signer"] == "writer" and not self._is_single()
        disks.install(Disk(self.world, **program["disk_faults"]))
        others = []
        for caller in program["callers"]:
            if caller["kind"] != "main":
                others.append(self._thread(caller))
        for begins, lasts in program["outages"]:
            others.append(self._background(begins, lambda s=lasts: self._outage(s)))
        for begins, index in program["disk_changes"]:
            others.append(
                self._background(begins, lambda n=index: self._change_file(n))
            )
        for caller in program["callers"]:
            if caller["kind"] == "main":
                self._main(caller)
        for thread in others:
            thread.join()

    def _background(self, seconds: float, act: Callable[[], None]) -> Any:
        def later() -> None:
            time.sleep(seconds)
            act()

        return self._started(later, "background")

    def _started(self, function: Callable[[], None], name: str) -> Any:
        def guarded() -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - it is reported with the seed
                self._fail(error)

        thread = threading.Thread(target=guarded, name=name)
        thread.start()
        return thread

    def _outage(self, seconds: float) -> None:
        self.network.is_down = True
        time.sleep(seconds)
        self.network.is_down = False

    def _change_file(self, index: int) -> None:
        files = sorted(self.place.glob("source-*"))
        if not files:
            return
        file = files[index % len(files)]
        data = file.read_bytes()
        how = index % 4  # cut, append, replace or rewrite the file
        number = int(file.name.rpartition("-")[2])
        write = next((w for w in self.ledger.writes if w.number == number), None)
        new = (
            data[: len(data) // 2]
            if how == 0
            else data + b"more"
            if how == 1
            else data[::-1]
        )
        contents = [] if write is None else write.contents
        # A second upload of the file shares the list.
        sharing = (w for w in self.ledger.writes if w.contents is contents)
        if any(w.said == "nothing" for w in sharing):
            contents.append(new)
        if how == 2:
            other = file.with_name(f"new-{file.name}")
            other.write_bytes(new)
            os.replace(other, file)
        else:
            file.write_bytes(new)

    def _thread(self, caller: dict[str, Any]) -> Any:
        def plain() -> None:
            for operation in caller["operations"]:
                self._call(operation)

        def coroutines() -> None:
            loops.run(self._awaits(caller["operations"]))

        function = plain if caller["kind"] == "thread" else coroutines
        return self._started(function, f"caller-{caller['kind']}")

    def _main(self, caller: dict[str, Any]) -> None:
        for _ in range(caller["interrupts"]):
            self._background(self.dice.expovariate(5), self._press)
        for operation in caller["operations"]:
            for seconds in operation.get("interrupts", ()):
                self._background(seconds, self._press)
            self._call(operation, is_main=True)

    def _press(self) -> None:
        """Press Ctrl-C: raise an exception where the main thread waits."""
        if self.main_is_in_call:
            self.ledger.seen["second interrupt" if self.presses else "interrupt"] += 1
            self.presses += 1
            self.ledger.is_impatient = self.presses > 1
            self.pressed = min(self.pressed, self.world.now)
            self.ledger.other_faults.add("discard")
            self.world.turns[0].interrupt = KeyboardInterrupt()
            for write in self.interruptible:
                write.cancelled = min(write.cancelled, self.world.now)

    def _call(self, operation: dict[str, Any], *, is_main: bool = False) -> None:
        """Run one operation with synchronous verbs."""
        coroutine = self._operation(operation, Plain(self.fs))
        began, known = self.world.now, len(self.ledger.writes)
        writes: list[Write] = []
        token = writes_of_call.set(writes)
        ends = operation["do"] in (*_ENDS_SOON, "transaction", "write")
        if is_main:
            self.main_is_in_call, self.presses, self.pressed = True, 0, math.inf
            self.ledger.is_impatient = False
            self.interruptible = writes if ends else []
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        except KeyboardInterrupt as error:
            if not is_main:
                raise
            self.ledger.note_error(error)
            if self.presses > 1:
                # after a second interrupt, the call does not wait for its requests
                for write in self.ledger.writes[known:]:
                    write.ended = math.inf
                for span in self.ledger.spans():
                    span[1] = math.inf if span[0] >= began else span[1]
            elif ends:
                self._check_quiet(operation, began)
        else:
            raise AssertionError("a synchronous verb waits")
        finally:
            writes_of_call.reset(token)
            if is_main:
                self.main_is_in_call = False
                self.world.turns[0].interrupt = None
        if is_main:
            self._check_end(operation, self.pressed)
        self._ended(operation, began)

    def _check_end(self, operation: dict[str, Any], stopped: float) -> None:
        if self.program.get("logs"):
            return  # a log handler may write into the store in the caller's thread
        seconds = self.world.now - stopped
        self.longest = max(self.longest, seconds)
        if seconds > _STOPS:
            raise Broken(f"{operation} went on for {seconds:.1f} s after its end")

    def _ended(self, operation: dict[str, Any], began: float) -> None:
        self.calls += 1
        if self.ledger.is_single:
            self.network.waits = {}
        self.world.note(operation["do"], self.world.now)
        if self.world.now - began > max(
            _END, _END_OF_FILE * len(operation.get("sizes", ()))
        ):
            raise Broken(f"{operation} took {self.world.now - began:.0f} s")

    async def _awaits(self, operations: list[dict[str, Any]]) -> None:
        for operation in operations:
            await self._await(operation)

    async def _await(self, operation: dict[str, Any]) -> None:
        began = self.world.now
        if operation["do"] == "gather":
            await asyncio.gather(
                *(self._await(each) for each in operation["operations"])
            )
            return
        work = self._operation(operation, Awaited(self.fs))
        if "cancel" not in operation:
            await work
        else:
            writes: list[Write] = []
            token = writes_of_call.set(writes)
            task = asyncio.ensure_future(work)
            writes_of_call.reset(token)
            await asyncio.sleep(operation["cancel"])
            if operation["do"] in _ENDS_SOON:
                for write in writes:
                    write.cancelled = self.world.now
            task.cancel()
            self.ledger.seen["cancellation"] += 1
            stopped = self.world.now
            if operation["again"]:
                await asyncio.sleep(1.5)
                task.cancel()
                for write in writes:
                    write.is_abandoned = True
            with suppress(asyncio.CancelledError):
                await task
            if operation["do"] not in _IN_THREADS:
                self._check_end(operation, stopped)
            if operation["again"]:
                # after a second cancellation, the call does not wait for its requests
                for write in writes:
                    write.ended = math.inf
            if not operation["again"]:
                self._check_quiet(operation, began)
        self._ended(operation, began)

    def _check_quiet(self, operation: dict[str, Any], began: float) -> None:
        """Check that a cancelled operation has ended and left nothing behind."""
        key = operation.get(_IS_QUIET.get(operation["do"], ""), "")
        is_alone = (
            self.ledger.is_single or sum(f"'{key}'" in str(o) for o in self._all()) == 1
        )
        if operation.get("discard") is not None:
            return  # a thread of the program discards the file, and ends its upload
        if key and is_alone:
            self.ledger.check_quiet(key, began)
            if operation["do"] != "resume":
                self.ledger.check_uploads(key, began)

    def _other_faults(self) -> Iterator[tuple[str, object]]:
        program = self.program
        is_limited = program["signer"] in ("writer", "map", "grant")
        yield "signer", program["signer_faults"] or is_limited
        yield "blind", program["signer"] in ("writer", "map")
        yield (
            "edit",
            program["disk_changes"] or any(o.get("edits") for o in self._all()),
        )
        yield "disk", program["disk_faults"]
        yield "rival", not self._is_single()
        yield "expiry", "expires_in" in program["options"]
        yield "discard", any(o["do"] == "transaction" for o in self._all())

    def _may_look(self) -> bool:
        program = self.program
        signs = program["signer"] in ("keys", "user", "many", "http")
        is_up = not program["outages"] and not program["signer_faults"]
        return signs and is_up

    def _is_single(self) -> bool:
        """True if one operation follows the other."""
        callers = self.program["callers"]
        return len(callers) == 1 and all(
            operation["do"] != "gather" for operation in callers[0]["operations"]
        )

    def _all(self) -> Iterator[Any]:
        for caller in self.program["callers"]:
            for operation in caller["operations"]:
                yield from operation.get("operations", [operation])

    # -- the end -------------------------------------------------------------------------

    def _end_well(self) -> None:
        """Without faults, let a caller of one kind run every verb once more."""
        self.network.faults, self.network.waits = Faults(), None
        disks.install(Disk(self.world))
        # Aborts of interrupted calls and calls of a signer may still run.
        time.sleep(_LATEST if self.world.signer_faults else _STOPS)
        while self.network.in_flight:  # each of them ends at its time limit
            time.sleep(1)
        self.world.signer_faults = self.world.holds = self.world.switches = 0.0
        self.ledger.must_succeed = False  # some of these steps fail on purpose
        self.records.fs = None
        fs, given = self.fs, dict(self.options)
        is_limited = self.program["signer"] in ("map", "grant", "writer")
        if is_limited:  # these signers do not sign each request
            given = {n: v for n, v in given.items() if n not in ("url_map", "grant")}
            fs = OSSPresignedFileSystem(**{**given, "signer": "keys"})
        kinds = sorted({caller["kind"] == "loop" for caller in self.program["callers"]})
        is_loop = kinds[self.program["seed"] % len(kinds)]
        before = self.network.opened
        self._end(fs, is_loop, "all")
        opened = self.network.opened - before
        if opened > _MOST_OPENED:
            raise Broken(f"at the end, {opened} connections were opened")
        if is_limited and "url_map" not in self.options:
            is_blind = self.program["signer"] == "writer"
            is_blind &= self.options.get("if_unverifiable") != "error"
            self._end(self.fs, is_loop, "remembered" if is_blind else "writes")
        if self.program["signer"] == "writer" and self.options["signer"] != "keys":
            self._end(self.fs, is_loop, "unseen")

    def _ending(self, fs: Any) -> Ending:
        name = f"end-{type(self).__name__}-{next(self.numbers)}"
        publishes = self.options.get("on_exception") == "publish"
        return Ending(fs, self.ledger, name, self.place, publishes=publishes)

    def _end(self, fs: Any, is_loop: bool, steps: str) -> None:
        ending = self._ending(fs)
        if is_loop:
            loops.run(getattr(ending, steps)(Awaited(fs)))
        else:
            with suppress(StopIteration):
                getattr(ending, steps)(Plain(fs)).send(None)

    def _wind_down(self, descriptors: int) -> None:
        self.ledger.texts += [repr(self.fs), repr(self.fs.storage_options)]
        if not self.records.count:
            raise Broken("nothing was logged")
        del self.fs
        OSSPresignedFileSystem.clear_instance_cache()
        gc.collect()
        time.sleep(_IDLE)
        gc.collect()
        began = self.world.now
        handled: list[float] = []

        def handle_slowly() -> None:
            time.sleep(0.5)
            handled.append(self.world.now)

        background.put(handle_slowly)
        background.finish(1.0)
        if not handled:
            raise Broken("a log record is lost at the end of the process")
        if self.world.now - began >= 1.0:
            raise Broken("log records wait for a thread")
        self.ledger.check_end()
        if signal.getsignal(signal.SIGTERM) is not abort_at_exit.terminate:
            raise Broken("SIGTERM would end the process, and leave uploads open")
        names = [turn.name for turn in self.world.turns[1:]]
        left = [name for name in names if name not in _STAYS]
        if left:
            raise Broken(f"threads are left: {left}\n{self.world.stacks()}")
        if tasks := engine.current().tasks:
            raise Broken(f"tasks are left: {tasks}")
        # the killed process's files are still open in this process
        is_killed = self.ledger.seen["kill"]
        if len(os.listdir("/proc/self/fd")) > descriptors and not is_killed:
            raise Broken("descriptors are left")
        for limiter in gc.get_objects():
            if isinstance(limiter, RequestLimiter) and limiter.in_flight:
                raise Broken(f"{limiter.in_flight} requests count as in flight")
        if used := memory_budget().used:
            raise Broken(f"{used} bytes count as used")
        left = [f.name for f in self.place.rglob("*") if _is_temporary(f)]
        if left:
            raise Broken(f"temporary files are left: {left}")
        self._check_receipts()
        self.server.model.demands = {}
        self._ending(OSSPresignedFileSystem(signer="keys")).leave_open()

    def _check_receipts(self) -> None:
        """Each object that was reported as stored has a line in the receipts."""
        if "receipts" not in self.options or self.program["disk_faults"]:
            return
        lines = [
            json.loads(line)
            for file in Path(self.options["receipts"]).iterdir()
            for line in file.read_text().splitlines()
        ]
        told = {(line["path"], line["size"]) for line in lines}
        for write in self.ledger.writes:
            sizes = {(write.path, len(content)) for content in write.contents}
            if write.said == "stored" and not write.why and not sizes & told:
                raise Broken(f"{write} has no line in {self.options['receipts']}")
        for path, size in told:
            bucket, _, key = path.partition("/")
            known = [c.data for c in self.server.store.history if c.key == key]
            if size not in [len(data) for data in known if data is not None]:
                raise Broken(f"{path} has a receipt of {size} bytes in {bucket}")


class SecondLife(Runner):
    """A later process that continues after a crash."""

    def _play(self) -> None:
        left = pickle.loads((self.place / "left.pickle").read_bytes())
        for file in [*filter(_is_temporary, self.place.rglob("*"))]:
            file.unlink()  # a killed process cannot remove it
        store, ledger = self.server.store, self.ledger
        self.server.model = left["model"]
        store.buckets, store.history = left["buckets"], left["history"]
        ledger.checked = len(store.history)
        ledger.keeps_uploads = True  # a killed process cannot abort its uploads
        contents = {number: c for number, _, c, _ in left["writes"]}
        paths = {number: path for number, path, _, _ in left["writes"]}
        self._check_claims(left["writes"])
        for numbers in left["transactions"]:
            self._check_transaction([contents[n] for n in numbers], paths[numbers[0]])
        for name, path in left["downloads"].items():
            file = self.place / name
            data = file.read_bytes() if file.exists() else b"old"
            known = {c.data for c in store.commits(path)}
            if data not in known | {b"old"}:
                raise Broken(
                    f"{name} of {path} has {len(data)} bytes that belong to no version"
                )
        options = dict(self.program["options"], resume_dir=str(self.place / "journals"))
        for name in ("receipts", "overwrite", "expires_in", "signature_version"):
            options.pop(name, None)
        self.options = {"signer": "keys", **options}
        self.fs = OSSPresignedFileSystem(**self.options)
        for number, local in left["resumes"].items():
            if not os.path.exists(local):
                continue
            data = Path(local).read_bytes()
            write = ledger.write(paths[number], data)
            before = self.server.calls.get("UploadPart", 0)
            try:
                self.fs.put_file(local, write.path)
            except UploadNotFoundError:
                # It was completed before the crash, and another call has replaced its
                # object.
                if data not in ledger.contents(write.path):
                    raise
                self.fs.put_file(local, write.path)
            write.say("stored")
            sent = self.server.calls.get("UploadPart", 0) - before
            parts = math.ceil(len(data) / self.options.get("part_size", 1))
            if left["kept"] + sent > parts:
                raise Broken(
                    f"{write.path}: {sent} parts were sent, and some were sent again"
                )
            bucket, _, key = write.path.partition("/")
            if store.at(bucket, key) != data:
                raise Broken(f"{write.path} was resumed, but differs from the file")

    def _check_claims(self, writes: list[Any]) -> None:
        for _, path, contents, said in writes:
            found = self.server.store.commits(path)
            is_there = any(c.data in contents or c.is_damaged for c in found)
            is_sure = min(map(len, contents)) >= NAMED
            if said == "stored" and is_sure and not is_there:
                raise Broken(
                    f"{path} was reported as stored before the crash, but is not"
                )

    def _check_transaction(self, contents: list[list[bytes]], first: str) -> None:
        bucket = first.partition("/")[0]
        is_unchecked = self.program["options"].get("checksum") == "none"
        if is_unchecked and any(c.is_damaged for c in self.server.store.history):
            return  # damaged bytes match none of the writes
        committed = {c.data for c in self.server.store.history if c.bucket == bucket}
        sized = [c for c in contents if len(c[0]) >= NAMED]
        is_last_there = (
            sized and sized[-1] is contents[-1] and sized[-1][0] in committed
        )
        if is_last_there and any(c[0] not in committed for c in sized):
            msg = "the last object of a transaction exists, but another does not"
            raise Broken(msg)


def simulate(
    program: Program, tell: Callable[[Result], object], place: str = ""
) -> None:
    """Run *program* in this process, which must not run another one.

    *place* is the directory that an earlier process left when it crashed.
    """
    root = "/dev/shm" if os.path.isdir("/dev/shm") else None
    here = Path(place or tempfile.mkdtemp(prefix="simulation-", dir=root))

    def told(result: Result) -> None:
        if not result.crashed:
            shutil.rmtree(here, ignore_errors=True)
        tell(result)

    if place:
        program = {**program, "crash": 0, "signer_faults": 0}
    runner = (SecondLife if place else Runner)(program, here)
    runner.tell = told
    told(runner.run())
