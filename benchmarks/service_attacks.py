"""What one hostile client can do to ``osspresigned serve``, and what others notice.

Each attack runs in a process of its own, while another client, with another token and
another address, asks for one signature on a new connection every half second. The
table shows what the attack sent, the largest memory of the service, and how long the
other client waited.

    python benchmarks/service_attacks.py --seconds 20
    python benchmarks/service_attacks.py --tls --attack reset --seconds 60

Loopback only: an attack connects to 127.0.0.1 and ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import multiprocessing
import os
import resource
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fsspec_osspresigned.server.policy import hash_token

HOSTILE, OTHER = "a-made-up-hostile-token", "a-made-up-other-token"
HOST = "127.0.0.1"
OTHER_ADDRESS = "127.0.0.2"  # a proxy limits the connections of each address
MIB = 1 << 20
PATIENCE = 10.0  # seconds that the other client waits for one signature
ROUND_TRIP = 0.1  # seconds from its connection to its call
POLICY = "\n".join(
    f"""
[[tokens]]
name = "{name}"
sha256 = "{hash_token(token)}"
buckets = ["examplebucket"]
prefixes = ["data/"]
actions = ["PutObject"]
"""
    for name, token in (("hostile", HOSTILE), ("other", OTHER))
)
MADE_UP = {
    "OSS_ACCESS_KEY_ID": "LTAIfakeid",
    "OSS_ACCESS_KEY_SECRET": "fakesecret",
    "OSS_REGION": "cn-hangzhou",
}
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = (
    b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n"
)


def call(body: bytes, token: str = HOSTILE, size: int | None = None) -> bytes:
    """Return a call for signatures; *size* is the announced length of its body."""
    length = len(body) if size is None else size
    head = (
        f"POST /v1/sign HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return head.encode() + body


def items(count: int, key_length: int = 20) -> bytes:
    """Return the body of a call for *count* signatures."""
    request = {"action": "PutObject", "bucket": "examplebucket", "content_length": 1}
    keys = [f"data/{number}".ljust(key_length, "k") for number in range(count)]
    return json.dumps({"requests": [{**request, "key": key} for key in keys]}).encode()


def filled(item: bytes) -> bytes:
    """Return a body of 1 MiB whose list of requests repeats *item*."""
    count = (MIB - 20) // (len(item) + 1)
    return b'{"requests":[' + b",".join([item] * count) + b"]}"


class Target(NamedTuple):
    """Service to attack."""

    port: int
    tls: bool
    connections: int  # that the attack may have open
    until: float  # by the monotonic clock
    sent: Any  # shared counter of requests or connections

    def count(self) -> None:
        """Count one request or connection."""
        with self.sent.get_lock():
            self.sent.value += 1

    def over(self) -> bool:
        """Return whether the time of the attack is over."""
        return time.monotonic() > self.until

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS settings of a client that verifies nothing."""
        if not self.tls:
            return None
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        return made


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def crowd(
    target: Target, play: Callable[[Client], Awaitable[None]], *, tls: bool = True
) -> None:
    """Keep ``target.connections`` connections open, each of which runs *play*."""

    async def member() -> None:
        while not target.over():
            with contextlib.suppress(OSError, EOFError, ssl.SSLError):
                client = await asyncio.wait_for(
                    asyncio.open_connection(
                        HOST, target.port, ssl=target.context() if tls else None
                    ),
                    PATIENCE,
                )
                try:
                    await play(client)
                finally:
                    client[1].transport.abort()
            await asyncio.sleep(0.01)

    members = [asyncio.create_task(member()) for _ in range(target.connections)]
    await asyncio.sleep(max(0.0, target.until - time.monotonic()))
    for task in members:
        task.cancel()
    await asyncio.wait(members)


async def reply_to(client: Client, request: bytes) -> None:
    """Send *request*, and read the whole reply."""
    reader, writer = client
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    (length,) = [
        int(line.partition(":")[2]) for line in lines if "content-length" in line
    ]
    await reader.readexactly(length)


async def closed(client: Client) -> None:
    """Wait until the service closes the connection."""
    while await client[0].read(65536):
        pass


def repeated(request: bytes) -> Callable[[Target], Awaitable[None]]:
    """Return an attack of calls: each connection sends *request* again and again."""

    async def attack(target: Target) -> None:
        async def play(client: Client) -> None:
            while True:
                await reply_to(client, request)
                target.count()

        await crowd(target, play)

    return attack


