"""Whether a URL map can do what it was made for, found before the first byte."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import cast
from urllib.parse import parse_qs, urlsplit

from attrs import field, frozen

from .. import urls
from ..client.client import Client
from ..errors import ConfigurationError, NotSignedError
from ..model import THRESHOLD, Operation, frozen_mapping, split_path
from ..options.object_options import Target
from ..options.options import Options
from ..signers.presigned import expiry, grant_of, request_of
from ..signing.signed_url import SignedURL, describe
from ..units import shown_moment, shown_seconds, shown_text
from ..upload import plan as preflight
from ..upload.plan import Plan, plan_for
from ..url_map.model import MapEntry, MapRequest, URLMap
from .inspect import requests_of

_SENT_ANYWAY = frozenset({"host", "content-length"})
# For how many files without a URL the nearest paths are looked for.
_GUESSED = 100


@frozen
class Problem:
    """What is wrong with one path.

    Attributes:
        path: ``bucket/key``.
        kind: ``missing``, ``unused``, ``parts``, ``expiry``, ``headers``, ``object``,
            ``http`` or ``upload``.
        text: what is wrong, and what to do.
    """

    path: str
    kind: str
    text: str


@frozen(kw_only=True)
class Intent:
    """What the map is to be used for.

    Attributes:
        files: path -> local file; empty checks the map alone.
        headers: that the uploads will demand.
        rate: bytes per second that are expected; None judges the present only.
        now: seconds since the epoch, when the first upload begins.
        receipts: the uploader will set ``receipts=``.
        allow_http: the uploader will set ``allow_http=True``.
        local: the map comes from the uploader's machine, so it may lead to it.
    """

    files: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    rate: float | None = None
    now: float
    receipts: bool = False
    allow_http: bool = False
    local: bool = True


def check_map(url_map: URLMap, intent: Intent) -> list[Problem]:
    """Return everything that is wrong with *url_map*, in the order of its paths.

    The files are taken to be sent one after the other, in their order.
    """
    problems = [
        problem
        for path, entry in url_map.items()
        for problem in _check_entry(path, entry, intent)
    ]
    known = {(problem.path, problem.kind) for problem in problems}
    before = missing = 0
    for path, local in intent.files.items():
        size = os.path.getsize(local)
        entry = url_map.get(path)
        if entry is None:
            missing += 1
            near = ", ".join(url_map.nearest(path) if missing <= _GUESSED else ())
            hint = f"; nearest: {shown_text(near)}" if near else ""
            text = f"{local} has no URL{hint}"
            problems.append(Problem(path, "missing", text))
        else:
            problems += (
                problem
                for problem in _check_upload(path, entry, intent, size, before)
                if (problem.path, problem.kind) not in known
            )
        before += size
    if intent.files:
        problems += [
            Problem(path, "unused", "no file goes there: a URL too many")
            for path, entry in url_map.items()
            if path not in intent.files and (entry.put is not None or entry.parts)
        ]
    return problems


def _check_entry(path: str, entry: MapEntry, intent: Intent) -> Iterator[Problem]:
    """Yield what is wrong with *entry* whatever is sent."""
    yield from _endless(path, entry)
    for name, request in requests_of(entry):
        told = describe(request.url)
        found = (
            *_objects(path, entry, name, request, told),
            *_unsaid(path, name, request, told),
            *_plain(path, name, request, intent),
        )
        yield from found
        if found:
            break  # 10,000 parts have one mistake in common, not 10,000
    ended = [
        (name, end)
        for name, request in requests_of(entry)
        if (end := expiry(request, entry)) is not None and end <= intent.now
    ]
    if ended:
        name, end = ended[0]
        more = f", and {len(ended) - 1} more of it" if len(ended) > 1 else ""
        text = f"{name} ended at {shown_moment(end)}{more}: sign it again"
        yield Problem(path, "expiry", text)


def _endless(path: str, entry: MapEntry) -> Iterator[Problem]:
    """Yield that parts are of no use, since nobody completes them."""
    if entry.parts:
        try:
            grant_of(entry, path)
        except NotSignedError as error:
            yield Problem(path, "parts", error.message)


def _plain(
    path: str, name: str, request: MapRequest, intent: Intent
) -> Iterator[Problem]:
    """Yield a URL that the filesystem refuses because of its http."""
    problem = urls.http_problem(
        request.url.reveal(), allow_http=intent.allow_http, local=intent.local
    )
    if problem:
        yield Problem(path, "http", f"{name} {problem}")


def _objects(
    path: str, entry: MapEntry, name: str, request: MapRequest, told: SignedURL
) -> Iterator[Problem]:
    """Yield where the URL leads elsewhere than its place in the map says."""
    bucket, key = split_path(path)
    url = request.url.reveal()
    try:
        there, seen = urls.object_of(url)
    except ValueError:
        yield Problem(path, "object", f"the path of {name} is not UTF-8")
        return
    # A CNAME stands for its bucket, or has the bucket in the path.
    fits = seen in (key, path) if there is None else (there, seen) == (bucket, key)
    if not fits:
        where = shown_text(seen if there is None else f"{there}/{seen}")
        yield Problem(path, "object", f"{name} is for {where}")
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    if name.startswith("parts[") and f"parts[{told.part_number}]" != name:
        text = f"{name} has no partNumber in its URL: it would replace the object"
        yield Problem(path, "object", text)
    if name in ("complete", "abort", "list") and told.upload_id != entry.upload_id:
        yield Problem(path, "object", f"{name} is of another upload")
    if name == "url" and (wrong := sorted({"uploadId", "uploads", "acl"} & set(query))):
        text = f"{name} has the parameter {', '.join(wrong)}: it stores no object"
        yield Problem(path, "object", text)


def _unsaid(
    path: str, name: str, request: MapRequest, told: SignedURL
) -> Iterator[Problem]:
    """Yield headers that the URL demands and the map does not send."""
    if request.headers is None:
        return
    given = {header.lower() for header in request.headers}
    wanted = set(told.additional_headers)
    if lacking := sorted(wanted - given - _SENT_ANYWAY):
        text = f"{name} was signed with {', '.join(lacking)}, its headers lack it"
        yield Problem(path, "headers", shown_text(text))


def _check_upload(
    path: str, entry: MapEntry, intent: Intent, size: int, before: int
) -> Iterator[Problem]:
    """Yield what stands in the way of sending *size* bytes after *before* others."""
    try:
        plan = plan_for(
            grant_of(entry, path),
            size=size,
            part_size=None,
            threshold=THRESHOLD,
            path=path,
        )
    except NotSignedError as error:
        yield Problem(path, "parts", error.message)
        return
    except ConfigurationError as error:
        for problem in error.problems:
            yield Problem(path, "parts", problem)
        return
    yield from _refused(path, entry, intent, plan, size)
    if intent.rate is not None:
        yield from _too_slow(path, entry, plan, size, before, intent, intent.rate)


@frozen
class _MapOfOne:
    """A signer of one entry that is told of expiry and http elsewhere."""

    entry: MapEntry

    def preflight(self, operation: Operation) -> None:
        """Raise what the map's signer would raise."""
        request_of(self.entry, operation, now=0.0, allow_http=True, local=True)


