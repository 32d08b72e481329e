"""Attacks of one hostile client on ``osspresigned serve``, and the wait of another one.

The service runs behind nginx, with the configuration of docs/serve.md. Each attack runs
in a process of its own, while another client, with another token and another address,
asks for one signature on a new connection every half second. The table shows what the
attack sent, the largest memory of the service, and how long the other client waited.

    python benchmarks/service_attacks.py --seconds 20
    python benchmarks/service_attacks.py --direct --attack silent --seconds 20

Loopback only: an attack connects to 127.0.0.1 and ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import logging
import multiprocessing
import os
import re
import resource
import shutil
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from fsspec_osspresigned.owner.service.policy import hash_token

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
PAGE = Path(__file__).parents[1] / "docs" / "serve.md"
NGINX = shutil.which("nginx")
AROUND = """
daemon off;
{user}
pid {place}/pid;
error_log {place}/error.log;
worker_processes auto;
worker_rlimit_nofile 20480;
events {{ worker_connections 10240; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {block}
}}
"""
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
                await asyncio.sleep(0.01)

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


async def none(target: Target) -> None:
    """Do nothing: what the machine does by itself."""
    await asyncio.sleep(max(0.0, target.until - time.monotonic()))


Attack = Callable[[Target], Awaitable[None]]
WITHOUT_TOKEN: dict[str, Attack] = {
    "none": none,
    "reset": reset,
    "silent": silent,
    "idle_and_silent": idle_and_silent,
    "slow_heads": dripping(b"GET /healthz HTTP/1.1\r\n", b"X-A: 1\r\n"),
    "endless_heads": flooding(b"GET / HTTP/1.1\r\nX-A: ", b"a" * 65536),
    "pipelining": flooding(b"", HEALTH * 1000),
    "upgrades": repeated(UPGRADE),
    "refused_bodies": flooding(call(b"", "no-token", size=1 << 30), b" " * 65536),
}
WITH_TOKEN: dict[str, Attack] = {
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


ATTACKS = {**WITHOUT_TOKEN, **WITH_TOKEN}


def connections_of(name: str) -> int:
    """Return the number of connections for which the attack *name* has time.

    With more, TLS handshakes would take the time of the calls.
    """
    return 1000 if name in WITHOUT_TOKEN else 100


def run_attack(name: str, target: Target) -> None:
    """Run the attack *name*; this is the main function of a process."""
    # A connection that the service has closed is what an attacker expects.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(ATTACKS[name](target))  # type: ignore[arg-type]


def memory(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 if it has ended."""
    with contextlib.suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / MIB
    return 0.0


class Outcome(NamedTuple):
    """Result of one attack: memory of the service, and waits of another client."""

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
    pid: int,
    *,
    tls: bool = False,
    connections: int,
    seconds: float = 20.0,
    interval: float = 0.5,
) -> Outcome:
    """Run the attack *name* for *seconds*; return what others noticed.

    *pid* is the process of the service, whose memory is measured.
    """
    spawn = multiprocessing.get_context("spawn")
    sent = spawn.Value("q", 0)
    target = Target(port, tls, connections, time.monotonic() + seconds, sent)
    attacker = spawn.Process(target=run_attack, args=(name, target), daemon=True)
    peak, waits, over = memory(pid), [], threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.02):
            peak = max(peak, memory(pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    attacker.start()
    try:
        while not target.over():
            began = time.monotonic()
            try:
                signature(port, tls=tls)
            except (OSError, http.client.HTTPException, ValueError):
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


@contextlib.contextmanager
def service(folder: Path) -> Iterator[tuple[int, int]]:
    """Run the command; yield its process id and its port."""
    policy = folder / "policy.toml"
    policy.write_text(POLICY)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fsspec_osspresigned", "serve", "--port", "0"),
                *("--policy", os.fspath(policy)),
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


@contextlib.contextmanager
def proxy(folder: Path, *ports: int) -> Iterator[tuple[int, int]]:
    """Run nginx as docs/serve.md configures it, before services on two *ports*.

    Yields its process id and its port. *folder* then holds ``ca.pem``, the authority of
    its certificate.
    """
    block = re.findall(r"(?ms)^```nginx\n(.*?)^```$", PAGE.read_text())[0]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made = authority.issue_cert(HOST)
    made.private_key_pem.write_to_path(folder / "key.pem")
    for pem in made.cert_chain_pems:
        pem.write_to_path(folder / "chain.pem", append=True)
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        for before, after in (
            ("listen 443", f"listen {HOST}:{port}"),
            ("127.0.0.1:8081", f"{HOST}:{ports[0]}"),
            ("127.0.0.1:8082", f"{HOST}:{ports[-1]}"),
            *((name, str(folder / name)) for name in ("chain.pem", "key.pem")),
        ):
            block = block.replace(before, after)
        user = "user root;" if os.geteuid() == 0 else ""
        text = AROUND.format(place=folder, block=block, user=user)
        (folder / "nginx.conf").write_text(text)
        # It takes over the socket, so no other program can take the port.
        process = subprocess.Popen(
            [NGINX or "nginx", "-p", folder, "-c", folder / "nginx.conf"],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process.pid, port
        finally:
            process.terminate()
            process.wait()


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
    parser.add_argument("--connections", type=int)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--direct", action="store_true", help="without the proxy")
    given = parser.parse_args(arguments)
    if NGINX is None and not given.direct:
        raise SystemExit("nginx is not installed; --direct attacks the service itself")
    print("| attack | sent | peak MiB | median wait s | longest | without a reply |")
    print("|---|---|---|---|---|---|")
    for name in given.attack or ATTACKS:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            pid, port = stack.enter_context(service(folder))
            if not given.direct:
                _, port = stack.enter_context(proxy(folder, port))
            outcome = measure(
                name,
                port,
                pid,
                tls=not given.direct,
                connections=given.connections or connections_of(name),
                seconds=given.seconds,
            )
        print(row(name, outcome), flush=True)


if __name__ == "__main__":
    main()
