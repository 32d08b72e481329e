"""Servers that hand out presigned uploads in their own words, in front of the emulator.

Each has the keys of the store's owner, and signs with them; the store verifies what it
gets. ``calls`` has each call; ``lose``, ``spoil``, ``refuse`` and ``change`` are faults.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from fsspec_osspresigned import parsing
from fsspec_osspresigned.owner.grants import GrantTerms
from fsspec_osspresigned.signing import PresignRequest
from fsspec_osspresigned.signing.post_policy import (
    PolicyCondition,
    pinned_fields,
    policy_text,
    sign_policy,
    signature_conditions,
)
from tests.loopback_server import LoopbackServer

BUCKET = "examplebucket"


class OtherStatusError(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, document: Any = None) -> None:
        super().__init__(status)
        self.status, self.document = status, document


class FakeServer(LoopbackServer):
    """A server of uploads."""

    life: int = 600  # seconds of signatures
    token: str | None = None  # what the header *lock* must be
    lock: str = "Authorization"
    refusal: ClassVar[Callable[[str], Any]] = lambda text: {"message": text}

    def __init__(self, oss: Any) -> None:
        super().__init__()
        self.oss = oss
        self.calls: list[str] = []
        self.lost: list[re.Pattern[str]] = []
        self.spoiled: list[str] = []
        self.refused: dict[str, tuple[int, int, Any]] = {}
        self.change: Callable[[Any], Any] = lambda document: document
        self._lock, self._asked = threading.Lock(), threading.local()

    def lose(self, piece: str | re.Pattern[str], times: int = 1) -> None:
        """Carry out the next calls in which *piece* is found; close without an answer."""
        found = re.compile(re.escape(piece)) if isinstance(piece, str) else piece
        self.lost += [found] * times

    def spoil(self, piece: str) -> None:
        """Carry out the next call with *piece* in it; answer with a page."""
        self.spoiled.append(piece)

    def refuse(self, piece: str, status: int, times: int = 1, document: Any = None):
        """Answer the next calls with *piece* in them by *status*."""
        self.refused[piece] = (status, times, document)

    def answer(
        self, method: str, path: str, query: Mapping[str, str], given: Any
    ) -> Any:
        """Return the document of the reply."""
        raise NotImplementedError

    @property
    def headers(self) -> Any:
        """The headers of the call that this thread answers."""
        return self._asked.headers

    def is_locked(self, path: str) -> bool:
        """Return whether calls to *path* need the token."""
        del path
        return self.token is not None

    def read(self, body: bytes) -> Any:
        """Return what *body* says."""
        return json.loads(body) if body else None

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        parts = urlsplit(handler.path)
        call = f"{handler.command} {unquote(parts.path)}"
        with self._lock:
            self.calls.append(call)
            whole = f"{call}?{parts.query}"
            lost = next((p for p in self.lost if p.search(whole)), None)
            refused = next((p for p in self.refused if p in whole), None)
            status, document = 200, None
            if lost is not None:
                self.lost.remove(lost)
            if refused is not None:
                status, times, document = self.refused.pop(refused)
                if times > 1:
                    self.refused[refused] = (status, times - 1, document)
        self._asked.headers = handler.headers
        if self.is_locked(parts.path) and handler.headers.get(self.lock) != self.token:
            status = 401
            document = type(self).refusal(f"wrong: {handler.headers.get(self.lock)}")
        if status == 200:
            try:
                given = self.read(body)
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                document = self.answer(handler.command, parts.path, query, given)
            except OtherStatusError as error:
                status, document = error.status, error.document
        document = self.change(document)
        if lost is not None:
            handler.close_connection = True
            handler.connection.shutdown(2)
            return
        is_empty = document is None or handler.command == "HEAD"
        data = b"" if is_empty else json.dumps(document).encode()
        if spoiled := [piece for piece in self.spoiled if piece in call]:
            self.spoiled.remove(spoiled[0])
            data = b"<html>Welcome</html>"
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    # -- as the owner of the store -----------------------------------------------------------

    def presign(self, method: str, key: str, query: Any = None, headers: Any = None):
        """Return a presigned URL as a string."""
        request = PresignRequest(
            self.oss.credentials,
            self.oss.endpoint,
            method=method,
            bucket=BUCKET,
            key=key,
            query=query or {},
            headers=headers or {},
            additional_headers=[n for n in headers or {} if n.startswith("x-amz-")],
            region="cn-hangzhou",
            now=time.time(),
            expires_in=self.life,
        )
        return request.url().reveal()

    def send(self, method: str, key: str, query: Any = None, body: bytes = b"") -> Any:
        """Send one request to the store; return the XML of the reply, None if empty."""
        request = urllib.request.Request(
            self.presign(method, key, query), data=body or None, method=method
        )
        if method == "POST":
            request.data = body
            request.add_header("Content-Type", "")
            request = urllib.request.Request(
                self.presign(method, key, query, {"Content-Type": "application/xml"}),
                data=body,
                method=method,
                headers={"Content-Type": "application/xml"},
            )
        try:
            with urllib.request.urlopen(request) as reply:
                data = reply.read()
        except urllib.error.HTTPError as error:
            with error:
                code = parsing.parse(error.read(), "Error").findtext("Code")
            raise OtherStatusError(500, type(self).refusal(f"S3: {code}")) from None
        return parsing.parse(data) if data else None

    def begin(self, key: str) -> str:
        """Begin a multipart upload at the store; return its ID."""
        return self.send("POST", key, {"uploads": ""}).findtext("UploadId")

    def complete(self, key: str, upload_id: str, parts: list[tuple[int, str]]) -> str:
        """Complete it; return the ETag."""
        body = parsing.complete_multipart_upload(parts)
        return self.send("POST", key, {"uploadId": upload_id}, body).findtext("ETag")

    def part_url(self, key: str, upload_id: str, number: int) -> str:
        """Return the URL of one part."""
        return self.presign(
            "PUT", key, {"uploadId": upload_id, "partNumber": str(number)}
        )

    def form(self, *conditions: PolicyCondition, version: str, life: int) -> dict:
        """Return the fields of a form with a policy of *conditions*."""
        now = time.time()
        facts = {"version": version, "region": "cn-hangzhou", "now": now}
        place = PolicyCondition("eq", "bucket", (BUCKET,))
        own = signature_conditions(self.oss.credentials, **facts)
        text = policy_text([place, *conditions, *own], expires_at=now + life)
        fields = {
            **pinned_fields(conditions),
            **sign_policy(self.oss.credentials, text, **facts),
        }
        fields.pop("key", None)
        return fields


class DashScope(FakeServer):
    """Upload policies of Alibaba Model Studio, with V1 signatures."""

    token = "Bearer sk-CANARYdashscope"
    largest_mb: Any = 100

    def answer(self, method, path, query, given):
        """Return a policy for a new directory."""
        if (method, path) != ("GET", "/api/v1/uploads"):
            raise OtherStatusError(404, {"code": "NotFound", "message": "no such path"})
        if query.get("action") != "getPolicy" or not query.get("model"):
            raise OtherStatusError(
                400, {"code": "InvalidParameter", "message": "model"}
            )
        folder = f"dashscope-instant/{query['model']}/{uuid.uuid4()}"
        terms = GrantTerms(
            bucket=BUCKET,
            prefix=f"{folder}/",
            sizes=(0, int(self.largest_mb) * 1024 * 1024),
            overwrite=False,
            fields={"x-oss-object-acl": "private"},
        )
        fields = self.form(*terms.conditions()[1:], version="v1", life=self.life)
        return {
            "request_id": str(uuid.uuid4()),
            "data": {
                "policy": fields["policy"],
                "signature": fields["Signature"],
                "upload_dir": folder,
                "upload_host": self.oss.endpoint.url(BUCKET),
                "expire_in_seconds": self.life,
                "max_file_size_mb": self.largest_mb,
                "capacity_limit_mb": 999_999_999,
                "oss_access_key_id": fields["OSSAccessKeyId"],
                "x_oss_object_acl": "private",
                "x_oss_forbid_overwrite": "true",
            },
        }


class Companion(FakeServer):
    """The S3 routes of Uppy Companion."""

    refusal = lambda text: {"error": text}  # noqa: E731 - as in the base class

    def answer(self, method, path, query, given):
        """Route as Companion does."""
        root, *rest = path.removeprefix("/s3/").split("/")
        rest = [unquote(one) for one in rest]
        if root == "params":
            return self._params(query["filename"])
        if not rest:
            if not given["type"]:
                raise OtherStatusError(
                    400, {"error": "s3: content type must be a string"}
                )
            key = f"{uuid.uuid4()}-{given['filename']}"
            return {"key": key, "uploadId": self.begin(key), "bucket": BUCKET}
        upload_id, key = rest[0], query["key"]
        if method == "DELETE":
            self.send("DELETE", key, {"uploadId": upload_id})
            return {}
        if rest[1:] == ["batch"]:
            numbers = map(int, query["partNumbers"].split(","))
            urls = {n: self.part_url(key, upload_id, n) for n in numbers}
            return {"presignedUrls": urls}
        if rest[1:] == ["complete"]:
            parts = [(p["PartNumber"], p["ETag"]) for p in given["parts"]]
            self.complete(key, upload_id, parts)
            return {"location": f"https://s3/{key}", "key": key, "bucket": BUCKET}
        listing = self.send("GET", key, {"uploadId": upload_id})
        return [
            {
                "PartNumber": int(part.findtext("PartNumber")),
                "ETag": part.findtext("ETag"),
                "Size": int(part.findtext("Size")),
            }
            for part in listing.iter("Part")
        ]

    def _params(self, name: str) -> dict[str, Any]:
        key = f"{uuid.uuid4()}-{name}"
        condition = PolicyCondition("eq", "key", (key,))
        fields = {"key": key, "success_action_status": "201"}
        fields |= self.form(condition, version="v4", life=self.life)
        url = self.oss.endpoint.url(BUCKET)
        return {"method": "POST", "url": url, "fields": fields, "expires": self.life}


class UppySign(FakeServer):
    """A back end of ``signRequest`` of Uppy 6; *prefix* is put before each new key."""

    refusal = lambda text: {"error": text}  # noqa: E731 - as in the base class
    prefix = ""

    def answer(self, method, path, query, given):
        """Sign one call of the store."""
        if (method, path) != ("POST", "/presign"):
            raise OtherStatusError(404, {"error": "no such path"})
        call, upload_id = given["method"], given.get("uploadId")
        key = given["key"]
        if self.prefix and not key.startswith(self.prefix):
            key = f"{self.prefix}{key}"
        wanted: dict[str, str] = {} if upload_id is None else {"uploadId": upload_id}
        if call == "PUT" and upload_id:
            wanted["partNumber"] = str(given["partNumber"])
        elif call == "POST" and not upload_id:
            wanted["uploads"] = ""
        elif (call, bool(upload_id)) not in {
            ("PUT", False),
            ("POST", True),
            ("GET", True),
            ("DELETE", True),
        }:
            raise OtherStatusError(400, {"error": "Unsupported operation"})
        url = self.presign(call, key, wanted)
        return {"url": url, "key": key} if self.prefix else {"url": url}


class MLflow(FakeServer):
    """The routes of MLflow's tracking server for uploads."""

    def answer(self, method, path, query, given):
        """Route as MLflow does; the artifacts are below ``mlartifacts/``."""
        root = "/api/2.0/mlflow"
        if path == f"{root}/artifacts/presigned-upload-url":
            owner = given.get("run_id") or given.get("model_id")
            headers = {"Content-Type": "text/csv"}
            key = f"mlruns/{owner}/artifacts/{given['path']}"
            url = self.presign("PUT", key, {}, headers)
            return {"presigned_url": url, "headers": headers}
        step, _, folder = path.removeprefix(f"{root}-artifacts/mpu/").partition("/")
        if not folder:
            raise OtherStatusError(
                404, {"error_code": "ENDPOINT_NOT_FOUND", "message": ""}
            )
        key = f"mlartifacts/{unquote(folder)}/{given['path']}"
        if step == "create":
            upload_id = self.begin(key)
            numbers = range(1, given["num_parts"] + 1)
            urls = [(n, self.part_url(key, upload_id, n)) for n in numbers]
            credentials = [
                {"url": url, "part_number": n, "headers": {}} for n, url in urls
            ]
            return {"upload_id": upload_id, "credentials": credentials}
        if step == "abort":
            self.send("DELETE", key, {"uploadId": given["upload_id"]})
            return {}
        parts = [(part["part_number"], part["etag"]) for part in given["parts"]]
        self.complete(key, given["upload_id"], parts)
        return {}


