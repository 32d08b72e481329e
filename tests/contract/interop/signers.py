"""Others that presign URLs: each takes requests and returns their URLs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import asdict, field, frozen

from tests.contract.interop.conftest import BUCKET, REGION, Identity, library

LIFE = 600


@frozen
class Wanted:
    """One request to sign."""

    method: str
    key: str
    headers: Mapping[str, str] = field(factory=dict)
    query: Mapping[str, str] = field(factory=dict)


Sign = Callable[[Sequence[Wanted]], list[str]]


def by_oss2(url: str, identity: Identity) -> Sign:
    """Sign with ``Bucket.sign_url``, which must not get a mapping of ours."""
    oss2 = library("oss2")
    provider = oss2.credentials.StaticCredentialsProvider(
        *identity.pair, identity.token
    )
    kind = oss2.ProviderAuth if identity.version == "v1" else oss2.ProviderAuthV4
    bucket = oss2.Bucket(kind(provider), url, BUCKET, region=REGION)
    bucket.session.session.close()

    def sign(wanted: Sequence[Wanted]) -> list[str]:
        return [
            bucket.sign_url(
                one.method, one.key, LIFE, headers=dict(one.headers),
                params=dict(one.query), slash_safe=number % 2 == 1,
            )
            for number, one in enumerate(wanted)
        ]  # fmt: skip

    return sign


def by_oss_v2(url: str, identity: Identity) -> Sign:
    """Sign with ``Client.presign``, one class of request a call."""
    sdk = library("alibabacloud_oss_v2")
    client = sdk.Client(
        sdk.config.Config(
            region=REGION,
            endpoint=url,
            use_path_style=True,
            signature_version=identity.version,
            credentials_provider=sdk.credentials.StaticCredentialsProvider(
                *identity.pair, identity.token
            ),
        )
    )

    def request(one: Wanted) -> Any:
        query = dict(one.query)
        upload = {"upload_id": query.pop("uploadId", None)}
        more = {"headers": dict(one.headers)}
        if "uploads" in query:
            return sdk.InitiateMultipartUploadRequest(BUCKET, one.key, **more)
        if "partNumber" in query:
            number = int(query["partNumber"])
            return sdk.UploadPartRequest(BUCKET, one.key, number, **upload, **more)
        if upload["upload_id"] and one.method == "POST":
            return sdk.CompleteMultipartUploadRequest(BUCKET, one.key, **upload)
        if upload["upload_id"]:
            return sdk.AbortMultipartUploadRequest(BUCKET, one.key, **upload)
        kind = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject"}
        return getattr(sdk, f"{kind[one.method]}Request")(BUCKET, one.key, **more)

    def sign(wanted: Sequence[Wanted]) -> list[str]:
        life = dt.timedelta(seconds=LIFE)
        return [client.presign(request(one), expires=life).url for one in wanted]

    return sign


def by_ali_oss(url: str, identity: Identity, node: Callable[..., Any]) -> Sign:
    """Sign with npm's ali-oss."""
    name, secret = identity.pair
    options = {
        "endpoint": url.replace("127.0.0.1", "localhost"),
        "sldEnable": True,
        "region": f"oss-{REGION}",
        "authorizationV4": identity.version == "v4",
        "bucket": BUCKET,
        "accessKeyId": name,
        "accessKeySecret": secret,
        "stsToken": identity.token,
        "refreshSTSTokenInterval": 10**9,
    }

    def sign(wanted: Sequence[Wanted]) -> list[str]:
        requests = [asdict(one) for one in wanted]
        made = node("sign.mjs", "ali-oss", options=options, wanted=requests)
        return [one.replace("//localhost:", "//127.0.0.1:") for one in made]

    return sign
