"""docs/architecture.md is what the imports of the package say."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from fsspec.asyn import AsyncFileSystem

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fsspec_osspresigned"
FACTS = "other_stores"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


class Import(NamedTuple):
    """One import statement: what, on which line, and whether at import time."""

    name: str
    line: int
    at_top: bool


def module_name(file: Path) -> str:
    """Return the dotted name inside the package; the package itself is empty."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def tree_of(module: str) -> ast.Module:
    """Return the parsed source of *module*."""
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def resolve(module: str, node: ast.ImportFrom) -> Iterator[str]:
    """Yield absolute names of what ``from ... import ...`` in *module* loads."""
    package = f"fsspec_osspresigned.{module}".rstrip(".").split(".")
    if FILES[module].name != "__init__.py":
        package.pop()
    base = package[: len(package) - node.level + 1] if node.level else []
    source = ".".join([*base, *filter(None, [node.module])])
    for alias in node.names:
        inner = f"{source}.{alias.name}".removeprefix("fsspec_osspresigned.")
        yield f"{source}.{alias.name}" if inner in FILES else source


@functools.cache
def imports_of(module: str) -> tuple[Import, ...]:
    """Return every import of *module*, also those inside functions."""
    return tuple(_imports_in(module))


def _imports_in(module: str) -> Iterator[Import]:
    tree = tree_of(module)
    lazy = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = list(resolve(module, node))
        else:
            continue
        for name in names:
            yield Import(name, node.lineno, id(node) not in lazy)


def inner_imports(module: str, *, only_at_top: bool = False) -> Iterator[Import]:
    """Yield the imports of *module* from the package, named without the package."""
    for found in imports_of(module):
        if found.name.split(".")[0] == "fsspec_osspresigned" and (
            found.at_top or not only_at_top
        ):
            inner = found.name.partition(".")[2]
            yield found._replace(name=inner)


def group(module: str) -> str:
    """Return how the page names *module*: by its folder, or by itself at the root.

    The facts of dialects stand apart, because every folder may import them.
    """
    return module if module == FACTS else module.partition(".")[0]


