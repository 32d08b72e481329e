"""The clients, each with one method for a verb.

A client is made, and warmed up with a small job, before the clock starts. Each imports
its library when it is made: every process runs one of them.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

from .work import BEFORE, FEWER, MIB, Work

BUCKET = "examplebucket"
REGION = "cn-hangzhou"
KEY_ID, SECRET = "LTAIfakeid", "fakesecret"
T = TypeVar("T")


@frozen
class Job:
    """The files and objects of one run of a verb.

    Attributes:
        work: Its size and count are those of this job.
        source: Directory with the files to send, and nothing else.
        target: Directory for files that are read.
        prefix: Of all keys, with its slash.
    """

    work: Work
    source: Path
    target: Path
    prefix: str

    def keys(self) -> list[str]:
        """Return the key of each object."""
        return [f"{self.prefix}{at:06d}.bin" for at in range(self.work.count)]

    def files(self) -> list[Path]:
        """Return the file of each object."""
        return [self.source / f"{at:06d}.bin" for at in range(self.work.count)]

    def targets(self) -> list[Path]:
        """Return where each object is read to."""
        return [self.target / f"{at:06d}.bin" for at in range(self.work.count)]

    def blocks(self) -> Iterator[bytes]:
        """Give the file in blocks of 1 MiB; after 64 MiB the same ones again."""
        with self.files()[0].open("rb") as file:
            pool = list(islice(iter(lambda: file.read(MIB), b""), 64))
        return (pool[at % len(pool)] for at in range(-(-self.work.size // MIB)))


class Ours:
    """This package, with the key signer."""

    def __init__(self, work: Work, url: str, ca: str | None) -> None:
        """Make a filesystem with defaults, but for what the work asks for."""
        os.environ |= {"OSS_ACCESS_KEY_ID": KEY_ID, "OSS_ACCESS_KEY_SECRET": SECRET}
        if ca:
            os.environ["REQUESTS_CA_BUNDLE"] = ca
        import fsspec  # noqa: PLC0415 - not in the process of another client

        options: dict[str, Any] = {}
        if work.flight:
            options["max_concurrency"] = work.flight
        if work.verb == "body":
            options["multipart_threshold"] = "5GiB"
        self.fs: Any = fsspec.filesystem(
            "osspresigned", signer="keys", endpoint=url, region=REGION, **options
        )

    def ready(self, job: Job) -> Callable[[], object]:  # noqa: C901 - one a verb
        """Return the verb of the work, with all that is not timed done."""
        paths = [f"{BUCKET}/{key}" for key in job.keys()]  # noqa: SIM118 - no dict
        files = [str(path) for path in job.files()]
        fs = self.fs

        def one() -> None:
            for path, body in bodies.items():
                fs.pipe_file(path, body)

        def stream() -> None:
            with fs.open(paths[0], "wb") as file:
                for block in blocks:
                    file.write(block)

        def info() -> None:
            async def ask() -> None:
                await asyncio.gather(*map(fs._info, paths))  # noqa: SLF001 - as zarr

            asyncio.run(ask())

        def first() -> None:
            for file in self.open:
                file.write(b"x" * job.work.size)

        bodies = {}
        if job.work.verb in ("pipe", "one"):
            contents = (path.read_bytes() for path in job.files())
            bodies = dict(zip(paths, contents, strict=True))
        blocks = job.blocks() if job.work.verb == "stream" else iter(())
        if job.work.verb == "first":
            self.open = [fs.open(path, "wb") for path in paths]
        targets = [str(path) for path in job.targets()]
        folder = f"{BUCKET}/{job.prefix}"
        return {
            "pipe": lambda: fs.pipe(bodies),
            "put": lambda: fs.put(f"{job.source}/", folder, recursive=True),
            "one": one,
            "cat": lambda: fs.cat(paths),
            "get": lambda: fs.get(paths, targets),
            "info": info,
            "file": lambda: fs.put_file(files[0], paths[0]),
            "body": lambda: fs.put_file(files[0], paths[0]),
            "stream": stream,
            "first": first,
        }[job.work.verb]


class Each:
    """A client that has one call for an object: many go in threads."""

    def __init__(self, work: Work, url: str, ca: str | None) -> None:
        """Make it."""
        self.url, self.ca, self.flight = url, ca, work.flight or 1

    def all(self, call: Callable[..., T], *lists: Iterable[Any]) -> list[T]:
        """Call for each item of the lists, as many at once as the work wants."""
        with ThreadPoolExecutor(self.flight) as pool:
            return list(pool.map(call, *lists))

    def ready(self, job: Job) -> Callable[[], object]:
        """Return the verb of the work, with all that is not timed done."""
        keys, files, targets = job.keys(), job.files(), job.targets()
        bodies = []
        if job.work.verb in ("pipe", "one"):
            bodies = [path.read_bytes() for path in files]
        blocks = job.blocks() if job.work.verb == "stream" else iter(())
        return {
            "pipe": lambda: self.all(self.write, keys, bodies),
            "put": lambda: self.all(self.send, keys, files),
            "one": lambda: list(map(self.write, keys, bodies)),
            "cat": lambda: self.all(self.read, keys),
            "get": lambda: self.all(self.fetch, keys, targets),
            "info": lambda: self.all(self.head, keys),
            "file": lambda: self.upload(keys[0], files[0]),
            "body": lambda: self.send(keys[0], files[0]),
            "stream": lambda: self.stream(keys[0], blocks),
        }[job.work.verb]

    def write(self, key: str, body: bytes) -> None:
        """Store bytes by one PUT."""
        raise NotImplementedError

    def send(self, key: str, path: Path) -> None:
        """Store a file by one PUT."""
        raise NotImplementedError

    def read(self, key: str) -> bytes:
        """Return an object."""
        raise NotImplementedError

    def fetch(self, key: str, path: Path) -> None:
        """Read an object to a file."""
        path.write_bytes(self.read(key))

    def head(self, key: str) -> object:
        """Return what is known of an object."""
        raise NotImplementedError

    def upload(self, key: str, path: Path) -> None:
        """Store a large file, with the client's own part size and width."""
        raise NotImplementedError

    def stream(self, key: str, blocks: Iterator[bytes]) -> None:
        """Store what a producer gives."""
        raise NotImplementedError


