"""docs/architecture.md is what the imports of the package say."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
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

    The facts of other stores stand apart, because every folder may import them.
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


# Folders that all wings share; the others are the wing of the filesystem.
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


def public_modules() -> set[str]:
    """Return the modules that other wings may import, read from "Public modules"."""
    table = PAGE.partition("### Public modules")[2].partition("###")[0]
    rows = re.findall(r"^\| `([a-z/_]+)` \| (.+) \|$", table, re.MULTILINE)
    return {
        ".".join([folder.replace("/", "."), *filter(None, [module])])
        for folder, modules in rows
        for module in re.findall("`([a-z_]+)`", modules) or [""]
    }


def names_from(module: str) -> Iterator[tuple[str, str, int]]:
    """Yield module, name and line of what *module* imports from the package."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                one = ast.ImportFrom(node.module, [alias], node.level)
                source = next(resolve(module, one))
                if source.startswith("fsspec_osspresigned."):
                    inner = source.partition(".")[2]
                    yield inner, alias.name, node.lineno


PUBLIC = public_modules()


@pytest.mark.parametrize("module", MODULES)
def test_wings_know_public_names_only(module):
    """A wing imports from another one only public modules, and no name with ``_``."""
    wrong = [
        f"line {line}: {module} imports {name} of {place}"
        for place, name, line in names_from(module)
        if wing(module)
        and wing(place) not in {"", wing(module)}
        and (place not in PUBLIC or name.startswith("_"))
    ]
    assert not wrong


def test_public_modules_are_used():
    """The page lists no module that other wings do not import."""
    used = {
        place
        for module in MODULES
        for place, _, _ in names_from(module)
        if wing(module) and wing(place) not in {"", wing(module)}
    }
    assert used == PUBLIC


def test_no_import_cycle_at_load():
    """No two modules wait for each other while they are loaded."""
    edges = {
        module: {found.name for found in inner_imports(module, only_at_top=True)}
        for module in MODULES
    }
    while leaves := {name for name, needed in edges.items() if not needed & set(edges)}:
        edges = {name: needed for name, needed in edges.items() if name not in leaves}
    assert not edges


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


# Private names that tests may use: what fsspec tells subclasses to write, what the
# standard library documents, and the terminal of pytest, which has no public name.
ALLOWED_IN_TESTS = {
    *dir(AsyncFileSystem),
    *("_intrans", "_touch"),
    *("_exit", "_getframe", "_current_frames", "_replace", "_file", "_sign_request"),
    # Invisible from outside: a call between two steps of the engine, and what is
    # left in limits and in libcurl's multi.
    *("_Posted", "_posted", "_cancel_all", "_waiting", "_of_client"),
    "_log_destroy_pending",
    *("_busy", "_idle", "_check", "_opened"),
    # Needed by every event loop of another kind.
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
