"""Signer chain: several signers, tried in order for each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import NotSignedError
from ..model import Operation, SignedRequest
from .base import Grant, Outcome, Signer, all_signed

T = TypeVar("T")


class ChainSigner(Signer):
    """Signs each operation with the first of *signers* that can sign it.

    If none can, the error of the last signer is raised.
    """

    def __init__(self, *signers: Signer) -> None:
        self._signers = signers
        self.remote = any(signer.remote for signer in signers)
        self.grants_by_prefix = False

    @property
    def waits(self) -> bool:  # type: ignore[override]  # depends on the signers
        """True if one of the signers may wait now."""
        return any(signer.waits for signer in self._signers)

    @property
    def grant_waits(self) -> bool:  # type: ignore[override]  # likewise
        """The same for ``grant`` and ``preflight``."""
        return any(signer.grant_waits for signer in self._signers)

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return signed requests for *operations*; raises the first error."""
        return all_signed(self.sign_each(operations))

    def sign_each(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Return a signed request for each operation, or the last signer's error.

        The last signer gets in one batch all operations that the others refused.
        """
        done: dict[int, Outcome] = {}
        left = list(range(len(operations)))
        *first, last = self._signers
        for signer in first:
            for index in left:
                done[index] = signer.sign_each([operations[index]])[0]
            left = [i for i in left if isinstance(done[i], NotSignedError)]
        if left:
            rest = last.sign_each([operations[index] for index in left])
            done.update(zip(left, rest, strict=True))
        return [done[index] for index in range(len(operations))]

    def grant(self, path: str) -> Grant:
        """Return the grant of the first signer that permits uploading *path*."""
        return self._first(lambda signer: signer.grant(path))

    def preflight(self, operation: Operation) -> None:
        """Raise the error of the last signer, if no signer can sign *operation*."""
        self._first(lambda signer: signer.preflight(operation))

    def distrust(self, refused: SignedRequest) -> None:
        """Report to all signers that the store refused the request as expired."""
        for signer in self._signers:
            signer.distrust(refused)

    def _first(self, ask: Callable[[Signer], T]) -> T:
        *first, last = self._signers
        for signer in first:
            try:
                return ask(signer)
            except NotSignedError:
                continue
        return ask(last)
