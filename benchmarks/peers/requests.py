"""requests and urllib3 on signed URLs, in threads."""

from __future__ import annotations

import os
from typing import Any

from ..candidates import Timed, Where, candidate
from ..work import Work
from .common import chosen, contents, in_threads, signed, started, trust

BLOCK = 1 << 18

START = """
import requests
with requests.Session() as session:
    session.put(signed, data=body, verify=ca or True).raise_for_status()
"""


@candidate(
    "requests",
    verbs={"put", "small", "get", "start"},
    needs=("requests",),
    note="session.put(data=file) as its manual has it, in threads; a download is "
    "iter_content on one connection",
)
def requests(work: Work, where: Where) -> Timed:
    """Send as the manual of requests shows."""
    if work.verb == "start":
        return started(work, where, START)
    import requests as http

    session = http.Session()
    trust(where)
    adapter = http.adapters.HTTPAdapter(pool_maxsize=work.concurrency)
    session.mount(where.url, adapter)
    where.closing.callback(session.close)
    urls = signed(work, where)

    def put() -> None:
        with open(where.files[0], "rb") as file:
            session.put(urls[0], data=file).raise_for_status()

    def one(index: int) -> None:
        body = contents(where.files[index])
        session.put(urls[index], data=body).raise_for_status()

    def get() -> None:
        with (
            session.get(urls[0], stream=True) as reply,
            open(where.download, "wb") as file,
        ):
            reply.raise_for_status()
            file.writelines(reply.iter_content(BLOCK))

    small = lambda: in_threads(work, one, range(work.count))  # noqa: E731
    return chosen(work, {"put": put, "small": small, "get": get})


@candidate(
    "urllib3",
    verbs={"put", "small", "get"},
    needs=("urllib3",),
    note="one pool with blocksize 256 KiB, in threads; retries off; a download is "
    "stream() on one connection",
)
def urllib3(work: Work, where: Where) -> Timed:
    """Send through a pool of connections."""
    import urllib3 as http

    options: dict[str, Any] = {"ca_certs": where.ca} if where.ca else {}
    pool = http.connection_from_url(
        where.url,
        maxsize=work.concurrency,
        block=True,
        blocksize=BLOCK,
        retries=False,
        **options,
    )
    where.closing.callback(pool.close)
    cut = len(where.url)
    targets = [url[cut:] for url in signed(work, where)]

    def send(target: str, body: Any, size: int) -> None:
        # With a length by hand urllib3 does not fall back to chunks.
        reply = pool.request(
            "PUT", target, body=body, headers={"Content-Length": str(size)}
        )
        if reply.status != 200:
            raise OSError(f"status {reply.status}")

    def put() -> None:
        with open(where.files[0], "rb") as file:
            send(targets[0], file, os.path.getsize(where.files[0]))

    def one(index: int) -> None:
        body = contents(where.files[index])
        send(targets[index], body, len(body))

    def get() -> None:
        reply = pool.request("GET", targets[0], preload_content=False)
        with open(where.download, "wb") as file:
            file.writelines(reply.stream(BLOCK))
        reply.release_conn()

    small = lambda: in_threads(work, one, range(work.count))  # noqa: E731
    return chosen(work, {"put": put, "small": small, "get": get})
