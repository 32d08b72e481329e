"""The fsspec filesystem ``osspresigned``.

Begin with ``filesystem``, which holds the class. ``client_factory`` builds the client
of a filesystem from its options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..compat import lazy

if TYPE_CHECKING:
    from .filesystem import OSSPresignedFileSystem as OSSPresignedFileSystem

__all__, __getattr__, __dir__ = lazy(__name__, filesystem="OSSPresignedFileSystem")