class LakeFS(FakeServer):
    """The staging calls of lakeFS; ``linked`` has what they made visible."""

    def __init__(self, oss: Any) -> None:
        super().__init__(oss)
        self.linked: dict[str, tuple[str, dict[str, Any]]] = {}

    def answer(self, method, path, query, given):
        """Route as lakeFS does."""
        if path == "/api/v1/config":
            return {"storage_config": self._store()}
        place = path.removeprefix("/api/v1/repositories/")
        repository, *inner = map(unquote, place.split("/"))
        if not inner:
            place = {"storage_namespace": f"s3://{BUCKET}/", "default_branch": "main"}
            return {"id": repository, "creation_date": 1, **place}
        _, branch, group, *rest = inner
        kind, *rest = rest if group == "staging" else (group,)
        name = f"{repository}/{branch}/{query['path']}"
        if kind == "objects":  # lakefs-spec looks before it creates
            raise OtherStatusError(200 if name in self.linked else 404)
        if kind == "backing" and method == "GET":
            return self._location(query)
        if kind == "backing":
            if not given["checksum"]:
                raise OtherStatusError(400, {"message": "checksum is required"})
            if self.headers.get("If-None-Match") == "*" and name in self.linked:
                raise OtherStatusError(412, {"message": "path already exists"})
            address = given["staging"]["physical_address"]
            return self._link(name, address, given["checksum"], given)
        if not rest:
            return self._created(int(query.get("parts", 0)))
        return self._of_upload(method, name, given, *rest)

    def _location(self, query: Mapping[str, str]) -> Any:
        key = f"data/{uuid.uuid4()}"
        location = {"physical_address": f"s3://{BUCKET}/{key}"}
        if query.get("presign", "").lower() == "true":
            location["presigned_url"] = self.presign("PUT", key)
            location["presigned_url_expiry"] = int(time.time()) + self.life
        return location

    def _of_upload(
        self, method: str, name: str, given: Any, upload_id: str, *part: str
    ) -> Any:
        address = given["physical_address"]
        key = _key(address)
        if method == "DELETE":
            self.send("DELETE", key, {"uploadId": upload_id})
            raise OtherStatusError(204)
        if part:
            return {"presigned_url": self.part_url(key, upload_id, int(part[1]))}
        parts = [(part["part_number"], part["etag"]) for part in given["parts"]]
        etag = self.complete(key, upload_id, parts)
        return self._link(name, address, etag.strip('"'), given)

    def _created(self, count: int) -> Any:
        key = f"data/{uuid.uuid4()}"
        upload_id = self.begin(key)
        urls = [self.part_url(key, upload_id, n) for n in range(1, count + 1)]
        reply = {"upload_id": upload_id, "physical_address": f"s3://{BUCKET}/{key}"}
        raise OtherStatusError(
            201, {**reply, "presigned_urls": urls} if urls else reply
        )

    def _link(self, name: str, address: str, checksum: str, given: Any) -> Any:
        self.linked[name] = (_key(address), given)
        return {
            "path": name.split("/", 2)[2],
            "path_type": "object",
            "physical_address": address,
            "checksum": checksum,
            "mtime": int(time.time()),
        }

    def _store(self) -> dict[str, Any]:
        return {
            "blockstore_type": "s3",
            "blockstore_namespace_example": "s3://example-bucket/",
            "blockstore_namespace_ValidityRegex": "^s3://",
            "pre_sign_support": True,
            "pre_sign_support_ui": True,
            "pre_sign_multipart_upload": True,
            "import_support": False,
            "import_validity_regex": "^s3://",
        }


def _key(address: str) -> str:
    """Return the key of an object at the store from its physical address."""
    return address.partition(f"{BUCKET}/")[2]


def basic(text: str) -> str:
    """Return the header for ``user:password``."""
    return f"Basic {base64.b64encode(text.encode()).decode()}"
