"""Operations of callers, each with a check of its result."""

from __future__ import annotations

import gc
import itertools
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsspec_osspresigned import OSSPresignedFileSystem, sync, sync_down
from fsspec_osspresigned.errors import UploadInProgressError
from fsspec_osspresigned.model import Receipt

from . import disk as disks
from . import processes
from .ledger import NAMED, Ledger, Write
from .network import Network
from .programs import Program
from .store import BUCKETS, Commit, Server
from .verbs import ByUserError, Counted, operation_of_caller
from .world import Broken, World

BUCKET = BUCKETS[0]
NOTED = 0.5  # seconds until a confirmed part is in the journal
# Operations that use only the objects ``key`` and ``to``.
_OF_KEYS = (
    *("pipe", "put_file", "write", "resume", "cat", "get", "info"),
    *("remove", "copy", "move"),
)


class _Twin:
    """Another process that uploads one file and may be killed."""

    def __init__(self, runner: Operations, number: int) -> None:
        self.runner, self.number = runner, number
        self.killed_at, self.is_over = math.inf, False

    def send(self, local: str, write: Write, options: Any) -> None:
        world, ledger = self.runner.world, self.runner.ledger
        assert world.running is not None
        world.running.process = self.number
        operation_of_caller.set((world.now, [write.path], "twins", True))
        fs = processes.begin(self.number).OSSPresignedFileSystem(**options)
        write.said = "interrupted"
        try:
            fs.put_file(local, write.path)
        except OSError as error:
            ledger.note_error(error)
        else:
            write.said = "stored"
        self.is_over = True

    def kill(self) -> None:
        runner = self.runner
        if self.is_over:
            return
        assert disks.disk is not None
        disks.disk.kill(self.number)
        runner.network.kill(self.number)
        runner.world.kill(self.number)
        runner.ledger.seen["kill"] += 1
        self.killed_at, self.is_over = runner.world.now, True


