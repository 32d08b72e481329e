"""Forms of PostObject, signed with the emulator's key and written byte for byte."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.signing import Credentials
from fsspec_osspresigned.signing.post_policy import (
    post_signature,
    sign_policy,
    signature_conditions,
)

BUCKET = "examplebucket"
REGION = "cn-hangzhou"
BOUNDARY = "9431149156168"
LINE = "\r\n"
ANY_KEY: tuple[Any, ...] = ({"bucket": BUCKET}, ["starts-with", "$key", ""])


def policy(conditions: Any, *, life: float = 60, now: float | None = None) -> str:
    """Return a policy as text, with *conditions* as they are, even wrong ones."""
    moment = time.time() if now is None else now
    end = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(moment + life))
    document = {"expiration": end, "conditions": conditions}
    return base64.b64encode(json.dumps(document).encode()).decode()


def signed(
    key: Credentials,
    *conditions: Any,
    version: str = "v4",
    now: float | None = None,
    region: str = REGION,
    **options: Any,
) -> dict[str, str]:
    """Return the fields of a signed policy, with those that its signature needs."""
    moment = time.time() if now is None else now
    own = signature_conditions(key, version=version, region=region, now=moment)
    all_of_them = [*(conditions or ANY_KEY), *(one.as_json() for one in own)]
    text = policy(all_of_them, now=moment, **options)
    return sign_policy(key, text, version=version, region=region, now=moment)


def signed_text(key: Credentials, text: str) -> dict[str, str]:
    """Return the fields of V1 for any text at all."""
    signature = post_signature(key.access_key_secret, text)
    return {"OSSAccessKeyId": key.access_key_id, "policy": text, "Signature": signature}


def part(name: str, value: bytes | str, *head: str, filename: str | None = None):
    """Return one part of a form, in front of a boundary."""
    shown = "" if filename is None else f'; filename="{filename}"'
    lines = [f'Content-Disposition: form-data; name="{name}"{shown}', *head, "", ""]
    data = value.encode() if isinstance(value, str) else value
    return LINE.join(lines).encode() + data


def form(*parts: bytes, end: str = "--\r\n") -> bytes:
    """Return the body of a form."""
    mark = f"--{BOUNDARY}"
    pieces = b"".join(mark.encode() + b"\r\n" + one + b"\r\n" for one in parts)
    return pieces + f"{mark}{end}".encode()


def fields_and_file(fields: dict[str, str], data: bytes, *head: str, **options: Any):
    """Return the parts of a form whose last one is the file."""
    parts = [part(name, value) for name, value in fields.items()]
    return [*parts, part("file", data, *head, **options)]


class Poster:
    """Sends forms to one emulator."""

    def __init__(self, oss: Emulator, client: Any) -> None:
        self.oss, self._client = oss, client

    def send(self, body: bytes, *, path: str | None = None, headers=None):
        """Send *body* as a form."""
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        url = f"{self.oss.url}{path or f'/{BUCKET}/'}"
        return self._client.send(
            "POST", url, headers={"Content-Type": kind, **(headers or {})}, data=body
        )

    def post(
        self,
        key: str,
        data: bytes = b"x",
        *head: str,
        conditions: Any = (),
        fields: dict[str, str] | None = None,
        also: dict[str, str] | None = None,
        filename: str | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ):
        """Send a good form for *key*; *fields* stand in place of the signed ones."""
        if fields is None:
            signer = options.pop("by", self.oss.credentials)
            fields = signed(signer, *conditions, **options)
        given = {**fields, "key": key, **(also or {})}
        parts = fields_and_file(given, data, *head, filename=filename)
        return self.send(form(*parts), headers=headers)
