"""The S3 client of awscrt, which boto3 uses where it may."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from ..candidates import Timed, Where, candidate
from ..work import Work
from .common import KEY_ID, REGION, SECRET, chosen


@candidate(
    "awscrt",
    verbs={"put", "multipart", "small", "get"},
    checks="none (default; through boto3 always CRC-32)",
    needs=("awscrt",),
    note="the engine below boto3[crt], called by itself: boto3 hands it neither a "
    "plain http endpoint nor an authority, and always adds an aws-chunked trailer; "
    "part_size and max_active_connections_override as the others have them",
)
def awscrt(work: Work, where: Where) -> Timed:
    """Send by the event loops of the C runtime."""
    from awscrt import auth, http, io, s3

    group = io.EventLoopGroup()
    trust = None
    if where.ca:
        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(ca_filepath=where.ca)
        trust = io.ClientTlsContext(options).new_connection_options()
    modes = s3.S3RequestTlsMode
    threshold = work.part_size if work.verb == "multipart" else 5 << 30
    client = s3.S3Client(
        bootstrap=io.ClientBootstrap(group, io.DefaultHostResolver(group)),
        region=REGION,
        credential_provider=auth.AwsCredentialsProvider.new_static(KEY_ID, SECRET),
        tls_mode=modes.ENABLED if where.ca else modes.DISABLED,
        tls_connection_options=trust,
        part_size=work.part_size,
        multipart_upload_threshold=threshold,
        max_active_connections_override=work.concurrency,
    )
    host = urlsplit(where.url).netloc

    def request(method: str, index: int, size: int) -> Any:
        headers = http.HttpHeaders([("host", host), ("content-length", str(size))])
        return http.HttpRequest(method, f"/{where.target}/{where.key(index)}", headers)

    def send(index: int = 0) -> Any:
        path = where.files[index]
        return client.make_request(
            type=s3.S3RequestType.PUT_OBJECT,
            request=request("PUT", index, os.path.getsize(path)),
            send_filepath=path,
        ).finished_future

    def put() -> None:
        send().result()

    def small() -> None:
        for future in [send(index) for index in range(work.count)]:
            future.result()

    def get() -> None:
        client.make_request(
            type=s3.S3RequestType.GET_OBJECT,
            request=request("GET", 0, 0),
            recv_filepath=where.download,
        ).finished_future.result()

    return chosen(work, {"put": put, "multipart": put, "small": small, "get": get})