def dripping(start: bytes, drop: bytes) -> Callable[[Target], Awaitable[None]]:
    """Return an attack of slow clients, which send *drop* every second."""

    async def attack(target: Target) -> None:
        async def play(client: Client) -> None:
            target.count()
            client[1].write(start)
            while not client[1].is_closing():
                await asyncio.sleep(1)
                client[1].write(drop)
                await client[1].drain()

        await crowd(target, play)

    return attack


def flooding(start: bytes, data: bytes) -> Callable[[Target], Awaitable[None]]:
    """Return an attack of clients that send *data* without end and read nothing."""

    async def attack(target: Target) -> None:
        async def play(client: Client) -> None:
            target.count()
            client[1].transport.pause_reading()  # type: ignore[attr-defined]
            client[1].write(start)
            while not client[1].is_closing():
                client[1].write(data)
                await client[1].drain()

        await crowd(target, play)

    return attack


async def reset(target: Target) -> None:
    """Make one request on each connection, and reset it with the reply unread."""

    async def play(client: Client) -> None:
        target.count()
        client[1].write(HEALTH)
        await client[0].read(1)
        raw = client[1].get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    await crowd(target._replace(connections=min(20, target.connections)), play)


async def silent(target: Target) -> None:
    """Open connections that send nothing."""

    async def play(client: Client) -> None:
        target.count()
        await closed(client)

    await crowd(target, play, tls=False)


async def idle_and_silent(target: Target) -> None:
    """Fill the service with idle connections; open silent ones, 300 a second."""
    idle = []
    for _ in range(target.connections):
        with contextlib.suppress(OSError, EOFError):
            client = await asyncio.wait_for(
                asyncio.open_connection(HOST, target.port, ssl=target.context()),
                PATIENCE,
            )
            await reply_to(client, HEALTH)
            idle.append(client)
    waiting: list[Client] = []
    while not target.over():
        with contextlib.suppress(OSError):
            waiting.append(await asyncio.open_connection(HOST, target.port))
            target.count()
        if len(waiting) > 2 * target.connections:
            waiting.pop(0)[1].transport.abort()
        await asyncio.sleep(1 / 300)
    for _, writer in idle + waiting:
        writer.transport.abort()


async def unread(target: Target) -> None:
    """Ask for large replies and do not read them."""
    request = call(items(100, 1000))

    async def play(client: Client) -> None:
        target.count()
        client[1].transport.pause_reading()  # type: ignore[attr-defined]
        client[1].write(request)
        await client[1].drain()
        await asyncio.sleep(PATIENCE)

    await crowd(target, play)


ATTACKS: dict[str, Callable[[Target], Awaitable[None]]] = {
    # without a token
    "reset": reset,
    "silent": silent,
    "idle_and_silent": idle_and_silent,
    "slow_heads": dripping(b"GET /healthz HTTP/1.1\r\n", b"X-A: 1\r\n"),
    "endless_heads": flooding(b"GET / HTTP/1.1\r\nX-A: ", b"a" * 65536),
    "pipelining": flooding(b"", HEALTH * 1000),
    "upgrades": repeated(UPGRADE),
    "refused_bodies": flooding(call(b"", "no-token", size=1 << 30), b" " * 65536),
    # with a token
    "slow_bodies": dripping(call(b" " * (MIB - 1000), size=MIB), b" "),
    "objects": repeated(call(filled(b"{}"))),
    "lists": repeated(call(filled(b"[]"))),
    "numbers": repeated(call(filled(b"1"))),
    "strings": repeated(call(filled(b'"a"'))),
    "one_object": repeated(
        call(
            b'{"requests":[{'
            + b",".join(b'"%d":{}' % number for number in range(80_000))
            + b"}]}"
        )
    ),
    "signatures": repeated(call(items(100))),
    "unread": unread,
}


def run_attack(name: str, target: Target) -> None:
    """Run the attack *name*; this is the main function of a process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(ATTACKS[name](target))  # type: ignore[arg-type]


def memory(pids: Sequence[int]) -> float:
    """Return the resident memory of processes in MiB."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


class Outcome(NamedTuple):
    """What an attack did, and what others noticed."""

    sent: int
    peak: float  # MiB
    waits: list[float]  # seconds for one signature, PATIENCE if there was none

    @property
    def longest(self) -> float:
        """Longest wait for a signature in seconds."""
        return max(self.waits, default=PATIENCE)


