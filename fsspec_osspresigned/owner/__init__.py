"""Tools for bucket owners: sign, grant, inspect, check, and serve signatures.

Begin with ``sign``. ``check`` has the checks of a signer, a store, URL maps and grants.
``explain`` says why a store refused an upload, by any program. ``service`` is the
signer service with its page.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    "sign",
    commands="Shell",
    explain="Explained explain",
    grants="GrantTerms sign_grant",
    inspect="Fact described read warnings_of",
    refusal="MAX_TEXT",
    sign="Cut Order Signed local_objects",
)