class Obstore(Each):
    """obstore, the Python face of the Rust crate object_store."""

    def __init__(self, work: Work, url: str, ca: str | None) -> None:
        """Make a store that does not hash bodies for its signature."""
        super().__init__(work, url, ca)
        import obstore  # noqa: PLC0415 - not in the process of another client
        from obstore.store import S3Store  # noqa: PLC0415

        options: dict[str, Any] = {"allow_http": True, "timeout": "300s"}
        if ca:
            options["root_certificate"] = Path(ca).read_bytes()
        self.ob: Any = obstore
        self.store: Any = S3Store(
            BUCKET,
            endpoint=url,
            region=REGION,
            access_key_id=KEY_ID,
            secret_access_key=SECRET,
            unsigned_payload=True,
            virtual_hosted_style_request=False,
            client_options=options,
        )

    def write(self, key: str, body: bytes) -> None:
        """Store bytes by one PUT."""
        self.ob.put(self.store, key, body, use_multipart=False)

    def send(self, key: str, path: Path) -> None:
        """Store a file by one PUT."""
        self.ob.put(self.store, key, path, use_multipart=False)

    def read(self, key: str) -> bytes:
        """Return an object."""
        return bytes(self.ob.get(self.store, key).bytes())

    def head(self, key: str) -> object:
        """Return what is known of an object."""
        return self.ob.head(self.store, key)

    def upload(self, key: str, path: Path) -> None:
        """Store a large file in parts."""
        self.ob.put(self.store, key, path)

    def stream(self, key: str, blocks: Iterator[bytes]) -> None:
        """Store what a producer gives."""
        with self.ob.open_writer(self.store, key) as file:
            for block in blocks:
                file.write(block)


class _Pulled(io.RawIOBase):
    """A producer as a file, for a client that pulls."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._left = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


class Boto3(Each):
    """boto3, without checksums of its own."""

    def __init__(self, work: Work, url: str, ca: str | None) -> None:
        """Make a client."""
        super().__init__(work, url, ca)
        import boto3  # noqa: PLC0415 - not in the process of another client
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        self.plan: Any = TransferConfig(preferred_transfer_client="classic")
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            verify=ca,
            config=Config(
                max_pool_connections=max(10, self.flight),
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path", "payload_signing_enabled": False},
            ),
        )

    def write(self, key: str, body: bytes) -> None:
        """Store bytes by one PUT."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)

    def send(self, key: str, path: Path) -> None:
        """Store a file by one PUT."""
        with path.open("rb") as file:
            self.client.put_object(Bucket=BUCKET, Key=key, Body=file)

    def read(self, key: str) -> bytes:
        """Return an object."""
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def head(self, key: str) -> object:
        """Return what is known of an object."""
        return self.client.head_object(Bucket=BUCKET, Key=key)

    def upload(self, key: str, path: Path) -> None:
        """Store a large file in parts."""
        self.client.upload_file(str(path), BUCKET, key, Config=self.plan)

    def stream(self, key: str, blocks: Iterator[bytes]) -> None:
        """Store what a producer gives."""
        file = io.BufferedReader(_Pulled(blocks), MIB)
        self.client.upload_fileobj(file, BUCKET, key, Config=self.plan)


class Curl:
    """curl, the program; one process for all objects. Nothing is signed."""

    def __init__(self, work: Work, url: str, ca: str | None) -> None:
        """Make the command."""
        self.url = f"{url}/{BUCKET}"
        self.command = ["curl", "-q", "-sS", "-f", "--fail-early", "--http1.1"]
        self.command += ["-H", "Expect:", *(["--cacert", ca] if ca else [])]
        if work.flight:
            self.command += ["-Z", "--parallel-immediate"]
            self.command += ["--parallel-max", str(work.flight)]

    def ready(self, job: Job) -> Callable[[], object]:
        """Return the run of the program; the list of files is written before."""
        lines = []
        option = "output" if job.work.reads else "upload-file"
        files = job.targets() if job.work.reads else job.files()
        for key, path in zip(job.keys(), files, strict=True):
            lines += [f'url = "{self.url}/{key}"', f'{option} = "{path}"']
        listing = job.target / "curl.txt"
        listing.write_text("\n".join(lines) + "\n")
        command = [*self.command, "--config", str(listing)]
        environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*"}

        def run() -> None:
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                check=False,
            )
            if done.returncode:
                raise OSError(done.stderr.decode()[-300:])

        return run


OURS = "osspresigned"
CLIENTS: dict[str, type[Ours | Each | Curl]] = {
    OURS: Ours,
    BEFORE: Ours,
    FEWER: Ours,
    "obstore": Obstore,
    "boto3": Boto3,
    "curl": Curl,
}


def missing(name: str) -> str | None:
    """Return what this machine lacks for a client, or None."""
    import importlib.util  # noqa: PLC0415

    if name == "curl":
        return None if shutil.which("curl") else "no program curl"
    if name in ("obstore", "boto3") and importlib.util.find_spec(name) is None:
        return f"no Python module {name}"
    return None
