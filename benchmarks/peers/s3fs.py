"""s3fs, the fsspec file system over aiobotocore."""

from __future__ import annotations

from ..candidates import Timed, Where, candidate
from ..work import Work
from .boto3 import CHECKS, settings
from .common import KEY_ID, REGION, SECRET, chosen, producer, spans, started

START = f"""
import s3fs
fs = s3fs.S3FileSystem(
    key={KEY_ID!r}, secret={SECRET!r}, endpoint_url=url,
    client_kwargs={{"region_name": {REGION!r}, "verify": ca}},
    config_kwargs={{
        "request_checksum_calculation": "when_required",
        "s3": {{"addressing_style": "path", "payload_signing_enabled": False}},
    }},
)
fs.pipe_file(bucket + "/" + key, body)
"""


@candidate(
    "s3fs",
    verbs={"put", "multipart", "stream", "small", "get", "ranges", "start"},
    checks=CHECKS,
    needs=("s3fs",),
    note="chunksize, block_size, max_concurrency and batch_size as the others have "
    "them; reads the whole file of one PUT into memory; "
    "waits for 100-continue before each body",
)
def s3fs(work: Work, where: Where) -> Timed:
    """Do all of it through the calls of fsspec."""
    if work.verb == "start":
        return started(work, where, START)
    from s3fs import S3FileSystem

    fs = S3FileSystem(
        key=KEY_ID,
        secret=SECRET,
        endpoint_url=where.url,
        client_kwargs={"region_name": REGION, "verify": where.ca},
        config_kwargs=settings(work),
        max_concurrency=work.concurrency,
        default_block_size=work.part_size,
        skip_instance_cache=True,
    )
    fs.connect()
    path = f"{where.target}/{where.key()}"
    blocks = producer(work, where)

    def put() -> None:
        fs.put_file(where.files[0], path, chunksize=work.size)

    def multipart() -> None:
        fs.put_file(where.files[0], path, chunksize=work.part_size)

    def stream() -> None:
        with fs.open(path, "wb", block_size=work.part_size) as file:
            for block in blocks():
                file.write(block)

    def small() -> None:
        targets = [f"{where.target}/{where.key(i)}" for i in range(work.count)]
        fs.put(list(where.files), targets, batch_size=work.concurrency)

    def get() -> None:
        fs.get_file(path, where.download, chunksize=work.part_size)

    def ranges() -> None:
        places = spans(work)
        found = fs.cat_ranges(
            [path] * len(places),
            [start for start, _ in places],
            [start + length for start, length in places],
            batch_size=work.concurrency,
            on_error="raise",
        )
        if sum(map(len, found)) != work.count * work.block:
            raise OSError("wrong length")

    return chosen(
        work,
        {
            "put": put,
            "multipart": multipart,
            "stream": stream,
            "small": small,
            "get": get,
            "ranges": ranges,
        },
    )
