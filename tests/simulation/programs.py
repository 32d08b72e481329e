"""Programs: the operations of callers, the options and the faults of a world.

A program is plain data: a seed draws it, a file can contain it, and ``shrink`` reduces
it.
"""

from __future__ import annotations

import random
from typing import Any, Self

from attrs import frozen

Program = dict[str, Any]

_SIZES = (0, 1, 17, 1000, 65_537, 102_400, 102_401, 204_800, 262_145, 333_333, 700_000)
_KEYS = tuple(f"k{n}" for n in range(5))
_FAULTS = [
    "refuse",
    "lose_request",
    "lose_whole",
    "lose_reply",
    "cut_reply",
    "stall_request",
    "stall_reply",
    "busy",
    "busy_acted",
    "early",
    "damage",
    "no_proof",
    "no_crc",
    "false_proof",
    "damage_reply",
    "slow",
    "impostor",
    "early_good",
    "unframed",
    "stale",
    "hints",
    "broken_head",
    "wrong_length",
    "expired",
]
_LOSSES = (
    *("lose_request", "lose_whole", "lose_reply", "cut_reply", "stall_reply"),
    *("busy_acted", "early", "no_proof", "impostor", "early_good", "slow"),
    *("unframed", "damage_reply", "damage", "false_proof", "stale"),
    *("broken_head", "wrong_length", "expired"),
)
# Faults that prolong a call, so that each of its steps can be cancelled.
_DELAYS = ("stall_request", "stall_reply", "slow", "busy", "busy_acted", "lose_whole")
# Faults after which a retry of the call succeeds.
_MENDED = (
    *("refuse", "lose_request", "cut_reply", "busy", "early", "unframed", "slow"),
    *("stale", "hints", "no_crc"),
)
_FEW = (
    ("pipe", "put_file", "write", "cat", "info"),
    ("pipe", "put_file", "cat", "ranges", "get"),
    ("pipe", "copy", "cat", "move", "remove"),
    ("resume", "info"),
    ("transaction", "pipe_many"),
)
_SIGNERS = ("keys", "keys", "user", "many", "writer", "http", "http", "grant", "map")

# Operation -> weight with which it is drawn.
_WEIGHTS = {
    "pipe": 14,
    "pipe_many": 5,
    "put_file": 9,
    "put_tree": 4,
    "write": 10,
    "transaction": 6,
    "cat": 8,
    "ranges": 5,
    "get": 5,
    "info": 4,
    "list": 3,
    "remove": 3,
    "copy": 4,
    "move": 2,
    "sync": 3,
    "sync_down": 2,
    "resume": 3,
    "wait": 3,
    "gather": 4,
}

VERBS = ("twins", *(name for name in _WEIGHTS if name not in ("wait", "gather")))


def draw(seed: int) -> Program:
    """Return the program of *seed*."""
    dice = random.Random(f"program {seed}")
    choices = _Choices.draw(dice)
    program = _draw(seed, dice, choices)
    if dice.random() < (0.7 if program["signer"] == "writer" else 0.3):
        program.update(_lossy(dice, program["options"]))
    elif dice.random() < 0.2:
        program.update(_cancelled(dice, program["options"]))
    elif dice.random() < 0.05:
        program.update(_held(dice))
    elif dice.random() < 0.1:
        program.update(_patient(dice))
    elif dice.random() < 0.05:
        program.update(_powerless(dice))
    elif dice.random() < 0.05:
        program.update(_edited(dice))
    elif dice.random() < 0.05:
        program.update(_crowded(dice))
    elif dice.random() < 0.1:
        program.update(_doubled(dice))
    if random.Random(f"switches {seed}").random() < 0.1:
        program["switches"] = 0.01
    return program


def _lossy(dice: random.Random, options: dict[str, Any]) -> Program:
    """One caller with few objects; calls fail often and have few retries."""
    names = dice.sample(_LOSSES, 2)
    choices = _Choices.of_few(dice)
    caller = _caller(dice, dice.randrange(2), choices)
    caller["operations"] += _caller(dice, 1, choices)["operations"]
    options = {**options, "retries": dice.choice((0, 1))}
    options["checksum"] = dice.choice(("auto", "none"))
    return {
        "options": options,
        "faults": {name: dice.choice((0.1, 0.3)) for name in sorted(names)},
        "signer_faults": 0,
        "outages": [],
        "callers": [caller],
    }


