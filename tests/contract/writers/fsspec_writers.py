"""The verbs of fsspec, its chains of filesystems, and what imitates kedro."""

from __future__ import annotations

import concurrent.futures
import io
import os
import zipfile
from pathlib import PurePosixPath
from typing import Any

import fsspec
import fsspec.callbacks
import fsspec.generic
from fsspec.implementations.dirfs import DirFileSystem

from tests.contract.writers.matrix import EXCLUSIVE, Fails, Group, Note, World

case = Group("fsspec")
BIG = b"0123456789abcdef" * 20_000
TREE = {"a.txt": b"a", "d/b.bin": BIG, "d/e/c.txt": b"c"}
TREE_NAMES = tuple(f"t/{name}" for name in TREE)
ON_SERVER = "the signer must also grant copying and deleting"


def tree(w: World) -> str:
    """Make a local tree; return its root."""
    for name, data in TREE.items():
        w.source(name, data)
    return str(w.place / "source")


def check_tree(w: World) -> None:
    """Check that the tree is under ``t``."""
    assert w.stored() == {f"t/{name}": data for name, data in TREE.items()}


@case("`fsspec.open_files`, a pattern", "0.txt", "1.txt")
def fsspec_open_files(w: World) -> None:
    opened = fsspec.open_files(w.url("*.txt"), "w", num=2, **w.options)
    for number, one in enumerate(opened):
        with one as file:
            file.write(str(number) * 20_000)
    assert w.stored() == {f"{n}.txt": b"%d" % n * 20_000 for n in (0, 1)}


@case("`fsspec.open_files` on `simplecache::`", "0.txt", "1.txt")
def simplecache_open_files(w: World) -> None:
    opened = fsspec.open_files(
        f"simplecache::{w.url('*.txt')}", "wb", num=2, osspresigned=w.options
    )
    with opened as files:
        for number, file in enumerate(files):
            file.write(b"%d" % number)
    assert w.stored() == {"0.txt": b"0", "1.txt": b"1"}


@case("`get_mapper`, items", "m/a", "m/d/b")
def get_mapper_set(w: World) -> None:
    mapper = fsspec.get_mapper(w.url("m"), **w.options)
    mapper["a"] = b"1"
    mapper["d/b"] = BIG
    assert w.stored() == {"m/a": b"1", "m/d/b": BIG}


@case(
    "`get_mapper(create=True, check=True)`",
    every=None,
    blind=Fails(
        "PermissionError",
        "",
        leaves=("m/????????????????????????????????",),
        advice="leave out `check`: it stores a test object and cannot delete it",
    ),
)
def get_mapper_create_check(w: World) -> None:
    mapper = fsspec.get_mapper(w.url("m"), check=True, create=True, **w.options)
    mapper["a"] = b"1"
    assert w.stored() == {"m/a": b"1"}


@case("`put` of a tree", *TREE_NAMES)
def put_recursive_newdir(w: World) -> None:
    w.fs.put(tree(w), w.path("t"), recursive=True)
    check_tree(w)


@case("`put_file`", "a.bin")
def put_file(w: World) -> None:
    w.fs.put_file(str(w.source("a.bin", BIG)), w.path("a.bin"))
    assert w.stored() == {"a.bin": BIG}


@case(
    '`put_file(mode="create")`',
    "a.bin",
    url_map=EXCLUSIVE,
)
def put_file_create(w: World) -> None:
    w.fs.put_file(str(w.source("a.bin", BIG)), w.path("a.bin"), mode="create")
    assert w.stored() == {"a.bin": BIG}


@case("`pipe` of a mapping", "x", "y")
def pipe_dict(w: World) -> None:
    w.fs.pipe({w.path("x"): b"1", w.path("y"): BIG})
    assert w.stored() == {"x": b"1", "y": BIG}


@case("`pipe_file`", "x")
def pipe_file(w: World) -> None:
    w.fs.pipe_file(w.path("x"), BIG)
    assert w.stored() == {"x": BIG}


