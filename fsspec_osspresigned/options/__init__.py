"""Storage options and options of single calls, with their validation.

Begin with ``options``.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    "trust",
    target="ObjectOptions Target",
    options="Options",
)
