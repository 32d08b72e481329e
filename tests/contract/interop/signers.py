"""SDKs of others at the emulator, and the URLs that they presign."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def oss2_auth(identity: Identity) -> Any:
    """Return what oss2 signs with."""
    oss2 = library("oss2")
    kind = oss2.ProviderAuth if identity.version == "v1" else oss2.ProviderAuthV4
    keys = *identity.pair, identity.token
    return kind(oss2.credentials.StaticCredentialsProvider(*keys))


@contextlib.contextmanager
def oss2_bucket(url: str, identity: Identity) -> Iterator[Any]:
    """Return the bucket as oss2 sees it."""
    oss2 = library("oss2")
    session = oss2.Session()
    auth = oss2_auth(identity)
    yield oss2.Bucket(auth, url, BUCKET, region=REGION, session=session)
    session.session.close()


def oss_v2_config(url: str, identity: Identity) -> Any:
    """Return what points the clients of alibabacloud-oss-v2 at the emulator."""
    sdk = library("alibabacloud_oss_v2")
    keys = *identity.pair, identity.token
    return sdk.config.Config(
        region=REGION,
        endpoint=url,
        use_path_style=True,
        signature_version=identity.version,
        retry_max_attempts=1,
        credentials_provider=sdk.credentials.StaticCredentialsProvider(*keys),
    )


def ali_oss_options(url: str, identity: Identity) -> dict[str, Any]:
    """Return what points npm's ali-oss at the emulator."""
    name, secret = identity.pair
    return {
        # Behind an IP address it sends the bucket's name at OSS as its host, and lists
        # no buckets; with a host name, it needs the option for buckets in the path.
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


def by_oss2(url: str, identity: Identity) -> Sign:
    """Sign with ``Bucket.sign_url``, which must not get a mapping of ours."""
    with oss2_bucket(url, identity) as made:
        bucket = made

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
    client = sdk.Client(oss_v2_config(url, identity))

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
    options = ali_oss_options(url, identity)

    def sign(wanted: Sequence[Wanted]) -> list[str]:
        requests = [asdict(one) for one in wanted]
        made = node("sign.mjs", "ali-oss", options=options, wanted=requests)
        return [one.replace("//localhost:", "//127.0.0.1:") for one in made]

    return sign
