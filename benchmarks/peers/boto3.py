"""boto3, its CRT engine by itself, and smart_open over boto3."""

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
)

CHECKS = "none (asked: checksums when_required, payload unsigned; default CRC-32)"

START = f"""
import boto3
from botocore.config import Config
client = boto3.client(
    "s3", endpoint_url=url, region_name={REGION!r}, verify=ca,
    aws_access_key_id={KEY_ID!r}, aws_secret_access_key={SECRET!r},
    config=Config(request_checksum_calculation="when_required",
                  s3={{"addressing_style": "path", "payload_signing_enabled": False}}),
)
client.put_object(Bucket=bucket, Key=key, Body=body)
"""


def settings(work: Work) -> dict[str, Any]:
    """Return what botocore's Config gets, here and below s3fs."""
    return {
        "max_pool_connections": work.concurrency,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "s3": {"addressing_style": "path", "payload_signing_enabled": False},
    }


def _client(work: Work, where: Where) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=where.url,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        verify=where.ca,
        config=Config(**settings(work)),
    )


@candidate(
    "boto3",
    verbs={"put", "multipart", "stream", "small", "get", "ranges", "start"},
    checks=CHECKS,
    needs=("boto3",),
    note="TransferConfig of the same part size and concurrency, classic engine; "
    "a stream through upload_fileobj, which pulls from the producer; waits for "
    "100-continue before each body, which has no switch",
)
def boto3_classic(work: Work, where: Where) -> Timed:
    """Send with the classic, threaded engine."""
    if work.verb == "start":
        return started(work, where, START)
    from boto3.s3.transfer import TransferConfig

    client = _client(work, where)
    config = TransferConfig(
        multipart_threshold=work.part_size,
        multipart_chunksize=work.part_size,
        max_concurrency=work.concurrency,
        preferred_transfer_client="classic",
    )

    def put(index: int = 0) -> None:
        with open(where.files[index], "rb") as file:
            client.put_object(Bucket=where.target, Key=where.key(index), Body=file)

    def multipart() -> None:
        client.upload_file(where.files[0], where.target, where.key(), Config=config)

    blocks = producer(work, where)

    def stream() -> None:
        file = pulled(work, blocks())
        client.upload_fileobj(file, where.target, where.key(), Config=config)

    def get() -> None:
        client.download_file(where.target, where.key(), where.download, Config=config)

    def span(place: tuple[int, int]) -> None:
        asked = f"bytes={place[0]}-{sum(place) - 1}"
        reply = client.get_object(Bucket=where.target, Key=where.key(), Range=asked)
        if len(reply["Body"].read()) != place[1]:
            raise OSError(f"{asked}: wrong length")

    verbs = {"put": put, "multipart": multipart, "stream": stream, "get": get}
    verbs["small"] = lambda: in_threads(work, put, range(work.count))
    verbs["ranges"] = lambda: in_threads(work, span, spans(work))
    return chosen(work, verbs)


@candidate(
    "smart_open",
    verbs={"stream"},
    checks=CHECKS,
    needs=("smart_open", "boto3"),
    note="min_part_size is the part size; sends a part when it is full, and waits",
)
def smart_open(work: Work, where: Where) -> Timed:
    """Stream through smart_open."""
    from smart_open import open as smart

    blocks = producer(work, where)
    options = {"client": _client(work, where), "min_part_size": work.part_size}

    def stream() -> None:
        url = f"s3://{where.target}/{where.key()}"
        with smart(url, "wb", transport_params=options) as file:
            for block in blocks():
                file.write(block)

    return stream