def layers() -> dict[str, int]:
    """Return name -> height, read from the first block under "Layers"."""
    block = re.search(
        r"^## Layers$.*?^```text$(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
    assert block, "docs/architecture.md has no list of layers"
    lines = block[1].strip().splitlines()
    return {
        name: height
        for height, line in enumerate(reversed(lines))
        for name in line.split()
    }


def permissions() -> dict[str, set[str]]:
    """Return what -> the only modules that may, read from "Permitted imports and calls"."""
    table = PAGE.partition("### Permitted imports and calls")[2]
    rows = re.findall(
        r"^\| (import [^|]+|call [^|]+) \| ([^|]+) \|$", table, re.MULTILINE
    )
    return {
        what: set(where.split(", "))
        for names, where in rows
        for what in re.sub(r"^(import|call) |[`()]", "", names).split(", ")
    }


LAYERS = layers()
PERMISSIONS = permissions()
MODULES = sorted(name for name in FILES if name and name != "__main__")


def test_page_lists_exactly_the_folders_that_exist():
    """Each folder has one place on the page, and the page names no other."""
    assert set(LAYERS) == {group(module) for module in MODULES}


def test_page_permits_only_modules_that_exist():
    """The table names modules of the list only."""
    assert set().union(*PERMISSIONS.values()) <= set(LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    """A module imports only from lower lines, or from its own folder."""
    own = group(module)
    assert own in LAYERS, f"give {own} its place in docs/architecture.md"
    wrong = [
        f"line {found.line}: {module} imports {found.name or 'the package itself'}"
        for found in inner_imports(module)
        if group(found.name) != own
        and LAYERS.get(group(found.name), len(LAYERS)) >= max(LAYERS[own], 1)
    ]
    assert not wrong


# What all wings share; the other folders are the wing of the filesystem.
VOCABULARY = {
    FACTS,
    *("asgi_server", "callers", "compat", "errors", "files", "model", "parsing"),
    *("secret", "units", "url_checks"),
}


def wing(module: str) -> str:
    """Return the wing of *module*; empty for the vocabulary and the package itself."""
    name = group(module)
    if name in {"tools", "owner", "emulator"}:
        return name
    if name == "pytest_plugin":
        return "emulator"
    return "" if name in {*VOCABULARY, "", "__main__"} else "filesystem"


def folder(module: str) -> str:
    """Return the innermost folder that *module* is in."""
    is_folder = FILES[module].name == "__init__.py"
    return module if is_folder else module.rpartition(".")[0]


def listed(name: str) -> list[str]:
    """Return the names that the ``__init__`` of a folder lists."""
    return getattr(import_module(f"fsspec_osspresigned.{name}"), "__all__", [])


def names_from(module: str) -> Iterator[tuple[str, str, int]]:
    """Yield folder, name and line of what *module* imports from the package."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                one = ast.ImportFrom(node.module, [alias], node.level)
                source = next(resolve(module, one))
                if source.startswith("fsspec_osspresigned."):
                    inner = source.partition(".")[2]
                    yield folder(inner), alias.name, node.lineno


@pytest.mark.parametrize("module", MODULES)
def test_wings_know_public_names_only(module):
    """What crosses the border of a wing is in the list of its folder."""
    wrong = [
        f"line {line}: {module} imports {name}, which {place} does not list"
        for place, name, line in names_from(module)
        if wing(module)
        and wing(place) not in {"", wing(module)}
        and name not in listed(place)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "name", [name for name in MODULES if FILES[name].name == "__init__.py"]
)
def test_public_names_exist(name):
    """A list is true."""
    module = import_module(f"fsspec_osspresigned.{name}")
    assert [one for one in listed(name) if not hasattr(module, one)] == []


def test_names_of_s3_stand_in_dialects():
    """Another store's dialect has one place; its facts are plain data."""
    users = {
        group(module)
        for module, file in FILES.items()
        if "x-amz-" in file.read_text(encoding="utf-8").lower()
    }
    assert users == {FACTS}
    assert {found.name for found in imports_of(FACTS)} == {"__future__"}


def test_no_import_cycle_at_load():
    """No two modules wait for each other while they are loaded."""
    edges = {
        module: {found.name for found in inner_imports(module, only_at_top=True)}
        for module in MODULES
    }
    while leaves := {name for name, needed in edges.items() if not needed & set(edges)}:
        edges = {name: needed for name, needed in edges.items() if name not in leaves}
    assert not edges


def test_engine_stands_apart():
    """The engine imports exactly what the page says, so it can be read alone."""
    sentence = re.search(
        r"`engine` needs no other folder: it imports only ([^.]+)\.", PAGE
    )
    used = {
        group(item.name)
        for module in FILES
        if group(module) == "engine"
        for item in inner_imports(module)
    }
    assert sentence
    assert used - {"engine"} == set(re.findall(r"`(\w+)`", sentence[1]))


@pytest.mark.parametrize("library", sorted(set(PERMISSIONS) - {".reveal"}))
def test_only_permitted_modules_import(library):
    """Each outer library is known to exactly the modules in the table, lazily or not."""
    importers = {
        group(module)
        for module in FILES
        for item in imports_of(module)
        if item.name.split(".")[0] == library
    }
    assert importers == PERMISSIONS[library]


def test_only_permitted_modules_reveal_secrets():
    """``.reveal()`` is called in few places, so that they can be reviewed."""
    callers = {
        group(module)
        for module in FILES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and node.attr == "reveal"
    }
    assert callers <= PERMISSIONS[".reveal"]


def _may_repeat_on_a_condition(node: ast.AST) -> bool:
    if isinstance(node, ast.While):
        is_endless = isinstance(node.test, ast.Constant)
        return not is_endless or isinstance(node.body[-1], ast.If)
    if isinstance(node, ast.For):
        return isinstance(node.body[-1], ast.If)
    return isinstance(node, ast.comprehension) and bool(node.ifs)


def _in_same_frame(statements: list[ast.AST]) -> Iterator[ast.AST]:
    """Yield all nodes below *statements* that no inner function runs."""
    for node in statements:
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.GeneratorExp):
            yield node
            yield from _in_same_frame([*ast.iter_child_nodes(node)])


def _takes_a_lock(node: ast.AST) -> bool:
    names = [ast.unparse(item.context_expr) for item in getattr(node, "items", ())]
    return any(name.endswith("lock") for name in names)


def test_no_loop_on_a_condition_inside_a_lock():
    """A lock is released whenever an interrupt comes.

    Python 3.13 leaves the frame without a cleanup if a signal handler raises where a
    loop goes back on a condition: after `while x`, a last `if` of the body, or the `if`
    of a comprehension (python/cpython#130279). Such a loop needs a function of its own.
    """
    wrong = {
        f"{module}: line {node.lineno}"
        for module in FILES
        for node in ast.walk(tree_of(module))
        if _takes_a_lock(node)
        for loop in _in_same_frame(node.body)
        if _may_repeat_on_a_condition(loop)
    }
    assert wrong == set()


# Private names of others that the package uses, and why.
PRIVATE = {
    "tools.terminal: os._exit": "documented: the only exit that waits for no thread",
    "engine.engine: sys._current_frames": "documented: it says what holds up the engine",
    "filesystem.trees: filesystem._glob": "fsspec's coroutine, which the class inherits",
    "tools.sync.source: AsyncFileSystem._find": "fsspec's coroutine, which subclasses write",
    "tools.sync.source: kind._find": "the same, of another filesystem",
}


def _private_names(tree: ast.Module) -> Iterator[str]:
    """Yield ``owner._name`` wherever that is not the object or class itself."""
    for outer in ast.walk(tree):
        if isinstance(outer, ast.ClassDef):
            own = {
                node.attr if isinstance(node, ast.Attribute) else node.id
                for node in ast.walk(outer)
                if isinstance(node, ast.Attribute | ast.Name)
                and (isinstance(node, ast.Name) or ast.unparse(node.value) == "self")
            }
            own |= {n.name for n in ast.walk(outer) if isinstance(n, ast.FunctionDef)}
            for node in ast.walk(outer):
                if isinstance(node, ast.Attribute) and node.attr in own:
                    # An operand of the same class, as in __eq__.
                    node.is_own = ast.unparse(node.value) in {"other", "super()"}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and not getattr(node, "is_own", False)
            and ast.unparse(node.value) not in {"self", "cls"}
        ):
            yield ast.unparse(node)


