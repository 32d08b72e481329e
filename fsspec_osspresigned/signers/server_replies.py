"""Replies of upload servers, read by the pointers of a description."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from .. import parsing
from ..errors import ConfigurationError
from ..model import PartReceipt, Reply, SignedForm
from ..secret import FormValue, Secret, SecretURL
from ..signing.post_policy import form_values
from ..signing.signed_url import describe
from ..url_checks import url_problem
from .description import Call
from .post_grant_parser import PostGrant, read_grant
from .templates import at
from .upload_server import ServerRefusedError

_MAX_DEPTH = 16
_MAX_DIGITS = 9


@frozen(repr=False)
class Answer:
    """Reply to *call*, and the time when the call was sent, in seconds since the epoch.

    It has no repr, because the reply contains URLs. Methods raise ServerRefusedError if
    the reply lacks a required value.
    """

    call: Call
    document: Any
    sent_at: float

    def refused(self, text: str) -> ServerRefusedError:
        return ServerRefusedError(200, f"the reply {text}", call=str(self.call))

    def at(self, pointer: str | None) -> Any:
        return None if pointer is None else at(self.document, pointer)

    def saved(self) -> dict[str, str]:
        """Return the values for later calls, by name."""
        saved = {}
        for name, pointer in self.call.save.items():
            value = self.at(pointer)
            if isinstance(value, str | int) and str(value):
                saved[name] = str(value)
            elif not pointer.endswith("?"):
                raise self.refused(f"has nothing at {pointer!r}")
        return saved

    def url(self) -> SecretURL | None:
        """Return the URL; None if the server sends none, because it has the object."""
        value = self.at(self.call.url)
        if isinstance(value, str):
            if problem := url_problem(value):
                raise self.refused(f"has a URL at {self.call.url!r} that {problem}")
            return SecretURL(value)
        if value is None and self.call.url.endswith("?"):
            return None
        raise self.refused(f"has no URL at {self.call.url!r}")

    def headers(self, url: SecretURL, more: Mapping[str, str]) -> dict[str, str]:
        """Return the headers to send with *url*, by name.

        In the reply, they are an object, or a list of objects with name and value.
        *more* are added if the signature of *url* includes them. URLs of OSS do not
        show whether the content type is signed.
        """
        value = self.at(self.call.headers)
        if isinstance(value, list):
            value = {str(at(item, "/name")): at(item, "/value") for item in value}
        pairs = value.items() if isinstance(value, dict) else ()
        signed = (*describe(url).additional_headers, "content-type")
        own = {name: text for name, text in more.items() if name.lower() in signed}
        return own | {name: str(text) for name, text in pairs}

    def number(self, pointer: str | None) -> int | None:
        return _number(str(self.at(pointer)))

    def form(self, key: str | None) -> SignedForm:
        """Return the signed form in the reply.

        Raises ServerRefusedError if the form is not for *key*; None accepts any key.
        """
        fields = self.at(self.call.fields)
        if not isinstance(fields, dict) or not isinstance(fields.get("key"), str):
            raise self.refused("has no fields of a form with a key")
        if key is not None and fields["key"] != key:
            raise self.refused(f"has a form for another object than {key!r}")
        hidden: dict[str, Secret] = {
            **form_values({n: str(v) for n, v in fields.items() if n != "key"}),
            "key": FormValue(fields["key"]),
        }
        return SignedForm(fields=hidden)

    def items(self, numbers: Sequence[int]) -> Mapping[int, Answer]:
        """Return the reply's items for the parts *numbers*, by part number.

        If the items of a list have no number, they are in the order of *numbers*.
        """
        call = self.call
        if call.urls is None:
            return {numbers[0]: self}
        items = self.at(call.urls)
        if isinstance(items, list):
            named = (at(i, call.number) for i in items) if call.number else numbers
            items = dict(zip(map(str, named), items, strict=False))
        pairs = items.items() if isinstance(items, dict) else ()
        known = {_number(n): item for n, item in pairs}
        return {n: evolve(self, document=known[n]) for n in numbers if n in known}

    def parts(self) -> list[PartReceipt]:
        try:
            return [
                PartReceipt(
                    part_number=int(at(item, self.call.number or "")),
                    size=int(at(item, self.call.size)),
                    etag=str(at(item, self.call.etag)),
                )
                for item in self.at(self.call.list)
            ]
        except (TypeError, ValueError):
            pass
        raise self.refused("is no list of parts")

    def grant(self, allowed_hosts: Mapping[str, str | None]) -> PostGrant:
        try:
            return read_grant(
                self.at(self.call.grant) or {}, allowed_hosts=allowed_hosts
            )
        except ConfigurationError as error:
            problems = "; ".join(error.problems)
        raise self.refused(f"is no grant: {problems}")


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


def answer_of(reply: Reply, call: Call, sent_at: float) -> Answer:
    """Return *reply* to *call* as an Answer.

    An error reply may be empty, or no JSON. Raises ServerRefusedError if any other
    reply is not JSON, or contains a lone surrogate.
    """
    try:
        document = parsing.loads(reply.body, max_depth=_MAX_DEPTH)
        if re.search(rb"(?i)\\ud[89a-f]", reply.body):
            # without an escaped surrogate, each text can be sent
            json.dumps(document, ensure_ascii=False).encode()
    except ValueError:
        document = None
        if reply.is_good and reply.body:
            text = "the reply is not JSON"
            raise ServerRefusedError(reply.status, text, call=str(call)) from None
    return Answer(call, document, sent_at)
