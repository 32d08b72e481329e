"""Planted mistakes: checks whether the simulation finds mistakes in the package.

``python -m tests.simulation.plants --draw 1 --count 100`` draws statements in the
functions of the filesystem's wing. For each statement that a program reaches, it makes
one mistake in a copy of the package, and runs programs until one fails. A mistake that
survives changes nothing, breaks no promise, or shows a gap of the simulation. The exit
code is 1 if more than a third survives, because then a check no longer works.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from attrs import frozen

from .programs import draw

ROOT = Path(__file__).parents[2]
PACKAGE = "fsspec_osspresigned"
# Folders of the filesystem, as docs/architecture.md lists them.
FOLDERS = (
    *("filesystem", "objects", "upload", "client", "options", "signers"),
    *("url_map", "http", "signing", "engine"),
)
_PAIRS: tuple[tuple[type[Any], type[Any]], ...] = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)),
    *((ast.In, ast.NotIn), (ast.And, ast.Or), (ast.Add, ast.Sub)),
)
_OTHERS = dict(_PAIRS) | {second: first for first, second in _PAIRS}
# A possible mistake at one node of the syntax tree: its name, and a function that makes
# it.
Mistake = tuple[str, Callable[[], object]]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@frozen
class Plant:
    """One mistake; *number* counts the possible mistakes of a module."""

    module: str
    number: int
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.text}"


def _mistakes(node: Any) -> Iterator[Mistake]:
    """Yield the possible mistakes at one node."""
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        negated = ast.UnaryOp(ast.Not(), node.test)
        yield "is negated", lambda: setattr(node, "test", negated)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in _OTHERS:
        other = _OTHERS[type(node.ops[0])]()
        yield f"has {type(other).__name__}", lambda: node.ops.__setitem__(0, other)
    elif isinstance(node, (ast.BoolOp, ast.BinOp, ast.AugAssign)):
        if type(node.op) in _OTHERS:
            op = _OTHERS[type(node.op)]()
            yield f"has {type(op).__name__}", lambda: setattr(node, "op", op)
    elif isinstance(node, ast.keyword):
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool):
            value = ast.Constant(not node.value.value)
            yield f"has {value.value}", lambda: setattr(node, "value", value)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "is one more", lambda: setattr(node, "value", node.value + 1)


def _is_removable(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)  # the expression is a docstring
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return isinstance(targets[0], (ast.Attribute, ast.Subscript))
    return isinstance(node, (ast.Raise, ast.Continue, ast.Break))


def _sites(tree: ast.Module) -> Iterator[tuple[ast.stmt, list[ast.stmt], Mistake]]:
    """Yield each possible mistake of a function with its statement and siblings."""
    bodies = [
        (node, field)
        for function in ast.walk(tree)
        if isinstance(function, _FUNCTIONS)
        for node in ast.walk(function)
        for field in ("body", "orelse", "finalbody")
        if isinstance(getattr(node, field, None), list)
    ]
    seen: set[int] = set()
    for owner, field in bodies:
        statements: list[ast.stmt] = getattr(owner, field)
        if id(statements) in seen:
            continue
        seen.add(id(statements))
        for statement in statements:
            if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
                continue
            yield from _of_statement(statement, statements)


def _of_statement(
    statement: ast.stmt, statements: list[ast.stmt]
) -> Iterator[tuple[ast.stmt, list[ast.stmt], Mistake]]:
    def replace(new: list[ast.stmt]) -> Callable[[], None]:
        def act() -> None:
            at = statements.index(statement)
            statements[at : at + 1] = new

        return act

    if _is_removable(statement):
        yield statement, statements, ("is left out", replace([ast.Pass()]))
    is_context = isinstance(statement, (ast.With, ast.AsyncWith))
    if is_context and not any(item.optional_vars for item in statement.items):
        yield statement, statements, ("has no context", replace(statement.body))
    for node in _own(statement):
        for mistake in _mistakes(node):
            yield statement, statements, mistake


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield *node* and the expressions below it, but no other statements."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield from _own(child)


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / PACKAGE / module).read_text(encoding="utf-8"))


def drawn(seed: int, count: int) -> list[Plant]:
    """Return *count* possible mistakes of the current package."""
    found = []
    for folder in FOLDERS:
        for file in sorted((ROOT / PACKAGE / folder).rglob("*.py")):
            module = str(file.relative_to(ROOT / PACKAGE))
            for number, (statement, _, mistake) in enumerate(_sites(parsed(module))):
                lines = ast.unparse(statement).splitlines()
                text = f"{lines[0][:60]} {mistake[0]}"
                found.append(Plant(module, number, statement.lineno, text))
    return random.Random(f"plants {seed}").sample(found, count)


def planted(plant: Plant) -> ast.Module:
    """Return the module of *plant* with its mistake."""
    tree = parsed(plant.module)
    _, _, (_, act) = list(_sites(tree))[plant.number]
    act()
    return ast.fix_missing_locations(tree)


def _copied(place: Path) -> None:
    shutil.copytree(ROOT / PACKAGE, place / PACKAGE)
    (place / "tests").symlink_to(ROOT / "tests")


def _written(place: Path, module: str, tree: ast.Module) -> None:
    text = ast.unparse(tree)
    (place / PACKAGE / module).write_text(text, encoding="utf-8")


def _simulated(place: Path, *given: str) -> str:
    """Run programs with the package at *place*, and return their output."""
    command = [sys.executable, "-m", "tests.simulation", "--quiet", *given]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False
    )
    return done.stdout


def reached(plants: list[Plant], seeds: str) -> dict[Plant, list[int]]:
    """Return plant -> those *seeds* whose programs run its statement.

    The mistake has no effect on any other program, except on programs that switch
    threads at lines. Those are returned for each reached plant.
    """
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        place = Path(name)
        _copied(place)
        for module in {plant.module for plant in plants}:
            tree = parsed(module)
            sites = list(_sites(tree))
            for number, plant in enumerate(plants):
                if plant.module == module:
                    statement, statements, _ = sites[plant.number]
                    mark = (
                        f"__import__('tests.simulation').simulation.marks.add({number})"
                    )
                    at = statements.index(statement)
                    statements.insert(at, ast.parse(mark).body[0])
            _written(place, module, ast.fix_missing_locations(tree))
        output = _simulated(place, "--seeds", seeds)
    lines = re.findall(r"^seed (\d+) has the marks(.*)", output, re.MULTILINE)
    marks = {int(seed): set(map(int, numbers.split())) for seed, numbers in lines}
    found = {}
    for number, plant in enumerate(plants):
        if any(number in numbers for numbers in marks.values()):
            found[plant] = [
                seed
                for seed, numbers in marks.items()
                if number in numbers or draw(seed).get("switches")
            ]
    return found


def varied(seeds: Iterable[int]) -> Iterator[int]:
    """Yield *seeds* in an order in which each signer and kind of caller comes early."""
    kinds: dict[object, list[int]] = {}
    for seed in sorted(seeds):
        program = draw(seed)
        callers = tuple(sorted({caller["kind"] for caller in program["callers"]}))
        kinds.setdefault((program["signer"], callers), []).append(seed)
    rounds = zip_longest(*kinds.values())
    return (seed for row in rounds for seed in row if seed is not None)


def verdict(plant: Plant, seeds: Iterable[int]) -> str:
    """Return the message of an invariant that a program with *plant* broke, or "".

    A process that crashes, cannot be loaded or does not end has broken no invariant.
    """
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        place = Path(name)
        _copied(place)
        _written(place, plant.module, planted(plant))
        given = ",".join(map(str, varied(seeds)))
        return judgement(_simulated(place, "--first", "--seeds", given))


def judgement(output: str) -> str:
    """Return the line that reports a broken invariant; "" if there is none."""
    line = re.search(
        r"^seed \d+: (broken|hangs|raised|unraisable): .*", output, re.MULTILINE
    )
    return line[0] if line else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.simulation.plants")
    parser.add_argument("--draw", type=int, default=1, metavar="SEED")
    parser.add_argument("--count", type=int, default=100, help="of those reached")
    parser.add_argument("--seeds", default="0:400", metavar="A:B")
    given = parser.parse_args()
    if not os.path.isdir("/proc/self/fd"):
        print("skipped: the simulation runs on Linux only")
        return 0
    plants = reached(drawn(given.draw, 2 * given.count), given.seeds)
    plants = dict(islice(plants.items(), given.count))

    def judged(plant: Plant) -> bool:
        began = time.monotonic()
        said = verdict(plant, plants[plant])
        seconds = time.monotonic() - began
        print(f"{plant}: {seconds:.0f} s: {said[:110] or 'SURVIVES'}", flush=True)
        return said != ""

    with ThreadPoolExecutor(2) as pool:
        # a thread loads the next package while another one runs
        found = sum(pool.map(judged, plants))
    print(f"{found} of {len(plants)} that programs reach are found")
    return int(3 * found < 2 * len(plants))


if __name__ == "__main__":
    sys.exit(main())
