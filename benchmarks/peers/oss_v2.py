"""alibabacloud-oss-v2, the second Python SDK of Alibaba Cloud OSS."""

from __future__ import annotations

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
    pulled,
    spans,
    started,
    trust,
)

VERBS = {"put", "multipart", "stream", "small", "get", "ranges"}
NOTE = (
    "Uploader and Downloader with part_size and parallel_num; a pool as large; a "
    "stream through upload_from, which pulls from the producer"
)

START = f"""
import alibabacloud_oss_v2 as oss
provider = oss.credentials.StaticCredentialsProvider({KEY_ID!r}, {SECRET!r})
config = oss.config.load_default()
config.credentials_provider = provider
config.region, config.endpoint, config.use_path_style = {REGION!r}, url, True
oss.Client(config).put_object(
    oss.PutObjectRequest(bucket=bucket, key=key, body=body))
"""


def _client(work: Work, where: Where, *, crc: bool) -> Any:
    import alibabacloud_oss_v2 as oss
    from alibabacloud_oss_v2.transport import RequestsHttpClient

    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(
        KEY_ID, SECRET
    )
    config.region = REGION
    config.endpoint = where.url
    config.use_path_style = True
    config.disable_upload_crc64_check = not crc
    config.disable_download_crc64_check = not crc
    config.http_client = RequestsHttpClient(max_connections=work.concurrency)
    return oss.Client(config)


def _prepare(work: Work, where: Where, *, crc: bool) -> Timed:
    import alibabacloud_oss_v2 as oss

    trust(where)
    client = _client(work, where, crc=crc)
    blocks = producer(work, where)
    name = {"bucket": where.target}
    shape = {"part_size": work.part_size, "parallel_num": work.concurrency}

    def put(index: int = 0) -> None:
        request = oss.PutObjectRequest(key=where.key(index), **name)
        client.put_object_from_file(request, where.files[index])

    def multipart() -> None:
        request = oss.PutObjectRequest(key=where.key(), **name)
        client.uploader(**shape).upload_file(request, where.files[0])

    def stream() -> None:
        request = oss.PutObjectRequest(key=where.key(), **name)
        client.uploader(**shape).upload_from(request, pulled(work, blocks()))

    def get() -> None:
        request = oss.GetObjectRequest(key=where.key(), **name)
        options = {**shape, "block_size": 1 << 18}
        client.downloader(**options).download_file(request, where.download)

    def span(place: tuple[int, int]) -> None:
        asked = f"bytes={place[0]}-{sum(place) - 1}"
        request = oss.GetObjectRequest(key=where.key(), range_header=asked, **name)
        if len(client.get_object(request).body.content) != place[1]:
            raise OSError(f"{asked}: wrong length")

    verbs = {"put": put, "multipart": multipart, "stream": stream, "get": get}
    verbs["small"] = lambda: in_threads(work, put, range(work.count))
    verbs["ranges"] = lambda: in_threads(work, span, spans(work))
    return chosen(work, verbs)


@candidate(
    "oss-v2",
    verbs={*VERBS, "start"},
    checks="CRC-64 (default), crcmod-plus",
    needs=("alibabacloud_oss_v2",),
    note=NOTE,
)
def oss_v2(work: Work, where: Where) -> Timed:
    """Send with its CRC-64, as it does by itself."""
    trust(where)
    if work.verb == "start":
        return started(work, where, START)
    return _prepare(work, where, crc=True)


@candidate(
    "oss-v2:nocrc",
    verbs=VERBS,
    checks="none (asked: disable_upload_crc64_check)",
    needs=("alibabacloud_oss_v2",),
    note=NOTE,
)
def oss_v2_nocrc(work: Work, where: Where) -> Timed:
    """Send without a checksum."""
    return _prepare(work, where, crc=False)
