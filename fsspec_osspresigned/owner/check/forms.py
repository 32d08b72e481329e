"""Check of a store with a form that an upload server signs.

Only the facts that such a form permits are checked. The objects stay, because a form cannot
delete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, evolve, field, frozen

from ...errors import ConfigurationError
from ...http.body import MemoryBody
from ...model import FORBID_OVERWRITE, Action, Operation, Reply
from ...secret import FormValue, Secret
from ...signers.base import Signer, sign_checked
from ...signing.canonical import Credentials
from ...signing.endpoint import Endpoint, region_of
from .store import Fact
from .store_facts import BODY, FACTS
from .store_folder import CheckFolder, CheckKey, FormCall, Send, StoreAccess

_PLACE = "files"  # first path segment of each object
_SIGNATURES = ("signature", "x-oss-signature")
# Placeholder for the server's keys, which stay on the server.
_KEYS = Credentials("server", Secret("server"))


@define(kw_only=True)
class FormFolder(CheckFolder):
    """Folder in which an upload server lets the check store objects."""

    signer: Signer
    _forms: dict[tuple[CheckKey, int], Any] = field(factory=dict, init=False)

    def signed(self, key: CheckKey, size: int) -> Any:
        """Return the signed form that stores *size* bytes as *key*.

        Each form is signed only once, because the server could choose another name for
        a second one.
        """
        if (key, size) in self._forms:
            return self._forms[key, size]
        operation = Operation(
            action=Action.PostObject,
            bucket=_PLACE,
            key=f"{self.path}{key}",
            content_length=size,
        )
        (form,) = sign_checked(self.signer, [operation])
        self._forms[key, size] = form
        return form

    def post(self, form: FormCall, credentials: Credentials, now: float) -> Reply:
        """Send the body of *form* with a form from the server, and return the reply.

        If *form* has ``below``, the key that is sent lies outside of the form's policy.
        If *credentials* differ from those of ``access``, a wrong signature is sent.
        """
        del now  # the server sets the date of its forms
        signed = self.signed(form.key, len(form.body))
        fields: dict[str, Secret] = dict(signed.form.fields)
        if form.below:
            fields["key"] = FormValue(f"outside-{fields['key'].reveal()}")
        for name in [*fields]:
            if name.lower() in _SIGNATURES and credentials != self.access.credentials:
                fields[name] = Secret("0" * len(fields[name].reveal()))
        request = evolve(signed, form=form.sent(fields))
        return self.access.send(request, MemoryBody(form.body))


@frozen
class FormCheck:
    """Folder and facts of a check with one form; *host* is the host of the store."""

    folder: FormFolder
    facts: tuple[Fact, ...]
    host: str
    region: str


def form_check(signer: Signer, send: Send) -> FormCheck:
    """Return the check of the store to which the forms of *signer* are sent.

    Raises ConfigurationError if the server signs no forms.
    """
    if signer.grant(f"{_PLACE}/check").action is not Action.PostObject:
        msg = "the upload server signs no forms, and the check needs one"
        raise ConfigurationError(msg)
    nowhere = Endpoint.parse("https://localhost")
    access = StoreAccess(
        send=send, credentials=_KEYS, endpoint=nowhere, region="", bucket=_PLACE
    )
    folder = FormFolder(access=access, prefix="", signer=signer)
    signed = folder.signed(CheckKey.OBJECT, len(BODY))
    host = signed.url.shown().split("/")[2]
    names = {name.lower(): value for name, value in signed.form.fields.items()}
    facts = tuple(_facts(names))
    return FormCheck(folder, facts, host, region_of(host) or "")


def _facts(fields: Mapping[str, Secret]) -> Iterator[Fact]:
    """Yield the facts that a form with *fields* can test, each on a separate object."""
    known = {fact.name: fact for fact in FACTS}
    stores = known["form-v1" if "ossaccesskeyid" in fields else "form"]
    yield stores
    if fields.get(FORBID_OVERWRITE) == FormValue("true"):
        again = FormCall(CheckKey.SECOND, BODY)
        yield evolve(
            known["form-forbid"], steps=(again,), counter=stores.name, needs=None
        )
    for key, name in (
        (CheckKey.COPIED, "form-unlisted"),
        (CheckKey.OBJECT, "form-condition"),
        (CheckKey.OBJECT, "form-signature"),
    ):
        fact = known[name]
        counter = fact.counter and stores.name
        steps = tuple(evolve(step, key=key) for step in fact.steps)
        yield evolve(fact, steps=steps, counter=counter)
