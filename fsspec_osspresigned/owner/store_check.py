"""Check of a live store: sends valid and invalid requests, and compares the replies.

Begin with ``store_facts``, the table of facts on which the program relies.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from attrs import asdict, define, field, frozen

from ..client.error_codes import clean, members, name
from ..errors import ConfigurationError, OSSPresignedError
from ..http.body import MemoryBody
from ..model import Action, Reply, SignedForm, SignedRequest
from ..parsing import parse
from ..secret import FormValue
from ..signing.canonical import Credentials
from ..signing.grant_file import GrantTerms, sign_grant
from .store_folder import LIFE, CheckFolder, StoreAccess, Trace

# Headers of replies that a report shows; all others may tell whose bucket it is.
_SHOWN = re.compile(
    r"etag|content-(type|length|md5|range|encoding)|date|server|retry-after|x-oss-(?!"
    r"request-id$|meta-|err$).*|x-oss-meta-check|access-control-.*"
).fullmatch
# Elements whose text is shown; that of all others may name a bucket or its owner.
_TEXTS = {"Code", "EC", "ETag", "EncodingType", "HashCrc64ecma", "Key", "Size"}
OUTCOMES = ("as expected", "different", "recorded", "not asked")
_MAX_TAG = 40  # characters of the name of an element that a report shows


@frozen(kw_only=True)
class Expected:
    """Expected properties of one reply; None values are not checked.

    Attributes:
        code: code in the error document.
        ec: EC in the error document, or ``x-oss-ec``.
        headers: name -> value of headers that must be present; None accepts any value.
        holds: texts that the body must contain.
    """

    status: int
    code: str | None = None
    ec: str | None = None
    headers: Mapping[str, str | None] = field(factory=dict)
    holds: tuple[str, ...] = ()

    def differences(self, reply: Reply, error: Mapping[str, str]) -> list[str]:
        """Return the differences between *reply* and the expected reply, as texts."""
        pairs = [
            ("status", str(self.status), str(reply.status)),
            ("code", self.code, error.get("Code")),
            ("EC", self.ec, _ec(reply, error)),
        ]
        pairs += [(n, v, reply.headers.get(n)) for n, v in self.headers.items()]
        found = [
            f"{what} is {name(seen or '') or 'another'}, not {wanted}"
            for what, wanted, seen in pairs
            if wanted is not None and seen and wanted.lower() != seen.lower()
        ]
        needed = {what for what, wanted, _ in pairs if wanted is not None}
        needed |= self.headers.keys()
        found += [f"{w} is missing" for w, _, seen in pairs if w in needed and not seen]
        text = reply.body.decode(errors="replace")
        return found + [f"the body lacks {t}" for t in self.holds if t not in text]


@frozen
class Fact:
    """One fact about the store on which the program relies.

    Attributes:
        name: short name for reports.
        says: the fact, in one sentence.
        source: where the fact is documented or was observed.
        ask: sends a request whose reply shows the fact.
        expected: the expected reply; None only records the reply, because no source
            describes it.
    """

    name: str
    says: str
    source: str
    ask: Callable[[CheckedStore], Reply]
    expected: Expected | None


@frozen(kw_only=True)
class FactResult:
    """The store's reply for one fact.

    Attributes:
        outcome: ``as expected``, ``different``, ``recorded`` or ``not asked``.
        differences: descriptions; for ``not asked`` the reason.
        seen: status, code, EC, headers and elements of the reply, without secrets and
            bucket names.
    """

    name: str
    says: str
    source: str
    outcome: str
    differences: tuple[str, ...] = ()
    seen: Mapping[str, Any] = field(factory=dict)

    def __str__(self) -> str:
        """Return the result as one line of the text report."""
        told = f": {'; '.join(self.differences)}" if self.differences else ""
        return f"{self.outcome:<11}  {self.name:<24}  {self.says}{told}"

    def as_dict(self) -> dict[str, Any]:
        """Return the result as members of the JSON report."""
        return asdict(self)


@define(kw_only=True)
class CheckedStore:
    """Real or emulated store, with the folder in which the check works."""

    folder: CheckFolder

    @property
    def access(self) -> StoreAccess:
        """The signed requests to the bucket."""
        return self.folder.access

    def call(
        self,
        action: Action,
        key: str,
        body: bytes = b"",
        query: Mapping[str, str] | None = None,
        **request: Any,
    ) -> Reply:
        """Sign and send one call on the object *key* of the folder.

        *request* holds further arguments of :meth:`StoreAccess.request`.
        """
        spec = action.spec
        full = "" if spec.on_bucket else f"{self.folder.path}{key}"
        if spec.publishes:
            self.folder.traces.add(Trace(full))
        given = {**spec.fixed, **(query or {})}
        reply = self.access.request(
            spec.method, full, body=body, query=given, **request
        )
        self.folder.note(full, reply)
        return reply

    def post(
        self,
        key: str,
        body: bytes,
        *,
        below: str = "",
        ago: int = 0,
        credentials: Credentials | None = None,
        **terms: Any,
    ) -> Reply:
        """Send *body* as a form that was signed *ago* seconds ago for the prefix *below*.

        *terms* are attributes of :class:`GrantTerms`.
        """
        access = self.access
        terms = {"expires_in": LIFE, "prefix": f"{self.folder.path}{below}", **terms}
        grant = sign_grant(
            credentials or access.credentials,
            access.endpoint,
            GrantTerms(bucket=access.bucket, **terms),
            region=access.region,
            now=access.clock() - ago,
        )
        full = f"{self.folder.path}{key}"
        self.folder.traces.add(Trace(full))
        form = SignedForm(fields={"key": FormValue(full), **grant.fields})
        signed = SignedRequest(method="POST", url=grant.url, form=form)
        reply = access.send(signed, MemoryBody.of(body))
        self.folder.note(full, reply)
        return reply

    def copy_source(self, key: str) -> str:
        """Return the value of ``x-oss-copy-source`` for a key of this check."""
        return f"/{self.access.bucket}/{self.folder.path}{key}"

    def initiate(self, key: str, **more: Any) -> str:
        """Begin a multipart upload and return its ID.

        Raises:
            ConfigurationError: the store did not begin the upload.
        """
        return self.upload_id(
            self.call(Action.InitiateMultipartUpload, key, **more), key
        )

    def upload_id(self, reply: Reply, key: str) -> str:
        """Return the upload ID in *reply*."""
        try:
            found = parse(reply.body).findtext("UploadId")
        except ValueError:
            found = None
        if not found:
            raise ConfigurationError("no multipart upload was begun")
        full = f"{self.folder.path}{key}"
        self.folder.traces.add(Trace(full, upload_id=found))
        return found

    def part(self, key: str, upload_id: str, body: bytes, number: int = 1) -> Reply:
        """Send one part of a multipart upload."""
        query = {"uploadId": upload_id, "partNumber": str(number)}
        return self.call(Action.UploadPart, key, body, query=query)


def check(store: CheckedStore, facts: Iterable[Fact]) -> Iterator[FactResult]:
    """Check each of *facts* on *store*; yield the results in the same order."""
    for fact in facts:
        result = partial(FactResult, name=fact.name, says=fact.says, source=fact.source)
        try:
            reply = fact.ask(store)
        except OSSPresignedError as failure:
            yield result(outcome="not asked", differences=(clean(str(failure)),))
            continue
        error = members(reply.body, reply.headers)
        seen, outcome, told = _seen(reply, error), "recorded", []
        if fact.expected is not None:
            told = fact.expected.differences(reply, error)
            outcome = "different" if told else "as expected"
        yield result(outcome=outcome, differences=tuple(told), seen=seen)


def _ec(reply: Reply, error: Mapping[str, str]) -> str:
    return error.get("EC") or reply.headers.get("x-oss-ec", "")


def _seen(reply: Reply, error: Mapping[str, str]) -> dict[str, Any]:
    """Return those members of *reply* that the report shows."""
    elements: dict[str, str] = {}
    with contextlib.suppress(ValueError):
        for one in parse(reply.body).iter():
            value = (one.text or "") if one.tag in _TEXTS else ""
            elements[one.tag[:_MAX_TAG]] = clean(value)
    return {
        "status": reply.status,
        "code": name(error.get("Code", "")),
        "ec": name(_ec(reply, error)),
        "headers": {n: clean(v) for n, v in reply.headers.items() if _SHOWN(n)},
        "elements": elements,
    }