def signature(port: int, *, tls: bool) -> None:
    """Ask for one signature as another client, on a new connection.

    Raises OSError or HTTPException if there is none.
    """
    options = {"timeout": PATIENCE, "source_address": (OTHER_ADDRESS, 0)}
    connection = http.client.HTTPConnection(HOST, port, **options)
    with contextlib.closing(connection):
        connection.connect()
        if tls:
            context = Target(port, True, 0, 0, None).context()
            connection.sock = context.wrap_socket(connection.sock)
        time.sleep(ROUND_TRIP)
        headers = {"Authorization": f"Bearer {OTHER}"}
        connection.request("POST", "/v1/sign", items(1), headers)
        reply = connection.getresponse()
        results = json.loads(reply.read()).get("results")
        if not results or "url" not in results[0]:
            raise OSError(f"status {reply.status}")


def measure(
    name: str,
    port: int,
    pids: Callable[[], Sequence[int]],
    *,
    tls: bool = False,
    connections: int = 1000,
    seconds: float = 20.0,
    interval: float = 0.5,
) -> Outcome:
    """Run the attack *name* for *seconds*; return what others noticed.

    *pids* returns the processes of the service, whose memory is added up.
    """
    spawn = multiprocessing.get_context("spawn")
    sent = spawn.Value("q", 0)
    target = Target(port, tls, connections, time.monotonic() + seconds, sent)
    attacker = spawn.Process(target=run_attack, args=(name, target), daemon=True)
    peak, waits, over = memory(pids()), [], threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.02):
            peak = max(peak, memory(pids()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    attacker.start()
    try:
        while not target.over():
            began = time.monotonic()
            try:
                signature(port, tls=tls)
            except (OSError, http.client.HTTPException):
                waits.append(PATIENCE)
            else:
                waits.append(time.monotonic() - began)
            time.sleep(interval)
        attacker.join(PATIENCE)
    finally:
        attacker.kill()
        attacker.join()
        over.set()
        watcher.join()
    return Outcome(sent.value, peak, waits)


def family(pid: int) -> list[int]:
    """Return *pid* and the processes that it has started."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


@contextlib.contextmanager
def service(folder: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Run the command; yield its process id and its port."""
    policy = folder / "policy.toml"
    policy.write_text(POLICY)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fsspec_osspresigned", "serve", "--port", "0"),
                *("--policy", os.fspath(policy), *options),
            ],
            stdout=log,
            env={**os.environ, **MADE_UP},
        )
    try:
        while not (lines := (folder / "log").read_text().splitlines()):
            if process.poll() is not None:
                raise SystemExit("the service did not start")
            time.sleep(0.02)
        yield process.pid, int(json.loads(lines[0])["url"].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


def certificate(folder: Path) -> list[str]:
    """Make a certificate; return the options of ``serve`` for it."""
    names = [os.fspath(folder / name) for name in ("chain.pem", "key.pem")]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=127.0.0.1"),
            *("-out", names[0], "-keyout", names[1]),
        ],
        check=True,
        capture_output=True,
    )
    return ["--ssl-certfile", names[0], "--ssl-keyfile", names[1]]


def row(name: str, outcome: Outcome) -> str:
    """Return one row of the table."""
    failed = sum(wait >= PATIENCE for wait in outcome.waits)
    median = statistics.median(outcome.waits)
    return (
        f"| {name} | {outcome.sent:,} | {outcome.peak:.0f} | {median:.2f} | "
        f"{outcome.longest:.2f} | {failed} of {len(outcome.waits)} |"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the attacks one after the other, each against a new service."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attack", action="append", choices=ATTACKS)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--tls", action="store_true")
    given = parser.parse_args(arguments)
    print("| attack | sent | peak MiB | median wait s | longest | without a reply |")
    print("|---|---|---|---|---|---|")
    for name in given.attack or ATTACKS:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            options = certificate(folder) if given.tls else []
            with service(folder, *options) as (pid, port):
                outcome = measure(
                    name,
                    port,
                    lambda pid=pid: family(pid),
                    tls=given.tls,
                    connections=given.connections,
                    seconds=given.seconds,
                )
        print(row(name, outcome), flush=True)


if __name__ == "__main__":
    main()
