"""The end of a program: without faults, each verb succeeds and has its effect.

The callers have used the same filesystem before, so damage from their faults shows
here. Each step compares the objects in the store to the byte.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import math
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import product
from operator import methodcaller
from pathlib import Path
from typing import Any

from attrs import evolve

from fsspec_osspresigned import OSSPresignedFileSystem, sync, sync_down
from fsspec_osspresigned.engine import abort_at_exit
from fsspec_osspresigned.engine.limits import memory_budget
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    InvalidRequestError,
    NetworkError,
    NotCoveredError,
    Outcome,
    OutcomeUnknownError,
    SignatureMismatchError,
    SignerError,
    SignerUnavailableError,
    SourceChangedError,
    StoreError,
    StoreUnavailableError,
    UploadDiscardedError,
    UploadErrors,
)
from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant
from fsspec_osspresigned.owner.sign import Cut, Order, forget, sign
from fsspec_osspresigned.signers.base import ChainSigner, Signer
from fsspec_osspresigned.signers.keys import environment_credentials
from fsspec_osspresigned.signing import Endpoint
from fsspec_osspresigned.url_map.parser import parse

from . import disk as disks
from . import loop as loops
from .ledger import Ledger
from .network import LATE, RETRY_AFTER, Event, Faults, Network
from .signers import (
    BadSigner,
    GrantingSigner,
    LaxSigner,
    ManySigner,
    MiscountingSigner,
    UserSigner,
    http_options,
    key_signer,
)
from .store import BUCKETS, DOMAIN, HOST, KEY, REGION
from .verbs import Branched, ByUserError, Counted
from .world import Broken, World

_PATIENCE = 20.0  # virtual seconds that one step may take
_SOON = 7.0  # seconds within which an interrupted upload must end
# Actions of a step that changes or reads objects. They are the same in each program.
_LOOK, _COPY, _DELETE = ["HeadObject"], ["CopyObject"], ["DeleteObject"]
_READ, _LIST = ["GetObject"], ["ListObjectsV2"]
_SMALL, _LARGE = 1000, 262_145


class Ending:
    """The steps of one caller, with *verbs* of *fs*; its objects are below *folder*."""

    def __init__(
        self, fs: Any, ledger: Ledger, folder: str, place: Path, *, publishes: bool
    ) -> None:
        self.fs, self.ledger, self.place = fs, ledger, place / folder
        self.root, self.publishes = f"{BUCKETS[0]}/{folder}", publishes
        self.is_blind = False  # True if answers from the record come with a warning
        self.network: Network = ledger.network
        self.place.mkdir()

    def _data(self, name: str, size: int) -> tuple[str, bytes]:
        """Return the path of an object, and the bytes to write there."""
        path = f"{self.root}/{name}"
        data = self.ledger.content(size)
        self.ledger.write(path, data)
        return path, data

    def _local(self, name: str, data: bytes) -> str:
        (self.place / name).write_bytes(data)
        return str(self.place / name)

    def _at(self, path: str) -> bytes | None:
        bucket, _, key = path.partition("/")
        return self.network.server.store.at(bucket, key)

    def _is(self, path: str, data: bytes | None) -> None:
        found = self._at(path)
        if found != data:
            sizes = [None if d is None else len(d) for d in (found, data)]
            raise Broken(f"at the end, {path} has {sizes[0]} bytes, not {sizes[1]}")

    @contextmanager
    def _step(self, what: str, actions: list[str] | None = None) -> Iterator[None]:
        """Run a step, which must end in time and without a warning.

        No later step writes the same objects. If *actions* are given, the step must
        send exactly these requests.
        """
        world: World = self.network.world
        began, first = world.now, len(self.ledger.writes)
        before, warned = len(self.network.events), len(self.ledger.warned)
        try:
            yield
        except OSError as error:
            raise Broken(f"at the end, {what} fails: {error!r}") from error
        for write in self.ledger.writes[first:]:
            write.ended = world.now
        asked = [e for e in self.network.events[before:] if e.fate == "busy"]
        if world.now - began > _PATIENCE + RETRY_AFTER * len(asked):
            raise Broken(f"at the end, {what} takes {world.now - began:.0f} s")
        texts = self.ledger.warned[warned:]
        if texts and not self.is_blind:
            raise Broken(f"at the end, {what} warns: {texts}")
        folder = f"/{self.root.partition('/')[2]}"
        events = [e for e in self.network.events[before:] if e.path.startswith(folder)]
        events += [e for e in self.network.events[before:] if e.path == "/"]
        done = Counter(str(event.action) for event in events)
        wanted = done if actions is None else Counter(actions)
        if self.fs.storage_options.get("overwrite") is False:
            # this option sends HeadObject before each upload
            del done["HeadObject"], wanted["HeadObject"]
        if done != wanted:
            raise Broken(f"at the end, {what} needs {done}")

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

    async def writes(self, verbs: Any) -> None:
        """Write in each way that needs no other permission."""
        for size in (_SMALL, _LARGE):
            with self._step("pipe_file"):
                path, data = self._data(f"piped-{size}", size)
                first = len(self.network.events)
                receipt = await verbs.pipe_file(path, data)
                self._check_requests(self.network.events[first:], path, size)
                self._is(path, data)
                self.ledger.check_receipt(self.ledger.writes[-1], receipt)
        with self._step("put_file"):
            path, data = self._data("put", _LARGE)
            counted, local = Counted(), self._local("put", data)
            receipt = await verbs.put_file(local, path, callback=counted)
            self._is(path, data)
            self.ledger.check_receipt(self.ledger.writes[-1], receipt)
            counted.check(_LARGE, is_even=True)
        with self._step("open"):
            await verbs.in_thread(self._opened)
        with self._step("transaction"):
            await verbs.in_thread(self._transaction)

    def _opened(self) -> None:
        """Fill several files from one buffer, which changes after each write."""
        count = 12 if "memory_limit" in self.fs.storage_options else 2
        objects = [self._data(f"opened{number}", _LARGE) for number in range(count)]
        files = [self.fs.open(path, "wb") for path, _ in objects]
        buffer = bytearray(70_000)
        for at in range(0, _LARGE, len(buffer)):
            for file, (_, data) in zip(files, objects, strict=True):
                size = len(data[at : at + len(buffer)])
                buffer[:size] = data[at : at + size]
                file.write(memoryview(buffer)[:size])
                buffer[:] = bytes(len(buffer))
        writes = self.ledger.writes[-count:]
        for file, write in zip(files, writes, strict=True):
            self._is(write.path, None)
            file.close()
            self._is(write.path, *write.contents)
            self.ledger.check_receipt(write, file.receipt)
            if (file.tell(), file.closed, file.failed) != (_LARGE, True, False):
                raise Broken(f"a closed file is at {file.tell()}: {file!r}")
        path, data = self._data("raised", _LARGE)
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
        sizes = {"first": _SMALL, "second": _LARGE, "third": _SMALL}
        for is_kept in (False, True):
            objects = [self._data(name, size) for name, size in sizes.items()]
            if is_kept:
                self._publish(objects)
            else:
                with self._raised():
                    self._publish(objects, fails=True)
            for path, data in objects:
                self._is(path, data if is_kept else None)

        path, data = self._data("unclosed", _SMALL)
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
        (first, one), (second, two), (third, three) = objects
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
            written = {f"{self.root}/put": _LARGE, f"{self.root}/first": _SMALL}
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
                if is_known and (await verbs.info(copied))["size"] != _LARGE:
                    raise Broken(f"{copied} has another size than its source")
        with self._step("a false checksum in the records"):
            await verbs.in_thread(self._doubted)
        await self._directories(verbs)
        with self._step("sync without a listing"):
            await verbs.in_thread(self._sync_blind)

    def _doubted(self) -> None:
        """The records no longer know an object that was replaced by unknown bytes."""
        fs = self._like(checksum="auto", retries=0)
        path, old = self._data("doubted", _SMALL)
        for size in (_SMALL, _LARGE):
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
        if not is_error and self.fs.storage_options.get("overwrite") is None:
            await self._hidden(verbs)

    async def _hidden(self, verbs: Any) -> None:
        """An object that was reported as missing, but exists, is not replaced."""
        path, data = self._data("hidden", _SMALL)
        owner = OSSPresignedFileSystem(**{**self.fs.storage_options, "signer": "keys"})
        await verbs.in_thread(lambda: owner.pipe_file(path, data))
        if await verbs.exists(path):
            raise Broken(f"{path} was found without permission")
        with suppress(FileExistsError):
            await verbs.pipe_file(path, b"another content")
            raise Broken(f"{path} was replaced because it could not be seen")
        self._is(path, data)

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
        path, data = self._data("blind/x", _SMALL)
        _written(local / "x", data)
        there = path.rpartition("/")[0]
        result = sync(
            str(local), there, filesystem=self.fs, ignore_times=True, overwrite=True
        )
        self._is(path, data)
        if (result.sent, result.verb) != (1, "sent"):
            raise Broken(f"a sync says that {result.sent} files were {result.verb}")

    def _all(self, found: Mapping[str, object], what: str) -> None:
        if wrong := [name for name, is_right in found.items() if not is_right]:
            raise Broken(f"at the end, {', '.join(wrong)} of {what} are wrong")

    async def all(self, verbs: Any) -> None:
        """Run every verb, with a signer that grants every call."""
        await self.writes(verbs)
        await self._reads(verbs)
        await self._changes(verbs)
        await self._directories(verbs)
        await self._trees(verbs)
        for what, step in (
            ("sync", self._sync),
            ("an object that is replaced while it is read", self._replaced),
            ("the ranges of a read", self._ranges),
            ("the types of files", self._types),
            ("reads of a store that refuses", self._unread),
            ("a signer with another number of answers", self._miscounted),
            ("a signer with large calls", self._large_calls),
            ("a signer that grants some ways", self._granted),
            ("a signer that names objects", self._named),
            ("URLs of a map that expire", self._expired),
            ("options that are wrong or of others", self._wrong_options),
            ("cancelled uploads", self._cancelled_uploads),
            ("other cancelled calls", self._cancelled_others),
            ("the memory of an open file", self._memory),
            ("a small call during a large one", self._beside),
            ("a move of what a transaction holds", self._held),
            ("a transaction without a disk", self._small_ones),
            ("objects at a limit", self._limits),
            ("an upload with an MD5", self._by_md5),
            ("a file that is read in order", self._in_order),
            ("the bytes of failed calls", self._let_go),
            ("files that nobody closes", self._dropped),
            ("callbacks of many files", self._counted),
            ("calls without a known outcome", self._unsure),
            ("a cancellation during a check", self._cancelled_check),
            ("an interrupt while the store is silent", self._hurried),
            ("a domain of the owner", self._own_domain),
            ("a map and wrong paths", self._misspelt),
            ("a store with another clock", self._skewed),
            ("a signer that is away", self._signer_away),
            ("a signer that signs no lock", self._unlocked),
            ("calls whose requests fail once", self._once),
            ("calls whose requests are refused in turn", self._in_turn),
            ("a store with other bytes", self._differing),
            ("a busy store", self._busy),
            ("a busy signer", self._busy_signer),
            ("a signer that refuses", self._refusing_signers),
            ("a signer that signs wrongly", self._bad_signers),
            ("an object with the name of a directory", self._clashing),
            ("a URL map of parts", self._by_map),
            ("a full disk", self._unwritten),
            ("a slow disk", self._slow_disk),
            ("resume", self._broken_off),
        ):
            with self._step(what):
                await verbs.in_thread(step)

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
        with self._step("get_file"):
            await verbs.get_file(path, str(local), callback=counted)
            counted.check(_LARGE, is_even=True)
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
            _, other = self._data("moved", _SMALL)
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
        sizes = {"a": 0, "b": 17, "c/d %2Bü&": _SMALL, "c/e/f": 17}
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
                "get": _files(back) == objects,
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
        with self._step("a tree of two levels"):
            shallow = f"{self.root}/shallow"
            for name, data in objects.items():
                self.ledger.write(f"{shallow}/{name}", data)
            await verbs.put(f"{local}/", f"{shallow}/", recursive=True, maxdepth=2)
            for name, data in objects.items():
                self._is(f"{shallow}/{name}", None if name == "c/e/f" else data)

    async def _refused(self, verbs: Any) -> None:
        """Only 16 equal refusals in a row end a call of many objects."""
        objects = dict(self._data(f"refused{number}", 17) for number in range(40))
        looks = self.fs.storage_options.get("overwrite") is False
        for statuses in ((403,),) if looks else ((403,), (403, 400)):
            self.network.refusals, first = statuses, len(self.network.events)
            asked = self.network.world.signer_calls
            try:
                failed = await verbs.pipe(objects, on_error="return", batch_size=4)
            except UploadErrors as error:
                failed = [*error.failures]
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
        for name, size in (("x", 17), ("y", _LARGE)):
            _, objects[name] = self._data(f"synced/{name}", size)
            _written(local / name, objects[name])
        time.sleep(5)  # the sync would send a file again that is as new as its object
        counts = []
        for _ in range(2):
            counts.append(sync(str(local), there, filesystem=self.fs).sent)
            for name, data in objects.items():
                self._is(f"{there}/{name}", data)
        for _ in range(2):
            counts.append(sync_down(there, str(down), filesystem=self.fs).sent)
        if _files(down) != objects:
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
        kept = sorted(_files(down))
        gone = sync_down(there, str(down), filesystem=self.fs, delete=True)
        if gone.verb != "fetched":
            raise Broken(f"sync_down says that files were {gone.verb}")
        if (up.deleted, kept, gone.deleted) != (["x"], ["x", "y"], ["x"]):
            raise Broken(f"syncs deleted {up.deleted} and {gone.deleted}")
        if sorted(_files(down)) != ["y"] or counts != [2, 0, 2, 0]:
            raise Broken(f"at the end, syncs moved {counts} files")
        self._sync_edited(local, there)

    def _sync_edited(self, local: Path, there: str) -> None:
        """Send a file that changed right after its upload, and record each event."""
        events: list[Any] = []
        path, data = self._data("synced/y", _LARGE)
        _written(local / "y", data)
        given: dict[str, Any] = {"filesystem": self.fs, "state": self.place / "state"}
        given["on_event"] = events.append
        sent = sync(str(local), there, overwrite=True, **given).sent
        self._is(path, data)
        again = sync(str(local), there, overwrite=True, **given).sent
        kinds = [str(event.kind) for event in events if event.kind != "bytes"]
        told = sum(event.size for event in events if event.kind == "bytes")
        if (sent, again, kinds) != (1, 0, ["plan", "begin", "sent", "plan"]):
            raise Broken(f"syncs sent {sent} and {again} files, and told {kinds}")
        if told != _LARGE:
            raise Broken(f"a sync told of {told} bytes, and sent {_LARGE}")

    def _like(self, **options: Any) -> Any:
        """Return a filesystem with different *options*, which sends parts of 100 KiB."""
        given = {**self.fs.storage_options, "part_size": 102_400}
        given["multipart_threshold"] = 102_400
        return OSSPresignedFileSystem(**{**given, **options})

    def _lasting(self, **options: Any) -> Any:
        """Return a filesystem whose retries and signatures outlast a busy store."""
        if "expires_in" in self.fs.storage_options:
            options["expires_in"] = 3600
        return self._like(retry_timeout=300, **options)

    def _replaced(self) -> None:
        """A file that is open for reading never mixes two versions."""
        path, old = self._data("replaced", _SMALL)
        self.fs.pipe_file(path, old)
        _, new = self._data("replaced", _SMALL)
        with self.fs.open(path, "rb", block_size=100) as file:
            first = file.read(100)
            self.fs.pipe_file(path, new, overwrite=True)
            try:
                rest = file.read()
            except SourceChangedError:
                return
        if first + rest != old:
            raise Broken("a file was read from two versions of an object")

    def _ranges(self) -> None:
        """A read of a range receives only the bytes of the range."""
        fs, path = self._like(), f"{self.root}/put"
        data = self._at(path)
        assert data is not None
        with fs.open(path, "rb", cache_type="none") as file:
            for read, ranges in (
                (lambda s, e: fs.cat_file(path, s, e), ((0, 9), (-9, None))),
                (
                    lambda s, e: fs.cat_ranges([path], [s], [e])[0],
                    # the loop cannot read the last one, which is too large
                    ((0, 17), (5, 99_999), (0, None)),
                ),
                (lambda s, e: self._at_range(file, s, e), ((0, 20), (7, 99_999))),
            ):
                for start, end in ranges:
                    first, wanted = len(self.network.events), data[start:end]
                    if read(start, end) != wanted:
                        raise Broken(f"[{start}:{end}] of {path} has other bytes")
                    events = self.network.events[first:]
                    got = sum(e.received for e in events if e.method == "GET")
                    if got != len(wanted):
                        raise Broken(f"{got} bytes came for [{start}:{end}] of {path}")

    def _at_range(self, file: Any, start: int, end: int) -> bytes:
        file.seek(start)
        return bytes(file.read(end - start))

    def _types(self) -> None:
        """A file gets the type of its suffix, unless the caller names one."""
        fs, given = self._like(), self.fs.storage_options.get("content_type")
        octets = "application/octet-stream"  # the type that the store chooses
        for name, kind in (
            ("a.txt", "text/plain"),
            ("a.b.json", "application/json"),
            ("a.tar.gz", "application/gzip"),
            ("a.tar.xz", None),
            ("a", None),
        ):
            path, data = self._data(f"types/{name}", _SMALL)
            fs.put_file(self._local(name, data), path)
            self._is(path, data)
            key = path.partition("/")[2]
            found = self.network.server.store.buckets[BUCKETS[0]].objects[key]
            if found.headers["content-type"] != (given or kind or octets):
                raise Broken(f"{name} has the headers {found.headers}")

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

    def _miscounted(self) -> None:
        """A signer that gives too few or too many answers is no reason to send one."""
        for more in (-1, 1):
            for is_remote in (False, True):
                signer = MiscountingSigner(self.network.world, more, remote=is_remote)
                self._refusal(signer, SignerError, f"answered {1 + more} requests to 1")

    def _large_calls(self) -> None:
        """A signer that finds a call too large is asked for less, but for no less than one."""
        world: World = self.network.world
        fs = self._lasting(**http_options(world), overwrite=True)
        objects = dict(self._data(f"fewer{number}", 17) for number in range(8))
        world.signer_replies = [(413, {})]
        fs.pipe(objects)
        for path, data in objects.items():
            self._is(path, data)
        path, data = self._data("too large to sign", 17)
        world.signer_replies = [(413, {})] * 9
        failed = fs.pipe({path: data}, on_error="return")
        left, world.signer_replies = len(world.signer_replies), []
        if not isinstance(failed[0], SignerError) or left < 8:
            raise Broken(f"a signer was asked {9 - left} times, and {failed}")

    def _granted(self) -> None:
        """An object is uploaded only in a way that its signer grants."""
        parts = ["InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
        for facts, size, actions in (
            ({"single": False}, _SMALL, parts),
            ({"multipart": None}, _LARGE, ["PutObject"]),
            ({"expires_at": 1.0}, _SMALL, []),
        ):
            signer = GrantingSigner(self.network.world, **facts)
            fs = self._like(signer=signer, signer_token=None, overwrite=True)
            path, data = self._data(f"granted {[*facts]}", size)
            first = len(self.network.events)
            with suppress(NotCoveredError):
                fs.pipe_file(path, data)
            self._is(path, data if actions else None)
            sent = [str(event.action) for event in self.network.events[first:]]
            if sent != actions:
                raise Broken(f"with a grant of {facts}, the client sent {sent}")

    def _named(self) -> None:
        """The receipt has what the signer says about the object, and the reply does not."""
        known = {"location": "https://share.example/1", "assumed_etag": '"1"'}
        for given in ({"location": known["location"]}, known):
            signer = BadSigner(self.network.world, **given)
            path, data = self._data("named", _SMALL)
            fs = self._like(signer=signer, signer_token=None, overwrite=True)
            self.network.faults = Faults(no_proof=float(given is known))
            receipt = fs.pipe_file(path, data, checksum="none")
            self.network.faults = Faults()
            self._is(path, data)
            is_named = receipt.location == fs.url(path) == known["location"]
            if not is_named or (receipt.etag == "1") != (given is known):
                raise Broken(
                    f"a signer has named {path} in {given}: {receipt.as_dict()}"
                )

    def _expired(self) -> None:
        """A URL of a map is used until it expires, and then not even sent."""
        model, clock = self.network.server.model, self.network.server.clock
        if abs(clock() - time.time()) > 1:
            return  # the store would find such short lives over, or not yet begun
        limit = self.fs.storage_options.get("max_concurrency")
        demands, model.demands = model.demands, {}  # a map does not contain the options
        for version in ("v1", "v4"):
            path, data = self._data(f"mapped {version}", _SMALL)
            keys = key_signer(version=version, expires_in=4)
            put, get = (sign(keys, [path], Order(method=m)) for m in ("PUT", "GET"))
            bare = {path: put.requests[path].url.reveal()}
            maps: Any = bare, json.loads(get.map_text())
            writes, reads = (
                OSSPresignedFileSystem(
                    url_map=given, max_concurrency=limit, if_unverifiable="error"
                )
                for given in maps
            )
            writes.pipe_file(path, data)
            self._is(path, data)
            if reads.cat_file(path) != data:
                raise Broken(f"{path} of a map has other bytes")
            time.sleep(4)
            first = len(self.network.events)
            for verb, *given in (
                (writes.pipe_file, path, data),
                (reads.cat_file, path),
            ):
                try:
                    verb(*given)
                except NotCoveredError as error:
                    if "expired at" not in f"{error} {error.__cause__}":
                        raise Broken(f"a URL has expired, but {error!r}") from error
                else:
                    raise Broken(f"an expired URL of {path} was used")
            if len(self.network.events) > first:
                raise Broken("a URL that has expired was sent")
        model.demands = demands

    def _wrong_options(self) -> None:
        """Options that are wrong, or that others may have given, are refused by name."""
        first = len(self.network.events)
        for given, words in (
            ({"region": "cn hangzhou", "endpoint": HOST}, "is not a region id"),
            ({"region": "oss-cn-hangzhou"}, "without oss-"),
            ({"endpoint": "https://oss.example.com"}, "would get what your keys sign"),
            ({"endpoint": f"http://{HOST}", "allow_http": True}, "in clear text"),
            ({"signer": "module:function"}, "would import code"),
            ({"signer": "https://a.example", "signer_token": "file:/a"}, "is not read"),
            ({"part_size": 1000}, "part_size"),
        ):
            try:
                fs = OSSPresignedFileSystem(**{"signer": "keys", **given})
                fs.pipe_file(f"{self.root}/wrong", b"wrong")
            except ConfigurationError as error:
                if words not in str(error):
                    raise Broken(f"the error of {given} is {error!r}") from error
            else:
                raise Broken(f"{given} were used")
        if len(self.network.events) > first:
            raise Broken("a request was sent with options that were refused")

    def _cancelled_uploads(self) -> None:
        """A cancelled upload ends soon with its request, or says what it has sent."""
        for fate in ("stall_request", "stall_reply"):
            for size in (_SMALL, _LARGE):
                path, data = self._data(f"{fate} {size}", size)
                local = self._local("cancelled", data)
                self._cancelled(fate, methodcaller("_put_file", local, path))

    def _cancelled_others(self) -> None:
        """A cancelled read ends soon, and a cancelled copy says that it was sent."""
        path, local = f"{self.root}/put", str(self.place / "not got")
        copied, _ = self._data("copied and cancelled", 0)
        self.ledger.copying(path, copied)
        for call in (
            methodcaller("_get_file", path, local),
            methodcaller("_cat_file", path),
            methodcaller("_cp_file", path, copied),
        ):
            self._cancelled("stall_reply", call)

    def _cancelled(self, fate: str, call: Callable[[Any], Any]) -> None:
        """Cancel a call of which the last request stalls."""
        world: World = self.network.world
        fs = self._like(retries=0, timeout=60, multipart_threshold=2_000_000)
        first = len(self.network.events)
        ends: list[tuple[float, Any]] = []

        async def main() -> None:
            task = asyncio.ensure_future(call(fs))
            while not self.network.events[first:]:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            ends.append((world.now, None))
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                ends.append((world.now, error))

        self.network.fates = (fate,)
        self.network.met.clear()  # an earlier call may have read the same object
        loops.run(main())
        self.network.fates = ()
        (began, _), *ended = ends
        event = self.network.events[-1]
        acts = event.is_taken and event.method == "PUT"
        lasted = max(end for end, _ in ended or [(math.inf, None)]) - began
        if lasted > 1.1 + 3 * acts or event.ended - began > 1.1 + 3 * acts:
            raise Broken(f"a cancelled call went on for {lasted:.1f} s with {event}")
        notes = "\n".join(getattr(ended[0][1], "__notes__", ()))
        if ("took effect is unknown" in notes) != acts:
            raise Broken(f"a cancelled call sent {event}, but has the notes {notes!r}")

    def _memory(self) -> None:
        """An open file holds only what is not stored, and at most its memory limit."""
        part, limit = 102_400, 1024 * 1024
        fs = self._like(memory_limit=limit)
        path, data = self._data("long", 16 * part)
        before = memory_budget().used
        with fs.open(path, "wb") as file:
            file.write(data[:17])
            if memory_budget().used - before >= part:
                raise Broken("a file of 17 bytes uses the memory of a part")
            for start in range(17, len(data), part):
                file.write(data[start : start + part])
                parts = [p for u in self._uploads("long") for p in u.parts.values()]
                held = file.tell() - sum(p.size for p in parts)
                if held > limit + 2 * part:
                    raise Broken(f"an open file holds {held} bytes of {limit}")
            time.sleep(10)
            used = memory_budget().used - before
        self._is(path, data)
        if used > part:
            raise Broken(f"an open file without parts in flight uses {used} bytes")
        if memory_budget().used != before:
            raise Broken("a closed file uses memory")

    def _beside(self) -> None:
        """A small call waits only for the running requests of a large call, not for all."""
        fs = self._like(max_concurrency=1)
        great, data = self._data("great", 2_000_000)
        small, other = self._data("small", _SMALL)
        thread = threading.Thread(target=lambda: fs.pipe_file(great, data))
        thread.start()
        time.sleep(0.2)
        first = len(self.network.events)
        fs.pipe_file(small, other)
        events = [event.path for event in self.network.events[first:]]
        before = events.index(f"/{small.partition('/')[2]}")
        thread.join()
        self._is(great, data)
        if before > 10:  # of 20: some end while the signer is asked
            raise Broken(f"a small call waited for {before} requests of a large one")

    def _held(self) -> None:
        """An object that waits for the end of its transaction is not moved or deleted."""
        path, old = self._data("held/x", _SMALL)
        _, new = self._data("held/x", _SMALL)
        folder, other = path.rpartition("/")[0], f"{self.root}/moved held"
        fs = self._like(overwrite=True)
        fs.pipe_file(path, old)
        with fs.transaction:
            fs.pipe_file(path, new)
            for what, change in (
                ("mv_file", lambda: fs.mv_file(path, other)),
                ("mv", lambda: fs.mv(path, other)),
                ("mv of a folder", lambda: fs.mv(folder, other, recursive=True)),
                ("rm_file", lambda: fs.rm_file(path)),
                ("rm", lambda: fs.rm([path])),
                ("rm of a folder", lambda: fs.rm(folder, recursive=True)),
                ("rm of a pattern", lambda: fs.rm(f"{folder}/*")),
            ):
                with suppress(ConfigurationError):
                    change()
                    raise Broken(f"{what} changes an object of a transaction")
            self._is(path, old)
        self._is(path, new)

    def _small_ones(self) -> None:
        """Small objects of a transaction need no disk."""
        fs = self._like(receipts=None)
        objects = dict(self._data(f"without disk{number}", 17) for number in range(3))
        assert disks.disk is not None
        with fs.transaction:
            disks.disk.full = 1.0
            fs.pipe(objects)
            disks.disk.full = 0.0
        for path, data in objects.items():
            self._is(path, data)

    def _limits(self) -> None:
        """An object of exactly the threshold is sent whole, and a larger one in parts."""
        given = {
            "signer": ChainSigner(key_signer(), key_signer()),
            "signer_token": None,
        }
        several = [self._like(overwrite=True), self._like(overwrite=True, **given)]
        writes = (self._piped, self._put, self._streamed, self._pending)
        for size, parts in ((102_400, 0), (102_401, 2), (204_801, 3)):
            for fs, write in product(several, writes):
                path, data = self._data(f"exactly {size}", size)
                before = Counter(self.network.server.calls)
                write(fs, path, data)
                self._is(path, data)
                calls = Counter(self.network.server.calls) - before
                if calls["UploadPart"] != parts or calls["PutObject"] != (not parts):
                    raise Broken(f"{size} bytes are sent by {dict(calls)}")

    def _put(self, fs: Any, path: str, data: bytes) -> None:
        fs.put_file(self._local("put once more", data), path)

    def _pending(self, fs: Any, path: str, data: bytes) -> None:
        with fs.transaction:
            fs.pipe_file(path, data)

    def _by_md5(self) -> None:
        """A file is compared by its MD5; no other request waits for that."""
        size = 5 * _LARGE  # the package reads smaller files as a whole
        fs = self._like(checksum="md5", overwrite=True, multipart_threshold=size)
        path, data = self._data("by MD5", size)
        self._put(fs, path, data)  # ``disk`` checks which thread reads the file
        self._is(path, data)

    def _in_order(self) -> None:
        """A file that is read in order to its end is compared with the object."""
        path, data = self._data("in order", _SMALL)
        self.fs.pipe_file(path, data)
        fs = self._like(retries=0)
        for is_damaged in (False, True):
            self.network.faults = Faults(damage_reply=float(is_damaged))
            read = b""
            try:
                with fs.open(path, "rb", block_size=300) as file:
                    while block := file.read(170):
                        read += block
            except IntegrityError as error:
                if not is_damaged:
                    raise Broken(f"{path} is read by {error!r}") from error
            else:
                if is_damaged or read != data:
                    raise Broken(f"{path} is read with other bytes, and no error")
        self.network.faults = Faults()

    def _let_go(self) -> None:
        """The errors of a call of many objects do not keep the bytes of the objects."""
        fs = self._like(overwrite=True)
        objects = dict(self._data(f"let go{number}", _SMALL) for number in range(4))
        values, holds = [*objects.values()], sys.getrefcount
        before = [holds(value) for value in values]
        self.network.refusals = (400,)
        failed = fs.pipe(objects, on_error="return", batch_size=1)
        self.network.refusals = ()
        time.sleep(1)
        # the traceback of a task may hold its last object
        if (after := [holds(value) for value in values])[:-1] != before[:-1]:
            raise Broken(f"{failed} hold bytes: {before} references became {after}")

    def _dropped(self) -> None:
        """A file that is dropped without being closed is not published."""
        fs = self._like(overwrite=True, on_exception="discard")
        first, paths = len(self.ledger.warned), []
        for name, wrap in (
            ("plain", lambda file: file),
            ("text", io.TextIOWrapper),
            ("buffered", io.BufferedWriter),
            ("zipped", lambda file: gzip.GzipFile(fileobj=file, mode="wb")),
            ("closing", _Closing),
        ):
            path, _ = self._data(f"dropped {name}", 0)
            file = wrap(fs.open(path, "wb"))
            file.write("x" if name == "text" else b"x")
            del file
            paths.append(path)
        time.sleep(5)
        for path in paths:
            self._is(path, None)
        del self.ledger.warned[first:]

    def _counted(self) -> None:
        """A callback of many files counts their bytes, or files and bytes by branches."""
        local, back = self.place / "counted", self.place / "counted back"
        local.mkdir()
        there = f"{self.root}/counted"
        for name, size in (("a", 17), ("b", _SMALL), ("c", _LARGE)):
            _, data = self._data(f"counted/{name}", size)
            (local / name).write_bytes(data)
        total = 17 + _SMALL + _LARGE
        fs = self._like(overwrite=True)
        for verb, source, target in ((fs.put, local, there), (fs.get, there, back)):
            counted, branched = Counted(), Branched()
            for callback in (counted, branched):
                verb(f"{source}/", f"{target}/", recursive=True, callback=callback)
            counted.check(total, is_even=True)
            branched.check(len(branched.parts))  # a directory may be counted, too
            sizes = [part.value for part in branched.parts if part.value]
            if sorted(sizes) != [17, _SMALL, _LARGE]:
                raise Broken(f"the callbacks of files count {sizes} bytes")

    def _unsure(self) -> None:
        """If nothing shows whether an object is stored, the error says so."""
        world: World = self.network.world
        given = {"signer": UserSigner(world, looks=False), "signer_token": None}
        given |= {"if_unverifiable": "missing", "checksum": "auto", "retries": 0}
        first = len(self.ledger.warned)
        for overwrite, kind in ((True, NetworkError), (None, OutcomeUnknownError)):
            fs = self._like(**given, overwrite=overwrite)
            path, data = self._data(f"unsure {overwrite}", _SMALL)
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
                raise Broken(f"{path} was called stored, which nobody knows")
            self.network.fates = ()
            self._is(path, data)
        del self.ledger.warned[first:]

    def _cancelled_check(self) -> None:
        """A call that is cancelled while it checks its object says what is unknown."""
        fs = self._like(retries=0, timeout=5, overwrite=True)
        path, data = self._data("cancelled", _SMALL)
        self.network.fates = ("stall_reply",)

        async def cancel() -> None:
            task = asyncio.ensure_future(fs._pipe_file(path, data))
            await asyncio.sleep(7)  # PutObject has timed out, HeadObject has not
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                notes = getattr(error, "__notes__", ())
                if not any("unknown" in note and path in note for note in notes):
                    raise Broken(
                        f"a cancelled call only has the notes {notes}"
                    ) from error
            else:
                raise Broken("a cancelled call succeeds")

        loops.run(cancel())
        self.network.fates = ()

    def _hurried(self) -> None:
        """After an interrupt, a transaction or a file ends soon, although the store is silent."""
        fs = self._like(overwrite=True, on_exception="discard")
        first = len(self.ledger.warned)
        for block in (self._interrupted_transaction, self._interrupted_file):
            path, data = self._data("hurried", _LARGE)
            ends: list[float] = []
            with suppress(KeyboardInterrupt):
                block(fs, path, data, ends)
            seconds = time.monotonic() - ends[0]
            self.network.fates = ()
            self._is(path, None)
            if seconds > _SOON:
                raise Broken(f"an interrupted block ends after {seconds:.0f} s")
            texts = self.ledger.warned[first:]
            del self.ledger.warned[first:]
            if not any("could not be aborted" in text for text in texts):
                raise Broken(f"an upload that is left open is named by {texts}")

    def _interrupted_transaction(
        self, fs: Any, path: str, data: bytes, ends: list[float]
    ) -> None:
        with fs.transaction:
            fs.pipe_file(path, data)
            self._interrupt(ends)

    def _interrupted_file(
        self, fs: Any, path: str, data: bytes, ends: list[float]
    ) -> None:
        with fs.open(path, "wb") as file:
            file.write(data)
            time.sleep(10)  # the parts are sent
            self._interrupt(ends)

    def _interrupt(self, ends: list[float]) -> None:
        self.network.fates = ("stall_request",) * 3
        ends.append(time.monotonic())
        raise KeyboardInterrupt

    def _own_domain(self) -> None:
        """A grant may be for a domain, but only for the bucket that the user names."""
        network = self.network
        terms = GrantTerms(bucket=BUCKETS[0], prefix="", expires_in=86_400)
        facts: dict[str, Any] = {"region": REGION, "now": time.time()}
        grant = json.loads(sign_grant(KEY, Endpoint.parse(HOST), terms, **facts).text())
        network.server.signatures.add(grant["fields"]["x-oss-signature"])
        grant["url"] = f"https://{DOMAIN}"
        demands, network.server.model.demands = network.server.model.demands, {}
        for given in (grant, json.dumps(grant)):
            with suppress(ConfigurationError):
                OSSPresignedFileSystem(grant=given, allowed_hosts={DOMAIN: BUCKETS[1]})
                raise Broken(f"a grant is for another bucket than that of {DOMAIN}")
            fs = OSSPresignedFileSystem(grant=given, allowed_hosts={DOMAIN: BUCKETS[0]})
            path, data = self._data(f"own {type(given).__name__}", _SMALL)
            fs.pipe_file(path, data)
            self._is(path, data)
        network.server.model.demands = demands

    def _misspelt(self) -> None:
        """A map is the same after it was written, and names the path that was meant."""
        meant = [f"{self.root}/{n:03d}/mapped/{n * 37 % 1000:03d}" for n in range(400)]
        signed = sign(key_signer(), meant, Order())
        if parse(signed.map_text()) != signed.entries:
            raise Broken("a map has other entries after it was written")
        fs = OSSPresignedFileSystem(url_map=signed.map_text())
        for path in meant[50::30]:
            for wrong in (f"x{path[1:]}", f"{path[:-1]}x"):
                try:
                    fs.pipe_file(wrong, b"")
                except NotCoveredError as error:
                    if error.nearest[:1] != (path,):
                        near = error.nearest
                        raise Broken(f"{wrong} is near {path}, not {near}") from error
                else:
                    raise Broken(f"{wrong} is in a map of other paths")

    def _skewed(self) -> None:
        """If the clocks differ, the error of a refused request says by how much."""
        fs = self._like(retries=0, overwrite=True)
        path, data = self._data("skewed", _SMALL)
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

    def _signer_away(self) -> None:
        """If a signer cannot be reached, the error names its host."""
        world: World = self.network.world
        fs = self._like(retries=0, **http_options(world))
        path, data = self._data("unsigned", _SMALL)
        world.signer_replies = [(0, {})] * 9
        try:
            fs.pipe_file(path, data)
        except SignerUnavailableError as error:
            if "the connection to signer.example failed" not in str(error):
                raise Broken(f"a signer that is away gives {error!r}") from error
        else:
            raise Broken(f"{path} is stored without a signature")
        world.signer_replies = []
        self._is(path, None)

    def _unlocked(self) -> None:
        """If the signer does not forbid to replace a hidden object, a warning says so."""
        signer, first = LaxSigner(self.network.world), len(self.ledger.warned)
        given = {"signer": signer, "signer_token": None, "overwrite": None}
        fs = self._like(**given, if_unverifiable="missing")
        path, data = self._data("unlocked", _SMALL)
        fs.exists(path)
        fs.pipe_file(path, data)
        texts = self.ledger.warned[first:]
        del self.ledger.warned[first:]
        self._is(path, data)
        if not any("is not signed" in text for text in texts):
            raise Broken(f"an object without a lock is sent with {texts}")

    def leave_open(self) -> None:
        """Begin uploads that only the end of the process ends; one of them is closing."""
        path, data = self._data("left", _LARGE)
        file = self._like().open(path, "wb")
        file.write(data)
        time.sleep(10)
        abort_at_exit.end_all()  # Python calls this function at exit
        self._is(path, None)
        if self._uploads("left"):
            raise Broken("the end of the process leaves an upload open")
        path, data = self._data("ended", _LARGE)
        fs, failures = self._like(timeout=60, max_concurrency=1), list[Exception]()
        file = fs.open(path, "wb")
        file.write(data)

        def close() -> None:
            try:
                file.close()
            except OSError as error:
                failures.append(error)

        self.network.breaks = True  # the file is published, but the reply is lost
        thread = threading.Thread(target=close)
        thread.start()
        time.sleep(10)
        abort_at_exit.end_all()
        thread.join()
        self._is(path, data)
        outcomes = [getattr(failure, "outcome", None) for failure in failures]
        if outcomes != [Outcome.UNKNOWN]:
            raise Broken(f"at the end of the process, a file ends with {failures}")

    def _once(self) -> None:
        """Retries repair any failure that occurs once."""
        fs = self._like(retries=8, retry_timeout=300, timeout=5, checksum="auto")
        (small, one), (large, two) = self._data("s", _SMALL), self._data("l", _LARGE)
        copied, local = self._data("copied once", 0)[0], self.place / "once"
        self.ledger.copying(large, copied)
        self.network.once = set()
        fs.pipe_file(small, one)
        local.write_bytes(two)
        fs.put_file(str(local), large, callback=(counted := Counted()))
        counted.check(_LARGE)
        fs.cp_file(large, copied)
        fs.get_file(copied, str(local), callback=(counted := Counted()))
        counted.check(_LARGE)
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
        for size, requests in ((_SMALL, 1), (_LARGE, 4)):
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

    def _differing(self) -> None:
        """A call fails if the reply has the checksum of other bytes."""
        fs = self._like(checksum="auto", retries=0)
        self.network.lies = True
        for size in (_SMALL, _LARGE):
            path, data = self._data(f"differing{size}", size)
            for write in (self._piped, self._streamed):
                try:
                    write(fs, path, data)
                except IntegrityError as error:
                    if error.outcome is Outcome.NOT_STORED:
                        raise Broken(f"{path} is stored, but {error!r}") from error
                else:
                    raise Broken(f"{path} has another checksum, and no error")
        self.network.lies = False

    def _piped(self, fs: Any, path: str, data: bytes) -> None:
        fs.pipe_file(path, data, overwrite=True)

    def _streamed(self, fs: Any, path: str, data: bytes) -> None:
        with fs.open(path, "wb", overwrite=True) as file:
            file.write(data)

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

    def _busy_signer(self) -> None:
        """A signer that is down for a moment is asked again."""
        world: World = self.network.world
        fs = self._lasting(retries=2, **http_options(world))
        for status in (429, 500):
            path, data = self._data(f"signed after {status}", _SMALL)
            world.signer_replies = [(status, {})] * 2
            fs.pipe_file(path, data)
            self._is(path, data)
            if world.signer_replies:
                raise Broken(f"a signer did not say {status} twice")

    def _refusing_signers(self) -> None:
        """A refused signature is not asked for again, and each error has the reason."""
        world: World = self.network.world
        problem = {"code": "forbidden", "detail": "closed on Sundays"}
        for name, options in (
            ("service", http_options(world)),
            ("user", {"signer": ManySigner(world), "signer_token": None}),
        ):
            fs = self._lasting(**options)
            objects = dict(self._data(f"{name}{number}", 17) for number in range(3))
            world.signer_replies = [(403, problem)] * 9
            failed = fs.pipe(objects, on_error="return")
            asked, world.signer_replies = 9 - len(world.signer_replies), []
            for path, error in zip(objects, failed, strict=True):
                self._is(path, None)
                named = isinstance(error, SignerError) and error.filename
                if named != path or "closed on Sundays" not in str(error):
                    raise Broken(f"the signer refuses {path}, but {error!r}")
            if asked > len(objects):
                raise Broken(f"a {name} that refused was asked {asked} times")

    def _bad_signers(self) -> None:
        """The error of a refused request has its type, and names the cause."""
        access, world = environment_credentials(), self.network.world
        other = evolve(access, access_key_secret="other")
        unknown = evolve(access, access_key_id="LTAIunknown")
        code = "SignatureDoesNotMatch"
        for signer, kind, words in (
            (key_signer(credentials=lambda: other), SignatureMismatchError, code),
            (key_signer(credentials=lambda: unknown), AccessDeniedError, "not know"),
            (key_signer(region="us-west-1"), InvalidRequestError, "us-west-1"),
            (BadSigner(world, method="POST"), SignerError, "signed POST"),
            (BadSigner(world, headers={}), NotCoveredError, "x-oss-storage-class"),
        ):
            self._refusal(signer, kind, words)
        self.network.adds = (b"x-oss-meta-added: 1",)
        words = "x-oss-meta-added arrived and was not sent"
        self._refusal(key_signer(), SignatureMismatchError, words)
        self.network.adds = ()

    def _refusal(self, signer: Signer, kind: type[OSError], words: str) -> None:
        path, data = self._data("signed wrongly", _SMALL)
        fs = self._like(signer=signer, signer_token=None, overwrite=True)
        try:
            fs.pipe_file(path, data, storage_class="IA")
        except kind as error:
            if words not in str(error):
                raise Broken(f"the error of {words!r} is {error!r}") from error
        else:
            raise Broken(f"{path} is stored in spite of {words!r}")
        self._is(path, None)

    def _clashing(self) -> None:
        """A file and a directory cannot have one name, so nothing is fetched."""
        there, back = f"{self.root}/clash", self.place / "clash"
        for name in ("f", "f/g"):
            path, data = self._data(f"clash/{name}", 17)
            self.fs.pipe_file(path, data)
        try:
            self.fs.get(f"{there}/", f"{back}/", recursive=True)
        except ConfigurationError:
            if back.exists() and _files(back):
                raise Broken("objects were fetched before their names were") from None
        else:
            raise Broken(f"a file and a directory are one: {_files(back)}")

    def _by_map(self) -> None:
        """A map with exactly the parts of a file sends it; its owner may complete it."""
        model = self.network.server.model
        demands, model.demands = (
            model.demands,
            {},
        )  # a map does not contain the options
        for is_owners in (False, True):
            path, data = self._data(f"mapped {is_owners}", _LARGE)
            cut = Cut(parts=3, part_size=102_400)
            order = Order(cut=cut, owner_completes=is_owners)
            signed = sign(key_signer(), [path], order)
            given: dict[str, Any] = {"url_map": json.loads(signed.map_text())}
            if is_owners:
                given["receipts"] = str(self.place / "receipts")
            limit = self.fs.storage_options.get("max_concurrency")
            fs = OSSPresignedFileSystem(max_concurrency=limit, **given)
            receipt = fs.put_file(self._local("mapped", data), path)
            self._is(path, None if is_owners else data)
            if receipt.status != ("pending" if is_owners else "stored"):
                raise Broken(f"{path} of a map is {receipt.status}")
            if len(self._uploads("mapped")) != is_owners:
                raise Broken("the upload of a map is open, or its parts are gone")
        forget(key_signer(), signed)
        model.demands = demands

    def _unwritten(self) -> None:
        """A resume file that cannot be written stops no upload, and is warned of."""
        path, data = self._data("unwritten", _LARGE)
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

    def _slow_disk(self) -> None:
        """A disk that is slower than the limit for the store ends no download."""
        path, local = f"{self.root}/put", self.place / "slowly"
        assert disks.disk is not None
        disks.disk.pauses = [8.0]
        self._like(retries=0, timeout=5).get_file(path, str(local))
        if disks.disk.pauses or local.read_bytes() != self._at(path):
            raise Broken("a download to a slow disk has other bytes")

    def _broken_off(self) -> None:
        self._unanswered(self._like(retries=0, timeout=3, checksum="auto"))
        self._aborted(self._like(retries=0))
        self._resumed(self._like(retries=0, resume_dir=str(self.place / "journals")))

    def _unanswered(self, fs: Any) -> None:
        """If a reply is lost with all connections, a new connection checks the object.

        The object is compared by its MD5 if the store computes no CRC-64.
        """
        for size, share in ((_SMALL, 0.0), (_LARGE, 0.0), (_SMALL, 1.0)):
            self.network.faults = Faults(no_crc=share)
            self.network.breaks, self.network.dead = True, 0
            path, data = self._data(f"unanswered{size}-{share}", size)
            fs.pipe_file(path, data)
            self._is(path, data)
        self.network.dead, self.network.faults = 0, Faults()

    def _aborted(self, fs: Any) -> None:
        """A failed transaction publishes nothing, and leaves no upload open."""
        for parts in (4, 1000):
            # with 4, not all parts arrive; with 1000, all arrive, but the object is not
            # published
            self._lost(fs, parts)

    def _lost(self, fs: Any, parts: int) -> None:
        objects = [self._data(f"lost{number}", _LARGE) for number in range(2)]
        self.network.parts_left = parts
        try:
            with fs.transaction:
                for path, data in objects:
                    with fs.open(path, "wb") as file:
                        file.write(data)
        except (ConnectionError, UploadErrors):
            pass
        else:
            raise Broken("a transaction without its requests succeeds")
        finally:
            self.network.parts_left = None
        for path, _ in objects:
            self._is(path, None)
        if self._uploads("lost"):
            raise Broken("uploads of a failed transaction are left open")

    def _uploads(self, name: str) -> list[Any]:
        uploads = self.network.server.store.buckets[BUCKETS[0]].uploads.values()
        key = f"{self.root}/{name}".partition("/")[2]
        return [upload for upload in uploads if upload.key.startswith(key)]

    def _resumed(self, fs: Any) -> None:
        """After a failed upload, the next call sends no part twice.

        If the file has changed, the next call sends it as a whole.
        """
        (self.place / "journals").mkdir(exist_ok=True)
        (self.place / "journals").chmod(0o770)  # the group has no other user
        for is_edited in (False, True):
            path, data = self._data("resumed", _LARGE)
            local = self._local("resumed", data)
            self._interrupted(fs, local, path)
            (upload,) = self._uploads("resumed")
            missing = 3 - len(upload.parts)
            if is_edited:
                path, data = self._data("resumed", _LARGE)
                _written(Path(local), data)
                missing = 3
            before = self.network.server.calls["UploadPart"]
            counted, warned = Counted(), self.ledger.warned
            first = len(warned)
            fs.put_file(local, path, callback=counted, overwrite=True)
            if ["has changed" in text for text in warned[first:]] != [True] * is_edited:
                raise Broken(f"a resumed upload warns: {warned[first:]}")
            del warned[first:]
            self._is(path, data)
            counted.check(_LARGE, is_even=True)
            sent = self.network.server.calls["UploadPart"] - before
            if sent != missing:
                raise Broken(f"a resumed upload sent {sent} of {missing} missing parts")

    def _interrupted(self, fs: Any, local: str, path: str) -> None:
        """Lose all requests of an upload after its first part."""
        self.network.parts_left = 1
        try:
            fs.put_file(local, path, overwrite=True)
        except ConnectionError as error:
            notes = getattr(error, "__notes__", ())
            if not any("run the same again to resume" in note for note in notes):
                raise Broken(f"{error!r} only has the notes {notes}") from error
        else:
            raise Broken("an upload without its parts succeeds")
        finally:
            self.network.parts_left = None


class _Closing(io.RawIOBase):
    """A file of a library; its finalizer closes it, and so the file below it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any, /) -> Any:
        return self._file.write(data)

    def close(self) -> None:
        super().close()
        self._file.close()


def _written(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    os.utime(file, (time.time(), time.time()))


def _files(place: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(place)): file.read_bytes()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }
