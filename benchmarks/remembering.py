"""Record of written objects: the cost of filling it, and of asking it."""

from __future__ import annotations

from typing import Any

from .candidates import Timed, Where
from .work import Work

_IN_ONE = 100  # objects of one directory


def remembered(work: Work, where: Where, fs: Any) -> Timed:
    """Return what records objects in *fs*, or asks for what it has recorded.

    Nothing is sent: each object is recorded as its upload would record it at its end.
    """
    from fsspec_osspresigned import Receipt  # noqa: PLC0415 - measured, not at import

    def directory(at: int) -> str:
        return f"{where.target}/bench/{at // _IN_ONE:06d}"

    def path(at: int) -> str:
        return f"{directory(at)}/{at % _IN_ONE:02d}.bin"

    def record(count: int) -> None:
        for at in range(count):
            name = f"{at:032X}"
            one = Receipt(
                path=path(at), size=work.size, etag=name, crc64=at, request_id=name
            )
            fs.client.written.remember(one, None)

    if work.verb == "record":
        return lambda: record(work.count)
    record(work.known)
    last = range(work.known - _IN_ONE, work.known)

    def recall() -> None:
        for turn in range(work.count // 4):
            at = last[turn % _IN_ONE]
            found = fs.isdir(directory(at)), fs.exists(path(at))
            assert found == (True, True), found  # noqa: S101
            assert not fs.exists(f"{directory(at)}/{turn}.none")  # noqa: S101
            assert len(fs.ls(directory(at))) == _IN_ONE  # noqa: S101

    return recall
