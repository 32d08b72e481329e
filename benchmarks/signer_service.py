"""How many signatures ``osspresigned serve`` makes, how soon, and through reloads.

Starts the service as a child process with a policy file, and asks it over real sockets
on keep-alive connections: calls of 1 and of 100 requests, then calls while the policy
changes all the time. Every reply is counted; one that is not 200, or that lacks a
signature, is a failure.

    python benchmarks/signer_service.py --clients 8 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from fsspec_osspresigned.owner.service.policy import hash_token

TOKEN = "a-made-up-token-0"  # noqa: S105 - made up
POLICY = f"""
[[tokens]]
name = "bench"
sha256 = "{hash_token(TOKEN)}"
buckets = ["examplebucket"]
prefixes = ["data/"]
actions = ["PutObject", "InitiateMultipartUpload", "UploadPart",
  "CompleteMultipartUpload", "AbortMultipartUpload"]
max_size = "50GiB"
max_part_size = "64MiB"
"""
MADE_UP = {
    "OSS_ACCESS_KEY_ID": "LTAIfakeid",
    "OSS_ACCESS_KEY_SECRET": "fakesecret",
    "OSS_REGION": "cn-hangzhou",
}


class Service:
    """The command as a child process; its log is a file."""

    def __init__(self, folder: Path) -> None:
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "fsspec_osspresigned", "serve"),
                    *("--policy", os.fspath(self.policy), "--port", "0"),
                ],
                stdout=log,
                env={**os.environ, **MADE_UP},
            )
        while not self.count("started"):
            if self.process.poll() is not None:
                raise SystemExit("the service did not start")
            time.sleep(0.02)
        self.port = int(json.loads(self.lines()[0])["url"].rpartition(":")[2])

    def lines(self) -> list[str]:
        """Return the whole lines of its log."""
        return self.log.read_text().rpartition("\n")[0].splitlines()

    def count(self, event: str) -> int:
        """Return how often its log tells *event*."""
        return sum(f'"event": "{event}"' in line for line in self.lines())

    def cpu_seconds(self) -> float:
        """Return what its process has used so far; 0 where /proc does not tell."""
        used = 0
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self.process.pid}/stat").read_text()
            used = sum(map(int, text.rpartition(")")[2].split()[11:13]))
        return used / os.sysconf("SC_CLK_TCK")

    def change_policy(self, number: int) -> None:
        """Put another policy in the place of the old one, and say so."""
        other = self.policy.with_suffix(".new")
        other.write_text(f"# change {number}\n{POLICY}")
        other.replace(self.policy)
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """Return the exit code."""
        self.process.terminate()
        return self.process.wait(60)


@contextlib.contextmanager
def service() -> Iterator[Service]:
    """Run the service."""
    with tempfile.TemporaryDirectory() as folder:
        found = Service(Path(folder))
        try:
            yield found
        finally:
            found.process.kill()
            found.process.wait()


def call(batch: int) -> bytes:
    """Return one whole HTTP request for *batch* parts of an upload."""
    part = {
        "action": "UploadPart",
        "bucket": "examplebucket",
        "key": "data/year=2026/part-00000.parquet",
        "upload_id": "0004B9895DBBB6EC98E36D7F2A9C11",
        "content_length": 8 << 20,
    }
    requests = [{**part, "part_number": number + 1} for number in range(batch)]
    body = json.dumps({"requests": requests}).encode()
    head = (
        "POST /v1/sign HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextlib.asynccontextmanager
async def connection(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        yield reader, writer
    finally:
        writer.close()


async def client(
    port: int, batch: int, until: float, times: list[float], failures: list[str]
) -> None:
    """Ask again and again, on one connection, until it is time; note how long it took."""
    data = call(batch)
    async with connection(port) as (reader, writer):
        while time.monotonic() < until:
            began = time.perf_counter()
            writer.write(data)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                body = await reader.readexactly(length)
            except (OSError, EOFError, ValueError) as error:
                failures.append(type(error).__name__)
                return
            times.append(time.perf_counter() - began)
            if not head.startswith(b"HTTP/1.1 200 "):
                failures.append(head.decode("latin-1").partition("\r\n")[0])
            elif body.count(b"x-oss-signature=") != batch:
                failures.append("signatures are missing")


async def load(
    port: int, batch: int, clients: int, seconds: float
) -> tuple[list[float], list[str], float]:
    """Return times, failures and the seconds that all clients took."""
    times: list[float] = []
    failures: list[str] = []
    began = time.monotonic()
    running = (
        client(port, batch, began + seconds, times, failures) for _ in range(clients)
    )
    await asyncio.gather(*running)
    return times, failures, time.monotonic() - began


async def reloads(
    found: Service, clients: int, seconds: float
) -> tuple[int, list[str], int]:
    """Change the policy under load; return calls, failures and changes."""
    running = asyncio.create_task(load(found.port, 10, clients, seconds))
    changes = 0
    while not running.done():
        changes += 1
        found.change_policy(changes)
        await asyncio.wait([running], timeout=0.05)
    times, failures, _ = await running
    return len(times), failures, changes


def main() -> int:
    """Run it; 0 if no call failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=8, help="connections at once")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--quick", action="store_true", help="only that it works")
    options = parser.parse_args()
    seconds = 0.3 if options.quick else options.seconds
    failed = 0
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores for service and clients, {options.clients} connections")  # fmt: skip
    with service() as found:
        asyncio.run(load(found.port, 10, options.clients, min(seconds, 1.0)))
        for batch in (1, 100):
            before = found.cpu_seconds()
            times, failures, took = asyncio.run(
                load(found.port, batch, options.clients, seconds)
            )
            failed += len(failures)
            used = found.cpu_seconds() - before
            each = used / (len(times) * batch or 1) * 1e6
            cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
            rate = len(times) * batch / took
            print(f"batches of {batch:3}: {rate:8,.0f} signatures/s, {len(times) / took:7,.0f} calls/s, p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, {each:.0f} us of CPU per signature, failed {len(failures)} of {len(times)}")  # fmt: skip
        calls, failures, changes = asyncio.run(reloads(found, options.clients, seconds))
        failed += len(failures)
        told = found.count("policy_reloaded")
        print(f"reloads under load: {changes} changes, {told} reloads told, {calls} calls, failed {len(failures)} {sorted(set(failures))}")  # fmt: skip
        code = found.stop()
        print(f"stopped with {code}")
        if found.count("policy_refused") or not told:
            failed += 1
    return 1 if failed or code else 0


if __name__ == "__main__":
    raise SystemExit(main())