def _cancelled(dice: random.Random, options: dict[str, Any]) -> Program:
    """One caller with long calls, which are cancelled at any moment."""
    names = dice.sample(_DELAYS, 2)
    kind = dice.choice(("main", "loop"))
    weights = dict.fromkeys(("put_file", "pipe", "copy", "resume", "get"), 1)
    if kind == "main":
        weights |= {"write": 2, "transaction": 4}
    choices = _Choices(list(_KEYS[:2]), list(_SIZES[-4:]), weights)
    operations = [_operation(dice, "thread", choices) for _ in range(3)]
    for operation in operations:
        if kind == "main":
            count = dice.choice((1, 1, 1, 3))
            operation["interrupts"] = [_moment(dice) for _ in range(count)]
        else:
            operation.update(cancel=_moment(dice), again=False)
    caller = {"kind": kind, "operations": operations, "interrupts": 0}
    options = {**options, "part_size": 102_400, "retries": dice.choice((0, 1, 5))}
    options["multipart_threshold"] = dice.choice((102_400, 102_400, 1_000_000))
    return {
        "options": options,
        "faults": {name: dice.choice((0.1, 0.3)) for name in sorted(names)},
        "signer": dice.choice(("keys", "user", "many", "http")),
        "signer_faults": 0,
        "outages": [],
        "callers": [caller],
    }


def _held(dice: random.Random) -> Program:
    """Callers that are paused between two lines while engines end."""
    choices = _Choices.of_few(dice)
    return {
        "holds": 0.3,
        "crash": 0,
        "callers": [
            {
                "kind": dice.choice(("thread", "loop")),
                "operations": [
                    {"do": "wait", "seconds": 40}
                    if number % 3 == 1
                    else _operation(dice, "thread", choices)
                    for number in range(8)
                ],
                "interrupts": 0,
            }
            for _ in range(dice.choice((1, 1, 2)))
        ],
    }


def _patient(dice: random.Random) -> Program:
    """One caller whose calls fail sometimes, but have enough retries."""
    verbs = ("pipe", "put_file", "copy", "cat", "get", "ranges", "info")
    choices = _Choices(list(_KEYS[:2]), list(_SIZES), dict.fromkeys(verbs, 1))
    operations = [_operation(dice, "thread", choices) for _ in range(12)]
    for operation in operations:
        operation.update(overwrite=None, create=False)
    names = dice.sample(_MENDED, 2)
    return {
        "is_patient": True,
        "options": {
            "part_size": 102_400,
            "multipart_threshold": 102_400,
            "retries": 12,
        },
        "faults": dict.fromkeys(sorted(names), 0.1),
        "signer": dice.choice(("keys", "user", "many", "http")),
        "signer_faults": 0,
        "disk_faults": {},
        "disk_changes": [],
        "outages": [],
        "crash": 0,
        "callers": [
            {
                "kind": dice.choice(("thread", "loop")),
                "operations": operations,
                "interrupts": 0,
            }
        ],
    }


def _powerless(dice: random.Random) -> Program:
    """One upload with a journal, during which the power fails."""
    operation = {"do": "resume", "key": "k0", "size": 700_000, "edits": False}
    return {
        "cuts_power": True,
        "options": {"part_size": 102_400, "multipart_threshold": 102_400},
        "faults": {"slow": 0.5},
        "signer": "keys",
        "signer_faults": 0,
        "disk_faults": {},
        "outages": [],
        "disk_changes": [],
        "logs": False,
        "crash": dice.randint(60, 600),
        "callers": [{"kind": "thread", "operations": [operation], "interrupts": 0}],
    }


