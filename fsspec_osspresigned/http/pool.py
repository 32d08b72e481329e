"""Connection pool: open connections by origin, for all threads of one process."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection

from ..system import after_fork_in_child
from .connection import OriginConnection, Route, find_route, open_connection

MAX_ORIGINS = 16  # for which a pool keeps routes and connections


class IdleConnections:
    """Idle connections of a process, the least recently used first.

    At most *most* connections are kept, or the limit of one pool if that is higher,
    each for *seconds*. Surplus connections are closed when any pool of the process next
    takes or returns one.
    """

    def __init__(
        self,
        most: int = 64,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        # A finalizer may come back in here, so loops go over a list of the keys: no other
        # copy is made in one step.
        self._lock = threading.RLock()
        self._since: dict[OriginConnection, float] = {}

    def take(self, route: Route) -> OriginConnection | None:
        """Remove and return the last used idle connection along *route*, if any."""
        with self._lock:
            self._close_old()
            latest = reversed(list(self._since))
            connection = next((one for one in latest if one.route is route), None)
            if connection is not None:
                del self._since[connection]
            return connection

    def keep(self, connection: OriginConnection, most: int) -> None:
        """Add an idle *connection*.

        Close it if *most* idle connections along its route are kept already.
        """
        with self._lock:
            self._close_old()
            along = sum(one.route is connection.route for one in list(self._since))
            if along >= most:
                connection.close()
                return
            surplus = len(self._since) + 1 - max(self._most, most)
            for oldest in list(self._since)[: max(0, surplus)]:
                self._close(oldest)
            self._since[connection] = self._clock()

    def drop(self, routes: Collection[Route]) -> None:
        """Close the idle connections along *routes*."""
        with self._lock:
            for connection in (one for one in list(self._since) if one.route in routes):
                self._close(connection)

    def reset(self) -> None:
        """Close all connections in a forked child, which must not write to them."""
        self._lock = threading.RLock()  # a thread of the parent may have had it
        for connection in list(self._since):
            self._close(connection)

    def _close_old(self) -> None:
        end = self._clock() - self._seconds
        for connection in list(self._since):
            if self._since.get(connection, end) >= end:
                break
            self._close(connection)

    def _close(self, connection: OriginConnection) -> None:
        self._since.pop(connection, None)
        connection.close()


IDLE = IdleConnections()
after_fork_in_child(IDLE.reset)


class ConnectionPool:
    """Opens connections, and puts reusable ones into *idle*.

    A forked child finds new routes, so it never uses its parent's connections.

    *size* connections are kept for each origin; more may be open. The timeouts are
    those of ``open_connection``.
    """

    def __init__(
        self,
        size: int,
        connect_seconds: float,
        progress_seconds: float,
        idle: IdleConnections = IDLE,
    ) -> None:
        self.size = size
        self.connect_seconds = connect_seconds
        self.progress_seconds = progress_seconds
        self._idle = idle
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._routes: dict[str, Route] = {}
        weakref.finalize(self, idle.drop, self._routes.values())

    def route_to(self, origin: str) -> Route:
        """Return the cached route to *origin*; raises like ``find_route``."""
        self._notice_fork()
        route = self._routes.get(origin)
        if route is None:
            route = find_route(origin)
            with self._lock:
                route = self._routes.setdefault(origin, route)
                surplus = list(self._routes)[:-MAX_ORIGINS]
                self._idle.drop([self._routes.pop(other) for other in surplus])
        return route

    def acquire(self, route: Route) -> OriginConnection:
        """Return an idle connection without unread bytes, or open a new one.

        Raises like ``open_connection``.
        """
        return self.idle_along(route) or self.open(route)

    def idle_along(self, route: Route) -> OriginConnection | None:
        """Return an idle connection without unread bytes; None if there is none."""
        while (connection := self._idle.take(route)) is not None:
            if connection.is_clean():
                return connection
            connection.close()
        return None

    def open(self, route: Route) -> OriginConnection:
        """Open a connection along *route*; raises like ``open_connection``."""
        return open_connection(route, self.connect_seconds, self.progress_seconds)

    def release(self, connection: OriginConnection, *, reusable: bool) -> None:
        """Return *connection* to the pool, which keeps it if it is *reusable*.

        A connection is reusable if the last request was sent completely, and its
        response was read to an unambiguous end.
        """
        self._notice_fork()
        route = connection.route
        if reusable and self._routes.get(route.origin) is route:
            self._idle.keep(connection, self.size)
        else:
            connection.close()

    def close(self) -> None:
        """Close idle connections, and forget all routes."""
        self._idle.drop(self._routes.values())
        self._routes.clear()

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()  # a thread of the parent may have had it
            self.close()
