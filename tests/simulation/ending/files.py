"""Ranges, types, limits and memory of files and objects."""

from __future__ import annotations

import gc
import gzip
import io
import time
from collections import Counter
from contextlib import suppress
from itertools import product
from typing import Any

from fsspec_osspresigned.engine.limits import memory_budget
from fsspec_osspresigned.errors import (
    ConfigurationError,
    IntegrityError,
    SourceChangedError,
)
from fsspec_osspresigned.signers.base import ChainSigner

from .. import curl
from .. import disk as disks
from ..network import Faults
from ..signers import key_signer
from ..store import BUCKETS
from ..verbs import Branched, ByUserError, Counted
from ..world import Broken
from .steps import LARGE, SMALL, NamedStep, Steps, all_files


class FileSteps(Steps):
    """Ranges, types, limits and memory of files and objects."""

    @property
    def of_files(self) -> tuple[NamedStep, ...]:
        return (
            ("an object that is replaced while it is read", self._replaced),
            ("the ranges of a read", self._ranges),
            ("a file that is read in order", self._in_order),
            ("the types of files", self._types),
            ("the memory of an open file", self._memory),
            ("files that are never closed", self._dropped),
            ("a file that is closed", self._closed),
            ("a file of an exception handler", self._handled),
            ("objects at a limit", self._limits),
            ("an upload with an MD5", self._by_md5),
            ("callbacks of many files", self._counted),
            ("a move of what a transaction holds", self._held),
            ("a transaction without a disk", self._small_ones),
            ("an object with the name of a directory", self._clashing),
            ("objects whose names lead out of a folder", self._escaping),
            ("names at their limits", self._names),
            ("an upload that ends while parts are sent", self._ended_early),
            ("a filesystem that is dropped", self._released),
            ("a copy in parts", self._copied_in_parts),
            ("parts that threads send", self._large_parts),
        )

    def _replaced(self) -> None:
        """A file that is open for reading never mixes two versions."""
        path, old = self._data("replaced", SMALL)
        self.fs.pipe_file(path, old)
        _, new = self._data("replaced", SMALL)
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

    def _in_order(self) -> None:
        """A file that is read in order to its end is compared with the object."""
        path, data = self._data("in order", SMALL)
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
            path, data = self._data(f"types/{name}", SMALL)
            fs.put_file(self._local(name, data), path)
            self._is(path, data)
            key = path.partition("/")[2]
            found = self.network.server.store.buckets[BUCKETS[0]].objects[key]
            if found.headers["content-type"] != (given or kind or octets):
                raise Broken(f"{name} has the headers {found.headers}")

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
        path, data = self._data("committed", SMALL)
        file = fs.open(path, "wb", autocommit=False)
        file.write(data)
        file.close()
        self._is(path, None)
        file.commit()
        self._is(path, data)
        if memory_budget().used != before:
            raise Broken("a file that was committed uses memory")

    def _escaping(self) -> None:
        """An object is never fetched to a place outside its folder."""
        there, back = f"{self.root}/escaping", self.place / "escaping" / "here"
        for name in ("a", "b/../../../out"):
            path, data = self._data(f"escaping/{name}", 17)
            self.fs.pipe_file(path, data)
        back.mkdir(parents=True)
        with suppress(ConfigurationError):
            self.fs.get(f"{there}/", f"{back}/", recursive=True)
            raise Broken("an object was fetched whose name leads out of its folder")
        if all_files(back.parent):
            raise Broken(f"objects were fetched to {all_files(back.parent)}")

    def _ended_early(self) -> None:
        """An upload is aborted after its last part has ended, or the part could stay."""
        given = {"on_exception": "discard", "timeout": 60, "max_concurrency": 4}
        fs = self._lasting(overwrite=True, **given)
        path, data = self._data("ended early", LARGE)
        file = fs.open(path, "wb")
        self.network.faults = Faults(slow=1.0)
        file.write(data)
        time.sleep(0.5)
        first, self.network.faults = len(self.network.events), Faults()
        file.discard()
        self._is(path, None)
        events = self.network.events
        aborts = [e.at for e in events[first:] if e.action == "AbortMultipartUpload"]
        names = {event.upload_id for event in events[first:]}
        parts = [e.ended for e in events if e.is_part and e.upload_id in names]
        if not aborts or max(parts, default=0) > max(aborts):
            raise Broken(f"parts ended at {parts}, but the upload at {aborts}")

    def _names(self) -> None:
        """An object key has 1 to 1,023 bytes, and begins with no slash or backslash."""
        bucket, _, folder = self.root.partition("/")
        fs = self._like(overwrite=True)
        for size in (1, 1023):
            key = folder[-1] if size == 1 else f"{folder}/".ljust(size, "n")
            path, data = f"{bucket}/{key}", self.ledger.content(17)
            self.ledger.write(path, data)
            fs.pipe_file(path, data)
            self._is(path, data)
        first = len(self.network.events)
        for wrong in (f"{folder}/".ljust(1024, "n"), f"\\{folder}", f"{folder}/\udc80"):
            try:
                fs.pipe_file(f"{bucket}/{wrong}", b"x")
            except ConfigurationError as error:
                if "key" not in str(error):
                    raise Broken(f"the error of {wrong[:50]!r} is {error!r}") from error
            else:
                raise Broken(f"the key {wrong[:50]!r} was used")
        if len(self.network.events) > first:
            raise Broken("requests with wrong keys were sent")

    def _closed(self) -> None:
        """A file that is closed or discarded takes no more bytes."""
        fs = self._like(overwrite=True)
        for ends in ("close", "discard"):
            path, data = self._data(f"after {ends}", SMALL)
            file = fs.open(path, "wb")
            file.write(data)
            getattr(file, ends)()
            with suppress(ValueError):
                file.write(b"x")
                raise Broken(f"{path} takes bytes after {ends}")
            self._is(path, data if ends == "close" else None)

    def _handled(self) -> None:
        """An exception from before a file was opened does not discard the file."""
        path, data = self._data("of a handler", SMALL)
        try:
            raise ByUserError
        except ByUserError:
            file = self._like(overwrite=True).open(path, "wb")
            file.write(data)
            file.close()
        self._is(path, data)

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
        gc.collect()  # a GzipFile of Python 3.12 is in a reference cycle
        time.sleep(5)
        for path in paths:
            self._is(path, None)
        del self.ledger.warned[first:]

    def _released(self) -> None:
        """A filesystem that is dropped closes the idle connections of its threads."""
        before = curl.open_connections()
        given = {"overwrite": True, "multipart_threshold": 2 * LARGE, "timeout": 7}
        fs = self._like(skip_instance_cache=True, **given)
        path, data = self._data("released", LARGE)
        fs.pipe_file(path, data)
        if not curl.open_connections() - before:
            raise Broken("an upload leaves no connection for the next one")
        del fs
        gc.collect()
        time.sleep(1)
        if kept := curl.open_connections() - before:
            raise Broken(
                f"a filesystem was dropped, but {len(kept)} connections are open"
            )

    def _copied_in_parts(self) -> None:
        """A large object is copied in parts, which are then one object."""
        fs = self._like(overwrite=True, checksum="auto")
        path, data = self._data("large", 400_000)  # more than one copy may have here
        copied, _ = self._data("copied in parts", 0)
        self.ledger.copying(path, copied)
        fs.pipe_file(path, data)
        before = Counter(self.network.server.calls)
        fs.cp_file(path, copied)
        self._is(copied, data)
        calls = Counter(self.network.server.calls) - before
        ends = calls["AbortMultipartUpload"], calls["CompleteMultipartUpload"]
        if (calls["UploadPartCopy"], *ends) != (4, 0, 1):
            raise Broken(f"a copy of {len(data)} bytes is made by {dict(calls)}")

    def _large_parts(self) -> None:
        """Each part of a file has its own bytes, also if a thread reads and sends it."""
        part, size = LARGE + 1000, 3 * LARGE
        fs = self._like(overwrite=True, multipart_threshold=part, part_size=part)
        path, data = self._data("large parts", size)
        for write in (self._put, self._streamed):
            write(fs, path, data)
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

    def _by_md5(self) -> None:
        """A file is compared by its MD5; no other request waits for that."""
        size = 5 * LARGE  # the package reads smaller files as a whole
        fs = self._like(checksum="md5", overwrite=True, multipart_threshold=size)
        path, data = self._data("by MD5", size)
        self._put(fs, path, data)  # ``disk`` checks which thread reads the file
        self._is(path, data)

    def _counted(self) -> None:
        """A callback of many files counts their bytes, or files and bytes by branches."""
        local, back = self.place / "counted", self.place / "counted back"
        local.mkdir()
        there = f"{self.root}/counted"
        for name, size in (("a", 17), ("b", SMALL), ("c", LARGE)):
            _, data = self._data(f"counted/{name}", size)
            (local / name).write_bytes(data)
        total = 17 + SMALL + LARGE
        fs = self._like(overwrite=True)
        for verb, source, target in ((fs.put, local, there), (fs.get, there, back)):
            counted, branched = Counted(), Branched()
            for callback in (counted, branched):
                verb(f"{source}/", f"{target}/", recursive=True, callback=callback)
            counted.check(total, is_even=True)
            branched.check(len(branched.parts))  # a directory may be counted, too
            sizes = [part.value for part in branched.parts if part.value]
            if sorted(sizes) != [17, SMALL, LARGE]:
                raise Broken(f"the callbacks of files count {sizes} bytes")

    def _held(self) -> None:
        """An object that waits for the end of its transaction is not moved or deleted."""
        path, old = self._data("held/x", SMALL)
        _, new = self._data("held/x", SMALL)
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

    def _clashing(self) -> None:
        """A file and a directory cannot have one name, so nothing is fetched.

        A recursive deletion removes both.
        """
        there, back = f"{self.root}/clash", self.place / "clash"
        for name in ("f", "f/g"):
            path, data = self._data(f"clash/{name}", 17)
            self.fs.pipe_file(path, data)
        try:
            self.fs.get(f"{there}/", f"{back}/", recursive=True)
        except ConfigurationError:
            if back.exists() and all_files(back):
                raise Broken("objects were fetched before their names were") from None
        else:
            raise Broken(f"a file and a directory are one: {all_files(back)}")
        paths = [f"{there}/f", f"{there}/f/g"]
        for path in paths:
            self.ledger.deletes(path)
        self.fs.rm(paths[0], recursive=True)
        for path in paths:
            self._is(path, None)


class _Closing(io.RawIOBase):
    """A file of a library; its finalizer closes it, and so the file below it."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any, /) -> Any:
        return self._file.write(data)

    def close(self) -> None:
        super().close()
        self._file.close()