def _doubled(dice: random.Random) -> Program:
    """One file that two processes upload with one directory of journals."""
    operation = {
        "do": "twins",
        "size": dice.choice((333_333, 700_000)),
        "later": dice.choice((0, 0.01, _moment(dice))),
        "kill": dice.choice((0, _moment(dice))),
    }
    names = dice.sample(("busy", "lose_request", "lose_reply", "slow"), 2)
    return {
        "options": {"part_size": 102_400, "multipart_threshold": 102_400},
        "faults": dice.choice(({}, {"slow": 0.3}, dict.fromkeys(sorted(names), 0.1))),
        "signer": dice.choice(("keys", "http")),
        "signer_faults": 0,
        "disk_faults": {},
        "disk_changes": [],
        "outages": [],
        "crash": 0,
        "callers": [
            {
                "kind": dice.choice(("thread", "loop")),
                "operations": [operation],
                "interrupts": 0,
            }
        ],
    }


def _edited(dice: random.Random) -> Program:
    """One caller whose files change while they are sent in one request."""
    choices = _Choices(list(_KEYS[:1]), [700_000, 1_500_000], {"put_file": 1})
    operations = [_operation(dice, "thread", choices) for _ in range(3)]
    changes = [[round(dice.uniform(0, 20), 2), dice.randrange(24)] for _ in range(8)]
    return {
        "options": {"multipart_threshold": 2_000_000},
        "faults": {"slow": 0.8},
        "signer_faults": 0,
        "outages": [],
        "disk_changes": changes,
        "callers": [{"kind": "thread", "operations": operations, "interrupts": 0}],
    }


def _crowded(dice: random.Random) -> Program:
    """A hundred calls at once, each of which keeps a thread busy for a while."""
    choices = _Choices(["k0"], [17, 110_000], {dice.choice(("put_file", "write")): 1})
    operations = [_operation(dice, "thread", choices) for _ in range(100)]
    for number, operation in enumerate(operations):
        operation.update(key=f"crowd{number}", raises=False, drops=False)
    return {
        "faults": {"slow": 0.8},
        "options": {"max_concurrency": 100},
        "signer": "user",
        "signer_faults": 0,
        "disk_faults": {},
        "outages": [],
        "callers": [
            {
                "kind": "loop",
                "operations": [{"do": "gather", "operations": operations}],
                "interrupts": 0,
            }
        ],
    }


def _moment(dice: random.Random) -> float:
    """Return seconds from 0.01 to 30, with a uniform logarithm."""
    return round(10 ** dice.uniform(-2, 1.5), 3)


def _draw(seed: int, dice: random.Random, choices: _Choices) -> Program:
    options = _options(dice)
    # Seconds by which the store's clock is ahead so that a URL is valid for two
    # seconds.
    late = options.get("expires_in", 602) - 2
    return {
        "seed": seed,
        "options": options,
        "faults": _faults(dice),
        "signer": dice.choice(_SIGNERS),
        "signer_faults": round(dice.choice((0, 0, 0.1, 0.3)), 2),
        "disk_faults": _disk_faults(dice),
        "outages": [
            [round(dice.uniform(0, 60), 2), round(dice.expovariate(0.2), 2)]
            for _ in range(dice.choice((0, 0, 0, 1, 2)))
        ],
        "disk_changes": [
            [round(dice.expovariate(2), 3), dice.randrange(24)]
            for _ in range(dice.choice((0, 0, 0, 2, 5)))
        ],
        "callers": [
            _caller(dice, n, choices)
            for n in range(dice.choice((1, 1, 1, 2, 2, 3, 5, 8, 12)))
        ],
        "zone": dice.choice(("UTC", "Asia/Shanghai", "America/St_Johns")),
        # Seconds by which the store's clock is ahead.
        "skew": dice.choice((0, 0, -600, late)),
        "logs": dice.random() < 0.1,  # True: a log handler writes into the store
        "crash": int(dice.expovariate(1 / 800)) if dice.random() < 0.15 else 0,
    }


