"""The fsspec filesystem ``osspresigned``.

Begin with ``filesystem``, which holds the class. ``client_factory`` builds the client
of a filesystem from its options.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .filesystem import OSSPresignedFileSystem

__all__ = ["OSSPresignedFileSystem"]


def __getattr__(name: str) -> Any:
    """Load the filesystem class on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".filesystem", __name__), name)
