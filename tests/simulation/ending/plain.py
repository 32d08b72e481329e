"""Each verb, as the callers have used it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec_osspresigned import sync, sync_down
from fsspec_osspresigned.engine.limits import memory_budget
from fsspec_osspresigned.errors import (
    IntegrityError,
    UploadDiscardedError,
    UploadErrors,
)

from ..network import Event
from ..verbs import ByUserError, Counted
from ..world import Broken
from .steps import LARGE, SMALL, Steps, all_files, set_file

# Actions of a step that changes or reads objects. They are the same in each program.
_LOOK, _COPY, _DELETE = ["HeadObject"], ["CopyObject"], ["DeleteObject"]
_READ, _LIST = ["GetObject"], ["ListObjectsV2"]


class PlainSteps(Steps):
    """Each verb, as the callers have used it."""

    async def writes(self, verbs: Any) -> None:
        """Write in each way that needs no other permission."""
        for size in (SMALL, LARGE):
            with self._step("pipe_file"):
                path, data = self._data(f"piped-{size}", size)
                first = len(self.network.events)
                receipt = await verbs.pipe_file(path, data)
                self._check_requests(self.network.events[first:], path, size)
                self._is(path, data)
                self.ledger.check_receipt(self.ledger.writes[-1], receipt)
        with self._step("put_file"):
            path, data = self._data("put", LARGE)
            counted, local = Counted(), self._local("put", data)
            receipt = await verbs.put_file(local, path, callback=counted)
            self._is(path, data)
            self.ledger.check_receipt(self.ledger.writes[-1], receipt)
            counted.check(LARGE, is_even=True)
        with self._step("open"):
            await verbs.in_thread(self._opened)
        with self._step("transaction"):
            await verbs.in_thread(self._transaction)

    def _check_requests(self, events: list[Event], path: str, size: int) -> None:
        """Equal bytes and options must give equal requests."""
        given = self.fs.storage_options
        count = 1
        # The form of an object has its name in the body. Other requests may end an
        # upload of an earlier call.
        names = ("/", f"/{path.partition('/')[2]}")
        actions = [str(event.action) for event in events if event.path in names]
        is_form = actions[-1] == "PostObject"
        if size >= given.get("multipart_threshold", math.inf) and not is_form:
            count = 2 + math.ceil(size / given.get("part_size", size))
        if given.get("overwrite") is False and actions[0] == "HeadObject":
            actions.pop(0)
        if len(actions) != count:
            raise Broken(f"at the end, {size} bytes were sent by {actions}")

    def _opened(self) -> None:
        """Fill several files from one buffer, which changes after each write."""
        count = 12 if "memory_limit" in self.fs.storage_options else 2
        objects = [self._data(f"opened{number}", LARGE) for number in range(count)]
        files = [self.fs.open(path, "wb") for path, _ in objects]
        buffer = bytearray(70_000)
        for at in range(0, LARGE, len(buffer)):
            for file, (_, data) in zip(files, objects, strict=True):
                size = len(data[at : at + len(buffer)])
                buffer[:size] = data[at : at + size]
                file.write(memoryview(buffer)[:size])
                buffer[:] = bytes(len(buffer))
                file.flush()  # sends nothing, because the part is not full
        writes = self.ledger.writes[-count:]
        for file, write in zip(files, writes, strict=True):
            self._is(write.path, None)
            file.close()
            self._is(write.path, *write.contents)
            self.ledger.check_receipt(write, file.receipt)
            if (file.tell(), file.closed, file.failed) != (LARGE, True, False):
                raise Broken(f"a closed file is at {file.tell()}: {file!r}")
        path, data = self._data("raised", LARGE)
        is_discarded = not self.publishes
        with self._raised(is_discarded), self.fs.open(path, "wb") as file:
            file.write(data)
            raise ByUserError
        self._is(path, data if self.publishes else None)

    @contextmanager
    def _raised(self, notes: int = 0) -> Iterator[None]:
        try:
            yield
        except ByUserError as error:
            found = getattr(error, "__notes__", [])
            if len(found) == notes:
                return
            raise Broken(f"an exception has the notes {found}") from error
        raise Broken("an exception of the user was lost")

    def _transaction(self) -> None:
        sizes = {"first": SMALL, "second": LARGE, "third": SMALL}
        sizes |= {"on disk": SMALL, "behind it": SMALL}  # memory is full
        for is_kept in (False, True):
            objects = [self._data(name, size) for name, size in sizes.items()]
            if is_kept:
                self._publish(objects)
            else:
                with self._raised():
                    self._publish(objects, fails=True)
            for path, data in objects:
                self._is(path, data if is_kept else None)

        path, data = self._data("unclosed", SMALL)
        try:
            with self.fs.transaction:
                file = self.fs.open(path, "wb")
                file.write(data)
        except UploadDiscardedError:
            self._is(path, None)
        else:
            raise Broken("a transaction ends while one of its files is open")

    def _publish(
        self, objects: list[tuple[str, bytes]], *, fails: bool = False
    ) -> None:
        (first, one), (second, two), (third, three), *others = objects
        with self.fs.transaction as published:
            value = bytearray(one)
            self.fs.pipe_file(first, value)
            value[:] = bytes(len(value))
            used = memory_budget().used
            with self.fs.open(second, "wb") as file:
                file.write(two)
            time.sleep(1)  # parts may be in flight
            if memory_budget().used > used:
                raise Broken("a closed file of a transaction uses memory")
            self.fs.put_file(self._local("third", three), third)
            for path, data in others:
                self.fs.pipe_file(path, data)
            for path, _ in objects:
                self._is(path, None)
            if fails:
                raise ByUserError
        writes = self.ledger.writes[-len(objects) :]
        for write, receipt in zip(writes, published.receipts, strict=True):
            self.ledger.check_receipt(write, receipt)

    async def remembered(self, verbs: Any) -> None:
        """Write objects, and query them, although the signer grants no HeadObject."""
        await self.writes(verbs)
        self.is_blind = True
        with self._step("a query of the records"):
            written = {f"{self.root}/put": LARGE, f"{self.root}/first": SMALL}
            sizes = {path: (await verbs.info(path))["size"] for path in written}
            names = await verbs.find(self.root)
            tops = await verbs.ls(self.root.rpartition("/")[0], detail=False)
            found = {
                "info": sizes == written,
                "exists": await verbs.exists(f"{self.root}/put"),
                "isdir": await verbs.isdir(self.root),
                "find": set(written) <= set(names),
                "ls": self.root in tops,
                "ls of children only": {top.count("/") for top in tops} == {1},
            }
        self._all(found, self.root)
        with self._step("a copy in the records"):
            copied, _ = self._data("copied", 0)
            self.ledger.copying(f"{self.root}/put", copied)
            try:
                await verbs.cp_file(f"{self.root}/put", copied)
            except PermissionError:  # with overwrite=False it must look first
                pass
            else:
                # without checksums, nothing proves what was copied
                is_known = self.fs.storage_options.get("checksum") != "none"
                if is_known and (await verbs.info(copied))["size"] != LARGE:
                    raise Broken(f"{copied} has another size than its source")
        with self._step("a false checksum in the records"):
            await verbs.in_thread(self._doubted)
        await self._directories(verbs)
        with self._step("sync without a listing"):
            await verbs.in_thread(self._sync_blind)

    def _doubted(self) -> None:
        """The records no longer know an object that was replaced by unknown bytes."""
        fs = self._like(checksum="auto", retries=0)
        path, old = self._data("doubted", SMALL)
        for size in (SMALL, LARGE):
            _, new = self._data("doubted", size)
            fs.pipe_file(path, old, overwrite=True)
            self.network.lies = True
            with suppress(IntegrityError):
                fs.pipe_file(path, new, overwrite=True)
            self.network.lies = False
            with suppress(OSError):
                if fs.cat_file(path) == old:
                    raise Broken(f"{path} is read as the object that was replaced")

    async def unseen(self, verbs: Any) -> None:
        """Without HeadObject, a query reports the object as missing, or raises an error."""
        is_error = self.fs.storage_options.get("if_unverifiable") == "error"
        for verb in (verbs.cat_file, verbs.info):
            try:
                await verb(f"{self.root}/unseen")
            except PermissionError as error:
                if isinstance(error, FileNotFoundError) == is_error:
                    raise Broken(
                        f"an object without read permission raises {error!r}"
                    ) from error
            else:
                raise Broken("an object was read without permission")

    async def _directories(self, verbs: Any) -> None:
        new = f"{self.root}/new"
        with self._step("makedirs"):
            await verbs.makedirs(new)
            found = {
                "a directory": await verbs.isdir(self.root),
                "no directory": not await verbs.isdir(f"{self.root}-not"),
                "makedirs": await verbs.isdir(new),
            }
            if self.is_blind and self.fs.storage_options["signer"] != "keys":
                # Otherwise the store answers, which has no directories.
                names = await verbs.ls(self.root, detail=False)
                found["ls"] = new in names
            await verbs.rmdir(new)
            found["rmdir"] = not await verbs.exists(new)
        self._all(found, self.root)

    def _sync_blind(self) -> None:
        local = self.place / "blind"
        local.mkdir()
        path, data = self._data("blind/x", SMALL)
        set_file(local / "x", data)
        there = path.rpartition("/")[0]
        result = sync(
            str(local), there, filesystem=self.fs, ignore_times=True, overwrite=True
        )
        self._is(path, data)
        if (result.sent, result.verb) != (1, "sent"):
            raise Broken(f"a sync says that {result.sent} files were {result.verb}")

    async def _reads(self, verbs: Any) -> None:
        path, data = f"{self.root}/put", self._at(f"{self.root}/put")
        assert data is not None
        now, local, counted = self.network.world.now, self.place / "got", Counted()
        local.write_bytes(b"old")
        local.chmod(0o640)
        with self._step("info", _LOOK):
            info = await verbs.info(path)
            if info["name"] != path or info["type"] != "file" or not info["crc64"]:
                raise Broken(f"at the end, info of {path} is {info}")
            self.ledger.check_info(info, now)
        with self._step("get_file of a small object", _READ):
            await verbs.get_file(f"{self.root}/first", str(local))
            self._all(
                {"get_file": local.read_bytes() == self._at(f"{self.root}/first")}, path
            )
        with self._step("get_file"):
            await verbs.get_file(path, str(local), callback=counted)
            counted.check(LARGE, is_even=True)
        with self._step("cat_file"):
            found = {"cat_file": await verbs.cat_file(path) == data}
        with self._step("cat_file of a range"):
            found["a range"] = await verbs.cat_file(path, 7, -9) == data[7:-9]
        with self._step("cat_ranges"):
            ranges = await verbs.cat_ranges([path] * 3, [0, 5, 90_000], [9, 99_999, -7])
        with self._step("exists", _LOOK):
            found["exists"] = await verbs.exists(path)
        with self._step("not exists", _LOOK + _LIST):
            found["not exists"] = not await verbs.exists(f"{path}-not")
        with self._step("open"):
            found["open"] = await verbs.in_thread(lambda: self._read(path)) == data
        with self._step("a read of no bytes", _READ):
            try:
                await verbs.cat_file(f"{path}-not")
            except FileNotFoundError as error:
                found["the name"] = error.filename == f"{path}-not"
            else:
                raise Broken("a missing object was read")
        spans = [data[0:9], data[5:99_999], data[90_000:-7]]
        found["cat_ranges"] = [bytes(item) for item in ranges] == spans
        found["get_file"] = local.read_bytes() == data
        found["mode"] = local.stat().st_mode & 0o777 == 0o640
        self._all(found, path)

    def _read(self, path: str) -> bytes:
        with self.fs.open(path, "rb") as file:
            self.ledger.check_info(file.info(), self.network.world.now)
            file.seek(50_000)
            tail = file.read()
            file.seek(0)
            return bytes(file.read(50_000) + tail)

    async def _changes(self, verbs: Any) -> None:
        path, moved = f"{self.root}/put", f"{self.root}/moved"
        data = self._at(path)
        with self._step("cp_file", _LOOK + _COPY):
            copied, _ = self._data("copied", 0)
            self.ledger.copying(path, copied)
            await verbs.cp_file(path, copied)
            self._is(copied, data)
        with self._step("mv", _LIST + _LOOK * 3 + _COPY + _DELETE):
            self.ledger.copying(copied, moved)
            self.ledger.deletes(copied)
            await verbs.mv(copied, moved)
            self._is(copied, None)
            self._is(moved, data)
        with self._step("mv to itself", []):
            await verbs.mv(moved, moved)
            self._is(moved, data)
        with self._step("overwrite=False", _LOOK):
            _, other = self._data("moved", SMALL)
            try:
                await verbs.pipe_file(moved, other, overwrite=False)
            except FileExistsError:
                self._is(moved, data)
            else:
                raise Broken(f"{moved} was replaced")
        with self._step("rm_file", _DELETE):
            self.ledger.deletes(moved)
            await verbs.rm_file(moved)
            self._is(moved, None)

    async def _trees(self, verbs: Any) -> None:
        sizes = {"a": 0, "b": 17, "c/d %2Bü&": SMALL, "c/e/f": 17}
        local, there = self.place / "tree", f"{self.root}/tree"
        back = self.place / "back"
        (local / "c" / "e").mkdir(parents=True)
        objects = {}
        for name, size in sizes.items():
            _, objects[name] = self._data(f"tree/{name}", size)
            (local / name).write_bytes(objects[name])
        with self._step("a tree"):
            await verbs.put(f"{local}/", f"{there}/", recursive=True)
            for name, data in objects.items():
                self._is(f"{there}/{name}", data)
            names = await verbs.find(there)
            tops = await verbs.ls(there, detail=False)
            tree = await verbs.find(there, withdirs=True, maxdepth=1)
            await verbs.get(f"{there}/", f"{back}/", recursive=True)
            found = {
                "find": names == [f"{there}/{name}" for name in sizes],
                "ls": sorted(tops) == [f"{there}/{name}" for name in ("a", "b", "c")],
                "get": all_files(back) == objects,
                "find of directories": set(tree) == {there, *tops},
            }
            self._all(found, there)
            marker, _ = self._data("tree/c/", 0)
            await verbs.pipe({marker: b""})
            for name in (*sizes, "c/"):
                self.ledger.deletes(f"{there}/{name}")
            await verbs.rm(there, recursive=True)
            for name in (*sizes, "c/"):
                self._is(f"{there}/{name}", None)
        with self._step("a file that cannot be read"):
            path, data = self._data("readable", 17)
            files = [self._local("readable", data), f"{local}/none"]
            targets = [path, f"{path}-not"]
            done = await verbs.put(files, targets, on_error="return")
            self._is(path, data)
            if not isinstance(done[1], FileNotFoundError):
                raise Broken(f"a missing file was sent: {done[1]!r}")
        with self._step("a store that refuses"):
            await self._refused(verbs)
        for depth in (1, 2):
            with self._step(f"a tree of {depth} levels"):
                shallow = f"{self.root}/shallow{depth}"
                for name, data in objects.items():
                    self.ledger.write(f"{shallow}/{name}", data)
                await verbs.put(
                    f"{local}/", f"{shallow}/", recursive=True, maxdepth=depth
                )
                for name, data in objects.items():
                    is_deeper = name.count("/") >= depth
                    self._is(f"{shallow}/{name}", None if is_deeper else data)

    async def _refused(self, verbs: Any) -> None:
        """Only 16 equal refusals in a row end a call of many objects."""
        if "expires_in" in self.fs.storage_options:
            return  # by the store's clock, a URL may end just now: another refusal
        objects = dict(self._data(f"refused{number}", 17) for number in range(40))
        looks = self.fs.storage_options.get("overwrite") is False
        for statuses in ((403,),) if looks else ((403,), (403, 400)):
            self.network.refusals, first = statuses, len(self.network.events)
            asked = self.network.world.signer_calls
            try:
                failed = await verbs.pipe(objects, on_error="return", batch_size=4)
            except UploadErrors as error:
                failed = [*error.failures]
                if f"{len(failed)} transfers failed" not in str(error):
                    raise Broken(f"{len(failed)} failures are {error}") from error
            self.network.refusals = ()
            wanted = range(40, 41) if len(statuses) == 2 else range(16, 24)
            if len(failed) not in wanted:
                raise Broken(f"after {len(failed)} times {statuses}, a call ends")
            events = self.network.events[first:]
            asked = self.network.world.signer_calls - asked
            if asked > 1 and not looks:
                raise Broken(f"a signer was called {asked} times for 40 objects")
            if any(sum(o.at <= e.at < o.ended for o in events) > 4 for e in events):
                raise Broken("more objects are sent at a time than batch_size says")

    def _sync(self) -> None:
        local, down = self.place / "up", self.place / "down"
        local.mkdir()
        there = f"{self.root}/synced"
        objects = {}
        for name, size in (("x", 17), ("y", LARGE)):
            _, objects[name] = self._data(f"synced/{name}", size)
            set_file(local / name, objects[name])
        time.sleep(5)  # the sync would send a file again that is as new as its object
        counts = []
        for _ in range(2):
            counts.append(sync(str(local), there, filesystem=self.fs).sent)
            for name, data in objects.items():
                self._is(f"{there}/{name}", data)
        for _ in range(2):
            counts.append(sync_down(there, str(down), filesystem=self.fs).sent)
        if all_files(down) != objects:
            raise Broken("at the end, sync_down fetches other files")
        (local / "x").unlink()
        (local / "unreadable").symlink_to("nothing")
        failed = sync(str(local), there, filesystem=self.fs, on_error="return").failed
        (local / "unreadable").unlink()
        if [*failed] != ["unreadable"]:
            raise Broken(f"at the end, a sync names {[*failed]}")
        self.ledger.deletes(f"{there}/x")
        sync(str(local), there, filesystem=self.fs)
        self._is(f"{there}/x", objects["x"])
        up = sync(str(local), there, filesystem=self.fs, delete=True)
        self._is(f"{there}/x", None)
        sync_down(there, str(down), filesystem=self.fs)
        kept = sorted(all_files(down))
        gone = sync_down(there, str(down), filesystem=self.fs, delete=True)
        if gone.verb != "fetched":
            raise Broken(f"sync_down says that files were {gone.verb}")
        if (up.deleted, kept, gone.deleted) != (["x"], ["x", "y"], ["x"]):
            raise Broken(f"syncs deleted {up.deleted} and {gone.deleted}")
        if sorted(all_files(down)) != ["y"] or counts != [2, 0, 2, 0]:
            raise Broken(f"at the end, syncs moved {counts} files")
        self._sync_edited(local, there)

    def _sync_edited(self, local: Path, there: str) -> None:
        """Send a file that changed right after its upload, and record each event."""
        events: list[Any] = []
        path, data = self._data("synced/y", LARGE)
        set_file(local / "y", data)
        given: dict[str, Any] = {"filesystem": self.fs, "state": self.place / "state"}
        given["on_event"] = events.append
        sent = sync(str(local), there, overwrite=True, **given).sent
        self._is(path, data)
        again = sync(str(local), there, overwrite=True, **given).sent
        kinds = [str(event.kind) for event in events if event.kind != "bytes"]
        told = sum(event.size for event in events if event.kind == "bytes")
        if (sent, again, kinds) != (1, 0, ["plan", "begin", "sent", "plan"]):
            raise Broken(f"syncs sent {sent} and {again} files, and told {kinds}")
        if told != LARGE:
            raise Broken(f"a sync told of {told} bytes, and sent {LARGE}")