@case(
    '`pipe_file(mode="create")`',
    "x",
    url_map=EXCLUSIVE,
)
def pipe_file_create(w: World) -> None:
    w.fs.pipe_file(w.path("x"), BIG, mode="create")
    assert w.stored() == {"x": BIG}


@case(
    '`pipe_file(mode="create")` of an object of others',
    every=Fails("FileExistsError", "", leaves=("x",)),
)
def pipe_file_create_existing(w: World) -> None:
    w.before("x")
    w.fs.pipe_file(w.path("x"), BIG, mode="create")


@case("`write_text`", "a.txt")
def write_text(w: World) -> None:
    w.fs.write_text(w.path("a.txt"), "\N{GREEK SMALL LETTER OMEGA}", encoding="utf-8")
    assert w.stored() == {"a.txt": b"\xcf\x89"}


@case("`touch`", "a")
def touch(w: World) -> None:
    w.fs.touch(w.path("a"))
    assert w.stored() == {"a": b""}


@case(
    "`touch(truncate=False)`",
    "a",
    url_map=EXCLUSIVE,
)
def touch_notruncate(w: World) -> None:
    w.fs.touch(w.path("a"), truncate=False)
    assert w.stored() == {"a": b""}


@case(
    "`cp`",
    "a",
    "b",
    blind=Fails("PermissionError", "", leaves=("a",), advice=ON_SERVER),
)
def copy_within(w: World) -> None:
    w.fs.pipe_file(w.path("a"), BIG)
    w.fs.cp(w.path("a"), w.path("b"))
    assert w.stored() == {"a": BIG, "b": BIG}


@case(
    "`mv`",
    "a",
    "b",
    blind=Fails("PermissionError", "", leaves=("a",), advice=ON_SERVER),
)
def mv_within(w: World) -> None:
    w.fs.pipe_file(w.path("a"), BIG)
    w.fs.mv(w.path("a"), w.path("b"))
    assert w.stored() == {"b": BIG}


@case("transaction of files", "x", "y")
def transaction_open(w: World) -> None:
    fs = w.fs
    with fs.transaction:
        for name in ("x", "y"):
            with fs.open(w.path(name), "wb") as file:
                file.write(BIG)
        assert not w.stored()
    assert w.stored() == {"x": BIG, "y": BIG}


@case("transaction of `pipe_file` and `put_file`", "x", "y")
def transaction_pipe_put(w: World) -> None:
    fs = w.fs
    with fs.transaction:
        fs.pipe_file(w.path("x"), b"1")
        fs.put_file(str(w.source("a.bin", BIG)), w.path("y"))
        assert not w.stored()
    assert w.stored() == {"x": b"1", "y": BIG}


@case("transaction that raises, as of a trainer that was stopped", "x")
def transaction_discarded(w: World) -> None:
    fs = w.fs
    try:
        with fs.transaction:
            with fs.open(w.path("x"), "wb") as file:
                file.write(BIG)
            raise KeyError
    except KeyError:
        assert not w.stored()


@case("`asynchronous=True`: `await fs._pipe`, `fs._put`", *TREE_NAMES, "x")
def asyn_wrapper_pipe(w: World) -> None:
    import asyncio

    async def main() -> None:
        fs = fsspec.filesystem("osspresigned", asynchronous=True, **w.options)
        await fs._pipe({w.path("x"): b"1"})
        await fs._put(f"{source}/", w.path("t/"), recursive=True)

    source = tree(w)
    asyncio.run(main())
    assert w.stored() == {"x": b"1"} | {f"t/{n}": data for n, data in TREE.items()}


chain = Group("chains of filesystems")


def rsync(w: World, **options: Any) -> None:
    """Copy the tree as generic.rsync does."""
    fsspec.generic.rsync(
        f"file://{tree(w)}",
        w.url("t"),
        inst_kwargs={
            "default_method": "options",
            "storage_options": {"osspresigned": w.options, "file": {}},
        },
        on_error="raise",
        **options,
    )


