"""oss2, the first Python SDK of Alibaba Cloud OSS."""

from __future__ import annotations

from ..candidates import Timed, Where, candidate
from ..work import Work
from .common import (
    KEY_ID,
    REGION,
    SECRET,
    chosen,
    in_threads,
    spans,
    started,
    trust,
)

VERBS = {"put", "multipart", "small", "get", "ranges"}
NOTE = (
    "resumable_upload and resumable_download with num_threads, their record in the "
    "run's directory; a Session whose pool is as large; V4 signatures"
)

START = f"""
import oss2
auth = oss2.AuthV4({KEY_ID!r}, {SECRET!r})
oss2.Bucket(
    auth, url, bucket, region={REGION!r}
).put_object(key, body)
"""


def _prepare(work: Work, where: Where, *, crc: bool) -> Timed:
    import oss2 as sdk

    trust(where)
    session = sdk.Session(pool_size=work.concurrency)
    bucket = sdk.Bucket(
        sdk.AuthV4(KEY_ID, SECRET),
        where.url,
        where.target,
        session=session,
        enable_crc=crc,
        region=REGION,
    )
    record = {"root": where.directory}

    def put(index: int = 0) -> None:
        bucket.put_object_from_file(where.key(index), where.files[index])

    def multipart() -> None:
        sdk.resumable_upload(
            bucket,
            where.key(),
            where.files[0],
            store=sdk.ResumableStore(**record),
            multipart_threshold=work.part_size,
            part_size=work.part_size,
            num_threads=work.concurrency,
        )

    def get() -> None:
        sdk.resumable_download(
            bucket,
            where.key(),
            where.download,
            store=sdk.ResumableDownloadStore(**record),
            multiget_threshold=work.part_size,
            part_size=work.part_size,
            num_threads=work.concurrency,
        )

    def span(place: tuple[int, int]) -> None:
        last = sum(place) - 1
        found = bucket.get_object(where.key(), byte_range=(place[0], last)).read()
        if len(found) != place[1]:
            raise OSError("wrong length")

    return chosen(
        work,
        {
            "put": put,
            "multipart": multipart,
            "small": lambda: in_threads(work, put, range(work.count)),
            "get": get,
            "ranges": lambda: in_threads(work, span, spans(work)),
        },
    )


@candidate(
    "oss2",
    verbs={*VERBS, "start"},
    checks="CRC-64 (default), crcmod",
    needs=("oss2",),
    note=NOTE,
)
def oss2(work: Work, where: Where) -> Timed:
    """Send with its CRC-64, as it does by itself."""
    trust(where)
    if work.verb == "start":
        return started(work, where, START)
    return _prepare(work, where, crc=True)


@candidate(
    "oss2:nocrc",
    verbs=VERBS,
    checks="none (asked: enable_crc=False)",
    needs=("oss2",),
    note=NOTE,
)
def oss2_nocrc(work: Work, where: Where) -> Timed:
    """Send without a checksum."""
    return _prepare(work, where, crc=False)
