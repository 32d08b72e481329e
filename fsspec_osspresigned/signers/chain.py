"""Asks one signer after another: a URL map first, then whoever signs the rest."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NotSignedError, OSSPresignedError
from ..model import Operation, SignedRequest
from .base import Grant, Outcome, Signer, grant_for, preflight, sign_each


class ChainSigner:
    """Takes each operation to the first signer that signs it.

    Args:
        signers: in the order in which they are asked; one at least.
    """

    def __init__(self, *signers: Signer) -> None:
        """Keep the order."""
        self._signers = signers

    @property
    def remote(self) -> bool:
        """Whether any of them costs a round trip for each call."""
        return any(getattr(signer, "remote", False) for signer in self._signers)

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Sign *operations*; what one signer refuses goes to the next, in one batch.

        Raises:
            NotSignedError: none of them signs one of the operations; the last one says.
            SignerError: a signer that had to be asked cannot sign now.
        """
        signed: list[SignedRequest] = []
        for outcome in self.sign_each(operations):
            if isinstance(outcome, OSSPresignedError):
                raise outcome
            signed.append(outcome)
        return signed

    def sign_each(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Return a signed request for each of *operations*, or the last one's error."""
        done: dict[int, Outcome] = {}
        left = list(range(len(operations)))
        *first, last = self._signers
        for signer in first:
            refused = []
            for index in left:
                found = sign_each(signer, [operations[index]])[0]
                if isinstance(found, NotSignedError):
                    refused.append(index)
                else:
                    done[index] = found
            left = refused
        if left:
            rest = sign_each(last, [operations[index] for index in left])
            done.update(zip(left, rest, strict=True))
        return [done[index] for index in sorted(done)]

    def grant(self, path: str) -> Grant:
        """Return the grant of the first signer that has something for *path*.

        Raises:
            NotSignedError: none has; the last one says.
        """
        *first, last = self._signers
        for signer in first:
            try:
                return grant_for(signer, path)
            except NotSignedError:
                continue
        return grant_for(last, path)

    def preflight(self, operation: Operation) -> None:
        """Raise what the last signer would raise, if no other can sign *operation*."""
        *first, last = self._signers
        for signer in first:
            try:
                preflight(signer, operation)
            except NotSignedError:
                continue
            return
        preflight(last, operation)
