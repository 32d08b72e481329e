"""Explanations of refusals that other programs got from OSS or an S3-compatible store.

The meaning of codes and EC numbers is that of ``client.error_codes``. ``known_causes``
adds causes that this package itself avoids, such as a Content-Type that a library sends
unasked.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import asdict, frozen

from ..client.error_codes import ErrorReply, clean
from ..errors import Refused, ReplyError, StoreUnavailableError
from ..model import Action, Operation, SignedRequest
from ..other_stores import GOOGLE_QUERY, S3_CHECKSUM, S3_HEADER, S3_QUERY
from ..parsing import moment
from ..secret import SecretURL, redact
from ..signing.canonical import parse_query
from ..signing.mismatch import SignedPieces, compare, received_request
from ..signing.signed_url import damage, describe
from ..units import shown_end
from .inspect import about_url
from .known_causes import (
    BUSY,
    ELSEWHERE,
    EVIDENCE,
    MESSAGES,
    NO_BODY,
    NO_RULE,
    NOT_SHOWN,
    OTHER_SECRET,
    UNASKED,
    Cause,
)
from .refusal import Refusal, secrets_of


@frozen(kw_only=True)
class Explained:
    """An explained refusal; no text of it holds a signature, a token or a key ID."""

    kind: type[ReplyError]  # what this package would raise
    status: int | None
    code: str
    ec: str
    request_id: str
    message: str  # of the store
    url: tuple[tuple[str, str], ...]  # as ``inspect`` describes it; empty if not known
    sent: str  # what a signature can include of the request; empty if not known
    received: str  # the same, by the store; empty if it does not say
    differences: tuple[str, ...]  # of what was received from the URL and what was sent
    causes: tuple[Cause, ...]  # the best one first, at least one

    def as_dict(self) -> dict[str, Any]:
        """Return the members of a JSON object."""
        members = asdict(self, filter=lambda attribute, _: attribute.name != "kind")
        return {"error": self.kind.__name__, **members, "url": dict(self.url)}


_FORBIDDEN = 403
_FORM = re.compile("according to Policy|Invalid Policy|MaxSizeAllowed")
_LISTS = (f"{S3_QUERY}SignedHeaders", f"{GOOGLE_QUERY}SignedHeaders")
_EMPTY_CRC = (f"{S3_CHECKSUM}crc32", "AAAAAA==")  # of an empty body
_VAGUE = ("InvalidArgument", "InvalidRequest")  # codes of many causes
_UNSENT = " was not sent"  # in a line of a comparison
_ON_THE_WAY = ("host ", "the path", "the request for")  # begin such lines
_OPEN = ("content-type", "content-md5", "host")  # headers whose values are no secrets


def explain_refusal(
    refusal: Refusal, *, now: Callable[[], float] = time.time
) -> Explained:
    """Return *refusal* with at least one cause; *now* is this machine's clock."""
    hide = _hider(refusal)
    case = _case(refusal, now)
    kind, _, reason = case.meaning()
    pieces = received_request(case.document, refusal.url or SecretURL(""))
    differences: tuple[str, ...] = ()
    causes = [*_of_checksum(refusal), *_of_code(refusal, case)]
    if reason is Refused.MISMATCH and not case.form:
        differences = _differences(refusal, pieces, hide)
        causes += _of_mismatch(refusal, case, pieces, differences)
    causes += _of_url(case, now())
    if kind is StoreUnavailableError:
        causes.append(BUSY)
    causes = causes or [NO_RULE]
    causes.sort(key=lambda each: EVIDENCE.index(each.evidence))
    described = () if refusal.url is None else about_url(refusal.url, now())
    return Explained(
        kind=kind,
        status=refusal.status,
        code=case.code,
        ec=case.ec,
        request_id=hide(refusal.request_id),
        message=clean(hide(case.document.get("Message", ""))),
        url=tuple((key, hide(value)) for key, value in described),
        sent="" if refusal.sent is None else hide(_sent(refusal, case)),
        received="" if pieces is None else hide(_shown(pieces.method, pieces.headers)),
        differences=differences,
        causes=tuple(Cause(c.evidence, hide(c.cause), hide(c.remedy)) for c in causes),
    )


