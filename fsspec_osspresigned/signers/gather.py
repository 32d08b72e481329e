"""Gathers single requests of many threads into few calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Ticket(Generic[T, R]):
    """One waiting request, and later its outcome."""

    __slots__ = ("answer", "error", "item", "leads", "wake")

    def __init__(self, item: T) -> None:
        self.item = item
        self.wake = threading.Event()
        self.leads = False
        self.answer: R | None = None
        self.error: Exception | None = None


class Gatherer(Generic[T, R]):
    """Whoever comes first sends; who comes meanwhile goes out with the next call.

    There is no timer and no thread: a lone request leaves at once. A leader sends one
    call and hands the lead to the first who waits, so nobody works for others for long.

    Args:
        send: takes up to *limit* items and returns an answer or an exception for each.
        limit: items per call.
    """

    def __init__(
        self, send: Callable[[Sequence[T]], Sequence[R | Exception]], limit: int
    ) -> None:
        """Start with nobody waiting."""
        self._send = send
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Ticket[T, R]] = []
        self._busy = False
        self._pid = os.getpid()

    def ask(self, item: T) -> R:
        """Return the answer to *item*, or raise what came in its place."""
        if self._pid != os.getpid():
            self._reset()  # the leader of the parent does not exist after a fork
        ticket: _Ticket[T, R] = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            if not self._busy:
                self._busy = True
                self._promote()
        try:
            ticket.wake.wait()
            if ticket.leads:
                self._lead()
        except BaseException:
            self._leave(ticket)
            raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.answer  # type: ignore[return-value]  # set where no error is

    def _promote(self) -> None:
        """Give the lead to the first who waits; call with the lock held."""
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].wake.set()
        else:
            self._busy = False

    def _leave(self, ticket: _Ticket[T, R]) -> None:
        """Take an interrupted waiter out, and pass its lead on."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                if ticket.leads:
                    self._promote()

    def _lead(self) -> None:
        with self._lock:
            batch = self._waiting[: self._limit]
            del self._waiting[: self._limit]
        outcomes: Sequence[R | Exception] = ()
        try:
            outcomes = self._send([ticket.item for ticket in batch])
        except Exception as error:  # noqa: BLE001 - raised again by who waits for it
            outcomes = [error] * len(batch)
        finally:
            # An interrupt is the leader's alone: the others wait for the next one.
            left = batch[1:] if not outcomes else ()
            with self._lock:
                self._waiting[:0] = left
                self._promote()
        for ticket, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                ticket.error = outcome
            else:
                ticket.answer = outcome
            ticket.wake.set()
