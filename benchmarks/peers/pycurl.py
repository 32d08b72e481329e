"""pycurl: libcurl's easy handle for one file, its multi handle for many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ..candidates import Timed, Where, candidate
from ..work import Work
from .common import chosen, contents, signed

BUFFER = 1 << 19


def _handle(where: Where) -> Any:
    import pycurl as curl

    made = curl.Curl()
    if where.ca:
        made.setopt(curl.CAINFO, where.ca)
    made.setopt(curl.FAILONERROR, 1)
    made.setopt(curl.HTTPHEADER, ["Expect:"])
    made.setopt(curl.WRITEFUNCTION, lambda _: None)
    return made


def _sender(where: Where) -> Any:
    import pycurl as curl

    made = _handle(where)
    made.setopt(curl.UPLOAD, 1)
    made.setopt(curl.UPLOAD_BUFFERSIZE, BUFFER)
    return made


def _load(multi: Any, easy: Any, files: Iterator[tuple[str, str]]) -> bool:
    """Give the handle the next file; False when there is none."""
    import pycurl as curl

    url, path = next(files, ("", ""))
    if not url:
        return False
    body, sent = contents(path), 0

    def read(size: int) -> bytes:
        nonlocal sent
        block = body[sent : sent + size]
        sent += len(block)
        return block

    easy.setopt(curl.URL, url)
    easy.setopt(curl.READFUNCTION, read)
    easy.setopt(curl.INFILESIZE_LARGE, len(body))
    multi.add_handle(easy)
    return True


def _many(work: Work, where: Where, urls: list[str]) -> None:
    """Send all files, each handle one after another."""
    import pycurl as curl

    multi = curl.CurlMulti()
    files = iter(zip(urls, where.files, strict=True))
    handles = [_sender(where) for _ in range(work.concurrency)]
    busy = sum(_load(multi, easy, files) for easy in handles)
    while busy:
        multi.perform()
        _, done, failed = multi.info_read()
        if failed:
            raise OSError(failed[0][2])
        for easy in done:
            multi.remove_handle(easy)
            busy += _load(multi, easy, files) - 1
        if not done:
            multi.select(1.0)


@candidate(
    "pycurl",
    verbs={"put", "small", "get"},
    needs=("pycurl",),
    note="READDATA is the open file, UPLOAD_BUFFERSIZE 512 KiB, no Expect; many files "
    "go through one CurlMulti with as many handles as connections",
)
def pycurl(work: Work, where: Where) -> Timed:
    """Send with libcurl."""
    import pycurl as curl

    urls = signed(work, where)

    def put() -> None:
        easy = _sender(where)
        easy.setopt(curl.URL, urls[0])
        easy.setopt(curl.INFILESIZE_LARGE, os.path.getsize(where.files[0]))
        with open(where.files[0], "rb") as file:
            easy.setopt(curl.READDATA, file)
            easy.perform()
        easy.close()

    def get() -> None:
        easy = _handle(where)
        easy.setopt(curl.URL, urls[0])
        easy.setopt(curl.BUFFERSIZE, BUFFER)
        with open(where.download, "wb") as file:
            easy.setopt(curl.WRITEDATA, file)
            easy.perform()
        easy.close()

    many = lambda: _many(work, where, urls)  # noqa: E731
    return chosen(work, {"put": put, "small": many, "get": get})
