"""Connection pool: idle connections per origin, for all threads of one process."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress

from .connection import OriginConnection, Route, find_route, open_connection

MAX_ORIGINS = 16  # for which routes and connections are kept


class ConnectionPool:
    """Opens connections, and keeps those that can carry another request.

    A forked child begins with an empty pool: it must not write to connections of its
    parent.

    *size* connections are kept for each origin; more may be open. The seconds are those
    of ``open_connection``.
    """

    def __init__(
        self, size: int, connect_seconds: float, progress_seconds: float
    ) -> None:
        self.size = size
        self.connect_seconds = connect_seconds
        self.progress_seconds = progress_seconds
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._routes: dict[str, Route] = {}
        self._idle: dict[str, list[OriginConnection]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def route_to(self, origin: str) -> Route:
        """Return the way to *origin*, which is looked up once; raises as find_route."""
        self._notice_fork()
        route = self._routes.get(origin)
        if route is None:
            route = find_route(origin)
            with self._lock:
                route = self._routes.setdefault(origin, route)
                surplus = list(self._routes)[:-MAX_ORIGINS]
                _close_all({o: self._idle.pop(o, []) for o in surplus})
                for other in surplus:
                    del self._routes[other]
        return route

    def acquire(self, route: Route) -> OriginConnection:
        """Return a clean idle connection, or a new one; raises as open_connection."""
        self._notice_fork()
        idle = self._idle.get(route.origin, [])
        with suppress(IndexError):  # none is left, or another thread got the last one
            while not (connection := idle.pop()).is_clean():
                connection.close()
            return connection
        return open_connection(route, self.connect_seconds, self.progress_seconds)

    def release(self, connection: OriginConnection, *, reusable: bool) -> None:
        """Take *connection* back, for the next request or to close it.

        It is reusable if the last request was sent as a whole, and the end of its
        response was read and certain.
        """
        self._notice_fork()
        if reusable:
            route = connection.route
            with self._lock:
                idle = self._idle.setdefault(route.origin, [])
                if self._routes.get(route.origin) is route and len(idle) < self.size:
                    idle.append(connection)
                    return
        connection.close()

    def close(self) -> None:
        """Close idle connections, and forget all routes."""
        self._notice_fork()
        self._routes.clear()
        _close_all(self._idle)

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()  # a thread of the parent may have had it
            self.close()


def _close_all(idle: dict[str, list[OriginConnection]]) -> None:
    for connections in list(idle.values()):
        with suppress(IndexError):
            while True:
                connections.pop().close()
