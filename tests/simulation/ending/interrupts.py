"""Calls that are cancelled, interrupted, or run beside others; the end of the process."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from operator import methodcaller
from typing import Any

from fsspec_osspresigned.engine import abort_at_exit
from fsspec_osspresigned.errors import Outcome

from .. import loop as loops
from ..world import Broken, World, lasting_threads
from .steps import LARGE, SMALL, SOON, NamedStep, Steps


class InterruptSteps(Steps):
    """Calls that are cancelled, interrupted, or run beside others; the end of the process."""

    @property
    def of_interrupts(self) -> tuple[NamedStep, ...]:
        return (
            ("cancelled uploads", self._cancelled_uploads),
            ("other cancelled calls", self._cancelled_others),
            ("a cancellation during a check", self._cancelled_check),
            ("an interrupt while the store is silent", self._hurried),
            ("a small call during a large one", self._beside),
        )

    def _cancelled_uploads(self) -> None:
        """A cancelled upload ends soon with its request, or says what it has sent."""
        for fate in ("stall_request", "stall_reply"):
            for size in (SMALL, LARGE):
                path, data = self._data(f"{fate} {size}", size)
                local = self._local("cancelled", data)
                self._cancelled(fate, methodcaller("_put_file", local, path))

    def _cancelled_others(self) -> None:
        """A cancelled read ends soon, and a cancelled copy says that it was sent."""
        path, local = f"{self.root}/put", str(self.place / "not got")
        copied, _ = self._data("copied and cancelled", 0)
        self.ledger.copying(path, copied)
        for call in (
            methodcaller("_get_file", path, local),
            methodcaller("_cat_file", path),
            methodcaller("_cp_file", path, copied),
        ):
            self._cancelled("stall_reply", call)

    def _cancelled(self, fate: str, call: Callable[[Any], Any]) -> None:
        """Cancel a call of which the last request stalls."""
        world: World = self.network.world
        fs = self._like(retries=0, timeout=60, multipart_threshold=2_000_000)
        first = len(self.network.events)
        ends: list[tuple[float, Any]] = []

        async def main() -> None:
            task = asyncio.ensure_future(call(fs))
            while not self.network.events[first:]:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            ends.append((world.now, None))
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                ends.append((world.now, error))

        self.network.fates = (fate,)
        self.network.met.clear()  # an earlier call may have read the same object
        loops.run(main())
        self.network.fates = ()
        (began, _), *ended = ends
        event = self.network.events[-1]
        acts = event.is_taken and event.method == "PUT"
        lasted = max(end for end, _ in ended or [(math.inf, None)]) - began
        if lasted > 1.1 + 3 * acts or event.ended - began > 1.1 + 3 * acts:
            raise Broken(f"a cancelled call went on for {lasted:.1f} s with {event}")
        notes = "\n".join(getattr(ended[0][1], "__notes__", ()))
        if ("took effect is unknown" in notes) != acts:
            raise Broken(f"a cancelled call sent {event}, but has the notes {notes!r}")

    def _cancelled_check(self) -> None:
        """A call that is cancelled while it checks its object says what is unknown."""
        fs = self._like(retries=0, timeout=5, overwrite=True)
        path, data = self._data("cancelled", SMALL)
        self.network.fates = ("stall_reply",)

        async def cancel() -> None:
            task = asyncio.ensure_future(fs._pipe_file(path, data))
            await asyncio.sleep(7)  # PutObject has timed out, HeadObject has not
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                notes = getattr(error, "__notes__", ())
                if not any("unknown" in note and path in note for note in notes):
                    raise Broken(
                        f"a cancelled call only has the notes {notes}"
                    ) from error
            else:
                raise Broken("a cancelled call succeeds")

        loops.run(cancel())
        self.network.fates = ()

    def _hurried(self) -> None:
        """After an interrupt, a transaction or a file ends soon, although the store is silent."""
        fs = self._like(overwrite=True, on_exception="discard")
        first = len(self.ledger.warned)
        for block in (self._interrupted_transaction, self._interrupted_file):
            path, data = self._data("hurried", LARGE)
            ends: list[float] = []
            with suppress(KeyboardInterrupt):
                block(fs, path, data, ends)
            seconds = time.monotonic() - ends[0]
            self.network.fates = ()
            self._is(path, None)
            if seconds > SOON:
                raise Broken(f"an interrupted block ends after {seconds:.0f} s")
            texts = self.ledger.warned[first:]
            del self.ledger.warned[first:]
            if not any("could not be aborted" in text for text in texts):
                raise Broken(f"an upload that is left open is named by {texts}")

    def _interrupted_transaction(
        self, fs: Any, path: str, data: bytes, ends: list[float]
    ) -> None:
        with fs.transaction:
            fs.pipe_file(path, data)
            self._interrupt(ends)

    def _interrupted_file(
        self, fs: Any, path: str, data: bytes, ends: list[float]
    ) -> None:
        with fs.open(path, "wb") as file:
            file.write(data)
            time.sleep(10)  # the parts are sent
            self._interrupt(ends)

    def _interrupt(self, ends: list[float]) -> None:
        self.network.fates = ("stall_request",) * 3
        ends.append(time.monotonic())
        raise KeyboardInterrupt

    def _beside(self) -> None:
        """A small call waits only for the running requests of a large call, not for all."""
        fs = self._like(max_concurrency=1)
        great, data = self._data("great", 2_000_000)
        small, other = self._data("small", SMALL)
        thread = threading.Thread(target=lambda: fs.pipe_file(great, data))
        thread.start()
        time.sleep(0.2)
        first = len(self.network.events)
        fs.pipe_file(small, other)
        events = [event.path for event in self.network.events[first:]]
        before = events.index(f"/{small.partition('/')[2]}")
        thread.join()
        self._is(great, data)
        if before > 10:  # of 20: some end while the signer is asked
            raise Broken(f"a small call waited for {before} requests of a large one")

    def leave_open(self) -> None:
        """Begin uploads that only the end of the process ends; one of them is closing."""
        if kept := [name for name in lasting_threads() if "osspresigned" in name]:
            raise Broken(f"the process cannot end while {kept} run")
        path, data = self._data("left", LARGE)
        file = self._like().open(path, "wb")
        file.write(data)
        time.sleep(10)
        abort_at_exit.end_all()  # Python calls this function at exit
        self._is(path, None)
        if self._uploads("left"):
            raise Broken("the end of the process leaves an upload open")
        path, data = self._data("ended", LARGE)
        fs, failures = self._like(timeout=60, max_concurrency=1), list[Exception]()
        file = fs.open(path, "wb")
        file.write(data)

        def close() -> None:
            try:
                file.close()
            except OSError as error:
                failures.append(error)

        self.network.breaks = True  # the file is published, but the reply is lost
        thread = threading.Thread(target=close)
        thread.start()
        time.sleep(10)
        abort_at_exit.end_all()
        thread.join()
        self._is(path, data)
        outcomes = [getattr(failure, "outcome", None) for failure in failures]
        if outcomes != [Outcome.UNKNOWN]:
            raise Broken(f"at the end of the process, a file ends with {failures}")
