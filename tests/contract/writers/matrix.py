"""The writers of the matrix, and the worlds in which each of them writes."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from attrs import field, frozen

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART

BUCKET = "examplebucket"
ONE, MAP, GRANT, WRITES, SERVICE, KEYS = (
    *("one", "map", "grant"),
    *("writes", "service", "keys"),
)
KINDS = {
    ONE: "one URL",
    MAP: "URL map",
    GRANT: "grant",
    WRITES: "write-only signer",
    SERVICE: "full signer",
    KEYS: "keys",
}
BLIND = (ONE, MAP, GRANT, WRITES)
# Small parts, so that ordinary tables travel in several.
PARTS = {"part_size": MIN_PART, "multipart_threshold": MIN_PART}


@frozen
class World:
    """One way to reach the store, and a folder of its own in it.

    Attributes:
        kind: which of ``KINDS``.
        oss: the store, which verifies every signature.
        folder: the key of the folder.
        options: storage options, as a user would give them.
        place: a local directory of the test's own.
    """

    kind: str
    oss: Emulator = field(repr=False)
    folder: str
    options: dict[str, Any] = field(repr=False)
    place: Path

    @property
    def sees(self) -> bool:
        """True if reading, listing and deleting are signed too."""
        return self.kind not in BLIND

    @property
    def root(self) -> str:
        """The folder as a path of the filesystem."""
        return f"{BUCKET}/{self.folder}"

    @property
    def fs(self) -> OSSPresignedFileSystem:
        """The filesystem of these options."""
        return fsspec.filesystem("osspresigned", **self.options)

    @property
    def pandas(self) -> dict[str, Any]:
        """The keyword that pandas and dask hand to fsspec."""
        return {"storage_options": self.options}

    def path(self, name: str) -> str:
        """Return ``bucket/key`` of a name in the folder."""
        return f"{self.root}/{name}"

    def url(self, name: str) -> str:
        """Return the URL of a name in the folder."""
        return f"osspresigned://{self.path(name)}"

    def open(self, name: str, mode: str = "wb", **more: Any) -> Any:
        """Open by URL and options, as libraries do."""
        return fsspec.open(self.url(name), mode, **self.options, **more)

    def stored(self) -> dict[str, bytes]:
        """Return name -> bytes of all that is published in the folder."""
        found = self.oss.objects(BUCKET)
        prefix = f"{self.folder}/"
        return {
            key.removeprefix(prefix): bytes(found[key])
            for key in found
            if key.startswith(prefix)
        }

    def bytes(self, name: str) -> bytes:
        """Return what is published under a name."""
        return bytes(self.oss.objects(BUCKET)[f"{self.folder}/{name}"])

    def local(self, name: str = "") -> str:
        """Copy what is published to the local disk; return where *name* is there.

        The store's bytes, not what this filesystem says about them, are what a
        library must be able to read.
        """
        base = self.place / "stored"
        for found, data in self.stored().items():
            target = base / found
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return str(base / name)

    def before(self, name: str, data: bytes = b"what was there before") -> None:
        """Publish something that another process wrote."""
        owner = OSSPresignedFileSystem(signer="keys", skip_instance_cache=True)
        owner.pipe_file(self.path(name), data)
        OSSPresignedFileSystem.clear_instance_cache()
        self.forget()

    def forget(self) -> None:
        """Forget what this process wrote, as another process would not know it."""
        from fsspec_osspresigned.client import client

        OSSPresignedFileSystem.clear_instance_cache()
        client.reset()
        # dask reuses an equal expression, with its old filesystem, until it is freed.
        gc.collect()

    def source(self, name: str, data: bytes) -> Path:
        """Make a local file to upload."""
        target = self.place / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return target


@frozen
class Fails:
    """The writer raises.

    Attributes:
        error: name of the class, or of one that it derives from.
        text: what its message must say.
        leaves: patterns of the names that are there afterwards.
        partly: whether the writer itself has published some of them.
        advice: what to do instead; shown in the table.
    """

    error: str
    text: str = ""
    leaves: tuple[str, ...] = ()
    advice: str = ""
    partly: bool = False

    def __str__(self) -> str:
        """Return what to know."""
        left = (
            "some objects are stored before the error"
            if self.leaves and self.partly
            else ""
        )
        said = f'"{self.text}"' if self.text and not self.advice else ""
        return "; ".join(filter(None, (said, self.advice, left)))


EXCLUSIVE = Fails(
    "SignatureMismatchError",
    "x-oss-forbid-overwrite",
    advice="sign the URL with `x-oss-forbid-overwrite`",
)


@frozen
class Note:
    """The writer does not raise, and there is something to know.

    Attributes:
        text: what to know.
        word: what the table says of a second run.
    """

    text: str
    word: str = "replaces"

    def __str__(self) -> str:
        """Return what to know."""
        return self.text


Outcome = Fails | Note | None


@frozen
class Case:
    """A writer, what it needs, and how it must fare."""

    run: Callable[[World], None] = field(repr=False)
    group: str
    title: str
    needs: tuple[str, ...]
    names: tuple[str, ...]
    outcomes: dict[str, Outcome]
    heavy: bool

    @property
    def id(self) -> str:
        """The name of the function."""
        return self.run.__name__

    @property
    def missing(self) -> list[str]:
        """The libraries that are not installed."""
        return [name for name in self.needs if not importlib.util.find_spec(name)]

    def runs_in(self, kind: str) -> bool:
        """Return whether it makes sense: URLs are signed for names that are known."""
        if kind == ONE:
            return len(self.names) == 1
        return kind != MAP or bool(self.names)

    def outcome(self, kind: str) -> Outcome:
        """Return how the writer must fare in a world."""
        return self.outcomes[kind]

    def works_by(self) -> str:
        """Return by which sources the writer works, as the table says it."""
        works = [
            kind
            for kind in KINDS
            if self.runs_in(kind) and not isinstance(self.outcome(kind), Fails)
        ]
        known = {
            tuple(KINDS): "all",
            tuple(KINDS)[1:]: "all but one URL",
            tuple(KINDS)[2:]: "grant, signer, keys",
            (): "none",
        }
        return known.get(tuple(works)) or ", ".join(KINDS[kind] for kind in works)

    def to_know(self) -> str:
        """Return the note of the table: errors, and what to do instead."""
        kinds = [kind for kind in KINDS if self.runs_in(kind)]
        said: dict[str, list[str]] = {}
        for kind in kinds:
            outcome = self.outcome(kind)
            text = str(outcome or "")
            if isinstance(outcome, Fails):
                text = f"`{outcome.error}`" + (f": {text}" if text else "")
            if text:
                said.setdefault(text, []).append(kind)
        told = []
        for text, where in said.items():
            if where == kinds:
                told.append(text)
            elif set(where) == set(BLIND) & set(kinds):
                told.append(f"write-only: {text}")
            else:
                told.append(f"{', '.join(KINDS[kind] for kind in where)}: {text}")
        return "; ".join(told).replace("|", "\\|")


CASES: dict[str, Case] = {}


class Group:
    """The writers of one library."""

    def __init__(self, name: str, *needs: str, heavy: bool = False) -> None:
        """Name the section of the table and the libraries that it needs."""
        self._name = name
        self._needs = needs
        self._heavy = heavy

    def __call__(
        self,
        title: str,
        *names: str,
        needs: tuple[str, ...] = (),
        every: Outcome = None,
        blind: Outcome = None,
        url_map: Outcome = None,
        grant: Outcome = None,
    ) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
        """Register a function that writes and checks what arrived.

        Args:
            title: of the row.
            names: the objects that it writes, if they can be known beforehand.
            needs: libraries besides those of the group.
            every: how it fares; None means that it works.
            blind: how it fares where only writing is signed; None as *every*.
            url_map: how it fares with one URL and with a map; None as *blind*.
            grant: how it fares with a grant; None as *blind*.
        """
        blind = blind or every
        outcomes = {
            ONE: url_map or blind,
            MAP: url_map or blind,
            GRANT: grant or blind,
            WRITES: blind,
            SERVICE: every,
            KEYS: every,
        }

        def register(run: Callable[[World], None]) -> Callable[[World], None]:
            assert run.__name__ not in CASES
            CASES[run.__name__] = Case(
                run,
                self._name,
                title,
                (*self._needs, *needs),
                names,
                outcomes,
                self._heavy,
            )
            return run

        return register
