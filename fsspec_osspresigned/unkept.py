"""What an upload remembers of itself where there is no checkpoint: nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .body import Body
from .model import PartReceipt

if TYPE_CHECKING:
    from .journal import Kept


class Unkept:
    """An upload that nobody can go on with: what there is without a checkpoint.

    Attributes:
        upload_id: of the upload to go on with; empty if a new one has to begin.
        kept: the parts that need not be sent, unless their bytes have changed.
        needs_crc: the CRC-64 of every part must be computed.
    """

    upload_id = ""
    kept: Mapping[int, Kept] = {}
    needs_crc = False

    def begin(self, upload_id: str) -> None:
        """Take note of the upload that is going to get the parts."""

    def stored(self, number: int, body: Body) -> Kept | None:  # noqa: ARG002
        """Return part *number* if it is stored with these bytes, which are read."""
        return None

    def note(self, part: PartReceipt, verified: str) -> None:
        """Take note of a stored part."""

    def finish(self) -> None:
        """Forget the upload: it is published, or can never be."""

    def survives(self, error: BaseException | None) -> bool:  # noqa: ARG002
        """Return whether the upload is left as it is after *error*."""
        return False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the upload to whoever comes next."""
