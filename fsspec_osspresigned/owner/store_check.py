"""Check of a live store: sends valid and invalid requests, and compares the replies.

Begin with ``store_facts``, the table of facts on which the program relies.
"""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, TypeAlias

from attrs import Factory, asdict, define, evolve, field, frozen

from ..client.error_codes import clean, from_reply, members, name
from ..errors import OSSPresignedError
from ..model import COPY_SOURCE, Action, Operation, Reply
from ..parsing import complete_multipart_upload, parse
from .store_folder import CheckFolder, CheckKey, upload_id_of

# Headers of replies that a report shows; all others may tell whose bucket it is.
_SHOWN = re.compile(
    r"etag|content-(type|length|md5|range|encoding)|date|server|retry-after|x-oss-(?!"
    r"request-id$|meta-|err$).*|x-oss-meta-check|access-control-.*"
).fullmatch
# Elements whose text is shown; that of all others may name a bucket or its owner.
_TEXTS = {"Code", "EC", "ETag", "EncodingType", "HashCrc64ecma", "Key", "Size"}
_MAX_TAG = 40  # characters of the name of an element that a report shows
COMPLETE_ALL = "x-oss-complete-all"
OUTCOMES = ("as expected", "different", "recorded", "not asked", "skipped")


@frozen(kw_only=True)
class Expected:
    """Expected properties of one reply; None values are not checked."""

    status: int
    code: str | None = None  # code in the error document
    ec: str | None = None  # EC in the error document, or ``x-oss-ec``
    # Name -> value of headers that must be present; None accepts any value.
    headers: Mapping[str, str | None] = field(factory=dict)
    exact: bool = False  # letter case of values counts
    holds: tuple[str, ...] = ()  # texts that the body must contain

    @property
    def is_refusal(self) -> bool:
        return not _is_success(self.status)

    def differences(self, reply: Reply, error: Mapping[str, str]) -> list[str]:
        pairs = [
            ("status", str(self.status), str(reply.status)),
            ("code", self.code, error.get("Code")),
            ("EC", self.ec, _ec(reply, error)),
        ]
        pairs += [(n, v, reply.headers.get(n)) for n, v in self.headers.items()]
        as_compared = str if self.exact else str.lower
        texts = [
            f"{what} is {name(seen or '') or 'another'}, not {expected}"
            for what, expected, seen in pairs
            if expected and seen and as_compared(expected) != as_compared(seen)
        ]
        needed = {what for what, expected, _ in pairs if expected is not None}
        needed |= self.headers.keys()
        texts += [f"{w} is missing" for w, _, seen in pairs if w in needed and not seen]
        text = reply.body.decode(errors="replace")
        return texts + [f"the body lacks {t}" for t in self.holds if t not in text]


class Needs(enum.Enum):
    """Condition of a fact on the bucket, its endpoint or the keys; the value names it."""

    UNVERSIONED = "a bucket without versioning"
    VERSIONED = "a bucket with versioning, enabled or suspended"
    VERSION_IDS = "a bucket with versioning enabled"
    TEMPORARY_KEY = "a temporary access key"
    CNAME = "an own domain of the bucket as endpoint"
    PUBLIC_HOST = "an own domain of a bucket in mainland China as endpoint"

    def are_met(self, folder: CheckFolder) -> bool:
        access = folder.access
        return {
            Needs.UNVERSIONED: not folder.is_versioned,
            Needs.VERSIONED: folder.is_versioned,
            Needs.VERSION_IDS: folder.has_version_ids,
            Needs.TEMPORARY_KEY: access.credentials.security_token is not None,
            Needs.CNAME: access.endpoint.style == "cname",
            Needs.PUBLIC_HOST: access.public_endpoint is not None,
        }[self]


