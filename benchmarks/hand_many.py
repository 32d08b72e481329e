"""Many small requests by hand: files of a directory, and ranges of an object."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

from .candidates import Timed, Where, candidate, offsets
from .hand import BLOCK, Pool, Task, ask, connect, target_of
from .ours import presigner
from .work import Work


def _small(work: Work, where: Where, send: Callable[[str, bytes], None]) -> Timed:
    sign = presigner(where)
    urls = [sign("PUT", where.key(index)) for index in range(work.count)]

    def one(job: tuple[str, str]) -> None:
        with open(job[0], "rb", buffering=0) as file:
            send(job[1], file.read())

    def run() -> None:
        with ThreadPoolExecutor(work.concurrency) as threads:
            for _ in threads.map(one, zip(where.files, urls, strict=True)):
                pass

    return run


def _session(work: Work, where: Where) -> Any:
    import requests  # noqa: PLC0415 - only for who measures it
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    session = requests.Session()
    adapter = HTTPAdapter(pool_maxsize=work.concurrency)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    if where.ca:
        session.verify = where.ca
    return session


@candidate("hand:session", verbs={"small"}, note="`session.put` of requests in threads")
def session(work: Work, where: Where) -> Timed:
    """What the manual of requests says."""
    pool = _session(work, where)

    def send(url: str, data: bytes) -> None:
        pool.put(url, data=data).raise_for_status()

    return _small(work, where, send)


@candidate(
    "hand:prepared",
    verbs={"small"},
    note="PreparedRequest by hand, in threads; the environment is asked once",
)
def prepared(work: Work, where: Where) -> Timed:
    """Requests prepared without its preparations."""
    from requests import PreparedRequest  # noqa: PLC0415 - see _session
    from requests.structures import CaseInsensitiveDict  # noqa: PLC0415

    pool = _session(work, where)
    settings = pool.merge_environment_settings(where.url, {}, None, None, None)

    def send(url: str, data: bytes) -> None:
        request = PreparedRequest()
        request.method, request.url, request.body = "PUT", url, data
        request.headers = CaseInsensitiveDict({"Content-Length": str(len(data))})
        request.hooks = {"response": []}
        pool.send(request, **settings).raise_for_status()

    return _small(work, where, send)


@candidate("hand:http.client", verbs={"small"}, note="a connection a thread")
def plain(work: Work, where: Where) -> Timed:
    """Nothing but the standard library."""
    local = threading.local()

    def send(url: str, data: bytes) -> None:
        if not hasattr(local, "connection"):
            local.connection = connect(where)
        ask(local.connection, "PUT", target_of(url), data, len(data))

    return _small(work, where, send)


@candidate("hand:heads", verbs={"heads"}, note="threads with a connection each")
def heads(work: Work, where: Where) -> Timed:
    """HEADs of many objects."""
    pool = Pool(where, work.concurrency)
    sign = presigner(where)
    targets = [target_of(sign("HEAD", where.key(at))) for at in range(work.count)]

    def asking(target: str) -> Task:
        return lambda connection: ask(connection, "HEAD", target)

    def run() -> None:
        pool.each(map(asking, targets))

    return run


@candidate(
    "hand:ranges",
    verbs={"get", "ranges"},
    note="threads; `readinto` a buffer of 256 KiB and `pwrite`",
)
def ranged(work: Work, where: Where) -> Timed:
    """A download in ranges; many ranges in memory."""
    pool = Pool(where, work.concurrency)
    target = target_of(presigner(where)("GET", where.key()))

    def fetch(start: int, stop: int, file: int | None) -> Task:
        def task(connection: HTTPConnection) -> bytes:
            headers = {"Range": f"bytes={start}-{stop - 1}"}
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            if file is None:
                return response.read()
            buffer, at = memoryview(bytearray(BLOCK)), start
            while count := response.readinto(buffer):
                at += os.pwrite(file, buffer[:count], at)
            if at != stop:
                raise RuntimeError(f"{at - start} bytes came of {stop - start}")
            return b""

        return task

    def get() -> None:
        file = os.open(where.download, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.truncate(file, work.size)
        spans = range(0, work.size, work.part_size)
        pool.each(fetch(at, min(at + work.part_size, work.size), file) for at in spans)
        os.close(file)

    def many() -> None:
        found = pool.each(fetch(at, at + work.block, None) for at in offsets(work))
        assert {len(piece) for piece in found} == {work.block}  # noqa: S101

    return get if work.verb == "get" else many