class Operations:
    """The operations of one program; ``_do_pipe`` runs ``pipe``, and so on.

    *verbs* are the verbs of the calling thread or event loop.
    """

    program: Program
    place: Path  # directory of the local files
    world: World
    dice: random.Random
    server: Server
    network: Network
    ledger: Ledger
    numbers: itertools.count[int]
    clients: int
    fs: Any
    options: dict[str, Any]

    async def _operation(self, operation: dict[str, Any], verbs: Any) -> None:
        method = getattr(self, f"_do_{operation['do']}")
        keys = [operation.get("key"), operation.get("to")]
        is_of_keys = operation["do"] in _OF_KEYS
        paths = [f"{BUCKET}/{key}" for key in keys if key and is_of_keys]
        replaces = operation.get("overwrite")
        if replaces is None or operation["do"] == "resume":
            # ``resume`` does not pass this option
            replaces = self.options.get("overwrite") is not False
        replaces = replaces and not operation.get("create")
        facts = (self.world.now, paths, operation["do"], replaces)
        token = operation_of_caller.set(facts)
        failed = self.ledger.seen[f"{operation['do']} raised"]
        try:
            await method(operation, verbs)
            if failed == self.ledger.seen[f"{operation['do']} raised"]:
                self.ledger.seen[f"{operation['do']} returned"] += 1
        finally:
            operation_of_caller.reset(token)

    def _path(self, operation: dict[str, Any]) -> str:
        return f"{BUCKET}/{operation['key']}"

    async def _guarded(self, writes: list[Write], work: Any) -> Any:
        """Await *work*, which writes, and record its statement about *writes*."""
        try:
            result = await work
        except BaseException as error:
            self.ledger.failed(writes, error)
            for write in writes:
                self.ledger.check_said(write)
            if not isinstance(error, (OSError, ValueError)):
                raise
            return None
        for write in writes:
            if write.said == "nothing":
                # Closing a discarded file raises no error.
                write.say("interrupted" if write.is_discarded else "stored")
            self.ledger.check_said(write)
            if isinstance(result, Receipt):
                self.ledger.check_receipt(write, result)
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
                write.say("interrupted")  # the errors do not mention this object
            self.ledger.check_said(write)
            if write.path in found:
                self.ledger.check_receipt(write, found[write.path])

    def _source(self, write: Write) -> str:
        place = self.place / f"source-{write.number}"
        place.write_bytes(write.contents[0])
        return str(place)

    async def _do_put_file(self, operation: dict[str, Any], verbs: Any) -> None:
        data = self.ledger.content(operation["size"])
        write = self.ledger.write(self._path(operation), data)
        local = self._source(write)
        given: dict[str, Any] = {**self._given(operation), "callback": Counted()}
        await self._guarded([write], verbs.put_file(local, write.path, **given))
        if write.said == "stored" and not write.why:
            given["callback"].check(*map(len, write.contents))
        with suppress(FileNotFoundError):
            os.unlink(local)

    async def _do_resume(self, operation: dict[str, Any], verbs: Any) -> None:
        if self.program["signer"] == "writer":
            return  # the other client would not know what this client writes
        self.ledger.keeps_uploads = True
        options = {**self.options, "resume_dir": str(self.place / "journals")}
        fs = OSSPresignedFileSystem(**options)
        self.clients = 2
        data = self.ledger.content(operation["size"])
        first = self.ledger.write(self._path(operation), data)
        local = self._source(first)
        self.ledger.resumes[first.number] = local
        same = type(verbs)(fs)
        await self._guarded([first], same.put_file(local, first.path))
        self.network.waits = None  # the next call need not wait
        again = self.ledger.write(first.path, b"")
        if operation["edits"]:
            again.contents[:] = [self._edited(local)]
        else:
            again.contents, again.began = first.contents, first.began
        await self._guarded([again], same.put_file(local, first.path))
        with suppress(FileNotFoundError):
            os.unlink(local)

    async def _do_twins(self, operation: dict[str, Any], verbs: Any) -> None:
        """Let two processes upload one file, with one directory of journals."""
        number = next(self.numbers)
        self.ledger.keeps_uploads = True  # a killed process leaves its upload open
        self.ledger.other_faults.add("rival")
        self.clients += self.options.get("max_concurrency") or 128
        place = self.place / f"journals-{number}"
        options = {**self.options, "resume_dir": str(place)}
        fs = type(verbs)(OSSPresignedFileSystem(**options))
        data = self.ledger.content(operation["size"])
        mine = self.ledger.write(f"{BUCKET}/twins-{number}", data)
        theirs = self.ledger.write(mine.path, data)
        local = self._source(mine)
        twin = _Twin(self, number + 1)
        self._started(lambda: twin.send(local, theirs, options), "twin")
        if operation["kill"]:
            self._background(operation["kill"], twin.kill)
        await verbs.sleep(operation["later"])
        await self._sent_by_two(mine, fs.put_file(local, mine.path))
        while not twin.is_over:
            await verbs.sleep(1)
        self._check_twins(mine, theirs, twin)
        await verbs.sleep(5)  # waits until the killed process's requests have arrived
        again = self.ledger.write(mine.path, data)
        again.began = theirs.began  # the killed process may have completed its upload
        await self._guarded([again], fs.put_file(local, again.path))
        if isinstance(again.why, UploadInProgressError):
            raise Broken(f"the lock of an ended process is still held: {again.why}")
        if again.said == "stored" and (left := os.listdir(place)):
            raise Broken(f"the journals of two processes leave {left}")

    async def _sent_by_two(self, write: Write, work: Any) -> None:
        """Await *work*; if it fails, the other process may have uploaded the same bytes."""
        try:
            await work
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
            write.say("interrupted", error)
        else:
            write.say("stored")
            self.ledger.check_said(write)

    def _check_twins(self, mine: Write, theirs: Write, twin: _Twin) -> None:
        if self.program["faults"]:
            return
        if twin.killed_at == math.inf and "stored" not in (mine.said, theirs.said):
            raise Broken(f"neither of two processes has sent {mine.path}")
        parts = math.ceil(len(mine.contents[0]) / self.options["part_size"])
        sent = Counter[str]()
        for event in self.network.events:
            if event.is_part and event.path == f"/{mine.path.partition('/')[2]}":
                is_noted = not event.process or event.ended < twin.killed_at - NOTED
                sent[event.upload_id] += is_noted
        if any(count > parts for count in sent.values()):
            raise Broken(f"parts of {mine.path} were sent by both processes: {sent}")

    def _edited(self, local: str) -> bytes:
        """Change a file, and set its modification time back; return its content."""
        place = Path(local)
        data, status = bytearray(place.read_bytes()), place.stat()
        if len(data) > NAMED:
            data[-1] ^= 1
            data[len(data) // 2] ^= 1
        place.write_bytes(data)
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
        return bytes(data)

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
            # Files have no coroutines, so an event loop calls them in another thread of
            # the world.
            await verbs.in_thread(
                lambda: self._write(write, data, step, operation, given)
            )

        raises = operation["raises"] or operation["drops"]
        if not raises:
            await self._guarded([write], work())
            return
        try:
            await work()
        except ByUserError:
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
            if operation["discard"] is not None:
                self._discards(file, write, operation["discard"])
            for number, at in enumerate(range(0, len(data), step)):
                chunk = bytearray(data[at : at + step])
                try:
                    file.write(chunk)
                    # the file must have sent or copied the bytes
                    chunk[:] = bytes(len(chunk))
                except (OSError, ValueError) as error:
                    self.ledger.note_error(error)
                    if not operation["goes_on"]:
                        raise
                if operation["raises"] and number == len(data) // step // 2:
                    raise ByUserError
            if operation["raises"]:
                raise ByUserError

    def _discards(self, file: Any, write: Write, seconds: float) -> None:
        """Discard *file* in another thread, while this one writes or closes it."""

        def discard() -> None:
            write.is_discarded = True
            self.ledger.other_faults.add("discard")
            file.discard()
            write.cancelled = min(write.cancelled, self.world.now)

        self._background(seconds, discard)

    def _started(self, function: Callable[[], None], name: str) -> Any:
        raise NotImplementedError

    def _background(self, seconds: float, act: Callable[[], None]) -> Any:
        raise NotImplementedError

    async def _do_transaction(self, operation: dict[str, Any], verbs: Any) -> None:
        writes, number = [], next(self.numbers)
        for index, size in enumerate(operation["sizes"]):
            data = self.ledger.content(size)
            folder = f"apart-{number}" if operation["apart"] else "many"
            writes.append(self.ledger.write(f"{BUCKET}/{folder}/t{index}", data))
        self.ledger.transactions.append([write.number for write in writes])

        def work() -> None:
            with self.fs.transaction:
                for write, way in zip(writes, operation["ways"], strict=False):
                    if way == "pipe":
                        self.fs.pipe_file(write.path, write.contents[0])
                    elif way == "write":
                        with self.fs.open(write.path, "wb") as file:
                            file.write(write.contents[0])
                    else:
                        self.fs.put_file(self._source(write), write.path)
                if operation["raises"]:
                    raise ByUserError

        began = len(self.server.store.history)
        try:
            await verbs.in_thread(work)
        except ByUserError:
            for write in writes:
                write.say("not stored")
        except BaseException as error:
            self.ledger.failed(writes, error)
            if isinstance(error, KeyboardInterrupt):
                self._check_counted(writes, error, self.server.store.history[began:])
            if not isinstance(error, (OSError, ValueError)):
                raise
            self._check_last_comes_last(writes, began)
        else:
            for write in writes:
                write.say("stored")
        for write in writes:
            self.ledger.check_said(write)
        if operation["apart"]:
            self.ledger.check_order(writes)

    def _check_counted(
        self, writes: list[Write], error: BaseException, commits: list[Commit]
    ) -> None:
        """An interrupt tells how many objects of a transaction are published, or which."""
        contents = [c for write in writes for c in write.contents if len(c) >= NAMED]
        notes = getattr(error, "__notes__", ())
        is_counted = "of the transaction published" in "".join(notes)
        is_named = any(f"{write.path} is stored" in notes for write in writes)
        if self.ledger.is_impatient or is_counted or is_named:
            return
        if any(c.data in contents for c in commits):
            raise Broken(f"a part of {writes} is published, but {error!r} has no note")

    def _check_last_comes_last(self, writes: list[Write], began: int) -> None:
        commits = self.server.store.history[began:]
        if self.ledger.unchecked and any(c.is_damaged for c in commits):
            return  # damaged bytes match none of the writes
        committed = {
            w.number for c in commits for w in writes if c.data and c.data in w.contents
        }
        sized = [w for w in writes if len(w.contents[0]) >= NAMED]
        if sized and sized[-1] is writes[-1] and writes[-1].number in committed:
            missing = [w for w in sized if w.number not in committed]
            if missing:
                raise Broken(
                    f"the last object of a transaction exists, but {missing[0]} does not"
                )

    async def _do_cat(self, operation: dict[str, Any], verbs: Any) -> None:
        path, began = self._path(operation), self.world.now
        data = await self._looked(path, verbs.cat_file(path))
        if data is not None:
            self.ledger.check_read(path, bytes(data), began)

    async def _looked(self, path: str, work: Any) -> Any:
        """Await *work*, which reads *path*; None if it failed, or no object exists."""
        began = self.world.now
        try:
            return await work
        except FileNotFoundError as error:
            self.ledger.note_error(error)
            if self.program["signer"] not in ("map", "writer"):
                self.ledger.check_read(path, None, began)
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
        return None

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
        counted = Counted()
        try:
            await verbs.get_file(path, str(local), callback=counted)
        except BaseException as error:
            self.ledger.note_error(error)
            left = local.read_bytes() if local.exists() else None
            if left is not None and not (is_old and left == b"old"):
                self.ledger.check_read(path, left, began)
            if not isinstance(error, (OSError, ValueError)):
                raise
        else:
            self.ledger.check_read(path, local.read_bytes(), began)
            counted.check(local.stat().st_size)

    async def _do_info(self, operation: dict[str, Any], verbs: Any) -> None:
        path, began = self._path(operation), self.world.now
        info = await self._looked(path, verbs.info(path))
        if info is not None and info["type"] == "file":
            self.ledger.check_info(info, began)

    async def _do_list(self, operation: dict[str, Any], verbs: Any) -> None:
        began = self.world.now
        try:
            found = await verbs.find(BUCKET, detail=True)
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
            return
        self.ledger.check_listing(BUCKET, found, began)

    async def _do_remove(self, operation: dict[str, Any], verbs: Any) -> None:
        path = self._path(operation)
        span = self.ledger.deletes(path)
        try:
            await verbs.rm_file(path)
        except (OSError, ValueError) as error:
            self.ledger.note_error(error)
        else:
            if None not in self.ledger.versions(path, span[0]):
                raise Broken(f"{path} was removed, but existed all the time")
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
        else:
            self._check_copied(source, target, spans[0][0], move=move)
        finally:
            if move and self.ledger.is_single and source != target:
                self._check_not_lost(source, target, spans[0][0])
            for span in spans:
                span[1] = self.world.now

    def _check_not_lost(self, source: str, target: str, began: float) -> None:
        """If a move has deleted its source, the object exists under its new name."""
        sources = self.server.store.commits(source)
        copies = [c.data for c in self.server.store.commits(target) if c.at >= began]
        before = [c.data for c in sources if c.at < began]
        is_deleted = any(c.data is None and c.at >= began for c in sources)
        if is_deleted and before[-1] not in copies:
            raise Broken(f"{source} was deleted, but {target} has none of its contents")

    def _check_copied(
        self, source: str, target: str, began: float, *, move: bool
    ) -> None:
        if move and source == target:
            return
        versions = self.ledger.versions(source, began)
        copies = [c for c in self.server.store.commits(target) if c.at >= began]
        # If the source has no checksum, nobody can notice that the store changed the
        # bytes.
        doubtful = {"no_crc", "no_proof", "false_proof"} & set(self.program["faults"])
        is_unsure = doubtful or not self.ledger.may_look
        if is_unsure and any(c.is_damaged for c in copies):
            return
        if not any(c.data is not None and c.data in versions for c in copies):
            raise Broken(
                f"{source} was copied to {target}, which has none of its contents"
            )
        if move and None not in versions:
            raise Broken(f"{source} was moved, but existed all the time")

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
                    # the result does not name files that were not tried
                    write.say("interrupted" if result.not_tried else "stored")
            counted = result.sent + len(result.problems) + result.not_tried
            if counted != len(writes):
                raise Broken(f"a sync of {len(writes)} files counts {counted}")

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
            result = sync_down(
                f"{BUCKET}/many", str(place), filesystem=self.fs, on_error="return"
            )
            failed.extend(result.problems.values())
            missing.extend(result.problems)

        failed: list[Exception] = []
        missing: list[str] = []
        try:
            await verbs.in_thread(work)
        except BaseException as error:
            self.ledger.note_error(error)
            if not isinstance(error, (OSError, ValueError)):
                raise
        else:
            for error in failed:
                self.ledger.note_error(error)
            for name in self.ledger.lasting(f"{BUCKET}/many/", began):
                if name not in missing and not (place / name).is_file():
                    raise Broken(f"sync_down has not fetched {name}")
        if place.exists():
            for file in sorted(place.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    self.ledger.check_read(
                        f"{BUCKET}/many/{file.name}", file.read_bytes(), began
                    )

    async def _do_wait(self, operation: dict[str, Any], verbs: Any) -> None:
        await verbs.sleep(operation["seconds"])
