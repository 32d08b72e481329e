"""Fault rules in force: the first that matches and is due strikes."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator

from attrs import define, field

from ..message.call import Call
from .fault import Fault


@define
class FaultRule:
    """One fault, and how often it was due."""

    fault: Fault
    seen: int = 0
    struck: int = 0
    tries: Counter[tuple[object, ...]] = field(factory=Counter)

    @property
    def is_worn_out(self) -> bool:
        """Whether it has no strikes left."""
        return self.fault.times is not None and self.struck >= self.fault.times

    def strikes(self, call: Call) -> bool:
        """Count a request that matches, and return whether it is struck."""
        self.seen += 1
        if self.seen <= self.fault.after:
            return False
        if self.fault.rate is not None:
            identity = call.action, call.bucket, call.key, call.part_number
            self.tries[identity] += 1
            drawn = repr((self.fault.seed, *identity, self.tries[identity])).encode()
            digest = hashlib.blake2b(drawn, digest_size=8).digest()
            if int.from_bytes(digest) >= self.fault.rate * 2**64:
                return False
        self.struck += 1
        return True


class Faults:
    """The rules in force, in the order in which they were added."""

    def __init__(self) -> None:
        self._rules: list[FaultRule] = []
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Append *faults*."""
        with self._lock:
            self._rules += [FaultRule(fault) for fault in faults]

    def clear(self) -> None:
        """Remove all of them."""
        with self._lock:
            self._rules.clear()

    def strike(self, call: Call, *, reused: bool = False) -> Fault | None:
        """Return the fault that strikes this request, and count it."""
        with self._lock:
            for rule in self._rules:
                matches = not rule.is_worn_out and rule.fault.matches(
                    call, reused=reused
                )
                if matches and rule.strikes(call):
                    return rule.fault
            return None

    @property
    def pending(self) -> list[Fault]:
        """Faults that have strikes left."""
        with self._lock:
            return [rule.fault for rule in self._rules if not rule.is_worn_out]

    def __iter__(self) -> Iterator[Fault]:
        """Iterate over all faults, worn out or not."""
        with self._lock:
            return iter([rule.fault for rule in self._rules])
