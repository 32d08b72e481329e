"""The verbs of fsspec that look, as ``view`` answers them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

from ..errors import NotSignedError
from ..model import PLAIN_ACTIONS, Operation, split_path
from ..signers.base import sign_checked
from .base import EngineFileSystem, twin

if TYPE_CHECKING:
    from ..objects.lookup import View
    from .trees import Meant


# Every HTTP client sends them by itself.
_SENT_ANYWAY = ("host", "content-length")


class LookingFileSystem(EngineFileSystem):
    """What can be asked about objects, whoever wrote them."""

    @property
    def _view(self) -> View:
        from ..objects.lookup import View  # noqa: PLC0415 - whoever only writes looks at nothing

        return View(self.client)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size, type and what else is known of an object or directory.

        Where nobody signs HEAD or GET, or the store lets nobody look, what this process
        wrote is answered from memory, and everything else is "missing", with a warning,
        or an error (``unknown=``).

        Raises:
            FileNotFoundError: it is not there, or cannot be seen.
            PermissionError: it cannot be seen, with ``unknown="error"``.
        """
        return self._view.info(self._path(path))

    _info = twin(info)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what lies directly in a directory; raises as :meth:`info`."""
        found = self._view.ls(self._path(path))
        return found if detail else [item["name"] for item in found]

    _ls = twin(ls)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **_: Any,
    ) -> Any:
        """Return all objects under *path*: names, or with *detail* name to ``info``.

        Args:
            path: a directory; an object is found alone.
            maxdepth: levels; None for all.
            withdirs: whether directories are found, too.
            detail: whether more than names is wanted.
            prefix: how names in *path* must begin; the store lists no others.

        Raises:
            PermissionError: it cannot be seen, with ``unknown="error"``.
        """
        _check_depth(maxdepth)
        walk = self._view.walk(
            self._path(path), maxdepth=maxdepth, withdirs=withdirs, prefix=prefix
        )
        if not detail:
            return sorted({item["name"] for item in walk})
        found: dict[str, Any] = {}
        for item in walk:
            # An object and a directory may share a name: the object is shown.
            if item["type"] == "file" or item["name"] not in found:
                found[item["name"]] = item
        return {name: found[name] for name in sorted(found)}

    _find = twin(find)

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Return the names that fit a pattern; what is before it is listed only."""
        return AbstractFileSystem.glob(self, path, maxdepth=maxdepth, **kwargs)

    _glob = twin(glob, "trees")

    def du(
        self,
        path: str,
        total: bool = True,
        maxdepth: int | None = None,
        withdirs: bool = False,
        **_: Any,
    ) -> Any:
        """Return the bytes under *path*: their sum, or name to bytes.

        Costs a listing, not a request for each object.
        """
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: item["size"] for name, item in found.items()}
        return sum(sizes.values()) if total else sizes

    _du = twin(du)

    def _expanded(
        self,
        path: Any,
        *,
        recursive: bool,
        maxdepth: int | None,
        markers: bool = False,
    ) -> Meant:
        """Return all that *path* means.

        A name that looks like a pattern and is one of an object means that object.
        *markers* are objects that stand for directories: their names end in a slash.

        Raises:
            FileNotFoundError: nothing fits.
        """
        from .trees import Meant  # noqa: PLC0415 - only for trees

        _check_depth(maxdepth)
        found: dict[str, str | None] = {}
        is_pattern = False
        for one in [path] if isinstance(path, str) else path:
            is_pattern = self._is_pattern(one)
            if is_pattern:
                items = self._matching(one, recursive, maxdepth, markers=markers)
            elif recursive:
                items = self._view.walk(
                    self._path(one), maxdepth=maxdepth, withdirs=True, markers=markers
                )
            else:
                found.setdefault(self._path(one), None)
                continue
            for item in items:
                if item["type"] == "file" or item["name"] not in found:
                    found[item["name"]] = item["type"]
        if not found:
            raise FileNotFoundError(2, "nothing there, or not to be seen", path)
        kinds = {name: found[name] for name in sorted(found)}
        return Meant(path, kinds, is_pattern)

    def _matching(
        self, path: Any, recursive: bool, maxdepth: int | None, *, markers: bool
    ) -> Iterator[dict[str, Any]]:
        """Yield what fits a pattern, and with *recursive* what lies in it."""
        fits = self.glob(path, maxdepth=maxdepth, detail=True).values()
        yield from fits
        if recursive and maxdepth != 1:
            deeper = None if maxdepth is None else maxdepth - 1
            for item in fits:
                if item["type"] == "directory":
                    yield from self._view.walk(
                        item["name"], maxdepth=deeper, withdirs=True, markers=markers
                    )

    def _is_pattern(self, path: Any) -> bool:
        """Return whether *path* is a pattern, and no object of that very name."""
        from .trees import looks_like_a_pattern  # noqa: PLC0415 - only for trees

        name = self._path(path)
        return looks_like_a_pattern(name) and not self._view.shows_object(name)

    def created(self, path: str) -> datetime:
        """Return when an object was stored.

        Raises:
            IsADirectoryError: a directory was never stored.
            NotImplementedError: the store does not say.
        """
        info = self._object_info(path)
        found = info.get("LastModified")
        if found is None and "created" in info:
            found = datetime.fromtimestamp(info["created"], UTC)
        if not isinstance(found, datetime):
            msg = f"the store does not say when {path} was stored"
            raise NotImplementedError(msg)
        return found

    def modified(self, path: str) -> datetime:
        """Return when an object was stored: objects are never changed in place."""
        return self.created(path)

    def checksum(self, path: str) -> int:
        """Return a number that changes with the bytes of an object, from its ETag."""
        return int(self.ukey(path)[:16], 16)

    def ukey(self, path: str) -> str:
        """Return a text that changes with the bytes of an object.

        Made of its size and ETag, else CRC-64, whoever knows them; the caches of fsspec
        compare it.
        """
        info = self._object_info(path)
        facts = (info["size"], info.get("ETag") or info.get("crc64"))
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def _object_info(self, path: str) -> dict[str, Any]:
        info = self.info(path)
        if info["type"] != "file":
            raise IsADirectoryError(21, "a directory, and no object", path)
        return info

    def sign(
        self,
        path: str,
        expiration: int = 100,
        method: str = "GET",
        size: int | None = None,
        **_: Any,
    ) -> str:
        """Return a presigned URL of an object: the one place that hands out a secret.

        Whoever has it can do what it is for until it expires; it is neither logged nor
        kept. It comes from the signer, so it may live shorter than is wished.

        Args:
            path: ``bucket/key``.
            expiration: seconds of life that are wished.
            method: what it is for: ``GET``, ``HEAD``, ``PUT`` or ``DELETE``.
            size: bytes that a PUT will have; a signer service wants to know them.

        Raises:
            NotSignedError: the signer grants no such URL, or only one that needs
                headers, which a text alone cannot carry.
            ValueError: another method, or no life at all.
        """
        action = PLAIN_ACTIONS.get(method.upper())
        if action is None or expiration < 1:
            msg = f"method must be {', '.join(PLAIN_ACTIONS)}, expiration 1 s or more"
            raise ValueError(msg)
        bucket, key = split_path(self._path(path))
        wanted = Operation(
            action=action,
            bucket=bucket,
            key=key,
            content_length=size,
            expires_in=int(expiration),
        )
        (signed,) = sign_checked(self.client.signer, [wanted])
        needed = [n for n in signed.headers if n.lower() not in _SENT_ANYWAY]
        if needed:
            names = ", ".join(sorted(needed))
            msg = (
                f"the URL is good only with the headers {names}, which it cannot carry"
            )
            raise NotSignedError(msg, path=wanted.path, action=action)
        return signed.url.reveal()

    def invalidate_cache(self, path: str | None = None) -> None:
        """Do nothing: no listing is cached."""


def _check_depth(maxdepth: int | None) -> None:
    if maxdepth is not None and maxdepth < 1:
        msg = "maxdepth must be at least 1"
        raise ValueError(msg)
