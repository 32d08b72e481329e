"""One asyncio loop for all filesystems of a process, and what its coroutines wait for.

Begin with ``engine``. A plain method waits for a coroutine by ``run``. A coroutine waits
for a worker thread by ``blocking``. ``scope`` runs many jobs, which end together.
``limits`` bounds the requests in flight and the memory of parts.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    "abort_at_exit engine",
    engine="awaited blocking call_user iterated run user_code waiting",
    scope="Scope",
    warn="warn_user",
)
