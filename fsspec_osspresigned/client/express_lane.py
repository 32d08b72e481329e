"""Express lane: one thread makes the first tries of many small requests.

If a try fails, or a step of the task has to wait, a worker thread continues the task by
``Client.call``, which retries.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from io import BytesIO
from typing import Any

from attrs import define, field, frozen

from ..concurrency.budget import TurnShare
from ..concurrency.job_runner import LATER, OVER, Task
from ..concurrency.thread_pool import Workers, runs_jobs_here
from ..concurrency.waiting import Event, Future
from ..http.body import MemoryBody
from ..http.lane import TOGETHER, Lane, LaneTry
from ..model import CONNECTIONS
from ..signers.base import grants_here, without_waiting
from .client import Client, parsed
from .lane_signing import LaneSigning, Unsent
from .link_estimate import LATENCY_BOUND, RequestWindow
from .small_request import FirstTry, SmallRequest

_GLANCE = 0.5  # seconds after which it looks around: a call to wake may be lost
_SHORT_GLANCE = 0.005  # the same for turns that others give back
_MEASURED = 64  # objects after which it is decided


@frozen(eq=False)
class ExpressLane:
    """Runs the tasks of one call in one thread, over non-blocking connections.

    If reading the data, or writing it to a file, takes longer than *slow* seconds for
    most of 64 objects, worker threads take over the remaining tasks. *most* is the
    maximum number of tasks at a time; None leaves it to the options and to the window
    of the bucket.
    """

    client: Client
    slow: float = 0.001
    most: int | None = None

    @property
    def serves_caller(self) -> bool:
        """Whether a lane may run tasks for the calling thread.

        False in the thread of a lane and in a callback of the user, for which a lane may
        be waiting; also if the signer's ``grant`` or the receipts callback may wait.
        """
        client = self.client
        signer = without_waiting(client.signer)
        may_wait = callable(client.options.receipts) or not grants_here(signer)
        return not (client.lanes.is_caller or may_wait or runs_jobs_here())

    def submit(self, function: Callable[[], None]) -> Future[None] | None:
        """Call *function* in a thread that may call ``run``.

        Returns None, and does not call *function*, unless ``serves_caller``.
        """
        return self.client.lanes.submit(function) if self.serves_caller else None

    def run(
        self,
        take: Callable[[], Any],
        width: int,
        pool: Workers,
        opened: Callable[[Lane], None] | None = None,
    ) -> bool:
        """Run the tasks that *take* returns, until it returns None.

        The window of the bucket limits the number of tasks at a time, and so does
        *width* if it is less than the option ``connections``.

        *take* may return ``LATER`` if there is no task now; it is called again when
        the lane, which is passed to *opened*, is woken. Returns False if the source is
        slow, or if the lane cannot be created, so the caller should use worker threads.
        """
        try:
            lane = Lane(self.client.transport)
        except OSError:
            return False
        if opened is not None:
            opened(lane)
        source = _Pace(self.slow)
        options = self.client.options
        most = min(options.most_small, self.most or options.most_small)
        if width < options.connections:
            most = min(most, width)
        run = _ExpressRun(self.client, lane, take, most, pool, source)
        try:
            run.run()
        finally:
            run.close()
        return not source.is_slow


class _Pace:
    """Decides whether a source is slow: most of 64 objects in a row took too long."""

    def __init__(self, slow: float) -> None:
        self._slow, self._count, self._late = slow, 0, 0
        self.is_slow = False

    def note(self, seconds: float) -> None:
        """Record the duration of a reading step."""
        self._late += seconds > self._slow

    def count(self) -> None:
        """Count one object, and decide after every 64 whether the source is slow."""
        self._count += 1
        if self._count == _MEASURED:
            self.is_slow = self._late > _MEASURED / 2  # of three steps each, at most
            self._count = self._late = 0


@define(eq=False)
class _OnItsWay:
    """A task whose request was sent by the lane, and has no reply yet."""

    task: Task
    request: SmallRequest
    first: FirstTry
    turn: BytesIO


@define(eq=False)
class _ExpressRun:
    """One run of an express lane, with its tasks.

    A task waits for a signature or for permission to send, has a request in flight, or
    is continued by a worker thread.
    """

    client: Client
    lane: Lane
    take: Callable[[], Any]
    most: int
    pool: Workers
    source: _Pace
    _signing: LaneSigning = field(init=False)
    _workers: int = field(init=False)
    _ready: deque[Unsent] = field(factory=deque)
    _signed: list[LaneTry] = field(factory=list)
    _on_its_way: dict[LaneTry, _OnItsWay] = field(factory=dict)
    _handed: set[Task] = field(factory=set)
    _window: RequestWindow | None = None
    _ended: bool = False
    _error: BaseException | None = None

    def __attrs_post_init__(self) -> None:
        self._signing = LaneSigning(self.client, self.pool, self.lane.wake)
        self._workers = self.client.options.connections

    def run(self) -> None:
        """Run all tasks, then raise an error that is not a task's own failure, if any."""
        share = self.client.turns.share(self.client.options.most_small)
        try:
            while self._fill(share):
                self._signing.ask()
                glance = _SHORT_GLANCE if self._ready else _GLANCE
                ended = self.lane.wait(glance)
                for one in ended:
                    self._take_reply(one)
                if ended:
                    self.client.turns.tell()
        finally:
            share.close()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the connections and cancel the remaining tasks; always called."""
        self.lane.close()
        for one in self._ready:
            one.task.abandon()
        for own in self._on_its_way.values():
            own.task.abandon()
            own.turn.close()
        self.client.turns.tell()
        while self._handed or self._signing.is_calling:
            Event().wait(_SHORT_GLANCE)
        self._signing.abandon()

    def _fill(self, share: TurnShare) -> bool:
        """Start as many tasks as possible; return False if none is left."""
        while True:
            self._ready.extendleft(reversed(self._signing.take_back()))
            is_short = not self._sign_ready(share)
            self._send_signed()
            if is_short:
                return True
            if self._ended or self._is_full:
                share.rest()
                return self._under_way > 0
            if not (self._take_tasks() or self._ended):
                share.rest()
                return True

    def _sign_ready(self, share: TurnShare) -> bool:
        """Sign the ready requests; return False if one may not be sent yet."""
        while self._ready:
            one, turn = self._ready[0], None
            if not self._may_wait(one.request):
                if self._signing.keep(one):
                    self._ready.popleft()
                    continue
                if (turn := share.take(len(self._on_its_way))) is None:
                    return False
            self._ready.popleft()
            self._sign(one, turn)
        return True

    def _send_signed(self) -> None:
        signed, self._signed = self._signed, []
        self.lane.send(*signed)
        for one in signed:
            if not isinstance(one.body, MemoryBody):
                self.source.note(one.reading)

    @property
    def _under_way(self) -> int:
        waiting = len(self._ready) + self._signing.held
        return waiting + len(self._on_its_way) + len(self._handed)

    @property
    def _is_full(self) -> bool:
        under_way, handed = self._under_way, len(self._handed)
        return under_way >= self._width or handed >= self._workers

    @property
    def _width(self) -> int:
        """Maximum number of tasks at a time, from the window of the last bucket used."""
        size = CONNECTIONS if self._window is None else self._window.size
        return min(self.most, size)

    def _may_wait(self, request: SmallRequest) -> bool:
        """Return whether *request* was cancelled or its circuit breaker is open.

        Such a request is not sent by the lane.
        """
        cancel = request.exchange.cancel
        gone = cancel is not None and cancel.is_set()
        return gone or self.client.circuit(request.operation.bucket).is_open

    def _take_tasks(self) -> bool:
        """Start the next tasks, several of them; return False if there is none now."""
        for count in range(min(TOGETHER, self._width - self._under_way)):
            if len(self._handed) >= self._workers or self._ended:
                break
            began = time.monotonic()
            is_begun = self._take_task()
            self.source.note(time.monotonic() - began)
            self._ended |= self.source.is_slow
            if not is_begun:
                return count > 0
        return True

    def _take_task(self) -> bool:
        """Start the next task; return False if there is none now."""
        task = None
        try:
            task = self.take()
        except BaseException as error:  # noqa: BLE001 - raised when the others are done
            self._error = error
        if task is LATER:
            return False
        if task is None:
            self._ended = True
            return False
        self.source.count()
        self._advance(task)
        return True

    def _advance(self, task: Task, first: FirstTry | None = None) -> None:
        """Run *task* up to its next request; *first* is the try of its previous request."""
        try:
            wanted = task.advance(first)
        except BaseException as error:  # noqa: BLE001 - raised when the others are done
            self._error, self._ended = error, True
            return
        if wanted is None:
            self._hand_over(task)
        elif wanted is not OVER:
            self._ready.append(Unsent(task, wanted))

    def _sign(self, one: Unsent, turn: BytesIO | None) -> None:
        """Sign the request of *one*; *turn* is the permission to send it.

        A worker thread continues the task if *turn* is None, or if the request cannot
        be signed.
        """
        task, request = one.task, one.request
        if turn is None:
            self._hand_over(task)
            return
        client, operation = self.client, request.operation
        first = FirstTry(operation, client.attempts(operation))
        try:
            first.signed = one.result() or client.signed(operation, None)
            ready = client.ready(operation, first.signed, request.body)
        except BaseException as error:  # noqa: BLE001 - raised by the call in the worker
            first.failure = error
            turn.close()
            client.turns.tell()
            self._hand_over(task, first)
            return
        self._window = client.windows[operation.bucket]
        sent = LaneTry(ready, request.body, request.exchange)
        self._on_its_way[sent] = _OnItsWay(task, request, first, turn)
        self._signed.append(sent)

    def _take_reply(self, one: LaneTry) -> None:
        own, client = self._on_its_way.pop(one), self.client
        own.turn.close()
        first, request, reply = own.first, own.request, one.reply
        first.failure = one.failure
        if reply is None:
            # Without a failure, no try was made.
            self._hand_over(own.task, first if first.failure else None)
            return
        try:
            client.judged(request.operation, one.signed, reply)
            self._note(request, one.seconds)
            first.parsed = parsed(reply, request.parse, request.exchange)
        except Exception as error:  # noqa: BLE001 - raised by the call in the worker
            first.failure = error.with_traceback(None)
            self._hand_over(own.task, first)
            return
        began = time.monotonic()
        self._advance(own.task, first)
        self.source.note(time.monotonic() - began)

    def _note(self, request: SmallRequest, seconds: float) -> None:
        """Record a reply in the window of its bucket and in the estimate of its link."""
        operation = request.operation
        window = self.client.windows[operation.bucket]
        least = window.note(seconds, len(self._on_its_way) + 1)
        if least is not None and request.body.size <= LATENCY_BOUND:
            self.client.links[operation.bucket].note(operation.action, 0, least)

    def _hand_over(self, task: Task, first: FirstTry | None = None) -> None:
        """Let a worker run the rest of *task*; *first* is its failed first try."""
        self._handed.add(task)
        self.pool.submit(self._finish, task, first)

    def _finish(self, task: Task, first: FirstTry | None) -> None:
        try:
            task.finish(first)
        except BaseException as error:  # noqa: BLE001 - raised when the others are done
            self._error, self._ended = error, True
        finally:
            self._handed.discard(task)
            self.lane.wake()