@frozen
class _Choices:
    """Keys and calls of the callers of one program; often few, so that callers collide."""

    keys: list[str]
    sizes: list[int]
    weights: dict[str, int]

    @classmethod
    def draw(cls, dice: random.Random) -> Self:
        weights = _WEIGHTS
        if dice.random() < 0.5:
            names = dice.sample(sorted(_WEIGHTS), dice.choice((1, 2, 4, 7)))
            weights = {name: _WEIGHTS[name] for name in _WEIGHTS if name in names}
        sizes = dice.sample(_SIZES, dice.choice((1, 2, 4, len(_SIZES))))
        keys = _KEYS[: dice.randint(1, len(_KEYS))]
        return cls(list(keys), sorted(sizes), weights)

    @classmethod
    def of_few(cls, dice: random.Random) -> Self:
        """Return few kinds of calls on one or two objects, one after the other."""
        names = dice.choice(_FEW)
        weights = {name: _WEIGHTS[name] for name in names}
        keys = _KEYS[: 1 + ("copy" in names)]
        return cls(list(keys), sorted(dice.sample(_SIZES, 3)), weights)


def _disk_faults(dice: random.Random) -> dict[str, float]:
    if dice.random() < 0.7:
        return {}
    shares = {name: dice.choice((0, 0.05, 0.3)) for name in ("full", "short")}
    return {name: share for name, share in shares.items() if share}


def _faults(dice: random.Random) -> dict[str, float]:
    kind = dice.random()
    if kind < 0.15:
        return {}
    names = dice.sample(_FAULTS, dice.choice((1, 2, 4, len(_FAULTS))))
    share = dice.choice((0.02, 0.08, 0.2, 0.4)) / len(names)
    return {name: round(share * dice.uniform(0.3, 1.7), 4) for name in sorted(names)}


