"""Builds and runs ``sink.c``, the object store that discards what it gets.

python -m benchmarks.sink --latency 0.02 --rate 50e6
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

SOURCE = Path(__file__).with_name("sink.c")
PERIOD = 1_048_573  # of the pattern, in bytes; sink.c has the same
_SEED = b"fsspec-osspresigned"
_FLAGS = ("-O2", "-Wall", "-Wextra", "-pthread")
_LIBRARIES = ("-lssl", "-lcrypto")


class CannotBuildError(RuntimeError):
    """There is no Linux, no compiler, or no OpenSSL to compile against."""


def compiler() -> str | None:
    """Return the C compiler, ``$CC`` first; None if this machine has none."""
    named = [os.environ["CC"]] if os.environ.get("CC") else []
    return next(filter(None, map(shutil.which, [*named, "gcc", "cc", "clang"])), None)


def cache_directory() -> Path:
    """Return where programs are kept between runs; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fsspec-osspresigned-benchmarks"


def build() -> Path:
    """Return the program, compiled if no earlier run has compiled this very source.

    Raises:
        CannotBuildError: naming what is missing.
    """
    if sys.platform != "linux":
        raise CannotBuildError("the sink asks its kernel for what only Linux has")
    program = compiler()
    if program is None:
        raise CannotBuildError(
            "the sink needs a C compiler: install gcc (Debian: apt-get install gcc)"
        )
    told = " ".join((program, *_FLAGS)).encode()
    digest = hashlib.sha256(told + SOURCE.read_bytes()).hexdigest()[:16]
    built = cache_directory() / f"sink-{digest}"
    if built.exists():
        return built
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        fresh = Path(folder) / "sink"
        command = [program, *_FLAGS, str(SOURCE), "-o", str(fresh), *_LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuildError(_explain(done.stderr))
        fresh.replace(built)  # another process may be building too
    return built


def _explain(errors: str) -> str:
    missing = ("openssl/", "-lssl", "-lcrypto")
    if any(name in errors for name in missing):
        return (
            "the sink needs the headers of OpenSSL 1.1.1 or newer: "
            f"install them (Debian: apt-get install libssl-dev)\n{errors}"
        )
    return f"the sink does not compile:\n{errors}"


@cache
def _period() -> bytes:
    return hashlib.shake_128(_SEED).digest(PERIOD)


def pattern(offset: int, size: int) -> bytes:
    """Return bytes *offset* to ``offset + size`` of every object that a sink serves.

    The first ``PERIOD`` bytes of SHAKE-128 of the project's name, over and over.
    """
    first = offset % PERIOD
    times = (first + size) // PERIOD + 1
    return (_period() * times)[first : first + size]


def ask(url: str, ca: str | None, path: str, method: str = "GET") -> str:
    """Return what a sink replies; to HEAD, the CRC-64 of the object."""
    host = url.partition("://")[2]
    link = http.client.HTTPConnection(host, timeout=30)
    if ca is not None:
        context = ssl.create_default_context(cafile=ca)
        link = http.client.HTTPSConnection(host, timeout=30, context=context)
    try:
        link.request(method, path, headers={"Connection": "close"})
        reply = link.getresponse()
        body = reply.read().decode("latin-1")
        return body or reply.getheader("x-oss-hash-crc64ecma", "")
    finally:
        link.close()


class Sink:
    """A sink that runs in a process of its own, on a free port of 127.0.0.1.

    Attributes:
        url: where it listens, without a path.
        port: the same, as a number.
        ca: PEM file of the authority that signed its certificate; None without TLS.
    """

    url: str
    port: int
    ca: str | None

    def __init__(
        self,
        *,
        latency: float = 0.0,
        rate: float | None = None,
        tls: bool = False,
        crc: bool = False,
        size: int = 0,
        port: int = 0,
    ) -> None:
        """Start nothing yet.

        Args:
            latency: seconds before each answer.
            rate: bytes a second of each connection and direction; None for no limit.
            tls: whether to speak TLS, with a certificate made for the occasion.
            crc: whether to compute and answer the CRC-64 of each body.
            size: bytes of each object that was never put; 0 if such objects do not exist.
            port: where to listen; 0 takes a free one.

        Raises:
            ValueError: A number is negative.
        """
        if min(latency, rate or 0, size, port) < 0:
            raise ValueError("latency, rate and sizes are not negative")
        self._tls = tls
        self._arguments = ["-w", "-p", str(port), "-l", repr(latency * 1000)]
        self._arguments += ["-g", str(size)]
        self._arguments += ["-b", repr(float(rate))] if rate else []
        self._arguments += ["-C"] if crc else []
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.ca = None

    def __enter__(self) -> Self:
        """Build it if need be, and wait until it listens.

        Raises:
            CannotBuildError: it cannot be compiled here.
            RuntimeError: it did not start.
        """
        program = build()
        arguments = [*self._arguments, *(self._certify() if self._tls else [])]
        # Its standard input ends with this process, however that ends: then so does it.
        self._process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line.strip().isdigit():
            self.close()
            raise RuntimeError("the sink did not start; what it printed says why")
        self.port = int(line)
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.close()

    def close(self) -> None:
        """Stop it; connections that are open just end."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def stats(self) -> dict[str, int]:
        """Return what came since the start or the last reset.

        ``requests``, and of them ``puts`` (PutObject), ``parts``, ``gets``, ``heads``,
        ``initiated``, ``completed``, ``deletes``; ``bytes`` of bodies of
        objects and parts received, ``sent`` of bodies of objects; ``connections`` that
        made a request, ``open_connections`` of them; ``max_busy``: most requests at
        once; ``crc64``: the checksums of all whole bodies XORed, 0 without ``crc``.
        These calls themselves are not counted.
        """
        return dict(json.loads(ask(self.url, self.ca, "/__stats")))

    def reset(self) -> None:
        """Set the counters to 0 and forget all objects; uploads begun stay open."""
        ask(self.url, self.ca, "/__reset")

    def _certify(self) -> list[str]:
        import trustme  # noqa: PLC0415 - only TLS needs it

        self._folder = tempfile.TemporaryDirectory(prefix="sink-")
        folder = Path(self._folder.name)
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        leaf.private_key_pem.write_to_path(folder / "key.pem")
        for pem in leaf.cert_chain_pems:
            pem.write_to_path(folder / "cert.pem", append=True)
        self.ca = str(folder / "ca.pem")
        return ["-c", str(folder / "cert.pem"), "-k", str(folder / "key.pem")]


def main() -> None:
    """Run one until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--rate", type=float, help="bytes a second and connection")
    parser.add_argument("--size", type=int, default=0, help="of objects to download")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--crc", action="store_true", help="answer the CRC-64")
    with Sink(**vars(parser.parse_args())) as sink:
        # Blocked it waits to be asked for, even where this program was started without
        # it, as shells do in the background.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        print(sink.url, *filter(None, [sink.ca]), flush=True)
        signal.sigwait({signal.SIGINT})
        print(json.dumps(sink.stats()))


if __name__ == "__main__":
    main()
