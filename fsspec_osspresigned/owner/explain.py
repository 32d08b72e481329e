"""Explanations of refusals that other programs got from OSS or an S3-compatible store.

``client.error_codes`` provides the class, and ``client.causes`` the causes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from attrs import asdict, frozen

from ..client.causes import Cause, ranked
from ..client.error_codes import clean, hider, mark, meaning
from ..errors import RefusalReason, StoreError
from ..secret import SecretURL
from ..signing.mismatch import received_request, sent_request, summary
from .inspect import about_url
from .refusal import read_refusal


@frozen(kw_only=True)
class Explained:
    """An explained refusal; no text of it holds a signature, a token or a key ID."""

    kind: type[StoreError]  # the exception that this package would raise
    status: int | None
    code: str
    ec: str
    request_id: str
    message: str  # message of the store
    # the description by ``doctor``; empty if there is no URL
    url: tuple[tuple[str, str], ...]
    sent: str  # the parts of the request that a signature can include; empty if unknown
    # the same parts, as the store received them; empty if the store does not say
    received: str
    # differences of the received request from the URL and from the sent request
    differences: tuple[str, ...]
    causes: tuple[Cause, ...]  # at least one cause, the most likely one first

    def as_dict(self) -> dict[str, Any]:
        """Return the keys and values of a JSON object."""
        members = asdict(self, filter=lambda attribute, _: attribute.name != "kind")
        return {"error": self.kind.__name__, **members, "url": dict(self.url)}


_NO_RULE = Cause(
    "possible",
    "this refusal is unknown",
    "look the EC or the code up in the error reference of the store, or give the request "
    "ID to its support",
)
_NO_BODY = Cause(
    "possible",
    "the text does not show the whole reply of the store",
    "give the body of the reply too: response.text of requests, curl without -f",
)
_OPENED = Cause(
    "likely",
    "the store received GET, and an upload is signed for PUT",
    "send PUT; a browser that opens the URL sends GET",
)


def explain(text: str, *, now: Callable[[], float] = time.time) -> Explained:
    """Return the refusal in *text* with at least one cause; *now* is this machine's clock.

    Raises:
        ConfigurationError: *text* is too long, or has neither status nor code.
    """
    refusal = read_refusal(text, now())
    signed = refusal.signed
    hide = hider(signed, refusal.document)
    kind, reason = meaning(refusal)
    url = SecretURL("") if signed is None else signed.url
    pieces, more = received_request(refusal.document, url), []
    if pieces is not None and pieces.method == "GET":
        more.append(_OPENED)
    is_mismatch = reason is RefusalReason.MISMATCH and not refusal.form
    if not (refusal.code or refusal.ec) or (is_mismatch and pieces is None):
        more.append(_NO_BODY)
    causes, differences = ranked(refusal, reason, hide, more)
    facts = () if signed is None else about_url(url, now())
    sent = ""
    if signed is not None and refusal.is_sent:
        sent = summary(sent_request(signed), refusal.url)
    return Explained(
        kind=kind,
        status=refusal.status,
        code=refusal.code,
        ec=refusal.ec,
        request_id=hide(mark(refusal.document.get("RequestId", ""))),
        message=clean(hide(refusal.document.get("Message", ""))),
        url=tuple((fact.name, hide(fact.text)) for fact in facts),
        sent=hide(sent),
        received="" if pieces is None else hide(summary(pieces, refusal.url)),
        differences=differences,
        causes=causes or (_NO_RULE,),
    )
