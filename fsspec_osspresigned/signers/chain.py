"""Asks one signer after another: a URL map first, then whoever signs the rest."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NotSignedError, SignerError
from ..model import Operation, SignedRequest
from .base import Grant, Signer, grant_for


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
        """Whether any of them lets a party elsewhere choose the URLs."""
        return any(getattr(signer, "remote", False) for signer in self._signers)

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Sign *operations*; what one signer refuses goes to the next, in one batch.

        Raises:
            NotSignedError: none of them signs one of the operations; the last one says.
            SignerError: a signer that had to be asked cannot sign now.
        """
        done: dict[int, SignedRequest] = {}
        left = list(range(len(operations)))
        *first, last = self._signers
        for signer in first:
            refused = []
            for index in left:
                try:
                    done[index] = signer.sign([operations[index]])[0]
                except NotSignedError:
                    refused.append(index)
            left = refused
        if left:
            rest = last.sign([operations[index] for index in left])
            if len(rest) != len(left):
                msg = f"a signer answered {len(rest)} requests to {len(left)}"
                raise SignerError(msg, path=operations[left[0]].path)
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
