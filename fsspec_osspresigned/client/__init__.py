"""One call to the store: sign the request, send it, check the reply, retry.

Begin with ``client``. ``error_codes`` turns replies into errors. ``retry`` decides
whether a failed call is sent again. ``operations`` has the calls of OSS. ``congestion`` finds how many requests the link takes
at a time.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    client="Client",
    error_codes="ErrorReply MEANINGS OWN_DOMAIN clean from_reply mark members name",
    operations="OSSCalls bare is_elsewhere listing means_unseen operation_on",
)
