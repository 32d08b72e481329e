"""Servers of uploads, each written from what its makers publish about its API.

They are as strict as the real ones: what is unknown or missing in a call is refused with
the server's own kind of error. ``files`` has what each server holds as finished.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, ClassVar

from tests.upload_servers import BUCKET, FakeServer, OtherStatusError

MIB = 1024 * 1024


class Published(FakeServer):
    """A server with documents that it checks, and finished files."""

    secret = "CANARYtokenOfServer"

    def __init__(self, oss: Any) -> None:
        super().__init__(oss)
        self.token = f"Bearer {self.secret}"
        self.files: dict[str, Any] = {}
        self.open: dict[str, dict[str, Any]] = {}

    def refuse_with(self, status: int, text: str) -> OtherStatusError:
        """Return the error that the server answers."""
        return OtherStatusError(status, type(self).refusal(text))

    def need(self, given: Any, required: str, optional: str = "") -> None:
        """Refuse the object *given* unless it has these members, and no others."""
        if not isinstance(given, dict):
            raise self.refuse_with(400, "the body is no object")
        required_names, known = required.split(), {*required.split(), *optional.split()}
        if missing := [n for n in required_names if given.get(n) in (None, "")]:
            raise self.refuse_with(400, f"missing: {missing}")
        if unknown := given.keys() - known:
            raise self.refuse_with(400, f"unknown: {sorted(unknown)}")

    def need_number(self, value: Any, least: int = 0) -> int:
        """Return *value*; refuse it if it is no JSON number of at least *least*."""
        if type(value) is not int or value < least:
            raise self.refuse_with(400, f"no number: {value!r}")
        return value

    def listed(self, key: str, upload_id: str, number: str, size: str) -> list[Any]:
        """Return the stored parts, each an object with *number*, *size* and ``etag``."""
        parts = self.send("GET", key, {"uploadId": upload_id}).iter("Part")
        return [
            {
                number: int(part.findtext("PartNumber")),
                size: int(part.findtext("Size")),
                "etag": part.findtext("ETag"),
            }
            for part in parts
        ]

    def stored(self, key: str) -> bytes | None:
        """Return the bytes of the object *key* of the store."""
        return self.oss.objects(BUCKET).get(key)

    def content(self, name: str) -> bytes | None:
        """Return the bytes of the finished file *name*."""
        return self.stored(self.files[name]["key"]) if name in self.files else None


class PDS(Published):
    """Alibaba Drive and Photo Service: CreateFile, GetUploadUrl, CompleteFile."""

    refusal = lambda text: {"code": "InvalidParameter", "message": text}  # noqa: E731

    def answer(self, method, path, query, given):
        """Route as PDS does."""
        call = path.removeprefix("/v2/file/")
        calls = {
            "create": self._create,
            "get_upload_url": self._urls,
            "list_uploaded_parts": self._listing,
            "complete": self._complete,
        }
        if method != "POST" or call not in calls or query:
            raise OtherStatusError(404, {"code": "NotFound", "message": path})
        return calls[call](given)

    def _numbers(self, given: Any) -> list[int]:
        rows = given["part_info_list"]
        for row in rows:
            self.need(row, "part_number", "part_size parallel_sha1_ctx")
        numbers = [self.need_number(row["part_number"], 1) for row in rows]
        if not numbers or sorted({*numbers}) != numbers or len(numbers) > 10_000:
            raise self.refuse_with(400, "part_info_list")
        return numbers

    def _rows(self, file: Mapping[str, Any], numbers: list[int]) -> list[Any]:
        pairs = ((n, self.part_url(file["key"], file["upload"], n)) for n in numbers)
        return [{"part_number": n, "upload_url": url} for n, url in pairs]

    def _create(self, given: Any) -> Any:
        more = "size check_name_mode part_info_list parallel_upload content_type"
        more += " content_hash content_hash_name pre_hash description hidden file_id"
        self.need(given, "drive_id parent_file_id name type", more)
        if given["type"] == "folder":
            raise self.refuse_with(400, "folders are not faked")
        mode = given.get("check_name_mode", "ignore")
        if given["type"] != "file" or mode not in ("ignore", "auto_rename", "refuse"):
            raise self.refuse_with(400, "type or check_name_mode")
        name, size = given["name"], self.need_number(given.get("size"))
        if "/" in name:
            raise self.refuse_with(400, "The input parameter name is not valid.")
        if mode == "refuse" and name in self.files:
            raise OtherStatusError(
                201,
                {"file_id": self.files[name]["id"], "exist": True, "file_name": name},
            )
        file_id, key = uuid.uuid4().hex, f"pds/{uuid.uuid4().hex}"
        file = {"id": file_id, "key": key, "name": name, "size": size}
        file |= {"upload": self.begin(key), "drive": given["drive_id"]}
        file["parallel"] = given.get("parallel_upload", False)
        self.open[file_id] = file
        raise OtherStatusError(
            201,
            {
                "domain_id": "bj1",
                "drive_id": given["drive_id"],
                "parent_file_id": given["parent_file_id"],
                "type": "file",
                "file_id": file_id,
                "file_name": name,
                "upload_id": file["upload"],
                "rapid_upload": False,
                "encrypt_mode": "none",
                "part_info_list": self._rows(file, self._numbers(given))
                if "part_info_list" in given
                else [],
            },
        )

    def _of(self, given: Any) -> dict[str, Any]:
        file = self.open.get(given["file_id"])
        if file is None or (file["upload"], file["drive"]) != (
            given.get("upload_id", file["upload"]),
            given["drive_id"],
        ):
            raise OtherStatusError(
                404, {"code": "NotFound.UploadId", "message": "no such upload"}
            )
        return file

    def _urls(self, given: Any) -> Any:
        needed = "drive_id file_id upload_id part_info_list"
        self.need(given, needed, "parallel_upload")
        file = self._of(given)
        rows = self._rows(file, self._numbers(given))
        return {k: given[k] for k in ("drive_id", "file_id", "upload_id")} | {
            "part_info_list": rows,
            "create_at": "2026-11-29T10:00:00.000Z",
        }

    def _listing(self, given: Any) -> Any:
        more = "part_number_marker limit parallel_upload"
        self.need(given, "drive_id file_id upload_id", more)
        file = self._of(given)
        parts = self.listed(file["key"], file["upload"], "part_number", "part_size")
        return {
            "file_id": file["id"],
            "upload_id": file["upload"],
            "parallel_upload": file["parallel"],
            "uploaded_parts": parts,
            "next_part_number_marker": "",
        }

    def _complete(self, given: Any) -> Any:
        self.need(given, "drive_id file_id upload_id", "crc64_hash part_info_list")
        done = next(
            (f for f in self.files.values() if f["id"] == given["file_id"]), None
        )
        if done is None:
            file = self._of(given)
            rows = self.listed(file["key"], file["upload"], "number", "size")
            if sum(row["size"] for row in rows) != file["size"]:
                raise self.refuse_with(400, "The file size does not match.")
            parts = [(row["number"], row["etag"]) for row in rows]
            self.complete(file["key"], file["upload"], parts)
            done = self.files[file["name"]] = self.open.pop(file["id"])
        return {
            "drive_id": done["drive"],
            "file_id": done["id"],
            "name": done["name"],
            "size": done["size"],
            "status": "available",
            "type": "file",
        }


class GitLFS(Published):
    """The batch API of Git LFS, basic transfers, in front of a store (as GitHub)."""

    media = "application/vnd.git-lfs+json"
    verify_host = ""  # instead of the server's own
    transfers = ("basic",)
    key = "RemoteAuth CANARYkeyOfLink"

    refusal = lambda text: {"message": text, "request_id": "1"}  # noqa: E731

    def is_locked(self, path):
        """Return whether *path* needs the token; links have keys of their own."""
        return path.endswith("/batch")

    def answer(self, method, path, query, given):
        """Route as a server of Git LFS does."""
        if self.media not in (self.headers.get("Accept") or ""):
            raise self.refuse_with(406, "Accept")
        kind = (self.headers.get("Content-Type") or "").partition(";")[0]
        if method == "POST" and kind != self.media:
            raise self.refuse_with(415, "Content-Type")
        if (method, path) == ("POST", "/info/lfs/objects/batch"):
            return self._batch(given)
        if (method, path) == ("POST", "/info/lfs/verify"):
            return self._verify(given)
        raise self.refuse_with(404, path)

    def _object(self, given: Any) -> tuple[str, int]:
        self.need(given, "oid size")
        if not re.fullmatch("[0-9a-f]{64}", given["oid"]):
            raise self.refuse_with(422, "oid")
        return given["oid"], self.need_number(given["size"])

    def _batch(self, given: Any) -> Any:
        self.need(given, "operation objects", "transfers ref hash_algo")
        if (
            given["operation"] != "upload"
            or given.get("hash_algo", "sha256") != "sha256"
        ):
            raise self.refuse_with(422, "operation or hash_algo")
        wanted = given.get("transfers", ["basic"])
        if not isinstance(wanted, list) or not all(isinstance(w, str) for w in wanted):
            raise self.refuse_with(422, "transfers")
        transfer = next((t for t in self.transfers if t in wanted), None)
        if transfer is None:
            raise self.refuse_with(422, "no such transfer")
        rows = []
        for each in given["objects"]:
            oid, size = self._object(each)
            row: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
            if oid not in self.files:
                row["actions"] = self._actions(oid, size)
            rows.append(row)
        return {"transfer": transfer, "objects": rows, "hash_algo": "sha256"}

    def _actions(self, oid: str, size: int) -> Any:
        link = f"{self.verify_host or self.url}/info/lfs/verify"
        header = {"Accept": self.media, "Authorization": self.key}
        verify = {"href": link, "header": header}
        return {"upload": self._upload(oid, size), "verify": verify}

    def _upload(self, oid: str, size: int) -> Any:
        del size
        url = self.presign("PUT", oid, {}, {"Content-Type": "application/octet-stream"})
        header = {"Content-Type": "application/octet-stream"}
        return {"href": url, "header": header, "expires_in": self.life}

    def _verify(self, given: Any) -> Any:
        if self.headers.get("Authorization") != self.key:
            raise self.refuse_with(401, "Authorization")
        oid, size = self._object(given)
        data = self.stored(oid)
        if data is None or len(data) != size:
            raise self.refuse_with(422, "Object not found, or of another size")
        self.files[oid] = {"key": oid}
        return {}


class Gitea(GitLFS):
    """A server of Git LFS that takes the bytes itself, and answers without an ETag."""

    def __init__(self, oss: Any) -> None:
        super().__init__(oss)
        self.kept: dict[str, bytes] = {}
        self.key = self.token  # it repeats what it got

    def stored(self, key: str) -> bytes | None:
        """Return the bytes of the object *key*."""
        return self.kept.get(key)

    def read(self, body):
        """Return the bytes of an object."""
        return body if "/links/" in self._asked.path else super().read(body)

    def serve(self, handler):
        """Note the path, which says what a body is."""
        self._asked.path = handler.path
        super().serve(handler)

    def _upload(self, oid: str, size: int) -> Any:
        return {
            "href": f"{self.url}/links/{oid}/{size}",
            "header": {"Authorization": self.key},
        }

    def answer(self, method, path, query, given):
        """Take the bytes, or route as any server of Git LFS."""
        if not path.startswith("/links/"):
            return super().answer(method, path, query, given)
        if self.headers.get("Authorization") != self.token:
            raise self.refuse_with(401, "Authorization")
        oid, size = path.split("/")[2:]
        if len(given) != int(size) or hashlib.sha256(given).hexdigest() != oid:
            raise self.refuse_with(422, "hash or size does not match")
        self.kept[oid] = given
        return None


class HuggingFace(GitLFS):
    """Git LFS with the transfer ``multipart`` of Hugging Face."""

    key = f"Bearer {Published.secret}"
    chunk = 5 * MIB
    transfers = ("multipart", "basic")

    def _actions(self, oid: str, size: int) -> Any:
        upload_id = self.begin(oid)
        count = max(1, -(-size // self.chunk))
        width = len(str(count)) + 4
        header = {
            f"{n:0{width}}": self.part_url(oid, upload_id, n)
            for n in range(1, count + 1)
        }
        header["chunk_size"] = str(self.chunk)
        href = f"{self.url}/links/complete_multipart/{oid}?uploadId={upload_id}&sig=1"
        actions = super()._actions(oid, size)
        return {**actions, "upload": {"href": href, "header": header}}

    def answer(self, method, path, query, given):
        """Complete the parts, or route as any server of Git LFS."""
        place = "/links/complete_multipart/"
        if not path.startswith(place):
            return super().answer(method, path, query, given)
        self.need(given, "oid parts")
        oid = path.removeprefix(place)
        for part in given["parts"]:
            self.need(part, "partNumber etag")
        if given["oid"] != oid or query.get("sig") != "1":
            raise self.refuse_with(403, "signature")
        parts = [
            (self.need_number(p["partNumber"], 1), p["etag"]) for p in given["parts"]
        ]
        self.complete(oid, query["uploadId"], parts)
        return {}


class Gateway(Published):
    """A function that signs one PUT, behind an AWS API Gateway that wants a key."""

    lock = "x-api-key"

    def __init__(self, oss: Any) -> None:
        super().__init__(oss)
        self.token = self.secret

    def answer(self, method, path, query, given):
        """Return a URL, as the samples of AWS do."""
        if (method, path) != ("POST", "/prod/uploads"):
            raise OtherStatusError(403, {"message": "Missing Authentication Token"})
        self.need(given, "filename contentType", "size")
        key = f"uploads/{given['filename']}"
        self.files[given["filename"]] = {"key": key}
        url = self.presign("PUT", key, {}, {"Content-Type": given["contentType"]})
        return {"uploadURL": url, "Key": key}


class Plain(Published):
    """The server of parts in docs/existing-servers.md."""

    refusal = lambda text: {"error": text}  # noqa: E731

    def answer(self, method, path, query, given):
        """Open, sign, list, complete or abort."""
        _, upload_id, step = [*path.removeprefix("/api/").split("/"), "", ""][:3]
        if not upload_id:
            self.need(given, "name bytes tags")
            self.need_number(given["bytes"])
            if given["tags"] != ["raw"]:
                raise self.refuse_with(400, "tags")
            key = f"{uuid.uuid4().hex}/{given['name']}"
            upload_id = self.begin(key)
            self.open[upload_id] = {"key": key, "name": given["name"]}
            return {"key": key, "upload": upload_id}
        file = self.open[upload_id]
        key = file["key"]
        if (method, step) == ("POST", "urls"):
            self.need(given, "parts")
            numbers = [self.need_number(number, 1) for number in given["parts"]]
            urls = [(n, self.part_url(key, upload_id, n)) for n in numbers]
            return {"urls": [{"part": n, "url": url} for n, url in urls]}
        if (method, step) == ("GET", "parts"):
            return {"parts": self.listed(key, upload_id, "number", "size")}
        if method == "DELETE":
            self.send("DELETE", key, {"uploadId": upload_id})
            return {}
        parts = [(self.need_number(p["number"]), p["etag"]) for p in given["parts"]]
        self.complete(key, upload_id, parts)
        self.files[file["name"]] = file
        return {}


class Dataverse(Published):
    """The direct upload of Dataverse, with its relative URLs."""

    lock = "X-Dataverse-key"
    part_size = 5 * MIB
    tag: ClassVar[dict[str, str]] = {"x-amz-tagging": "dv-state=temp"}
    dataset = "doi:10.5072/FK2/J8SJZB"

    refusal = lambda text: {"status": "ERROR", "message": text}  # noqa: E731

    def __init__(self, oss: Any) -> None:
        super().__init__(oss)
        self.token = self.secret

    def read(self, body):
        """Return the fields of a form with pieces, or what the JSON says."""
        kind = self.headers.get("Content-Type") or ""
        if not kind.startswith("multipart/form-data"):
            return super().read(body)
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        form = message_from_bytes(head + body, policy=HTTP)
        return {
            part.get_param("name", header="content-disposition"): json.loads(
                part.get_content()
            )
            for part in form.iter_parts()
        }

    def answer(self, method, path, query, given):
        """Route as Dataverse does."""
        root = "/api/datasets/"
        if path == f"{root}mpupload":
            return self._of_parts(method, query, given)
        if query.get("persistentId") != self.dataset:
            raise self.refuse_with(404, "Dataset not found")
        if (method, path) == ("GET", f"{root}:persistentId/uploadurls"):
            if not query.get("size", "").isdecimal():
                raise self.refuse_with(400, "size")
            return {"status": "OK", "data": self._urls(int(query["size"]))}
        if (method, path) == ("POST", f"{root}:persistentId/add"):
            return self._add(given["jsonData"])
        raise self.refuse_with(404, path)

    def _urls(self, size: int) -> Any:
        key = f"10.5072/FK2/{uuid.uuid4().hex}"
        identifier = f"s3://{BUCKET}:{key.rpartition('/')[2]}"
        facts = {"partSize": self.part_size, "storageIdentifier": identifier}
        self.open[identifier] = {"key": key, "size": size}
        if size <= self.part_size:
            return {**facts, "url": self.presign("PUT", key, {}, self.tag)}
        upload_id, count = self.begin(key), -(-size // self.part_size)
        place = f"/api/datasets/mpupload?globalid={self.dataset}&uploadid={upload_id}"
        place += f"&storageidentifier={identifier}"
        urls = {str(n): self.part_url(key, upload_id, n) for n in range(1, count + 1)}
        return {**facts, "urls": urls, "abort": place, "complete": place}

    def _of_parts(self, method: str, query: Mapping[str, str], given: Any) -> Any:
        key = self.open[query["storageidentifier"]]["key"]
        if query["globalid"] != self.dataset or method not in ("PUT", "DELETE"):
            raise self.refuse_with(400, "globalid")
        if method == "DELETE":
            self.send("DELETE", key, {"uploadId": query["uploadid"]})
            raise OtherStatusError(204)
        parts = [
            (int(n), f'"{etag}"' if etag[0] != '"' else etag)
            for n, etag in given.items()
        ]
        self.complete(key, query["uploadid"], sorted(parts))
        return {"status": "OK", "data": {"message": "Multipart upload completed"}}

    def _add(self, given: Any) -> Any:
        more = "description directoryLabel categories restrict md5Hash checksum"
        self.need(given, "storageIdentifier fileName mimeType", more)
        file = self.open.get(given["storageIdentifier"])
        data = None if file is None else self.stored(file["key"])
        if data is None:
            raise self.refuse_with(400, "no such storageIdentifier")
        checksum = given.get("checksum")
        if checksum is None:
            checksum = {"@type": "MD5", "@value": given.get("md5Hash")}
        self.need(checksum, "@type @value")
        known = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
        digest = known[checksum["@type"]](data, usedforsecurity=False).hexdigest()
        if digest != checksum["@value"]:
            raise self.refuse_with(400, "checksum")
        folder = given.get("directoryLabel")
        name = "/".join(filter(None, (folder, given["fileName"])))
        self.files[name] = file
        about = {"id": 4, "persistentId": "", "filename": given["fileName"]}
        about |= {"storageIdentifier": given["storageIdentifier"]}
        return {"status": "OK", "data": {"files": [{"label": name, "dataFile": about}]}}


class Databricks(Published):
    """The Files API of Databricks on AWS: a session, and URLs of parts by the batch."""

    root = "/api/2.0/fs"

    refusal = lambda text: {"error_code": "INVALID_ARGUMENT", "message": text}  # noqa: E731

    def answer(self, method, path, query, given):
        """Route as the Files API does."""
        if method != "POST":
            raise self.refuse_with(404, path)
        if path.startswith(f"{self.root}/files/Volumes/"):
            return self._of_file(path.removeprefix(f"{self.root}/files"), query, given)
        call = path.removeprefix(f"{self.root}/")
        if call == "create-upload-part-urls":
            needed = "path session_token start_part_number count expire_time"
            self.need(given, needed)
            self._check_time(given["expire_time"])
            file = self._session(given["path"], given["session_token"])
            first = self.need_number(given["start_part_number"], 1)
            last = first + self.need_number(given["count"], 1)
            headers = [{"name": "Content-Type", "value": "application/octet-stream"}]
            urls = [
                {
                    "url": self.presign(
                        "PUT",
                        file["key"],
                        {"uploadId": file["upload"], "partNumber": str(n)},
                        {"Content-Type": "application/octet-stream"},
                    ),
                    "part_number": n,
                    "headers": headers,
                }
                for n in range(first, last)
            ]
            return {"upload_part_urls": urls}
        if call == "create-abort-upload-url":
            self.need(given, "path session_token expire_time")
            self._check_time(given["expire_time"])
            file = self._session(given["path"], given["session_token"])
            url = self.presign("DELETE", file["key"], {"uploadId": file["upload"]})
            return {"abort_upload_url": {"url": url, "headers": []}}
        raise self.refuse_with(404, path)

    def _check_time(self, text: Any) -> None:
        end = datetime.fromisoformat(text)
        if end.tzinfo != UTC or end.timestamp() < time.time():
            raise self.refuse_with(400, "expire_time")

    def _session(self, path: str, token: Any) -> dict[str, Any]:
        file = self.open.get(token)
        if file is None or file["path"] != path:
            raise OtherStatusError(
                404, {"error_code": "NOT_FOUND", "message": "no such session"}
            )
        return file

    def _of_file(self, path: str, query: Mapping[str, str], given: Any) -> Any:
        path = path.replace("%20", " ")
        action = query.get("action")
        if action == "initiate-upload":
            if query.get("overwrite", "false") != "true" and path in self.files:
                raise OtherStatusError(
                    409, {"error_code": "ALREADY_EXISTS", "message": "exists"}
                )
            key, token = f"uc/{uuid.uuid4().hex}", uuid.uuid4().hex
            self.open[token] = {"key": key, "path": path, "upload": self.begin(key)}
            return {"multipart_upload": {"session_token": token}}
        if action != "complete-upload" or query.get("upload_type") != "multipart":
            raise self.refuse_with(400, "action")
        file = self._session(path, query.get("session_token"))
        self.need(given, "parts")
        for part in given["parts"]:
            self.need(part, "part_number etag")
        if (
            path not in self.files or self.files[path] is not file
        ):  # else it is repeated
            parts = [
                (self.need_number(p["part_number"], 1), p["etag"])
                for p in given["parts"]
            ]
            self.complete(file["key"], file["upload"], parts)
            self.files[path] = file
        return {}
