"""Presigned URLs that an owner signs, for whole objects or multipart uploads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import field, frozen

from ..client.client import Client
from ..client.operations import OSSCalls
from ..engine.engine import run
from ..errors import ConfigurationError
from ..filesystem.client_factory import client_for
from ..filesystem.destinations import local_entries
from ..model import (
    MAX_PART,
    MAX_PARTS,
    MAX_SINGLE_PUT,
    MIN_PART,
    PLAIN_ACTIONS,
    Action,
    Operation,
    SignedRequest,
    frozen_mapping,
    split_path,
)
from ..options.options import Options
from ..options.target import Target
from ..signers.keys import KeySigner
from ..units import shown_bytes, shown_text
from ..url_map.url_file import url_file
from ..url_map.url_map import MapEntry, MapRequest, dump
from .commands import Shell, command

Method = Literal["PUT", "GET", "HEAD", "DELETE"]

_MAPPED = ("PUT", "GET", "HEAD")  # methods that a URL map can contain


@frozen(kw_only=True)
class Cut:
    """Division of an object into parts: their number, and their size in bytes."""

    parts: int
    part_size: int

    @classmethod
    def from_sizes(
        cls, *, part_size: int, parts: int | None, file_size: int | None
    ) -> Cut:
        """Return the division into *parts* parts; None divides *file_size* bytes.

        ConfigurationError if OSS does not accept the size or the number of the parts.
        """
        if not MIN_PART <= part_size <= MAX_PART:
            wrong = f"parts of {shown_bytes(part_size)}"
            raise ConfigurationError(f"{wrong}: OSS accepts 100 KiB to 5 GiB")
        size = file_size or 0
        count = max(1, -(-size // part_size)) if parts is None else parts
        if parts is None and count > MAX_PARTS:
            enough = max(MIN_PART, -(-size // MAX_PARTS))
            raise ConfigurationError(
                f"{shown_bytes(size)} in parts of {shown_bytes(part_size)} are {count} "
                f"parts, but OSS accepts {MAX_PARTS}: use --part-size {enough} or more"
            )
        return cls(parts=count, part_size=part_size)


@frozen(kw_only=True)
class Order:
    """Request to sign for every object, with the headers to send."""

    method: Method = "PUT"
    headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    # how the object is cut into parts; None signs a single request
    cut: Cut | None = None
    # True signs no Complete; the owner completes the parts
    owner_completes: bool = False


@frozen(kw_only=True)
class Signed:
    """Signed requests of the owner, by object path."""

    # single requests; empty if the object goes in parts
    requests: Mapping[str, SignedRequest]
    entries: Mapping[str, MapEntry]  # the same requests for a URL map; empty for DELETE
    method: Method

    @property
    def count(self) -> int:
        """Number of objects with signed requests."""
        return len(self.entries or self.requests)

    @property
    def expires_at(self) -> float:
        """Earliest expiry time of the URLs, in seconds since the epoch."""
        ends = [entry.expires_at for entry in self.entries.values()]
        ends += [request.expires_at for request in self.requests.values()]
        return min(end for end in ends if end is not None)

    def map_text(self) -> str:
        """Return the URL map, which is a secret; ConfigurationError for DELETE."""
        if not self.entries:
            text = "a URL map has no place for the DELETE of an object"
            raise ConfigurationError(f"{text}: use url_text")
        return dump(self.entries)

    def url_text(self, shell: Shell | None = None) -> str:
        """Return the URL and its headers, if there is only one object; this is a secret.

        With *shell*, return a curl command for that shell (``commands.command``).
        """
        ((path, request),) = self.requests.items()
        if shell is not None:
            return command(request, split_path(path)[1], shell)
        return url_file(request.url.reveal(), request.headers)


def local_objects(sources: Sequence[str], to: str) -> dict[str, str]:
    """Return path -> local file for *sources* below *to*, placed like ``fs.put``.

    *to* is ``bucket/prefix/``, or ``bucket/key`` for one file. A file that cannot be an
    object is left out with a warning.

    Raises:
        ConfigurationError: no file was found, two have the same destination, or *to*
            has no bucket.
        OSError: a source is missing, or a directory cannot be read.
    """
    to = to.removeprefix("osspresigned://")
    if not to.partition("/")[0]:
        raise ConfigurationError(f"--to {to!r} names no bucket: use bucket/prefix/")
    if "/" not in to:
        to += "/"
    files: dict[str, str] = {}
    problems = []
    for source in sources:
        for entry in local_entries(source, to):
            if entry.problem is not None:
                raise entry.problem
            local, path = entry.local, entry.path
            if not entry.is_sent or _is_left_out(local, path):
                continue
            if path in files:
                problems.append(f"{local} and {files[path]} would both go to {path}")
            files[path] = local
    if not files:
        problems.append(f"no file exists at {', '.join(sources)}")
    if problems:
        raise ConfigurationError(problems)
    return files


def _is_left_out(local: str, path: str) -> bool:
    """Return whether *local* cannot be uploaded as *path*; warn if so."""
    problem = ""
    if os.path.islink(local) and not os.path.exists(local):
        problem = "is a broken link"
    elif path.encode(errors="ignore").decode() != path:
        problem = "has a name that is not UTF-8: rename the file"
    if problem:
        warnings.warn(f"left out: {shown_text(local)} {problem}", stacklevel=3)
    return bool(problem)


def too_large(files: Mapping[str, str]) -> Iterator[str]:
    """Yield a message for each file that is too large for one PUT."""
    for path, local in files.items():
        if (size := os.path.getsize(local)) > MAX_SINGLE_PUT:
            advice = f"sign {path} alone, with --file-size {size}"
            yield f"{local} has {size} bytes, one PUT holds 5 GiB: {advice}"


def sign(signer: KeySigner, paths: Sequence[str], order: Order) -> Signed:
    """Sign the requests of *order* for each of *paths*.

    With parts, there must be exactly one path; its multipart upload is initiated.

    Raises:
        ConfigurationError: OSS would refuse a request; the message lists all paths.
        OSSPresignedError: the multipart upload could not be initiated.
    """
    if order.cut is not None:
        (path,) = paths
        entry = _in_parts(signer, path, order, order.cut)
        return Signed(requests={}, entries={path: entry}, method=order.method)
    requests = {}
    problems = []
    action = PLAIN_ACTIONS[order.method]
    for path in paths:
        try:
            bucket, key = split_path(path)
            operation = Operation(
                action=action, bucket=bucket, key=key, headers=order.headers
            )
            (requests[path],) = signer.sign([operation])
        except ConfigurationError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigurationError(problems)
    entries = {}
    if order.method in _MAPPED:
        for path, signed in requests.items():
            slot: dict[str, Any] = {order.method.lower(): _entry(signed)}
            entries[path] = MapEntry(expires_at=signed.expires_at, **slot)
    return Signed(requests=requests, entries=entries, method=order.method)


def _in_parts(signer: KeySigner, path: str, order: Order, cut: Cut) -> MapEntry:
    target = Target.of(path=path, headers=order.headers)
    client = _client(signer)
    upload, _ = run(OSSCalls(client, target).initiate)

    def call(action: Action, number: int | None = None) -> SignedRequest:
        operation = target.operation(action, upload_id=upload, part_number=number)
        return signer.sign([operation])[0]

    try:
        parts = [call(Action.UploadPart, n) for n in range(1, cut.parts + 1)]
        complete: Any = "external"
        if not order.owner_completes:
            complete = _entry(call(Action.CompleteMultipartUpload))
        return MapEntry(
            expires_at=parts[0].expires_at,
            upload_id=upload,
            part_size=cut.part_size,
            parts=tuple(map(_entry, parts)),
            abort=_entry(call(Action.AbortMultipartUpload)),
            list=_entry(call(Action.ListParts)),
            complete=complete,
        )
    except BaseException:
        run(OSSCalls(client, target).abort, upload)
        raise


def forget(signer: KeySigner, signed: Signed) -> None:
    """Abort the multipart uploads of *signed*, because their URLs will not be used."""
    for path, entry in signed.entries.items():
        if entry.upload_id is not None:
            target = Target.of(
                path=path, headers=entry.abort.headers if entry.abort else None
            )
            run(OSSCalls(_client(signer), target).abort, entry.upload_id)


def _client(signer: KeySigner) -> Client:
    return client_for(Options.from_storage_options({"signer": signer}))


def _entry(request: SignedRequest) -> MapRequest:
    return MapRequest(url=request.url, headers=request.headers)
