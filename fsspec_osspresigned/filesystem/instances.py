"""Instance cache: filesystems with equal options are one object in a process."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Any

from fsspec.asyn import AsyncFileSystem, reset_lock
from fsspec.config import apply_config, conf

from ..options.options import ALIAS, hashable, portable, renamed, surroundings
from ..request_checks import is_web
from ..system import after_fork_in_child
from ..tracebacks import short_traceback
from .arguments import PROTOCOL

# Older releases of fsspec keep the loop of the parent in a forked child, without its
# thread. Newer ones do this themselves.
after_fork_in_child(reset_lock)

MOST_INSTANCES = 256

# Sources of signatures in fsspec's configuration that an explicit source replaces.
# A map or a grant may stand before any signer.
_REPLACED = {
    "presigned_url": {ALIAS, "url_map", "grant", "signer", "signer_token"},
    "signer": {ALIAS, "presigned_url", "url_map", "grant"},
    "grant": {ALIAS, "presigned_url", "url_map"},
    "url_map": {ALIAS, "presigned_url"},
}


def _goes_elsewhere(given: dict[str, Any], configured: dict[str, Any]) -> bool:
    """Return whether a token from fsspec's configuration would go to another server."""
    signer, grant = given.get("signer"), given.get("grant")
    if signer not in (None, configured.get("signer")):
        return True
    # Beside its signer stays the token where the grant is a file, which takes none.
    stays = configured.get("signer") is not None and not (
        isinstance(grant, str) and is_web(grant)
    )
    return grant not in (None, configured.get("grant")) and not stays


class InstanceCache(type(AsyncFileSystem)):  # type: ignore[misc]  # fsspec is untyped
    """Metaclass that creates one instance for equal options, for all threads.

    fsspec's own cache compares options by their text, and two signers may have the same
    text. Before fsspec 2026.9 that cache also creates an instance for each thread, and
    keeps all of them. Here only the ``MOST_INSTANCES`` used last are kept.
    """

    def __init__(cls, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Each step of it is one of the interpreter, so no lock is needed.
        cls._cache: OrderedDict[Any, Any] = OrderedDict()

    @short_traceback
    def __call__(cls, **storage_options: Any) -> Any:
        """Return the instance for equal options; create it on first use."""
        given = renamed(storage_options)
        configured = conf.get(PROTOCOL, {})
        for named, others in _REPLACED.items():
            if given.get(named) is not None:
                given = {**dict.fromkeys(others & configured.keys()), **given}
        if "signer_token" in configured and _goes_elsewhere(given, configured):
            given = {"signer_token": None, **given}
        given = portable(apply_config(cls, given))
        if ALIAS in configured:
            given[ALIAS] = None  # fsspec applies its configuration once more
        if given.get("anon") is True:  # pandas adds it when it repeats a refused call
            del given["anon"]
        is_cached = not given.pop("skip_instance_cache", False)
        options = sorted(given.items(), key=lambda option: option[0])
        # By type as well: 1 equals True, and is refused where True is valid.
        key = (surroundings(), *((n, type(v), hashable(v)) for n, v in options))
        found = cls._cache.get(key) if is_cached else None
        if found is None:
            found = super().__call__(skip_instance_cache=True, **given)
            found.token = f"{hash(key) % 2**64:016x}"
            if is_cached:
                found = cls._cache.setdefault(key, found)
        with suppress(KeyError):  # another thread made many; or it is not cached
            cls._cache.move_to_end(key)
        while len(cls._cache) > MOST_INSTANCES:
            cls._cache.popitem(last=False)
        cls._latest = key
        return found
