"""Tools for owners: sign, grant, inspect, check, and serve signatures.

Begin with ``sign``. ``conformance`` checks that a signer follows the protocol,
``store_check`` that a store does what this package assumes. ``explain`` says why a store
refused an upload, by whichever program. ``service`` is the signer service with its page.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    "sign",
    conformance="Kit run",
    conformance_rules="RULES",
    explain="Explained explain",
    form_check="form_check",
    grants="GrantTerms sign_grant",
    inspect="Fact described read warnings_of",
    refusal="MAX_TEXT",
    sign="Cut Order Signed local_objects",
    store_check="FactResult OUTCOMES check",
    store_facts="FACTS",
    store_folder="CheckFolder StoreAccess Trace mainland_endpoint",
    upload_check="Intent UploadProblem check_grant check_map",
)
