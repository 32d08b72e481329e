"""One call to the store: sign the request, send it, check the reply, retry.

Begin with ``client``. ``operations`` has the calls of OSS. ``error_codes`` turns
replies into errors, ``causes`` explains the errors. ``retry`` decides whether a failed
call is sent again. ``congestion`` finds out how many requests at a time the link can
carry.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    causes="Cause NO_SIGNATURE OWN_DOMAIN Refusal ranked",
    client="Client",
    error_codes="MEANINGS clean from_reply hider mark meaning members name",
    operations="OSSCalls bare is_elsewhere listing means_unseen operation_on",
)