@frozen
class _Uploader:
    """As much of a client as the preflight of an upload asks."""

    options: Options
    signer: _MapOfOne


def _refused(
    path: str, entry: MapEntry, intent: Intent, plan: Plan, size: int
) -> Iterator[Problem]:
    """Yield what the upload itself would refuse before its first byte."""
    options = Options(signer="keys", receipts=intent.receipts or None)
    uploader = cast("Client", _Uploader(options, _MapOfOne(entry)))
    target = Target(path=path, headers=intent.headers)
    try:
        preflight.check(uploader, target, grant_of(entry, path), plan, size)
    except NotSignedError as error:
        yield Problem(path, "headers", error.message)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Problem(path, "upload", problem)


def _too_slow(
    path: str,
    entry: MapEntry,
    plan: Plan,
    size: int,
    before: int,
    intent: Intent,
    rate: float,
) -> Iterator[Problem]:
    """Yield the first request that would come after its end.

    OSS looks at the clock when a request arrives, so a body may take longer.
    """
    for name, request, sent in _timetable(entry, plan, size):
        start = intent.now + (before + sent) / rate
        end = expiry(request, entry)
        if end is not None and intent.now < end <= start:
            late = shown_seconds(start - intent.now)
            yield Problem(
                path,
                "expiry",
                f"{name} would be sent after {late}, it ends at {shown_moment(end)}: "
                "sign it for longer, or later",
            )
            return


def _timetable(
    entry: MapEntry, plan: Plan, size: int
) -> Iterator[tuple[str, MapRequest, int]]:
    """Yield the requests of an upload, each with the bytes that are sent before it."""
    if not plan.multipart and entry.put is not None:
        yield "url", entry.put, 0
        return
    for number, part in enumerate(entry.parts, 1):
        sent = (number - 1) * plan.part_size
        if sent >= max(size, 1):
            break
        yield f"parts[{number}]", part, sent
    if isinstance(entry.complete, MapRequest):
        yield "complete", entry.complete, size
