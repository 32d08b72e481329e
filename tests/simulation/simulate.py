"""Runs one program in a world: its callers, the disk, the signer, and the checks."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import math
import os
import pickle
import random
import shutil
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

from fsspec_osspresigned import OSSPresignedFileSystem, sync, sync_down
from fsspec_osspresigned.engine import engine
from fsspec_osspresigned.errors import NotSignedError, SignerUnavailableError
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Endpoint

from . import loop as loops
from . import network as networks
from .ledger import Broken, Ledger, Write, writes_of_call
from .network import BUCKETS, HOST, KEY, REGION, Faults, Network, Server
from .programs import Program
from .world import EPOCH, HangError, World

BUCKET = BUCKETS[0]
_END = 3600.0  # virtual seconds that a call may take, at most
# Operations whose verbs are cancelled; files have no coroutines.
_ENDS_SOON = ("pipe", "pipe_many", "put_file", "put_tree", "resume")
_IDLE = 120.0  # seconds after which nothing of an idle process is left


@frozen
class Result:
    """How a program ended."""

    problem: str | None
    steps: int
    seconds: float  # virtual
    digest: str
    calls: int
    counts: dict[str, int]
    crashed: str = ""  # the directory that a killed process has left


class _Records(logging.Handler):
    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self.texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        if record.exc_info:
            self.texts.append("".join(traceback.format_exception(*record.exc_info)))


class UserSigner(Signer):
    """A signer of the user: it takes time, and may fail."""

    def __init__(self, world: World, faults: float) -> None:
        self._keys, self._world, self._faults = _keys(), world, faults

    def sign(self, operations: Any) -> Any:
        dice = self._world.random
        time.sleep(dice.expovariate(100))
        if dice.random() < self._faults:
            raise SignerUnavailableError("the signer is away", path=operations[0].path)
        signed = self._keys.sign(operations)
        if dice.random() < self._faults:
            time.sleep(dice.expovariate(0.1))
        return signed


class ServiceSigner(UserSigner):
    """The same far away: many operations a call, and each may be refused by itself."""

    remote = True

    def sign_each(self, operations: Any) -> Any:
        signed = list(self.sign(operations))
        dice = self._world.random
        for index, operation in enumerate(operations):
            if dice.random() < self._faults / 4:
                signed[index] = NotSignedError("not this one", path=operation.path)
        return signed


def _keys(**options: Any) -> KeySigner:
    return KeySigner.from_options(**options)


class Runner:
    """One program in one world."""

    def __init__(self, program: Program, place: Path) -> None:
        self.program, self.place = program, place
        self.world = World(program["seed"])
        self.dice = self.world.random
        self.server = Server()
        self.network = Network(self.server, self.world)
        self.ledger = Ledger(self.network)
        self.problems: list[str] = []
        self.numbers = itertools.count()
        self.calls = 0
        self.clients = 1
        self.presses = 0
        self.main_is_in_call = False
        self.world.fail = self._fail
        if "SIMULATION_TRACE" in os.environ:
            self.world.lines = []
        self.tell: Callable[[Result], object] = print

    def _fail(self, error: BaseException) -> None:
        """End the process: no code of the package may catch what is broken."""
        self.tell(self._result(self._told(error)))
        os._exit(0)

    def _told(self, error: BaseException) -> str:
        if isinstance(error, Broken):
            return f"broken: {error}"
        if isinstance(error, HangError):
            return f"hangs: {error}"
        return f"raised: {''.join(traceback.format_exception(error))}"

    def _crash(self) -> None:
        """End the process at once, as ``kill -9``; the disk and the store stay."""
        store, ledger = self.server.store, self.ledger
        left = {
            "buckets": store.buckets,
            "history": store.history,
            "writes": [(w.number, w.path, w.contents, w.said) for w in ledger.writes],
            "transactions": ledger.transactions,
            "downloads": ledger.downloads,
            "resumes": ledger.resumes,
        }
        (self.place / "left.pickle").write_bytes(pickle.dumps(left))
        result = self._result(None)
        self.tell(evolve(result, crashed=str(self.place)))
        os._exit(0)

    def _result(self, problem: str | None) -> Result:
        world = self.world
        if os.environ.get("SIMULATION_TEXTS"):
            sys.stderr.write("\n".join(self.ledger.texts))
        if world.lines is not None:
            Path(os.environ["SIMULATION_TRACE"]).write_text("\n".join(world.lines))
        digest = world.digest.hexdigest()[:16]
        counts = dict(self.server.calls)
        return Result(problem, world.steps, world.now, digest, self.calls, counts)

    # -- set-up --------------------------------------------------------------------------

    def run(self) -> Result:
        world = self.world
        before = len(os.listdir("/proc/self/fd"))
        networks.install(self.network)
        engine.EngineLoop = type("Loop", (loops.SimulatedLoop,), {"engine": None})  # type: ignore[misc]
        seeded = random.Random(self.program["seed"])
        uuid.uuid4 = lambda: uuid.UUID(int=seeded.getrandbits(128))
        random.seed(self.program["seed"])
        os.environ.update(
            OSS_ACCESS_KEY_ID=KEY.access_key_id,
            OSS_ACCESS_KEY_SECRET=KEY.access_key_secret.reveal(),
            OSS_REGION=REGION,
        )
        logging.getLogger("fsspec_osspresigned").setLevel(logging.DEBUG)
        logging.getLogger().addHandler(_Records(self.ledger.texts))
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: self.ledger.texts.append(
            str(message)
        )
        sys.unraisablehook = lambda raised: self.problem(
            f"unraisable: {raised.exc_value!r} in {raised.object!r}"
        )
        world.begin()
        world.at_step = self._at_step
        gc.disable()
        try:
            self._play()
            self._wind_down(before)
        except BaseException as error:  # noqa: BLE001 - told with the seed
            return self._result(self._told(error))
        return self._result(self.problems[0] if self.problems else None)

    def problem(self, text: str) -> None:
        if "KeyboardInterrupt" not in text:
            self.problems.append(text)

    def _at_step(self) -> None:
        self.ledger.check_commits()
        if self.world.steps == self.program["crash"]:
            self._crash()
        # Each client can always send one, whatever the others do.
        limit = self.program["options"].get("max_concurrency") or 128
        if self.network.in_flight > limit + self.clients:
            raise Broken(f"{self.network.in_flight} requests are in flight")

    def _options(self) -> dict[str, Any]:
        program = self.program
        options = dict(program["options"])
        if options.get("receipts") is True:
            options["receipts"] = str(self.place / "receipts")
            os.makedirs(options["receipts"], exist_ok=True)
        signer, faults = program["signer"], program["signer_faults"]
        by_keys = {"expires_in", "signature_version"}
        if signer != "keys":
            options = {n: v for n, v in options.items() if n not in by_keys}
        if signer == "keys":
            return {"signer": "keys", **options}
        if signer == "user":
            return {"signer": UserSigner(self.world, faults), **options}
        if signer == "service":
            return {"signer": ServiceSigner(self.world, faults), **options}
        if signer == "grant":
            terms = GrantTerms(bucket=BUCKET, prefix="", expires_in=86_400)
            grant = sign_grant(
                KEY, Endpoint.parse(HOST), terms, region=REGION, now=EPOCH
            )
            return {"grant": grant.text(), "signer": "keys", **options}
        return {"url_map": self._map(), "signer": "keys", **options}

    def _map(self) -> dict[str, str]:
        keys = _keys(expires_in=86_400)
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
        self.network.faults = Faults(**program["faults"])
        self.world.few_threads = program["few_threads"]
        self.ledger.may_refuse = program["signer_faults"] > 0
        self.ledger.unchecked = self.options.get("checksum") == "none"
        others = []
        for caller in program["callers"]:
            if caller["kind"] != "main":
                others.append(self._thread(caller))
        for begins, lasts in program["outages"]:
            others.append(self._background(begins, lambda s=lasts: self._outage(s)))
        for begins, index in program["disk_changes"]:
            self._background(begins, lambda n=index: self._change_file(n))
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
        few, self.world.few_threads = self.world.few_threads, False
        thread = threading.Thread(target=function, name=name)
        thread.start()
        self.world.few_threads = few
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
        how = index % 3
        number = int(file.name.rpartition("-")[2])
        write = next((w for w in self.ledger.writes if w.number == number), None)
        new = (
            data[: len(data) // 2]
            if how == 0
            else data + b"more"
            if how == 1
            else data[::-1]
        )
        if write is not None and write.said == "nothing":
            write.contents.append(new)
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

        def guarded() -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - told with the seed
                self._fail(error)

        return self._started(guarded, f"caller-{caller['kind']}")

    def _main(self, caller: dict[str, Any]) -> None:
        me = self.world.running
        for _ in range(caller["interrupts"]):
            seconds = self.dice.expovariate(5)

            def press() -> None:
                if self.main_is_in_call and me is not None:
                    self.presses += 1
                    me.interrupt = KeyboardInterrupt()

            self._background(seconds, press)
        for operation in caller["operations"]:
            self._call(operation, is_main=True)

    def _call(self, operation: dict[str, Any], *, is_main: bool = False) -> None:
        """Do one operation by plain verbs."""
        coroutine = self._operation(operation, Plain(self.fs))
        began, known = self.world.now, len(self.ledger.writes)
        self.main_is_in_call, self.presses = is_main, 0
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        except KeyboardInterrupt as error:
            if not is_main:
                raise
            self.ledger.note_error(error)
            if self.presses > 1:  # a second one does not wait for what goes on
                for write in self.ledger.writes[known:]:
                    write.ended = math.inf
        else:
            raise AssertionError("a plain verb waits")
        finally:
            self.main_is_in_call = False
            if is_main and self.world.turns[0].interrupt is not None:
                self.world.turns[0].interrupt = None
        self._ended(operation, began)

    def _ended(self, operation: dict[str, Any], began: float) -> None:
        self.calls += 1
        self.world.note(operation["do"], self.world.now)
        if self.world.now - began > _END:
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
            # Without a thread, the loop does the work, and hears of nothing meanwhile.
            if operation["do"] in _ENDS_SOON and not self.program["few_threads"]:
                for write in writes:
                    write.cancelled = self.world.now
            task.cancel()
            if operation["again"]:
                await asyncio.sleep(1.5)
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if operation["again"]:  # likewise
                for write in writes:
                    write.ended = math.inf
            if operation["do"] in ("pipe", "put_file") and not operation["again"]:
                key = operation["key"]
                is_alone = sum(key in str(o) for o in self._all()) == 1
                if is_alone:
                    self.ledger.check_uploads(key, began)
        self._ended(operation, began)

    def _all(self) -> Iterator[Any]:
        for caller in self.program["callers"]:
            for operation in caller["operations"]:
                yield from operation.get("operations", [operation])

    # -- operations ----------------------------------------------------------------------

    async def _operation(self, operation: dict[str, Any], verbs: Any) -> None:
        method = getattr(self, f"_do_{operation['do']}")
        await method(operation, verbs)

    def _path(self, operation: dict[str, Any]) -> str:
        return f"{BUCKET}/{operation['key']}"

    async def _guarded(self, writes: list[Write], work: Any, ignored: Any = ()) -> Any:
        """Await *work*, which writes; note what it says of *writes*."""
        try:
            result = await work
        except BaseException as error:
            self.ledger.failed(writes, error)
            for write in writes:
                self.ledger.check_said(write)
            if not isinstance(error, (Exception, ignored)):
                raise
            if isinstance(error, (AssertionError, HangError)):
                raise
            if not isinstance(error, (OSError, ValueError)):
                raise
            return None
        for write in writes:
            if write.said == "nothing":
                write.say("stored")
            self.ledger.check_said(write)
        return result

    def _given(self, operation: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if operation.get("overwrite") is not None:
            given["overwrite"] = operation["overwrite"]
        return given

    async def _do_pipe(self, operation: dict[str, Any], verbs: Any) -> None:
        data = self.ledger.content(operation["size"])
        write = self.ledger.write(self._path(operation), data)
        given = self._given(operation)
        if operation["create"]:
            given["mode"] = "create"
        await self._guarded([write], verbs.pipe_file(write.path, data, **given))

    async def _do_pipe_many(self, operation: dict[str, Any], verbs: Any) -> None:
        writes, values = [], {}
        for index, size in enumerate(operation["sizes"]):
            data = self.ledger.content(size)
            writes.append(self.ledger.write(f"{BUCKET}/many/f{index}", data))
            values[writes[-1].path] = data
        await self._guarded_many(
            writes,
            verbs.pipe(values, on_error=operation["on_error"]),
            operation["on_error"],
        )

    async def _guarded_many(
        self, writes: list[Write], work: Any, on_error: str
    ) -> None:
        try:
            receipts = await work
        except BaseException as error:
            for write in writes:
                if write.path in (getattr(error, "failures", None) or {}):
                    continue
                write.said = "nothing"
            self.ledger.failed(writes, error)
            for write in writes:
                self.ledger.check_said(write)
            if not isinstance(error, (OSError, ValueError)):
                raise
            return
        found: dict[str, Any] = {}
        if on_error == "return" and len(receipts) != len(writes):
            raise Broken(f"{len(receipts)} results for {len(writes)} objects")
        for item in receipts or ():
            if isinstance(item, BaseException):
                self.ledger.note_error(item)
            else:
                found[item.path] = item
        for write in writes:
            if write.path in found or on_error == "raise":
                write.say("stored")
            else:
                write.say("interrupted")  # no error says more of this one
            self.ledger.check_said(write)

    def _source(self, write: Write) -> str:
        place = self.place / f"source-{write.number}"
        place.write_bytes(write.contents[0])
        return str(place)

    async def _do_put_file(self, operation: dict[str, Any], verbs: Any) -> None:
        data = self.ledger.content(operation["size"])
        write = self.ledger.write(self._path(operation), data)
        local = self._source(write)
        await self._guarded(
            [write], verbs.put_file(local, write.path, **self._given(operation))
        )
        with suppress(FileNotFoundError):
            os.unlink(local)

    async def _do_resume(self, operation: dict[str, Any], verbs: Any) -> None:
        self.ledger.keeps_uploads = True
        options = {**self.options, "checkpoint": str(self.place / "journals")}
        fs = OSSPresignedFileSystem(**options)
        self.clients = 2
        data = self.ledger.content(operation["size"])
        first = self.ledger.write(self._path(operation), data)
        local = self._source(first)
        self.ledger.resumes[first.number] = local
        same = type(verbs)(fs)
        await self._guarded([first], same.put_file(local, first.path))
        again = self.ledger.write(first.path, b"")
        again.contents[:], again.began = first.contents, first.began
        await self._guarded([again], same.put_file(local, first.path))
        with suppress(FileNotFoundError):
            os.unlink(local)

    async def _do_put_tree(self, operation: dict[str, Any], verbs: Any) -> None:
        place = self.place / f"tree-{next(self.numbers)}"
        place.mkdir()
        writes = []
        for index, size in enumerate(operation["sizes"]):
            data = self.ledger.content(size)
            writes.append(self.ledger.write(f"{BUCKET}/tree/f{index}", data))
            (place / f"f{index}").write_bytes(data)
        await self._guarded_many(
            writes,
            verbs.put(
                f"{place}/",
                f"{BUCKET}/tree/",
                recursive=True,
                on_error=operation["on_error"],
            ),
            operation["on_error"],
        )

    async def _do_write(self, operation: dict[str, Any], verbs: Any) -> None:
        data = self.ledger.content(operation["size"])
        write = self.ledger.write(self._path(operation), data)
        step = operation["step"]
        given = self._given(operation)

        async def work() -> None:
            # Files have no coroutines, so a loop calls them in a thread of the world.
            await verbs.in_thread(
                lambda: self._write(write, data, step, operation, given)
            )

        raises = operation["raises"] or operation["drops"]
        if not raises:
            await self._guarded([write], work())
            return
        try:
            await work()
        except _ByUser:
            pass
        except BaseException as error:
            self.ledger.note_error(error)
            if not isinstance(error, (OSError, ValueError)):
                write.say("interrupted", error)
                raise
        publishes = self.options.get("on_exception") == "publish"
        write.say("interrupted" if publishes else "not stored")
        if publishes:
            write.contents += [data[:n] for n in range(0, len(data) + 1, step)]
        self.ledger.check_said(write)

    def _write(
        self,
        write: Write,
        data: bytes,
        step: int,
        operation: dict[str, Any],
        given: Any,
    ) -> None:
        if self.options.get("on_exception") == "publish":
            write.contents += [data[:n] for n in range(0, len(data), step)]
        if operation["drops"]:
            file = self.fs.open(write.path, "wb", **given)
            file.write(data[: len(data) // 2])
            del file
            gc.collect()
            return
        with self.fs.open(write.path, "wb", **given) as file:
            for number, at in enumerate(range(0, len(data), step)):
                file.write(data[at : at + step])
                if operation["raises"] and number == len(data) // step // 2:
                    raise _ByUser
            if operation["raises"]:
                raise _ByUser

    async def _do_transaction(self, operation: dict[str, Any], verbs: Any) -> None:
        writes = []
        for index, size in enumerate(operation["sizes"]):
            data = self.ledger.content(size)
            writes.append(self.ledger.write(f"{BUCKET}/many/t{index}", data))
        self.ledger.transactions.append([write.number for write in writes])

        def work() -> None:
            with self.fs.transaction:
                for write, way in zip(writes, operation["ways"], strict=True):
                    if way == "pipe":
                        self.fs.pipe_file(write.path, write.contents[0])
                    elif way == "write":
                        with self.fs.open(write.path, "wb") as file:
                            file.write(write.contents[0])
                    else:
                        self.fs.put_file(self._source(write), write.path)
                if operation["raises"]:
                    raise _ByUser

        began = len(self.server.store.history)
        try:
            await verbs.in_thread(work)
        except _ByUser:
            for write in writes:
                write.say("not stored")
        except BaseException as error:
            self.ledger.failed(writes, error)
            if not isinstance(error, (OSError, ValueError)):
                raise
            self._check_last_comes_last(writes, began)
        else:
            for write in writes:
                write.say("stored")
        for write in writes:
            self.ledger.check_said(write)

    def _check_last_comes_last(self, writes: list[Write], began: int) -> None:
        committed = {
            w.number
            for c in self.server.store.history[began:]
            for w in writes
            if c.data and c.data in w.contents
        }
        sized = [w for w in writes if len(w.contents[0]) > 8]
        if sized and sized[-1] is writes[-1] and writes[-1].number in committed:
            missing = [w for w in sized if w.number not in committed]
            if missing:
                raise Broken(
                    f"the last object of a transaction is there, {missing[0]} is not"
                )

    async def _do_cat(self, operation: dict[str, Any], verbs: Any) -> None:
        path, began = self._path(operation), self.world.now
        try:
            data = await verbs.cat_file(path)
        except FileNotFoundError as error:
            self.ledger.note_error(error)
            if self.program["signer"] != "map":
                self.ledger.check_read(path, None, began)
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
        else:
            self.ledger.check_read(path, bytes(data), began)

    async def _do_ranges(self, operation: dict[str, Any], verbs: Any) -> None:
        ranges, began = operation["ranges"], self.world.now
        paths = [f"{BUCKET}/{key}" for key, *_ in ranges]
        starts, ends = [r[1] for r in ranges], [r[2] for r in ranges]
        try:
            found = await verbs.cat_ranges(paths, starts, ends, on_error="return")
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
            return
        for path, start, end, data in zip(paths, starts, ends, found, strict=True):
            if isinstance(data, BaseException):
                self.ledger.note_error(data)
            elif self.network.faults.damage_reply == 0 and end > start:
                self.ledger.check_read(path, bytes(data), began, start, end)

    async def _do_get(self, operation: dict[str, Any], verbs: Any) -> None:
        path, began = self._path(operation), self.world.now
        local = self.place / f"got-{next(self.numbers)}"
        self.ledger.downloads[local.name] = path
        is_old = self.dice.random() < 0.5
        if is_old:
            local.write_bytes(b"old")
        try:
            await verbs.get_file(path, str(local))
        except BaseException as error:
            self.ledger.note_error(error)
            left = local.read_bytes() if local.exists() else None
            if left is not None and not (is_old and left == b"old"):
                self.ledger.check_read(path, left, began)
            if not isinstance(error, (OSError, ValueError)):
                raise
        else:
            if local.is_file():
                self.ledger.check_read(path, local.read_bytes(), began)

    async def _do_info(self, operation: dict[str, Any], verbs: Any) -> None:
        path, began = self._path(operation), self.world.now
        try:
            info = await verbs.info(path)
        except FileNotFoundError as error:
            self.ledger.note_error(error)
            if self.program["signer"] != "map":
                self.ledger.check_read(path, None, began)
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
        else:
            sizes = {len(v) for v in self.ledger.versions(path, began) if v is not None}
            if info["type"] == "file" and info["size"] not in sizes:
                raise Broken(
                    f"info of {path} says {info['size']} bytes, there were {sizes}"
                )

    async def _do_list(self, operation: dict[str, Any], verbs: Any) -> None:
        with suppress(OSError, ValueError):
            await verbs.find(BUCKET)

    async def _do_remove(self, operation: dict[str, Any], verbs: Any) -> None:
        path = self._path(operation)
        span = self.ledger.deletes(path)
        try:
            await verbs.rm_file(path)
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
        finally:
            span[1] = self.world.now

    async def _do_copy(
        self, operation: dict[str, Any], verbs: Any, move: bool = False
    ) -> None:
        source, target = self._path(operation), f"{BUCKET}/{operation['to']}"
        spans = [self.ledger.copying(source, target)]
        if move:
            spans.append(self.ledger.deletes(source))
        try:
            if move:
                await verbs.mv(source, target)
            else:
                await verbs.cp_file(source, target)
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
        finally:
            for span in spans:
                span[1] = self.world.now

    async def _do_move(self, operation: dict[str, Any], verbs: Any) -> None:
        await self._do_copy(operation, verbs, move=True)

    async def _do_sync(self, operation: dict[str, Any], verbs: Any) -> None:
        number = next(self.numbers)
        place = self.place / f"sync-{number}"
        place.mkdir()
        writes = {}
        for index, size in enumerate(operation["sizes"]):
            data = self.ledger.content(size)
            writes[f"f{index}"] = self.ledger.write(
                f"{BUCKET}/sync-{number}/f{index}", data
            )
            (place / f"f{index}").write_bytes(data)

        def work() -> None:
            result = sync(
                str(place),
                f"{BUCKET}/sync-{number}",
                filesystem=self.fs,
                on_error="return",
            )
            for name, error in result.failed.items():
                if name in writes:
                    self.ledger.failed([writes[name]], error)
            for name, write in writes.items():
                if name in result.uncovered:
                    write.say("not stored")
                elif write.said == "nothing":
                    write.say("stored")

        try:
            await verbs.in_thread(work)
        except BaseException as error:
            self.ledger.failed(writes.values(), error)
            if not isinstance(error, (OSError, ValueError)):
                raise
        for write in writes.values():
            self.ledger.check_said(write)

    async def _do_sync_down(self, operation: dict[str, Any], verbs: Any) -> None:
        place, began = self.place / f"down-{next(self.numbers)}", self.world.now

        def work() -> None:
            sync_down(
                f"{BUCKET}/many", str(place), filesystem=self.fs, on_error="return"
            )

        try:
            await verbs.in_thread(work)
        except BaseException as error:
            self.ledger.note_error(error)
            if not isinstance(error, (OSError, ValueError)):
                raise
        if place.exists():
            for file in sorted(place.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    self.ledger.check_read(
                        f"{BUCKET}/many/{file.name}", file.read_bytes(), began
                    )

    async def _do_wait(self, operation: dict[str, Any], verbs: Any) -> None:
        await verbs.sleep(operation["seconds"])

    # -- the end -------------------------------------------------------------------------

    def _wind_down(self, descriptors: int) -> None:
        self.network.faults = Faults()
        self.network.is_down = False
        self.world.few_threads = False
        del self.fs
        OSSPresignedFileSystem.clear_instance_cache()
        gc.collect()
        time.sleep(_IDLE)
        gc.collect()
        self.ledger.check_end()
        left = [turn.name for turn in self.world.turns[1:]]
        if left:
            raise Broken(f"threads are left: {left}\n{self.world.stacks()}")
        if tasks := engine.current().tasks:
            raise Broken(f"tasks are left: {tasks}")
        if len(os.listdir("/proc/self/fd")) > descriptors + 2:
            raise Broken("descriptors are left")


class _ByUser(Exception):
    """An exception of the user's own, within a ``with`` block."""


