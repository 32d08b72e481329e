"""Planted faults: what the simulation must find if the package had these mistakes.

``python -m tests.simulation.plants`` applies each to a copy of the package, runs seeds
until one fails, and prints how many it took. A survivor is a missing invariant, or a
program that nobody draws.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Module, what it says, and what the mistake says.
PLANTS: tuple[tuple[str, str, str], ...] = (
    # engine
    ("engine/engine.py", "        if stop is not None:\n            stop()\n", ""),
    ("engine/engine.py", "        self.is_over = True\n        if self._task", "        if self._task"),
    ("engine/engine.py", "        if not task.done():\n            await asyncio.wait((task,), timeout=GRACE)\n        raise", "        raise"),
    ("engine/engine.py", "                engine.post(call.cancel)\n", "                pass\n"),
    ("engine/threads.py", "            self.busy -= 1\n", ""),
    ("engine/limits.py", "        if self._waiting:\n            self.admit()\n", ""),
    ("engine/limits.py", "            elif not future.cancelled():\n                self._count(place, -1)\n", ""),
    ("engine/limits.py", "        if self._small + self._large >= limits.total:\n            return False\n", ""),
    ("engine/scope.py", 'if failures and (self._on_error == "raise" or given_up):', "if failures and given_up:"),
    ("engine/scope.py", "            await self._cancel_all()\n", "            pass\n"),
    ("engine/scope.py", "            self._results[index] = error\n", "            pass\n"),
    ("engine/scope.py", "            for task in self._tasks:\n                task.cancel()\n            try:", "            try:"),
    # client
    ("client/client.py", "            if error.outcome is Outcome.UNKNOWN:  # the index may be outdated\n                self.written.doubt(operation.path)\n", "            pass\n"),
    ("client/client.py", "        if is_cancelled and operation.action.publishes:  # the store may have acted\n            self.written.doubt(operation.path)\n", ""),
    ("client/client.py", "                    limiter.leave(place)\n", "                    pass\n"),
    ("client/client.py", "                exchange = evolve(exchange, in_thread=True)\n                place", "                place"),
    ("client/retry.py", "RetryRule(NetworkError, OFTEN, acted=True)", "RetryRule(NetworkError, OFTEN, acted=False)"),
    ("client/retry.py", "acted=True, statuses=(500, 502, 504)", "acted=False, statuses=(500, 502, 504)"),
    ("client/retry.py", "self._doubtful = self._doubtful or may_have_acted(failure)", "self._doubtful = may_have_acted(failure)"),
    ("client/retry.py", "        if attempt > max_retries or elapsed + wait > self.total:\n            return GIVE_UP\n", ""),
    ("client/retry.py", "isinstance(failure, NetworkError) and not failure.sent", "isinstance(failure, NetworkError)"),
    # upload
    ("client/operations.py", "        if not reply.etag and CRC_HEADER not in reply.headers:", "        if False:"),
    ("client/operations.py", "        return reply, _compared(stated, operation, reply.crc64, md5, mode)", '        return reply, "none"'),
    ("client/operations.py", '            stored = reply.headers.get("content-length") == str(size)\n', "            stored = True\n"),
    ("client/operations.py", '                if proof != "none":\n', "                if True:\n"),
    ("client/operations.py", "        except (FileNotFoundError, IntegrityError):\n            stored = False\n", "        except (FileNotFoundError, IntegrityError):\n            stored = True\n"),
    ("client/operations.py", "            if not gone and error.outcome is not Outcome.UNKNOWN:\n                raise\n", "            raise\n"),
    ("client/operations.py", "            await self.client.call(operation, exchange=_NOT_AWAITED, once=once)\n        except UploadNotFoundError", "            pass\n        except UploadNotFoundError"),
    ("client/operations.py", "for part in parts)\n            body = MemoryBody", "for part in parts[:-1] or parts)\n            body = MemoryBody"),
    ("upload/modes.py", "                self.failure = as_failure(error, self._calls.target.path)\n", "                pass\n"),
    ("upload/modes.py", "        if self.failure is not None:\n            raise self.failure\n", "        pass\n"),
    ("upload/upload.py", "                await mode.discard(reason, once=short)\n", "                pass\n"),
    ("upload/upload.py", "            if isinstance(self.mode, Multipart):\n                await self.wait_for_parts()\n", ""),
    ("upload/upload.py", "                self._finishing.cancel()\n                await self._wait_for((self._finishing,))\n", "                pass\n"),
    ("objects/reading.py", "    if stated is not None and str(stated) != str(crc):\n", "    if False:\n"),
    ("upload/upload.py", "        if self._over:  # the upload was discarded meanwhile\n            await multipart.discard(None, once=True)\n", ""),
    ("upload/writer.py", "        if error is not None and not self.publish_always:\n            self.note_discarded(error)\n            self.discard()\n        else:\n", "        if True:\n"),
    ("upload/writer.py", "            if self._buffer.held:\n                is_only_part", "            if self._buffer.held > 1000:\n                is_only_part"),
    ("upload/transaction.py", "        self.complete(commit=error is None, reason=error)\n", "        self.complete(commit=True)\n"),
    ("upload/transaction.py", "            failures |= await self._wait_for_parts(chosen)\n", ""),
    ("upload/transaction.py", "for files in (chosen[:-1], chosen[-1:]):", "for files in (chosen[-1:], chosen[:-1]):"),
    ("upload/resume.py", "if kept is not None and crc_of(body) != kept.part.crc64:", "if kept is not None and False:"),
    # http
    ("http/transfer.py", "        return is_sent and self.signed.method not in _READS", "        return False"),
    ("http/transport.py", "blocking(self._perform, transfer, stop=transfer.stop)", "blocking(self._perform, transfer)"),
    ("http/transfer.py", "        if code and not (self._is_full or is_refusal):\n            raise self._failure(code, text)\n", ""),
    ("http/transfer.py", "        is_whole = is_asked and self.sent >= self.body.size", "        is_whole = False"),
    ("http/transfer.py", "                self.crc64 = crc64(block, self.crc64)\n", "                pass\n"),
    ("http/body.py", "memoryview(block)\n            self._check(os.fstat(handle.fileno()))\n", "memoryview(block)\n"),
    # objects and sync
    ("objects/copy.py", "            await to_its_end(upload.abort(once=not isinstance(error, Exception)))\n", ""),
    ("filesystem/read.py", "        await job.file.end()\n", "        pass\n"),
)  # fmt: skip


def planted(number: int, place: Path) -> None:
    """Copy the package to *place* with fault *number*."""
    module, old, new = PLANTS[number]
    shutil.copytree(ROOT / "fsspec_osspresigned", place / "fsspec_osspresigned")
    (place / "tests").symlink_to(ROOT / "tests")
    file = place / "fsspec_osspresigned" / module
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{module} has {text.count(old)} times {old!r}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def found(number: int, seeds: int) -> str:
    """Return what an invariant says of one of *seeds* programs with fault *number*.

    "" means that none says anything. That a process dies, cannot be loaded or has no end
    is no word of an invariant, and is printed.
    """
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        place = Path(name)
        planted(number, place)
        command = [sys.executable, "-m", "tests.simulation", "--quiet", "--first"]
        command += ["--seeds", f"1:{seeds}"]
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, check=False
        )
    said = judgement(done.stdout)
    if not said and done.returncode:
        print(done.stdout[-300:] + done.stderr[-300:])
    return said


def judgement(output: str) -> str:
    """Return the line in which an invariant did not hold; "" if there is none."""
    line = re.search(
        r"^seed \d+: (broken|hangs|raised|unraisable): .*", output, re.MULTILINE
    )
    return line[0] if line else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.simulation.plants")
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--seeds", type=int, default=400)
    given = parser.parse_args()
    survivors = []
    for number in given.numbers or range(len(PLANTS)):
        began = time.monotonic()
        said = found(number, given.seeds)
        seconds = time.monotonic() - began
        module, old, _ = PLANTS[number]
        what = " ".join(old.split())[:60]
        print(
            f"{number:2} {module}: {what}: {seconds:.0f} s: {said[:110] or 'SURVIVES'}",
            flush=True,
        )
        if not said:
            survivors.append(number)
    total = len(given.numbers) or len(PLANTS)
    print(f"{total - len(survivors)} of {total} found; survivors: {survivors}")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