@frozen
class URLCall:
    """One request of a fact, without what only a run of the check knows.

    The check adds bucket, directory and time, and the ID of the upload that the fact
    began. To CompleteMultipartUpload it adds the list of parts, unless a body or
    ``x-oss-complete-all`` takes its place.
    """

    action: Action
    key: CheckKey = CheckKey.OBJECT
    body: bytes = field(default=b"", kw_only=True)
    headers: Mapping[str, str] = field(factory=dict, kw_only=True)  # signed headers
    # Headers that are only sent; None does not send a signed header.
    unsigned: Mapping[str, str | None] = field(factory=dict, kw_only=True)
    # Signed parameters; the prefix of a listing is below the directory.
    query: Mapping[str, str] = field(factory=dict, kw_only=True)
    source: CheckKey | None = field(default=None, kw_only=True)  # copy source
    part_number: int = field(default=1, kw_only=True)
    # Position of the step of the fact whose version ID is requested.
    version_of: int | None = field(default=None, kw_only=True)
    ago: int = field(default=0, kw_only=True)  # seconds since signing; or negative
    # Further attributes of :class:`PresignRequest`.
    signed: Mapping[str, Any] = field(factory=dict, kw_only=True)
    # Attributes of the credentials that are replaced.
    wrong: Mapping[str, Any] = field(factory=dict, kw_only=True)
    plus: bool = field(default=False, kw_only=True)  # ``+`` for blanks in the path
    public: bool = field(default=False, kw_only=True)  # at the public endpoint


@frozen
class FormCall:
    key: CheckKey
    body: bytes
    # Prefix of the policy, below the directory of the check.
    below: str = field(default="", kw_only=True)
    # Further attributes of :class:`GrantTerms`.
    terms: Mapping[str, Any] = field(factory=dict, kw_only=True)
    # Form fields that no condition names; None does not send a field.
    unlisted: Mapping[str, str | None] = field(factory=dict, kw_only=True)
    version: str = field(default="v4", kw_only=True)  # version of the signature
    ago: int = field(default=0, kw_only=True)  # as for a :class:`URLCall`
    wrong: Mapping[str, Any] = field(factory=dict, kw_only=True)
    action: ClassVar[Action] = Action.PostObject


Step: TypeAlias = URLCall | FormCall


def _steps(value: Step | tuple[Step, ...]) -> tuple[Step, ...]:
    return value if isinstance(value, tuple) else (value,)


@frozen
class Fact:
    name: str  # short name for reports
    says: str  # the fact, in one sentence
    source: str  # where the fact is documented or was observed
    # Requests; the reply to the last one shows the fact, the others must succeed.
    steps: tuple[Step, ...] = field(converter=_steps)
    expected: Expected | None = None  # None records a reply that no source describes
    # For a refusal the name of an earlier fact, whose last request differs only in the
    # property that the store refuses. If it did not succeed, the refusal proves nothing
    # and is not asked for.
    counter: str | None = field(default=None, kw_only=True)
    needs: Needs | None = field(default=None, kw_only=True)
    is_control: bool = field(default=False, kw_only=True)  # a failure ends the check


@frozen(kw_only=True)
class FactResult:
    """The store's reply for one fact."""

    name: str
    says: str
    source: str
    outcome: str  # one of :data:`OUTCOMES`
    differences: tuple[str, ...] = ()  # for ``not asked`` and ``skipped`` the reason
    # Status, code, EC, headers and elements of the reply, without secrets and bucket
    # names.
    seen: Mapping[str, Any] = field(factory=dict)

    def __str__(self) -> str:
        why = f": {'; '.join(self.differences)}" if self.differences else ""
        return f"{self.outcome:<11}  {self.name:<26}  {self.says}{why}"

    def as_dict(self) -> dict[str, Any]:
        """Return the result as members of the JSON report."""
        return asdict(self)


class _StepFailedError(Exception):
    """Control-flow exception: a request before the last one was refused."""