@chain('`generic.rsync`, `on_error="raise"`', *TREE_NAMES)
def generic_rsync(w: World) -> None:
    rsync(w)
    check_tree(w)


@chain("`generic.rsync` by instances of `current`", *TREE_NAMES)
def generic_rsync_opts(w: World) -> None:
    _ = w.fs  # the instance that it takes
    fs = fsspec.filesystem("generic", default_method="current")
    fsspec.generic.rsync(f"file://{tree(w)}", w.url("t"), fs=fs, on_error="raise")
    check_tree(w)


@chain(
    "`generic.rsync`, `delete_missing=True`",
    *TREE_NAMES,
    blind=Note("extra objects stay, because it cannot list them"),
)
def generic_rsync_delete(w: World) -> None:
    w.before("t/old")
    rsync(w, delete_missing=True)
    assert ("t/old" in w.stored()) is not w.sees


@chain(
    "`generic.rsync` without `on_error`, a store that fails",
    *TREE_NAMES,
    every=Note(
        "by fsspec's default, it returns without an error; the log has every "
        'error, and with `on_error="raise"` it raises',
        "hides the errors",
    ),
)
def generic_rsync_swallows(w: World) -> None:
    from fsspec_osspresigned.emulator import Fault

    for action in ("PutObject", "PostObject", "InitiateMultipartUpload"):
        refused = Fault(action=action, status=403, code="AccessDenied", times=None)
        w.oss.faults.add(refused)
    fsspec.generic.rsync(
        f"file://{tree(w)}",
        w.url("t"),
        inst_kwargs={
            "default_method": "options",
            "storage_options": {"osspresigned": w.options, "file": {}},
        },
    )
    assert not w.stored()


@chain("`GenericFileSystem.cp`", "a.bin")
def generic_cp(w: World) -> None:
    options = {"osspresigned": w.options, "file": {}}
    fs = fsspec.filesystem("generic", default_method="options", storage_options=options)
    source = w.source("a.bin", BIG)
    fs.cp(f"file://{source}", w.url("a.bin"))
    assert w.stored() == {"a.bin": BIG}


@chain("`DirFileSystem`", "d/x", "d/y", "d/t/a.txt", "d/t/d/b.bin", "d/t/d/e/c.txt")
def dirfs_ops(w: World) -> None:
    fs = DirFileSystem(w.path("d"), w.fs)
    with fs.open("x", "wb") as file:
        file.write(BIG)
    fs.pipe_file("y", b"1")
    fs.put(f"{tree(w)}/", "t/", recursive=True)
    assert len(w.stored()) == 5
    assert fs.cat_file("y") == b"1"


@chain("`dir://` before it", "d/x")
def dir_chain(w: World) -> None:
    url = f"dir://x::{w.url('d')}"
    with fsspec.open(url, "wb", osspresigned=w.options) as file:
        file.write(b"1")
    assert w.stored() == {"d/x": b"1"}


@chain("`simplecache::`, writing", "a.bin")
def simplecache_write(w: World) -> None:
    url = f"simplecache::{w.url('a.bin')}"
    with fsspec.open(url, "wb", osspresigned=w.options) as file:
        file.write(BIG)
    assert w.stored() == {"a.bin": BIG}


@chain("`filecache::`, writing", "a.bin")
def filecache_write(w: World) -> None:
    url = f"filecache::{w.url('a.bin')}"
    cache = {"cache_storage": str(w.place / "cache")}
    with fsspec.open(url, "wb", filecache=cache, osspresigned=w.options) as file:
        file.write(BIG)
    assert w.stored() == {"a.bin": BIG}


