"""Check of a live store: sends valid and invalid requests, and compares the replies.

Begin with ``store_facts``, the table of facts on which the program relies.
"""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from attrs import Factory, define, evolve, field, frozen

from ...client.error_codes import clean, from_reply, members, name
from ...errors import OSSPresignedError, SignatureMismatchError
from ...model import COPY_SOURCE, Action, Operation, Reply
from ...parsing import complete_multipart_upload, parse
from .rows import Outcome, Result, Row, run
from .store_folder import CheckFolder, CheckKey, FormCall, upload_id_of

# Reply headers that a report shows. Other headers may identify the bucket's owner.
_SHOWN = re.compile(
    r"etag|content-(type|length|md5|range|encoding)|date|server|retry-after|x-oss-(?!"
    r"request-id$|meta-|err$).*|x-oss-meta-check|access-control-.*"
).fullmatch
# Elements whose text is shown. Other elements may name a bucket or its owner.
_TEXTS = {"Code", "EC", "ETag", "EncodingType", "HashCrc64ecma", "Key", "Size"}
_MAX_TAG = 40  # maximum characters of an element's name in a report
COMPLETE_ALL = "x-oss-complete-all"


@frozen(kw_only=True)
class Expected:
    """Expected properties of one reply; None values are not checked."""

    status: int
    code: str | None = None  # code in the error document
    ec: str | None = None  # EC in the error document, or ``x-oss-ec``
    # Name -> value of headers that must be present; None accepts any value.
    headers: Mapping[str, str | None] = field(factory=dict)
    holds: tuple[str, ...] = ()  # texts that the body must contain

    @property
    def is_refusal(self) -> bool:
        return not Reply(status=self.status).is_good

    def differences(self, reply: Reply, error: Mapping[str, str]) -> Iterator[str]:
        pairs = [
            ("status", str(self.status), str(reply.status)),
            ("code", self.code, error.get("Code")),
            ("EC", self.ec, error["EC"]),
        ]
        pairs = [pair for pair in pairs if pair[1] is not None]
        pairs += [(n, v, reply.headers.get(n)) for n, v in self.headers.items()]
        for what, expected, seen in pairs:
            if not seen:
                yield f"{what} is missing"
            elif expected and expected.lower() != seen.lower():
                yield f"{what} is {name(seen) or 'another'}, not {expected}"
        text = reply.body.decode(errors="replace")
        yield from (f"the body lacks {held}" for held in self.holds if held not in text)


class Needs(enum.Enum):
    """Condition for a fact, on the bucket, endpoint or keys; the value is its name."""

    UNVERSIONED = "a bucket without versioning"
    VERSIONED = "a bucket with versioning, enabled or suspended"
    VERSION_IDS = "a bucket with versioning enabled"
    TEMPORARY_KEY = "a temporary access key"
    CNAME = "an own domain of the bucket as endpoint"

    def are_met(self, folder: CheckFolder) -> bool:
        access = folder.access
        return {
            Needs.UNVERSIONED: not folder.is_versioned,
            Needs.VERSIONED: folder.is_versioned,
            Needs.VERSION_IDS: folder.has_version_ids,
            Needs.TEMPORARY_KEY: access.credentials.security_token is not None,
            Needs.CNAME: access.endpoint.style == "cname",
        }[self]


@frozen
class URLCall:
    """One request of a fact, without the values that only a run of the check knows.

    The check adds bucket, directory, time, and the ID of the upload that the fact
    began. It also adds the list of parts to CompleteMultipartUpload, unless the request
    has a body or ``x-oss-complete-all``.
    """

    action: Action
    key: CheckKey = CheckKey.OBJECT
    body: bytes = field(default=b"", kw_only=True)
    # headers that are signed and sent
    headers: Mapping[str, str] = field(factory=dict, kw_only=True)
    # Headers that are sent but not signed. None omits a signed header.
    unsigned: Mapping[str, str | None] = field(factory=dict, kw_only=True)
    # Signed parameters. The prefix of a listing is relative to the directory.
    query: Mapping[str, str] = field(factory=dict, kw_only=True)
    source: CheckKey | None = field(default=None, kw_only=True)  # source of the copy
    part_number: int = field(default=1, kw_only=True)
    # seconds since signing; a negative number signs for the future
    ago: int = field(default=0, kw_only=True)
    # Further attributes of :class:`PresignRequest`.
    signed: Mapping[str, Any] = field(factory=dict, kw_only=True)
    # Replaced attributes of the credentials.
    wrong: Mapping[str, Any] = field(factory=dict, kw_only=True)
    # True writes ``+`` for blanks in the path
    plus: bool = field(default=False, kw_only=True)


Step: TypeAlias = URLCall | FormCall


def _steps(value: Step | tuple[Step, ...]) -> tuple[Step, ...]:
    return value if isinstance(value, tuple) else (value,)


