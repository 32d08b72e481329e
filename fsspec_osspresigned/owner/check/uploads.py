"""Checks of a URL map or a grant against the planned uploads.

Begin with ``ROWS``, the rules that a map or a grant can break. Only failures are results.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

from attrs import field, frozen

from ... import url_checks
from ...errors import ConfigurationError, NotCoveredError
from ...model import Action, frozen_mapping, split_path
from ...options.options import Options
from ...options.target import Target
from ...signers.post_form import sign_form
from ...signers.post_grant_parser import PostGrant
from ...signers.presigned_urls import complete_problem, expiry, grant_of, request_of
from ...signing.signed_url import SignedURL, describe
from ...units import shown_moment, shown_seconds, shown_text
from ...upload.plan import UploadPlan, check_plan, needed_requests, plan_for
from ...url_map.url_map import MapEntry, MapRequest, URLMap
from ..inspect import requests_of
from .rows import Result, Row

_SENT_ANYWAY = frozenset({"host", "content-length"})
_GUESSED = 100  # number of files without a URL for which the nearest paths are searched

KindAndText: TypeAlias = tuple[str, str]


ROWS = {
    row.name: row
    for row in (
        Row("missing", "Each file has a URL."),
        Row("unused", "Each URL for an upload has a file."),
        Row("parts", "An object has enough URLs to upload a file of that size."),
        Row("expiry", "No URL expires before its file is sent."),
        Row("headers", "Each request sends exactly the headers that were signed."),
        Row("object", "Each URL leads to the object that its path in the map names."),
        Row("http", "Each URL is https, unless plain http is allowed."),
        Row("upload", "Nothing else makes the filesystem refuse the upload."),
    )
}


def _problem(path: str, kind: str, text: str) -> Result:
    return ROWS[kind].result("failed", text, path=path)


@frozen(kw_only=True)
class Intent:
    """Planned uploads against which a URL map or a grant is checked.

    *files* are path -> local file; if empty, only the map or grant itself is checked.
    *headers* are the required headers of the uploads; *receipts* and *allow_http* are
    the uploader's options.
    """

    files: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    # bytes per second; None checks only whether URLs are valid now
    rate: float | None = None
    now: float  # time when the first upload begins, seconds since the epoch
    receipts: bool = False
    allow_http: bool = False
    # the map comes from the uploader's machine, so its URLs may lead to that machine
    local: bool = True


def check_map(url_map: URLMap, intent: Intent) -> list[Result]:
    """Return all problems of *url_map* for the planned uploads *intent*.

    Problems of the map itself come first, then those of the files, then unused URLs.
    The check assumes that the files are sent one after the other, in their order.
    """
    problems = [
        _problem(path, *problem)
        for path, entry in url_map.items()
        for problem in _check_entry(path, entry, intent)
    ]
    known = {(problem.path, problem.name) for problem in problems}
    sent = missing = 0
    for path, local in intent.files.items():
        size = os.path.getsize(local)
        entry = url_map.get(path)
        if entry is None:
            missing += 1
            near = ", ".join(url_map.nearest(path) if missing <= _GUESSED else ())
            hint = f"; nearest: {shown_text(near)}" if near else ""
            text = f"{local} has no URL{hint}"
            problems.append(_problem(path, "missing", text))
        else:
            problems += (
                _problem(path, kind, text)
                for kind, text in _check_upload(path, entry, intent, size, sent)
                if (path, kind) not in known
            )
        sent += size
    if intent.files:
        problems += [
            _problem(path, "unused", "no file uses this URL")
            for path, entry in url_map.items()
            if path not in intent.files and (entry.put is not None or entry.parts)
        ]
    return problems


def _check_entry(path: str, entry: MapEntry, intent: Intent) -> Iterator[KindAndText]:
    if entry.parts:
        try:
            grant_of(entry, path)
        except NotCoveredError as error:
            yield "parts", error.message
    requests = [*requests_of(entry)]
    for name, request in requests:
        problems = [*_check_request(path, entry, name, request, intent)]
        yield from problems
        if problems:
            break  # a mistake in all of 10,000 parts is reported once
    ends = ((name, expiry(request, entry)) for name, request in requests)
    ended = [(name, end) for name, end in ends if end is not None and end <= intent.now]
    if ended:
        name, end = ended[0]
        more = f", and {len(ended) - 1} more of it" if len(ended) > 1 else ""
        yield "expiry", f"{name} ended at {shown_moment(end)}{more}: sign it again"


def _check_request(
    path: str, entry: MapEntry, name: str, request: MapRequest, intent: Intent
) -> Iterator[KindAndText]:
    signed = describe(request.url)
    url = request.url.reveal()
    bucket, key = split_path(path)
    try:
        there, seen = url_checks.object_of(url_checks.as_read(url, key))
    except ValueError:
        yield "object", f"the path of {name} is not UTF-8"
    else:
        # The URL of a custom domain contains no bucket, or has it in the path.
        fits = seen in (key, path) if there is None else (there, seen) == (bucket, key)
        if not fits:
            where = shown_text(seen if there is None else f"{there}/{seen}")
            yield "object", f"{name} is for {where}"
        yield from _check_call(entry, name, url, signed)
    if name == "complete" and (problem := complete_problem(request)):
        yield "headers", f"{name} {problem}"
    # The URL demands headers that the map does not send.
    if request.headers is not None:
        headers = {header.lower() for header in request.headers}
        lacking = sorted(set(signed.additional_headers) - headers - _SENT_ANYWAY)
        if lacking:
            text = f"{name} was signed with {', '.join(lacking)}, its headers lack it"
            yield "headers", shown_text(text)
    allowed = {"allow_http": intent.allow_http, "local": intent.local}
    if problem := url_checks.http_problem(url, **allowed):
        yield "http", f"{name} {problem}"


def _check_call(
    entry: MapEntry, name: str, url: str, signed: SignedURL
) -> Iterator[KindAndText]:
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    if name.startswith("parts[") and f"parts[{signed.part_number}]" != name:
        text = f"{name} has no partNumber in its URL: it would replace the object"
        yield "object", text
    if name in ("complete", "abort", "list") and signed.upload_id != entry.upload_id:
        yield "object", f"{name} belongs to another upload"
    wrong = ", ".join(sorted({"uploadId", "uploads", "acl"} & query.keys()))
    if name == "url" and wrong:
        yield "object", f"{name} has the parameter {wrong}: it stores no object"


def _check_upload(
    path: str, entry: MapEntry, intent: Intent, size: int, bytes_before: int
) -> Iterator[KindAndText]:
    options = Options(signer="keys", receipts=intent.receipts or None)
    target = Target.of(path=path, headers=intent.headers)
    plan = None
    try:
        grant = grant_of(entry, path)
        plan = plan_for(grant, options, size, path=path)
        check_plan(options, target, grant, plan)
        for operation in needed_requests(target, grant, plan, size):
            request_of(entry, operation, now=0.0, allow_http=True, local=True)
    except NotCoveredError as error:
        yield "parts" if plan is None else "headers", error.message
    except ConfigurationError as error:
        for problem in error.problems:
            yield "parts" if plan is None else "upload", problem
    if plan is None or intent.rate is None:
        return
    # OSS checks the expiry when a request arrives, so sending the body may take longer.
    for name, request, sent in _timetable(entry, plan, size):
        wait, end = (bytes_before + sent) / intent.rate, expiry(request, entry)
        if end is not None and intent.now < end <= intent.now + wait:
            ends = shown_moment(end)
            text = (
                f"{name} would be sent after {shown_seconds(wait)}, it ends at {ends}"
            )
            yield "expiry", f"{text}: sign it for longer, or later"
            return


def _timetable(
    entry: MapEntry, plan: UploadPlan, size: int
) -> Iterator[tuple[str, MapRequest, int]]:
    """Yield name and request of each call of an upload, and the bytes sent before it."""
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


def check_grant(grant: PostGrant, intent: Intent) -> list[Result]:
    """Return all problems of *grant* for the planned uploads *intent*.

    The check assumes that the files are sent one after the other, in their order. The
    kinds of problems are ``expiry``, ``http`` and ``upload``.
    """
    place = f"{grant.bucket}/{''.join(grant.prefixes[:1])}"
    problems = []
    if grant.expires_at <= intent.now:
        ended = f"it expired at {shown_moment(grant.expires_at)}: sign it again"
        problems.append(_problem(place, "expiry", ended))
    allowed = {"allow_http": intent.allow_http, "local": intent.local}
    if problem := url_checks.http_problem(grant.url, **allowed):
        problems.append(_problem(place, "http", f"its URL {problem}"))
    sent = 0
    for path, local in intent.files.items():
        size = os.path.getsize(local)
        problems += _check_form(grant, path, size, sent, intent)
        sent += size
    return problems


def _check_form(
    grant: PostGrant, path: str, size: int, bytes_before: int, intent: Intent
) -> Iterator[Result]:
    operation = Target.of(path=path, headers=intent.headers).operation(
        Action.PostObject, content_length=size
    )
    try:
        # The end of the grant is reported as a separate problem.
        sign_form(grant, operation, min(intent.now, grant.expires_at - 1))
    except NotCoveredError as error:
        text = error.message.removeprefix(f"the grant does not allow {path!r}: ")
        yield _problem(path, "upload", text)
        return
    if intent.rate is None:
        return
    wait = bytes_before / intent.rate
    if intent.now < grant.expires_at <= intent.now + wait:
        ends = shown_moment(grant.expires_at)
        text = f"would be sent after {shown_seconds(wait)}, the grant ends at {ends}"
        yield _problem(path, "expiry", f"{text}: sign it for longer, or later")