class Plain:
    """Verbs of a thread."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.fs, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return verb(*args, **kwargs)

        return call

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        return function()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Awaited:
    """Verbs of an event loop."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fs, f"_{name}")

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def main() -> None:
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - raised by the waiter
                failure = error
                loop.call_soon_threadsafe(
                    lambda: future.done() or future.set_exception(failure)
                )
            else:
                loop.call_soon_threadsafe(
                    lambda: future.done() or future.set_result(result)
                )

        world = World.current
        assert world is not None
        few, world.few_threads = world.few_threads, False
        thread = threading.Thread(target=main, name="file")
        thread.start()
        world.few_threads = few
        try:
            return await future
        except asyncio.CancelledError:
            while thread.is_alive():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
            raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SecondLife(Runner):
    """What a later process finds after a crash, and does with it."""

    def _play(self) -> None:
        left = pickle.loads((self.place / "left.pickle").read_bytes())
        store, ledger = self.server.store, self.ledger
        store.buckets, store.history = left["buckets"], left["history"]
        ledger.checked = len(store.history)
        ledger.keeps_uploads = True  # a killed process cannot abort
        contents = {number: c for number, _, c, _ in left["writes"]}
        paths = {number: path for number, path, _, _ in left["writes"]}
        self._check_claims(left["writes"])
        for numbers in left["transactions"]:
            self._check_transaction([contents[n] for n in numbers], paths[numbers[0]])
        for name, path in left["downloads"].items():
            file = self.place / name
            data = file.read_bytes() if file.exists() else b"old"
            known = {c.data for c in store.history if f"{c.bucket}/{c.key}" == path}
            if data not in known | {b"old"}:
                raise Broken(f"{name} of {path} has {len(data)} bytes of no version")
        options = dict(self.program["options"], checkpoint=str(self.place / "journals"))
        for name in ("receipts", "overwrite", "expires_in", "signature_version"):
            options.pop(name, None)
        self.fs = OSSPresignedFileSystem(signer="keys", **options)
        for number, local in left["resumes"].items():
            if not os.path.exists(local):
                continue
            data = Path(local).read_bytes()
            write = ledger.write(paths[number], data)
            self.fs.put_file(local, write.path)
            write.say("stored")
            bucket, _, key = write.path.partition("/")
            if store.at(bucket, key) != data:
                raise Broken(f"{write.path} was resumed, and is not the file")

    def _check_claims(self, writes: list[Any]) -> None:
        history = self.server.store.history
        for _, path, contents, said in writes:
            found = [c for c in history if f"{c.bucket}/{c.key}" == path]
            is_there = any(c.data in contents or c.is_damaged for c in found)
            is_sure = min(map(len, contents)) > 8
            if said == "stored" and is_sure and not is_there:
                raise Broken(f"{path} was said stored before the crash, and is not")

    def _check_transaction(self, contents: list[list[bytes]], first: str) -> None:
        bucket = first.partition("/")[0]
        committed = {c.data for c in self.server.store.history if c.bucket == bucket}
        sized = [c for c in contents if len(c[0]) > 8]
        is_last_there = (
            sized and sized[-1] is contents[-1] and sized[-1][0] in committed
        )
        if is_last_there and any(c[0] not in committed for c in sized):
            msg = "the last object of a transaction is there, another is not"
            raise Broken(msg)


def simulate(
    program: Program, tell: Callable[[Result], object], place: str = ""
) -> None:
    """Run *program* in this process, which has no other life.

    *place* is what an earlier one has left, which a crash has ended.
    """
    root = "/dev/shm" if os.path.isdir("/dev/shm") else None
    here = Path(place or tempfile.mkdtemp(prefix="simulation-", dir=root))

    def told(result: Result) -> None:
        if not result.crashed:
            shutil.rmtree(here, ignore_errors=True)
        tell(result)

    if place:
        program = {**program, "crash": 0, "few_threads": False, "signer_faults": 0}
    runner = (SecondLife if place else Runner)(program, here)
    runner.tell = told
    told(runner.run())
