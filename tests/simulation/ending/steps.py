"""The base class of the steps at the end of a program, with their helpers."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec_osspresigned import OSSPresignedFileSystem

from ..ledger import Ledger
from ..network import RETRY_AFTER, Network
from ..store import BUCKETS
from ..world import Broken, World

PATIENCE = 20.0  # virtual seconds that one step may take
SOON = 7.0  # seconds within which an interrupted upload must end
SMALL, LARGE = 1000, 262_145  # bytes

NamedStep = tuple[str, Callable[[], None]]


class Steps:
    """Steps of one caller with the filesystem *fs*; its objects are below *folder*.

    *publishes* tells what ``on_exception`` of *fs* is: True for ``publish``.
    """

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
        if world.now - began > PATIENCE + RETRY_AFTER * len(asked):
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

    def _all(self, found: Mapping[str, object], what: str) -> None:
        if wrong := [name for name, is_right in found.items() if not is_right]:
            raise Broken(f"at the end, {', '.join(wrong)} of {what} are wrong")

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

    def _uploads(self, name: str) -> list[Any]:
        uploads = self.network.server.store.buckets[BUCKETS[0]].uploads.values()
        key = f"{self.root}/{name}".partition("/")[2]
        return [upload for upload in uploads if upload.key.startswith(key)]

    def _piped(self, fs: Any, path: str, data: bytes) -> None:
        fs.pipe_file(path, data, overwrite=True)

    def _put(self, fs: Any, path: str, data: bytes) -> None:
        fs.put_file(self._local("put once more", data), path)

    def _streamed(self, fs: Any, path: str, data: bytes) -> None:
        with fs.open(path, "wb", overwrite=True) as file:
            file.write(data)

    def _pending(self, fs: Any, path: str, data: bytes) -> None:
        with fs.transaction:
            fs.pipe_file(path, data)


def set_file(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    os.utime(file, (time.time(), time.time()))


def all_files(place: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(place)): file.read_bytes()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }
