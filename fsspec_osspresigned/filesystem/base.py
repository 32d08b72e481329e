"""One filesystem for equal options: across threads, pickles and forks."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, ParamSpec, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem, get_loop
from fsspec.utils import stringify_path

from ..client.client import Client
from ..options.options import Options, hashable, portable, surroundings
from .connect import client_for

# A verb and its coroutine, written once.

P = ParamSpec("P")
T = TypeVar("T")


def twin(verb: Callable[P, T], pool: str = "files") -> Callable[P, Any]:
    """Return the coroutine of a verb: the verb in a worker of the client."""

    async def coroutine(*args: P.args, **kwargs: P.kwargs) -> T:
        filesystem: Any = args[0]
        workers = getattr(filesystem.client, pool)
        context = contextvars.copy_context()  # a transaction that is under way
        future = workers.submit(context.run, verb, *args, **kwargs)
        return await asyncio.wrap_future(future)

    coroutine.__name__ = f"_{verb.__name__}"
    coroutine.__doc__ = f"Run ``{verb.__name__}`` in a worker."
    return coroutine


class _Handle:
    """An option that is no plain data, under a text of its own.

    Fsspec tells options apart by their text, and the text of an object may be that of
    another: a secret hides itself.
    """

    _count = itertools.count()
    # Each object is kept alive, as fsspec keeps the instance: its id must stay its own.
    _numbers: ClassVar[dict[Any, tuple[int, Any]]] = {}

    def __init__(self, value: Any) -> None:
        self.value = value
        key = (type(value), hashable(value))
        number, _ = self._numbers.setdefault(key, (next(self._count), value))
        self._text = f"<{type(value).__name__} {number}>"

    def __repr__(self) -> str:
        return self._text


def _told_apart(value: Any) -> Any:
    return value if _is_plain(value) else _Handle(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def _meant(options: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v.value if isinstance(v, _Handle) else v for n, v in options.items()}


# Who names one source of signatures does not mean another one that the environment
# names for everybody. A map may stand before any signer.
_NOT_MEANT = {
    "url": {"url_map", "signer", "signer_token"},
    "signer": {"url", "url_map"},
    "url_map": {"url"},
}


class _Instances(type(AsyncFileSystem)):  # type: ignore[misc]  # fsspec is untyped
    """Makes one instance of equal options, where a relative path counts as absolute."""

    def __call__(cls, *args: Any, **storage_options: Any) -> Any:
        given = portable(storage_options)
        defaults = fsspec.config.conf.get("osspresigned", {})
        for named, others in _NOT_MEANT.items():
            if given.get(named) is not None:
                given = {**dict.fromkeys(others & defaults.keys()), **given}
        return super().__call__(*args, **{n: _told_apart(v) for n, v in given.items()})

    @property
    def _surroundings(cls) -> object:
        return surroundings()


_LATER = object()  # a loop that nobody has asked for


class EngineFileSystem(AsyncFileSystem, metaclass=_Instances):  # type: ignore[misc]
    """Equal options are one instance; a forked child gets an engine of its own."""

    protocol = "osspresigned"
    root_marker = ""
    cachable = True
    _extra_tokenize_attributes = ("_surroundings",)
    _loop: Any

    def __init__(self, **storage_options: Any) -> None:
        """Check the options and read what they refer to; nothing is sent."""
        storage_options = _meant(storage_options)
        self._options = Options.from_storage_options(storage_options)
        foreign = {
            name: storage_options[name]
            for name in ("asynchronous", "loop", "batch_size", "use_listings_cache")
            if name in storage_options
        }
        super().__init__(**{**foreign, "loop": foreign.get("loop") or _LATER})
        self._pid: int = os.getpid()
        _ = self.client

    @property
    def client(self) -> Client:
        """The engine of this process; a forked child gets one of its own."""
        pid = os.getpid()
        held: tuple[int, Client] | None = self.__dict__.get("_held_client")
        if held is None or held[0] != pid:
            held = (pid, client_for(self._options, read_url))
            self.__dict__["_held_client"] = held
        return held[1]

    @property
    def loop(self) -> Any:
        """The event loop of this process, begun when it is first asked for.

        Fsspec would begin it with the first instance, which costs a thread that a small
        upload does not need, and would refuse after a fork.
        """
        if self._loop is _LATER or self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        return self._loop

    @property
    def fsid(self) -> str:
        """A name that equal options share."""
        return f"osspresigned-{self._fs_token}"

    @property
    def storage_options(self) -> dict[str, Any]:
        """The options that make this filesystem again anywhere on this machine."""
        return self._storage_options

    @storage_options.setter
    def storage_options(self, given: Mapping[str, Any]) -> None:
        self._storage_options = portable(_meant(given))

    def __reduce__(self) -> Any:
        """Pickle by options, unless they would spell out a secret."""
        self._options.check_portable()
        return super().__reduce__()

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return the options, unless they would spell out a secret."""
        self._options.check_portable()
        return dict(super().to_dict(include_password=include_password))

    def to_json(self, *, include_password: bool = True) -> str:
        """Return the options, unless they would spell out a secret."""
        self._options.check_portable()
        return str(super().to_json(include_password=include_password))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = str(stringify_path(path))
        return text.removeprefix(f"{cls.protocol}://").rstrip("/")

    def _path(self, path: Any) -> str:
        """Return ``bucket/key``; the empty path means the object of ``url=``."""
        stripped = str(self._strip_protocol(path))
        if not stripped and self._options.url is not None:
            return str(getattr(self.client.signer, "path", ""))
        return stripped


def read_url(place: str) -> bytes:
    """Read a URL map through whatever filesystem fsspec has for it."""
    with fsspec.open(place, "rb") as file:
        return bytes(file.read())