@frozen
class Fact(Row):
    """One fact about the store.

    If the store must refuse the last request, *counter* names a similar fact. Its last
    request has no mistake, and succeeds.
    """

    source: str  # where the fact is documented or was observed
    # Requests. The reply to the last one shows the fact; all others must succeed.
    steps: tuple[Step, ...] = field(converter=_steps)
    # None only records the reply, because no source describes it
    expected: Expected | None = None
    needs: Needs | None = field(default=None, kw_only=True)


class _StepFailedError(OSSPresignedError):
    """Control-flow exception: a request before the last one was refused."""


def check_store(folder: CheckFolder, facts: Iterable[Fact]) -> Iterator[Result]:
    """Check *facts* in *folder*; yield the results in the same order."""

    def unmet(fact: Fact) -> str:
        if fact.needs is None or fact.needs.are_met(folder):
            return ""
        return f"it needs {fact.needs.value}"

    return run(facts, lambda fact: _result(fact, folder), unmet)


def _result(fact: Fact, folder: CheckFolder) -> Result:
    outcome: Outcome = "recorded"
    try:
        reply = _Sequence(folder).run(fact.steps)
    except OSSPresignedError as failure:
        # The package does not rely on a reply that is only recorded.
        outcome = "failed" if fact.expected else "recorded"
        return fact.result(outcome, clean(failure.message))
    error = {"EC": reply.headers.get("x-oss-ec", "")}
    error |= members(reply.body, reply.headers)
    differences: list[str] = []
    if fact.expected is not None:
        differences += fact.expected.differences(reply, error)
        outcome = "failed" if differences else "passed"
    if fact.is_control and not reply.is_good:
        bucket, key = folder.access.bucket, f"{folder.path}{fact.steps[-1].key}"
        call = Operation(action=fact.steps[-1].action, bucket=bucket, key=key)
        refusal = from_reply(call, reply, now=folder.access.clock)
        differences = [refusal.message]
        if isinstance(refusal, SignatureMismatchError):
            what = "OSS_ACCESS_KEY_SECRET is not the secret of this access key"
            differences = [f"{what}: correct it"]
    seen, why = _seen(reply, error), "; ".join(differences)
    return fact.result(outcome, why, seen=seen, succeeded=reply.is_good)


@define
class _Sequence:
    folder: CheckFolder
    upload_id: str = ""
    parts: list[tuple[int, str]] = Factory(list)

    def run(self, steps: tuple[Step, ...]) -> Reply:
        *first, last = steps
        for step in first:
            reply = self._send(step)
            if not reply.is_good:
                code = name(members(reply.body, reply.headers).get("Code", ""))
                what = f"{step.action} before it was refused with {reply.status} {code}"
                raise _StepFailedError(what.rstrip())
        return self._send(last)

    def _send(self, step: Step) -> Reply:
        folder, credentials = self.folder, self.folder.access.credentials
        changed: dict[str, Any] = {
            "credentials": evolve(credentials, **step.wrong),
            "now": folder.access.clock() - step.ago,
        }
        if isinstance(step, FormCall):
            return folder.post(step, **changed)
        body, headers = step.body, step.headers
        if step.source is not None:
            path = f"/{folder.access.bucket}/{folder.path}{step.source}"
            headers = {COPY_SOURCE: path, **headers}
        completes = step.action is Action.CompleteMultipartUpload
        if completes and not body and COMPLETE_ALL not in headers:
            body = complete_multipart_upload(self.parts)
        reply = folder.call(
            step.action,
            step.key,
            body,
            headers=headers,
            query=self._query(step),
            unsigned=step.unsigned,
            plus=step.plus,
            **changed,
            **step.signed,
        )
        if step.action is Action.InitiateMultipartUpload:
            self.upload_id = upload_id_of(reply)
        elif step.action is Action.UploadPart:
            self.parts.append((step.part_number, reply.headers.get("etag", "")))
        return reply

    def _query(self, step: URLCall) -> Mapping[str, str]:
        spec, query = step.action.spec, dict(step.query)
        if spec.upload_id:
            query.setdefault("uploadId", self.upload_id)
        if spec.part_number:
            query["partNumber"] = str(step.part_number)
        if spec.on_bucket:
            query["prefix"] = f"{self.folder.path}{query.get('prefix', '')}"
        return query


def _seen(reply: Reply, error: Mapping[str, str]) -> dict[str, Any]:
    elements: dict[str, str] = {}
    with contextlib.suppress(ValueError):
        for element in parse(reply.body).iter():
            value = (element.text or "") if element.tag in _TEXTS else ""
            elements[element.tag[:_MAX_TAG]] = clean(value)
    return {
        "status": reply.status,
        "code": name(error.get("Code", "")),
        "ec": name(error["EC"]),
        "headers": {n: clean(v) for n, v in reply.headers.items() if _SHOWN(n)},
        "elements": elements,
    }
