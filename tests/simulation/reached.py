"""Reached: events that must occur in some program, so that the invariants are tested.

A program counts these events. A run of many programs names those that never occurred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fsspec_osspresigned.client.retry import RULES, RetryPolicy, RetryRule, Verb
from fsspec_osspresigned.errors import Outcome

from .ledger import Ledger
from .network import Faults, Network
from .programs import VERBS

_NEVER = {f"rule {RULES[0]}"}  # no program reaches the reply 501
_ACTIONS = (
    *("PutObject", "PostObject", "CopyObject", "GetObject", "HeadObject"),
    *("DeleteObject", "ListObjectsV2", "InitiateMultipartUpload", "UploadPart"),
    *("UploadPartCopy", "ListParts", "CompleteMultipartUpload", "AbortMultipartUpload"),
)
_decisions: Counter[str] = Counter()  # decisions in this process


def install() -> None:
    """Count the rules and decisions of the package."""
    covers, decide = RetryRule.covers, RetryPolicy.decide

    def counted_covers(self: RetryRule, failure: object) -> bool:
        result = covers(self, failure)  # type: ignore[arg-type]
        _decisions[f"rule {self}"] += result
        return result

    def counted_decide(self: RetryPolicy, *args: object, **facts: object) -> object:
        result = decide(self, *args, **facts)  # type: ignore[arg-type]
        _decisions[f"decision {result.verb}"] += 1
        return result

    RetryRule.covers = counted_covers  # type: ignore[method-assign]
    RetryPolicy.decide = counted_decide  # type: ignore[method-assign, assignment]


def reached(network: Network, ledger: Ledger) -> dict[str, int]:
    """Return event -> how often a program reached it."""
    counts = Counter(_decisions)
    counts.update(f"fault {event.fate}" for event in network.events)
    counts.update(f"outcome {write.said}" for write in ledger.writes)
    counts.update(ledger.seen)
    for action, count in network.server.calls.items():
        counts[f"call {action}"] += count
    return {name: count for name, count in counts.items() if count}


def wanted() -> Iterator[str]:
    """Yield the events that a long run of programs must reach."""
    yield from (f"fault {name}" for name in Faults.__slots__ if name[0] != "_")
    yield from (f"fault {name}" for name in ("ok", "down"))
    decided = (*(f"rule {rule}" for rule in RULES), *(f"decision {v}" for v in Verb))
    yield from (name for name in decided if name not in _NEVER)
    yield from (f"outcome {outcome}" for outcome in Outcome)
    yield from ("outcome damaged", "outcome interrupted")
    yield from (f"call {action}" for action in _ACTIONS)
    yield from (f"{verb} {end}" for verb in VERBS for end in ("returned", "raised"))
    yield from ("interrupt", "second interrupt", "cancellation", "crash", "kill")