@chain("`blockcache::`, writing", "a.bin")
def blockcache_write(w: World) -> None:
    url = f"blockcache::{w.url('a.bin')}"
    cache = {"cache_storage": str(w.place / "cache")}
    with fsspec.open(url, "wb", blockcache=cache, osspresigned=w.options) as file:
        file.write(BIG)
    assert w.stored() == {"a.bin": BIG}


def read_through(w: World, name: str) -> None:
    """Read what others wrote through a cache."""
    w.before("a.bin", BIG)
    cache = {"cache_storage": str(w.place / "cache")}
    options = {name: cache, "osspresigned": w.options}
    with fsspec.open(f"{name}::{w.url('a.bin')}", "rb", **options) as file:
        assert file.read() == BIG


UNSEEN = Fails(
    "FileNotFoundError", "", leaves=("a.bin",), advice="reading is not signed"
)


@chain("`simplecache::`, reading", blind=UNSEEN)
def simplecache_read(w: World) -> None:
    read_through(w, "simplecache")


@chain("`filecache::`, reading", blind=UNSEEN)
def filecache_read(w: World) -> None:
    read_through(w, "filecache")


@chain("`blockcache::`, reading", blind=UNSEEN)
def blockcache_read(w: World) -> None:
    read_through(w, "blockcache")


@chain(
    "`zip://` before it, writing",
    "a.zip",
    every=Fails(
        "ConfigurationError",
        "zipfile.ZipFile(file, 'w')",
        advice="fsspec would publish the archive also after an exception, and hide a "
        "failed upload",
    ),
)
def zip_chain_write(w: World) -> None:
    url = f"zip://one.bin::{w.url('a.zip')}"
    with fsspec.open(url, "wb", zip={"mode": "w"}, osspresigned=w.options) as file:
        file.write(BIG)


@chain(
    "`zip://` before it, reading",
    blind=Fails(
        "FileNotFoundError", "", leaves=("a.zip",), advice="reading is not signed"
    ),
)
def zip_chain_read(w: World) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        out.writestr("one.bin", BIG)
    w.before("a.zip", made.getvalue())
    url = f"zip://one.bin::{w.url('a.zip')}"
    with fsspec.open(url, "rb", osspresigned=w.options) as file:
        assert file.read() == BIG


tools = Group("tools that use fsspec their own way")


@tools("`fsspec.open` as kedro and intake do", "data/a.csv")
def kedro_like(w: World) -> None:
    fs = fsspec.filesystem("osspresigned", **w.options)
    name = str(PurePosixPath(fs._strip_protocol(w.url("data/a.csv"))))
    with fs.open(name, mode="wb") as file:
        file.write(b"a,b\n")
    fs.invalidate_cache(name)
    assert w.stored() == {"data/a.csv": b"a,b\n"}


@tools("versions as kedro makes them: `exists`, `glob`, then `open`")
def kedro_versions(w: World) -> None:
    fs = w.fs
    for version in ("2026-01-01", "2026-01-02"):
        name = w.path(f"a.csv/{version}/a.csv")
        assert not fs.exists(name)
        with fs.open(name, mode="w") as file:
            file.write(version)
    found = sorted(fs.glob(w.path("a.csv/*/a.csv")))
    assert [name.split("/")[-2] for name in found] == ["2026-01-01", "2026-01-02"]


@tools("`put_file(callback=, max_concurrency=)` in threads", "o/1", "o/2", "o/3")
def put_in_threads(w: World) -> None:
    fs = w.fs
    more = {"max_concurrency": 2} if hasattr(fs, "max_concurrency") else {}
    done: list[int] = []

    def send(name: str) -> None:
        place = w.source(name, BIG)
        with fsspec.callbacks.Callback() as callback:
            fs.makedirs(w.path("o"), exist_ok=True)
            fs.put_file(
                os.fspath(place), w.path(f"o/{name}"), callback=callback, **more
            )
            done.append(callback.value)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(send, "123"))
    assert w.stored() == {f"o/{name}": BIG for name in "123"}
    assert done == [len(BIG)] * 3
