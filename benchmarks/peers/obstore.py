"""obstore, the Python face of the Rust crate object_store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..candidates import Timed, Where, candidate
from ..work import Work
from .common import (
    KEY_ID,
    REGION,
    SECRET,
    chosen,
    in_threads,
    producer,
    sections,
    spans,
    started,
)

START = f"""
import pathlib, obstore
from obstore.store import S3Store
options = {{"allow_http": True}}
if ca:
    options["root_certificate"] = pathlib.Path(ca).read_bytes()
store = S3Store(
    bucket, endpoint=url, region={REGION!r}, access_key_id={KEY_ID!r},
    secret_access_key={SECRET!r}, unsigned_payload=True,
    virtual_hosted_style_request=False, client_options=options,
)
obstore.put(store, key, body, use_multipart=False)
"""


def _store(where: Where) -> Any:
    from obstore.store import S3Store

    options: dict[str, Any] = {"allow_http": True, "timeout": "300s"}
    if where.ca:
        options["root_certificate"] = Path(where.ca).read_bytes()
    return S3Store(
        where.target,
        endpoint=where.url,
        region=REGION,
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
        unsigned_payload=True,
        virtual_hosted_style_request=False,
        client_options=options,
    )


@candidate(
    "obstore",
    verbs={"put", "multipart", "stream", "small", "get", "ranges", "start"},
    checks="none (asked: payload unsigned; default SHA-256)",
    needs=("obstore",),
    note="reads the whole file of one PUT into memory; downloads and ranges are "
    "get_range in threads: its get has one connection, its get_ranges always ten",
)
def obstore(work: Work, where: Where) -> Timed:
    """Do all of it through an S3Store with the sync calls."""
    if work.verb == "start":
        return started(work, where, START)
    import obstore as ob

    store = _store(where)
    blocks = producer(work, where)

    def put(index: int = 0) -> None:
        file = Path(where.files[index])
        ob.put(store, where.key(index), file, use_multipart=False)

    def multipart() -> None:
        ob.put(
            store,
            where.key(),
            Path(where.files[0]),
            use_multipart=True,
            chunk_size=work.part_size,
            max_concurrency=work.concurrency,
        )

    def stream() -> None:
        with ob.open_writer(
            store,
            where.key(),
            buffer_size=work.part_size,
            max_concurrency=work.concurrency,
        ) as file:
            for block in blocks():
                file.write(block)

    def get() -> None:
        with open(where.download, "wb") as file:
            number = file.fileno()

            def section(place: tuple[int, int]) -> None:
                body = ob.get_range(store, where.key(), start=place[0], length=place[1])
                os.pwrite(number, body, place[0])

            in_threads(work, section, sections(work))

    def span(place: tuple[int, int]) -> None:
        body = ob.get_range(store, where.key(), start=place[0], length=place[1])
        if len(body) != place[1]:
            raise OSError("wrong length")

    verbs = {"put": put, "multipart": multipart, "stream": stream, "get": get}
    verbs["small"] = lambda: in_threads(work, put, range(work.count))
    verbs["ranges"] = lambda: in_threads(work, span, spans(work))
    return chosen(work, verbs)
