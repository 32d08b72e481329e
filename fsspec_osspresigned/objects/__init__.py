"""Operations on stored objects: HEAD, list, read, copy, delete.

Begin with ``reading``, which reads one object. ``lookup`` checks whether a path is an
object or a directory.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    "reading",
    download="AtomicFile Download Publisher is_written_into",
)
