"""ossfs, the other fsspec file system for OSS, over oss2 2.18.4."""

from __future__ import annotations

from typing import Any

from ..candidates import Timed, Where, candidate
from ..work import Work
from .common import KEY_ID, SECRET, chosen, producer, started, trust

START = f"""
import ossfs
fs = ossfs.OSSFileSystem(key={KEY_ID!r}, secret={SECRET!r}, endpoint=url)
fs.pipe_file("/" + bucket + "/" + key, body)
"""


def _filesystem(work: Work, where: Where) -> Any:
    import oss2
    from ossfs import OSSFileSystem

    fs = OSSFileSystem(
        key=KEY_ID, secret=SECRET, endpoint=where.url, skip_instance_cache=True
    )
    # The size of its pool has no option.
    fs._session = oss2.Session(pool_size=work.concurrency)  # noqa: SLF001
    return fs


@candidate(
    "ossfs",
    verbs={"put", "multipart", "stream", "small", "start"},
    checks="CRC-64 (default), crcmod",
    needs=("ossfs",),
    note="put_file hands its options to resumable_upload, which only files of "
    "100 MiB and more reach; a stream is appended, a request a block; many files go one "
    "after another; no downloads: get_file lists the bucket first, which is empty here, "
    "and cat_file returns a byte too many",
)
def ossfs(work: Work, where: Where) -> Timed:
    """Do all of it through the calls of fsspec, with the synchronous class."""
    trust(where)
    if work.verb == "start":
        return started(work, where, START)
    import oss2

    fs = _filesystem(work, where)
    path = f"/{where.target}/{where.key()}"
    blocks = producer(work, where)
    shape = {"part_size": work.part_size, "num_threads": work.concurrency}
    if work.size < oss2.defaults.multiget_threshold:
        shape = {}

    def put() -> None:
        more = {"multipart_threshold": work.size + 1} if shape else {}
        fs.put_file(where.files[0], path, **more)

    def multipart() -> None:
        store = oss2.ResumableStore(root=where.directory)
        more = {"multipart_threshold": work.part_size, "store": store} if shape else {}
        fs.put_file(where.files[0], path, **shape, **more)

    def stream() -> None:
        with fs.open(path, "wb", block_size=work.part_size) as file:
            for block in blocks():
                file.write(block)

    def small() -> None:
        targets = [f"/{where.target}/{where.key(i)}" for i in range(work.count)]
        fs.put(list(where.files), targets)

    return chosen(
        work, {"put": put, "multipart": multipart, "stream": stream, "small": small}
    )
