"""The fsspec filesystem ``osspresigned``.

Begin with ``filesystem``, which holds the class. ``client_factory`` builds the client
of a filesystem from its options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..compat import lazy

if TYPE_CHECKING:
    from .filesystem import OSSPresignedFileSystem as OSSPresignedFileSystem

__all__, __getattr__, __dir__ = lazy(
    __name__,
    arguments="check_choice without_protocol",
    client_factory="client_for read_url",
    destinations=(
        "Destination Kind LocalEntry local_entries local_name_problem local_path "
        "refuse_clashes"
    ),
    filesystem="OSSPresignedFileSystem",
    put="PutCall media_type",
    trees="expand layout",
    receipts="ReceiptFile receipt_writer",
)
