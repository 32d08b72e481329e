"""Signers of a world: one of the user, and one far away; both take time and may fail."""

from __future__ import annotations

import time
from typing import Any

from fsspec_osspresigned.errors import NotSignedError, SignerUnavailableError
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.keys import KeySigner

from .world import World


class UserSigner(Signer):
    """A signer of the user: it takes time, and may fail."""

    def __init__(self, world: World, faults: float) -> None:
        self._keys, self._world, self._faults = key_signer(), world, faults

    def sign(self, operations: Any) -> Any:
        dice = self._world.random
        time.sleep(dice.expovariate(100))
        if dice.random() < self._faults:
            raise SignerUnavailableError("the signer is away", path=operations[0].path)
        signed = self._keys.sign(operations)
        if dice.random() < self._faults:
            time.sleep(dice.expovariate(0.1))
        return signed


class ServiceSigner(UserSigner):
    """The same far away: many operations a call, and each may be refused by itself."""

    remote = True

    def sign_each(self, operations: Any) -> Any:
        signed = list(self.sign(operations))
        dice = self._world.random
        for index, operation in enumerate(operations):
            if dice.random() < self._faults / 4:
                signed[index] = NotSignedError("not this one", path=operation.path)
        return signed


def key_signer(**options: Any) -> KeySigner:
    return KeySigner.from_options(**options)