def test_no_private_name_of_others():
    """What is private to a library, or to another class, may change at any time."""
    found = {
        f"{module}: {name}"
        for module in FILES
        for name in _private_names(tree_of(module))
    }
    assert found == set(PRIVATE)


def test_no_source_is_read():
    """Nothing depends on how a library is written."""
    readers = {
        module
        for module in FILES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and node.attr == "getsource"
    }
    assert readers == set()


# Private names that tests may use: what fsspec tells subclasses to write, what the
# standard library documents, and the terminal of pytest, which has no public name.
ALLOWED_IN_TESTS = {
    *dir(AsyncFileSystem),
    *("_intrans", "_touch"),
    *("_exit", "_getframe", "_current_frames", "_replace", "_file", "_sign_request"),
    "_repr_html_",
    # What nobody outside can see: a call between two steps of the engine, and what is
    # left in limits and in libcurl's multi.
    *("_Posted", "_posted", "_cancel_all", "_waiting", "_of_client"),
    "_log_destroy_pending",
    *("_busy", "_idle", "_check", "_opened"),
    # What every loop of another kind needs of asyncio.
    *("_run", "_set_running_loop", "_timer_handle_cancelled"),
}


def test_tests_use_public_names():
    """A test that needs a private name shows that a parameter is missing."""
    found = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for name in _private_names(ast.parse(file.read_text(encoding="utf-8")))
        if name.rpartition(".")[2] not in ALLOWED_IN_TESTS
    }
    assert found == set()
