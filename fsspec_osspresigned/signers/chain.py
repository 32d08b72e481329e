"""Signer chain: several signers, tried in order for each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import NotSignedError
from ..model import Operation, SignedRequest
from .base import (
    Grant,
    Outcome,
    Signer,
    all_signed,
    distrust,
    grant_for,
    grants_here,
    preflight,
    sign_each,
)

T = TypeVar("T")


class ChainSigner:
    """Signs each operation with the first of *signers* that can sign it.

    If none can, the error of the last signer is raised.
    """

    def __init__(self, *signers: Signer) -> None:
        self._signers = signers

    @property
    def remote(self) -> bool | None:
        """True if a call of one of the signers costs a round trip; False if none waits.

        None if that is unknown.
        """
        known = {getattr(signer, "remote", None) for signer in self._signers}
        return True if True in known else False if known == {False} else None

    @property
    def grants_here(self) -> bool:
        """True if ``grant`` and ``preflight`` of all signers never wait."""
        return all(map(grants_here, self._signers))

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
                done[index] = sign_each(signer, [operations[index]])[0]
            left = [i for i in left if isinstance(done[i], NotSignedError)]
        if left:
            rest = sign_each(last, [operations[index] for index in left])
            done.update(zip(left, rest, strict=True))
        return [done[index] for index in range(len(operations))]

    def grant(self, path: str) -> Grant:
        """Return the grant of the first signer that permits uploading *path*."""
        return self._first(lambda signer: grant_for(signer, path))

    def preflight(self, operation: Operation) -> None:
        """Raise the error of the last signer, if no signer can sign *operation*."""
        self._first(lambda signer: preflight(signer, operation))

    def distrust(self, refused: SignedRequest) -> None:
        """Report to all signers that the store refused the request as expired."""
        for signer in self._signers:
            distrust(signer, refused)

    def _first(self, ask: Callable[[Signer], T]) -> T:
        *first, last = self._signers
        for signer in first:
            try:
                return ask(signer)
            except NotSignedError:
                continue
        return ask(last)