def check(folder: CheckFolder, facts: Iterable[Fact]) -> Iterator[FactResult]:
    """Check each of *facts* in *folder*; yield the results in the same order.

    Raises:
        OSSPresignedError: a fact with ``is_control`` failed, which ends the check.
    """
    succeeded: set[str | None] = {None}
    for fact in facts:
        result = partial(FactResult, name=fact.name, says=fact.says, source=fact.source)
        if fact.needs is not None and not fact.needs.are_met(folder):
            why = f"it needs {fact.needs.value}"
            yield result(outcome="skipped", differences=(why,))
            continue
        if fact.counter not in succeeded:
            why = f"{fact.counter} did not succeed, so a refusal would prove nothing"
            yield result(outcome="not asked", differences=(why,))
            continue
        try:
            reply = _Sequence(folder).run(fact.steps)
        except (_StepFailedError, OSSPresignedError) as failure:
            if fact.is_control:
                raise
            # A reply that is only recorded is not relied on.
            outcome = "not asked" if fact.expected else "recorded"
            yield result(outcome=outcome, differences=(clean(str(failure)),))
            continue
        if _is_success(reply.status):
            succeeded.add(fact.name)
        elif fact.is_control:
            last = fact.steps[-1]
            bucket, key = folder.access.bucket, f"{folder.path}{last.key}"
            call = Operation(action=last.action, bucket=bucket, key=key)
            raise from_reply(call, reply, now=folder.access.clock)
        error = members(reply.body, reply.headers)
        seen, outcome, differences = _seen(reply, error), "recorded", []
        if fact.expected is not None:
            differences = fact.expected.differences(reply, error)
            outcome = "different" if differences else "as expected"
        yield result(outcome=outcome, differences=tuple(differences), seen=seen)


@define
class _Sequence:
    folder: CheckFolder
    upload_id: str = ""
    parts: list[tuple[int, str]] = Factory(list)
    version_ids: list[str] = Factory(list)

    def run(self, steps: tuple[Step, ...]) -> Reply:
        *first, last = steps
        for step in first:
            reply = self._send(step)
            if not _is_success(reply.status):
                code = name(members(reply.body, reply.headers).get("Code", ""))
                what = f"{step.action} before it was refused with {reply.status} {code}"
                raise _StepFailedError(what.rstrip())
            self.version_ids.append(reply.headers.get("x-oss-version-id", ""))
        return self._send(last)

    def _send(self, step: Step) -> Reply:
        folder, credentials = self.folder, self.folder.access.credentials
        changed: dict[str, Any] = {
            "credentials": evolve(credentials, **step.wrong),
            "now": folder.access.clock() - step.ago,
        }
        if isinstance(step, FormCall):
            return folder.post(
                step.key,
                step.body,
                below=step.below,
                unlisted=step.unlisted,
                version=step.version,
                **changed,
                **step.terms,
            )
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
            **({"endpoint": folder.access.public_endpoint} if step.public else {}),
            **changed,
            **step.signed,
        )
        if step.action is Action.InitiateMultipartUpload:
            self.upload_id = upload_id_of(reply)
        elif step.action is Action.UploadPart:
            etag = reply.headers.get("etag", "")
            self.parts.append((step.part_number, etag))
        return reply

    def _query(self, step: URLCall) -> Mapping[str, str]:
        spec, query = step.action.spec, dict(step.query)
        if spec.upload_id:
            query.setdefault("uploadId", self.upload_id)
        if spec.part_number:
            query["partNumber"] = str(step.part_number)
        if spec.on_bucket:
            query["prefix"] = f"{self.folder.path}{query.get('prefix', '')}"
        if step.version_of is not None:
            query["versionId"] = self.version_ids[step.version_of]
        return query


def _is_success(status: int) -> bool:
    return status // 100 == HTTPStatus.OK // 100


def _ec(reply: Reply, error: Mapping[str, str]) -> str:
    return error.get("EC") or reply.headers.get("x-oss-ec", "")


def _seen(reply: Reply, error: Mapping[str, str]) -> dict[str, Any]:
    elements: dict[str, str] = {}
    with contextlib.suppress(ValueError):
        for element in parse(reply.body).iter():
            value = (element.text or "") if element.tag in _TEXTS else ""
            elements[element.tag[:_MAX_TAG]] = clean(value)
    return {
        "status": reply.status,
        "code": name(error.get("Code", "")),
        "ec": name(_ec(reply, error)),
        "headers": {n: clean(v) for n, v in reply.headers.items() if _SHOWN(n)},
        "elements": elements,
    }