def _case(refusal: Refusal, now: Callable[[], float]) -> ErrorReply:
    document = dict(refusal.document)
    if match := re.search("expecting '([a-z0-9-]{3,40})'", refusal.text):
        document.setdefault("Region", match[1])
    if ELSEWHERE in refusal.text:
        document.setdefault("Endpoint", "")
    server = moment(document.get("ServerTime", ""))
    return ErrorReply(
        status=refusal.status or _FORBIDDEN,
        document=document,
        code=refusal.code,
        ec=refusal.ec,
        form=bool(_FORM.search(refusal.text)) or refusal.ec.startswith("0006-"),
        url=describe(refusal.url or SecretURL("")),
        # The refusal is of another day, so the only clock is the store's.
        now=now if server is None else lambda: server,
        offset=None if server is None else 0.0,
    )


def _hider(refusal: Refusal) -> Callable[[str], str]:
    # Of two secrets, one may begin with the other.
    secrets = sorted(secrets_of(refusal), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in secrets:
            for spelt in (secret, quote(secret, safe="")):
                text = text.replace(spelt, "<hidden>")
        return redact(text)

    return hide


def _of_checksum(refusal: Refusal) -> Iterator[Cause]:
    url = "" if refusal.url is None else refusal.url.reveal()
    if _EMPTY_CRC in {(key.lower(), v) for key, v in parse_query(urlsplit(url).query)}:
        yield Cause(
            "proven" if refusal.code == "BadDigest" else "likely",
            "the URL is signed with the checksum of an empty body, as SDKs do by "
            "themselves",
            "sign without checksums (requestChecksumCalculation WHEN_REQUIRED)",
        )


def _of_code(refusal: Refusal, case: ErrorReply) -> Iterator[Cause]:
    """Yield the causes that the code, the EC, the message and the members name."""
    _, advice, reason = case.meaning()
    if refusal.key_id != refusal.key_id.strip():
        cause = "the access key ID has a blank or a line break around it"
        yield Cause("proven", cause, "enter the key again, without blanks")
    if names := refusal.document.get("HeadersNotSigned", ""):
        cause = f"it was sent with headers that the URL does not sign: {names[:200]}"
        remedy = "do not send them, or ask the owner for a URL that signs them"
        if refusal.url is not None and "%25" in refusal.url.reveal():
            cause, remedy = "the URL was percent-encoded twice", "use the URL untouched"
        yield Cause("proven", cause, remedy)
        return
    for pattern, meant in MESSAGES:
        if re.search(pattern, refusal.text):
            if isinstance(meant, Refused):
                yield Cause("proven", *_why(case, meant))
            else:
                yield meant
            return
    if reason is Refused.MISMATCH and not case.form:
        return
    if reason is not None:
        # Without an EC, several reasons have this code.
        sure = reason is not Refused.DENIED or case.ec != ""
        yield Cause("proven" if sure else "likely", *_why(case, reason))
    elif advice:
        cause, _, remedy = advice.partition(": ")
        yield Cause("proven", cause, remedy or "correct this, and upload again")


def _why(case: ErrorReply, reason: Refused) -> tuple[str, str]:
    explanation = case.explain(reason, str)
    return explanation.cause, explanation.remedy


def _differences(
    refusal: Refusal, pieces: SignedPieces | None, hide: Callable[[str], str]
) -> tuple[str, ...]:
    if refusal.url is None:
        return ()
    headers, method = refusal.sent, refusal.method
    if pieces is not None and headers is None:
        # What arrived is all that is known, but for the host, which is in the URL.
        headers = {n: v for n, v in pieces.headers.items() if n != "host"}
        method = pieces.method
    request = SignedRequest(
        method=method or "PUT", url=refusal.url, headers=headers or {}
    )
    operation = Operation(action=Action.PutObject)
    comparison = compare(refusal.document, request, operation, hide)
    lines = map(hide, comparison.spoilt + comparison.changed)
    # A header cannot be missed if none is known.
    return tuple(n for n in lines if headers is not None or _UNSENT not in n)


def _of_mismatch(
    refusal: Refusal,
    case: ErrorReply,
    pieces: SignedPieces | None,
    differences: tuple[str, ...],
) -> Iterator[Cause]:
    """Yield the causes of a signature that does not match."""
    if refusal.url is not None and (problem := damage(refusal.url)):
        remedy = "copy the whole URL again, or ask for a new one"
        yield Cause("proven", f"the URL {problem}", remedy)
    elif differences:
        cause = f"the request and its URL differ: {'; '.join(differences[:4])}"
        remedy = "use the URL of this very request, untouched, with the headers that it signs"
        if any(line.startswith(_ON_THE_WAY) for line in differences):
            remedy = (
                "let proxies pass host and path on unchanged, or sign for the host and the "
                "path that the store sees"
            )
        yield Cause("proven", cause, remedy)
    if pieces is not None:
        signs_type = case.url.covers("content-type") or refusal.url is None
        yield from _of_pieces(pieces, signs_type=signs_type)
    elif not differences:
        yield NOT_SHOWN
    yield OTHER_SECRET


def _of_pieces(pieces: SignedPieces, *, signs_type: bool) -> Iterator[Cause]:
    """Yield the causes that *pieces*, the request as it reached the store, suggests.

    *signs_type* says that the signature may cover a Content-Type.
    """
    if pieces.method in ("GET", "HEAD"):
        cause = f"the store received {pieces.method}, and an upload is signed for PUT"
        yield Cause("likely", cause, "send PUT; a browser that opens the URL sends GET")
    if kind := pieces.headers.get("content-type", "")[:80]:
        cause = (
            f"Content-Type {kind!r} was sent, but the URL is probably signed without one, "
            "or with another one"
        )
        remedy = (
            "send no Content-Type if none was signed, otherwise exactly the signed one; or "
            f"ask the owner to sign {kind!r}"
        )
        if any("content-type" in pieces.query.get(n, "").split(";") for n in _LISTS):
            cause = f"Content-Type {kind!r} was sent, but the URL is signed with another one"
            remedy = f"send exactly the signed one, or ask the owner to sign {kind!r}"
        if unasked := UNASKED.get(kind.partition(";")[0].strip()):
            cause, remedy = f"{cause}: {unasked[0]}", f"{remedy} ({unasked[1]})"
        yield Cause("likely", cause, remedy)
    elif signs_type:
        cause = "no Content-Type was sent; the URL may be signed with one"
        yield Cause("possible", cause, "ask the owner which headers to send")
    own = sorted(n for n in pieces.headers if n.startswith(("x-oss-", S3_HEADER)))
    if own:
        cause = f"{', '.join(own)[:200]} arrived; the URL may be signed without them, or with other values"
        yield Cause("possible", cause, "send exactly the headers that are signed")


def _of_url(case: ErrorReply, now: float) -> Iterator[Cause]:
    """Yield the causes that the URL and the status alone suggest."""
    denied = case.code == "AccessDenied" and not case.ec
    end = case.url.expires_at if denied or not case.code else None
    if case.store is None and end is not None and end < now:
        cause = f"the URL has expired: {shown_end(end, now)}"
        yield Cause("possible" if denied else "likely", cause, "ask for a new one")
    if case.url.version == "v1" and (denied or case.code in _VAGUE):
        cause = "the URL has a V1 signature, which new buckets refuse"
        yield Cause("possible", cause, "ask the owner for a URL with a V4 signature")
    if not case.code and not case.ec:
        yield NO_BODY


def _sent(refusal: Refusal, case: ErrorReply) -> str:
    sent = refusal.sent or {}
    return _shown(refusal.method, {n: v for n, v in sent.items() if case.url.covers(n)})


def _shown(method: str, headers: Mapping[str, str]) -> str:
    """Return a request without values that may be secret."""
    shown = [] if "content-type" in headers else ["no content-type"]
    for header, value in sorted(headers.items()):
        shown.append(f"{header} {value[:80]!r}" if header in _OPEN else header)
    return f"{method}, {', '.join(shown)}"