def _options(dice: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {}

    def maybe(share: float, name: str, *values: Any) -> None:
        if dice.random() < share:
            options[name] = dice.choice(values)

    maybe(0.7, "part_size", 102_400, 131_072, 204_800)
    maybe(0.7, "multipart_threshold", 102_400, 204_800, 300_000)
    maybe(0.5, "max_concurrency", 1, 2, 4, 16)
    maybe(0.5, "retries", 0, 1, 3, 8)
    maybe(0.4, "retry_timeout", 1, 10, 60)
    maybe(0.4, "timeout", 1, 5, 20)
    maybe(0.2, "memory_limit", 1024 * 1024)
    maybe(0.2, "overwrite", True, False)
    maybe(0.2, "checksum", "crc64", "md5", "none")
    maybe(0.2, "on_exception", "publish")
    maybe(0.2, "if_unverifiable", "error")
    maybe(0.2, "receipts", True)
    maybe(0.2, "expires_in", 30, 100)
    maybe(0.2, "signature_version", "v1")
    maybe(0.1, "content_type", "text/x-simulated")
    maybe(0.1, "metadata", {"simulated": "yes"})
    maybe(0.1, "storage_class", "IA")
    return options


def _caller(dice: random.Random, number: int, choices: _Choices) -> dict[str, Any]:
    kind = (
        "main"
        if number == 0 and dice.random() < 0.5
        else dice.choice(("thread", "loop"))
    )
    count = dice.choice((1, 2, 3, 5, 8))
    return {
        "kind": kind,
        "operations": [_operation(dice, kind, choices) for _ in range(count)],
        "interrupts": dice.choice((0, 1, 3, 8)) if kind == "main" else 0,
    }


def _operation(
    dice: random.Random, kind: str, choices: _Choices, depth: int = 0
) -> dict[str, Any]:
    keys, sizes, weights = choices.keys, choices.sizes, choices.weights
    names = [n for n in weights if n != "gather" or (kind == "loop" and not depth)]
    do = dice.choices(names or ["pipe"], [weights[n] for n in names] or [1])[0]
    operation: dict[str, Any] = {"do": do, "key": dice.choice(keys)}
    if do in ("pipe", "put_file", "resume", "write"):
        operation["size"] = dice.choice(sizes)
        operation["overwrite"] = dice.choice((None, None, None, True, False))
        operation["create"] = dice.random() < 0.1
    if do == "resume":
        operation["edits"] = dice.random() < 0.3
    if do == "write":
        operation["step"] = dice.choice((1000, 65_536, 102_400, 300_000))
        operation["raises"] = dice.random() < 0.2
        operation["drops"] = dice.random() < 0.1
        operation["goes_on"] = dice.random() < 0.15
        operation["discard"] = (
            round(dice.expovariate(5), 4) if dice.random() < 0.15 else None
        )
    if do in ("pipe_many", "put_tree", "transaction", "sync"):
        operation["sizes"] = [
            dice.choice([s for s in sizes if s < 110_000] or [1000])
            for _ in range(dice.choice((1, 3, 9, 20)))
        ]
        operation["on_error"] = dice.choice(("raise", "return", "omit"))
        operation["raises"] = dice.random() < 0.25
    if do == "transaction":
        operation["ways"] = [
            dice.choice(("pipe", "write", "put_file")) for _ in operation["sizes"]
        ]
        if dice.random() < 0.5:
            operation["sizes"] = [dice.choice(sizes) for _ in operation["sizes"][:4]]
            operation["ways"] = operation["ways"][:4]
        operation["apart"] = dice.random() < 0.5
    if do == "ranges":
        operation["ranges"] = [
            [
                dice.choice(keys),
                *sorted(dice.choices((0, 5, 999, 70_000, 300_000), k=2)),
            ]
            for _ in range(dice.choice((1, 4, 10)))
        ]
    if do in ("copy", "move"):
        operation["to"] = dice.choice(keys)
    if do == "wait":
        operation["seconds"] = dice.choice((0.01, 1, 40))
    if do == "gather":
        operation["operations"] = [
            _operation(dice, kind, choices, depth + 1)
            for _ in range(dice.choice((2, 5, 12)))
        ]
    if kind == "loop" and dice.random() < 0.2:
        operation["cancel"] = round(dice.expovariate(5), 4)
        operation["again"] = dice.random() < 0.2
    return operation


def smaller(program: Program) -> list[Program]:
    """Return variants of *program* without one piece, the largest pieces first."""
    found: list[Program] = []
    callers = program["callers"]
    for index in range(len(callers)):
        if len(callers) > 1:
            found.append({**program, "callers": callers[:index] + callers[index + 1 :]})
    for name, empty in (
        ("faults", {}),
        ("options", {}),
        ("outages", []),
        ("disk_changes", []),
        ("signer_faults", 0),
        ("disk_faults", {}),
        ("holds", 0),
        ("switches", 0),
        ("skew", 0),
        ("logs", False),
        ("crash", 0),
    ):
        if program.get(name):
            found.append({**program, name: empty})
    for name in ("faults", "options", "disk_faults"):
        for key in program[name]:
            rest = {k: v for k, v in program[name].items() if k != key}
            found.append({**program, name: rest})
    for index, caller in enumerate(callers):
        for changed in _smaller_caller(caller):
            found.append(
                {
                    **program,
                    "callers": [*callers[:index], changed, *callers[index + 1 :]],
                }
            )
    return found


def _smaller_caller(caller: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    operations = caller["operations"]
    if caller["interrupts"]:
        found.append({**caller, "interrupts": 0})
    for index, operation in enumerate(operations):
        if len(operations) > 1:
            found.append(
                {**caller, "operations": operations[:index] + operations[index + 1 :]}
            )
        for name in ("operations", "sizes", "ranges"):
            inner = operation.get(name)
            if inner and len(inner) > 1:
                for half in (inner[: len(inner) // 2], inner[len(inner) // 2 :]):
                    changed = {**operation, name: half}
                    found.append(
                        {
                            **caller,
                            "operations": [
                                *operations[:index],
                                changed,
                                *operations[index + 1 :],
                            ],
                        }
                    )
        if operation["do"] == "gather" and len(operation["operations"]) == 1:
            found.append(
                {
                    **caller,
                    "operations": [
                        *operations[:index],
                        *operation["operations"],
                        *operations[index + 1 :],
                    ],
                }
            )
    return found
