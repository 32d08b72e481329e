"""Ours: by keys, a URL map, a grant, and a signer that is a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .candidates import Timed, Where, candidate, offsets, produce
from .remembering import remembered
from .work import MANY, Work

KEYS = {
    "OSS_ACCESS_KEY_ID": "LTAIfakeid",
    "OSS_ACCESS_KEY_SECRET": "fakesecret",
    "OSS_REGION": "cn-hangzhou",
}
TOKEN = "a-made-up-token-0"  # noqa: S105 - made up
_ACTIONS = (
    *("PutObject", "InitiateMultipartUpload", "UploadPart"),
    *("CompleteMultipartUpload", "AbortMultipartUpload"),
)
_CHECKS = "CRC-64 of every body, computed while it is sent, and of the whole"

_FORBIDDEN = ("click", "starlette", "uvicorn", "pandas", "pyarrow", "dask")
_START = """
import os, sys
import fsspec
fs = fsspec.filesystem("osspresigned", signer="keys", endpoint={url!r})
fs.pipe_file("{bucket}/{key}", b"x" * {size})
found = [name for name in {forbidden!r} if name in sys.modules]
assert not found, found
"""


def filesystem(work: Work, where: Where, **more: Any) -> Any:
    """Return a filesystem with the work's own settings, all else at its default.

    One PUT is asked for by a threshold above the file's size.
    """
    import fsspec  # noqa: PLC0415 - measured here, not at import

    if where.ca:
        os.environ["REQUESTS_CA_BUNDLE"] = where.ca
    options: dict[str, Any] = {"max_concurrency": work.concurrency}
    if work.verb == "put":
        options = {"multipart_threshold": "5GiB"}
    elif work.verb not in MANY:
        options["part_size"] = work.part_size
        # Whatever is larger than a part goes in parts: the sweep asks for small ones.
        options["multipart_threshold"] = work.part_size
    return fsspec.filesystem("osspresigned", **options, **more)


def _timed(work: Work, where: Where, fs: Any) -> Timed:  # noqa: C901 - one a verb
    path = f"{where.target}/{where.key()}"

    def put() -> None:
        fs.put_file(where.files[0], path)

    def small() -> None:
        receipts = fs.put(f"{where.source}/", f"{where.target}/bench/", recursive=True)
        assert len(receipts) == work.count, len(receipts)  # noqa: S101

    def gather() -> None:
        async def all_of_them() -> None:
            pipes = (
                fs._pipe_file(  # noqa: SLF001 - as zarr calls it
                    f"{where.target}/{where.key(at)}", value
                )
                for at, value in enumerate(values)
            )
            await asyncio.gather(*pipes)

        asyncio.run(all_of_them())

    def heads() -> None:
        async def all_of_them() -> None:
            names = (f"{where.target}/{where.key(at)}" for at in range(work.count))
            await asyncio.gather(*map(fs._info, names))  # noqa: SLF001 - see gather

        asyncio.run(all_of_them())

    def get() -> None:
        fs.get_file(path, where.download)

    def ranges() -> None:
        starts = offsets(work)
        ends = [start + work.block for start in starts]
        found = fs.cat_ranges([path] * work.count, starts, ends, on_error="raise")
        assert {len(piece) for piece in found} == {work.block}  # noqa: S101

    if work.verb == "stream":
        blocks = produce(work, where)

        def stream() -> None:
            with fs.open(path, "wb") as file:
                for block in blocks():
                    file.write(block)

        return stream
    values = [Path(f).read_bytes() for f in where.files if work.verb == "gather"]
    known = {"put": put, "multipart": put, "small": small, "gather": gather}
    known |= {"get": get, "ranges": ranges, "heads": heads}
    return known[work.verb]


@candidate(
    "osspresigned",
    verbs={
        *("put", "multipart", "stream", "small", "gather", "get", "ranges"),
        *("start", "sign", "heads"),
    },
    checks=_CHECKS,
    note="signs inside the timed part",
)
def keys(work: Work, where: Where) -> Timed:
    """By the key signer."""
    os.environ.update(KEYS)
    if work.verb == "sign":
        return _signing(work)
    if work.verb == "start":
        return _starting(work, where)
    return _timed(
        work, where, filesystem(work, where, signer="keys", endpoint=where.url)
    )


def interpreters(script: str, count: int, **environment: str) -> Timed:
    """Return what runs *script* in new interpreters, one after another."""
    inherited = {**os.environ}
    # Installed packages are compiled, so those of a checkout have to be, too.
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)

    def run() -> None:
        for _ in range(count):
            subprocess.run(
                [sys.executable, "-c", script],
                check=True,
                env={**inherited, **environment},
            )

    return run


def _starting(work: Work, where: Where) -> Timed:
    """Return what sends one object by us; nothing that it needs not is imported."""
    script = _START.format(
        url=where.url,
        bucket=where.target,
        key=where.key(),
        size=work.size,
        forbidden=_FORBIDDEN,
    )
    return interpreters(script, work.count)


def _signing(work: Work) -> Timed:
    from fsspec_osspresigned.secret import Secret  # noqa: PLC0415 - see filesystem
    from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest  # noqa: PLC0415

    credentials = Credentials("LTAIfakeid", Secret("fakesecret"))
    endpoint = Endpoint.parse("oss-cn-hangzhou.aliyuncs.com")
    names = [f"bench/{index:06d}.bin" for index in range(work.count)]

    def sign() -> None:
        for name in names:
            PresignRequest(
                credentials,
                endpoint,
                method="PUT",
                bucket="examplebucket",
                key=name,
                version=work.version,
                region="cn-hangzhou",
                now=time.time(),
                expires_in=3600,
            ).url()

    return sign


def presigner(where: Where, version: str = "v4") -> Any:
    """Return what presigns one request on the sink, for those who sign outside."""
    from fsspec_osspresigned.secret import Secret  # noqa: PLC0415 - see filesystem
    from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest  # noqa: PLC0415

    credentials = Credentials("LTAIfakeid", Secret("fakesecret"))
    endpoint = Endpoint.parse(where.url)
    now = time.time()

    def sign(method: str, key: str, **query: str) -> str:
        return (
            PresignRequest(
                credentials,
                endpoint,
                method=method,
                bucket=where.target,
                key=key,
                query=query,
                version=version,
                region="cn-hangzhou",
                now=now,
                expires_in=86_400,
            )
            .url()
            .reveal()
        )

    return sign


@candidate(
    "osspresigned:map",
    verbs={"put", "multipart", "small", "map"},
    checks=_CHECKS,
    note="the map is made outside of time, and opened there but for the verb map",
)
def url_map(work: Work, where: Where) -> Timed:
    """By a URL map in a file."""
    path = Path(where.directory, "urls.jsonl")
    _write_map(work, where, path)
    if work.verb == "map":

        def opened() -> None:
            fs = filesystem(work, where, url_map=str(path))
            fs.put_file(where.files[0], f"{where.target}/{where.key()}")

        import fsspec_osspresigned.filesystem  # noqa: F401, PLC0415 - outside of time

        return opened
    fs = filesystem(work, where, url_map=str(path))
    fs.client.signer.grant(f"{where.target}/{where.key()}")
    return _timed(work, where, fs)


def _write_map(work: Work, where: Where, path: Path) -> None:
    sign = presigner(where, "v1")  # the faster: of a million of them
    with open(path, "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        if work.verb == "multipart":
            file.write(json.dumps(_in_parts(work, where, sign)) + "\n")
            return
        for index in range(max(1, work.count)):
            key = where.key(index)
            entry = {"path": f"{where.target}/{key}", "url": sign("PUT", key)}
            file.write(json.dumps(entry) + "\n")


def _in_parts(work: Work, where: Where, sign: Any) -> dict[str, Any]:
    """Begin an upload, as an owner does, and return its entry."""
    key = where.key()
    begun = _request(where, "POST", sign("POST", key, uploads=""))
    named = begun.partition("<UploadId>")[2].partition("</UploadId>")[0]
    parts = (str(number) for number in range(1, work.parts + 1))
    return {
        "path": f"{where.target}/{key}",
        "upload_id": named,
        "part_size": work.part_size,
        "parts": [
            sign("PUT", key, partNumber=number, uploadId=named) for number in parts
        ],
        "complete": {"method": "POST", "url": sign("POST", key, uploadId=named)},
    }


def _request(where: Where, method: str, url: str) -> str:
    parts = urlsplit(url)
    if where.ca:
        import ssl  # noqa: PLC0415 - most works need none

        context = ssl.create_default_context(cafile=where.ca)
        connection: HTTPConnection = HTTPSConnection(parts.netloc, context=context)
    else:
        connection = HTTPConnection(parts.netloc)
    connection.request(method, f"{parts.path}?{parts.query}")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


@candidate(
    "osspresigned:grant",
    verbs={"put", "small", "record", "recall"},
    checks=_CHECKS,
    note="forms by one grant, which is signed outside of time",
)
def by_grant(work: Work, where: Where) -> Timed:
    """By a grant in a file."""
    from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant  # noqa: PLC0415
    from fsspec_osspresigned.secret import Secret  # noqa: PLC0415 - see filesystem
    from fsspec_osspresigned.signing import Credentials, Endpoint  # noqa: PLC0415

    signed = sign_grant(
        Credentials("LTAIfakeid", Secret("fakesecret")),
        Endpoint.parse(where.url),
        GrantTerms(bucket=where.target, prefix="bench/"),
        region="cn-hangzhou",
        now=time.time(),
    )
    path = Path(where.directory, "grant.json")
    with open(path, "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(signed.text())
    fs = filesystem(work, where, grant=str(path))
    if work.verb in ("record", "recall"):
        return remembered(work, where, fs)
    return _timed(work, where, fs)


@candidate(
    "osspresigned:serve",
    verbs={"put", "multipart", "small"},
    checks=_CHECKS,
    needs=("click", "starlette", "uvicorn", "httptools"),
    note="signed by `osspresigned serve` on loopback; its processor time is not counted",
)
def served(work: Work, where: Where) -> Timed:
    """By a signer service in a process of its own."""
    url = where.closing.enter_context(_serving(where))
    os.environ["OSSPRESIGNED_BENCH_TOKEN"] = TOKEN
    fs = filesystem(
        work,
        where,
        signer=url,
        signer_token="env:OSSPRESIGNED_BENCH_TOKEN",  # noqa: S106 - a reference
        allowed_hosts=[urlsplit(where.url).netloc],
    )
    return _timed(work, where, fs)


class _serving:  # noqa: N801 - a context manager, used as one
    """The command ``osspresigned serve`` for the sink."""

    def __init__(self, where: Where) -> None:
        self._where = where

    def __enter__(self) -> str:
        from fsspec_osspresigned.owner.service.policy import hash_token  # noqa: PLC0415

        folder = Path(tempfile.mkdtemp(dir=self._where.directory))
        policy = folder / "policy.toml"
        policy.write_text(
            f'[signer]\nregion = "cn-hangzhou"\nendpoint = "{self._where.url}"\n'
            f'[[tokens]]\nname = "bench"\nsha256 = "{hash_token(TOKEN)}"\n'
            f'buckets = ["{self._where.target}"]\nprefixes = ["bench/"]\n'
            f"actions = {json.dumps(_ACTIONS)}\n"
        )
        log = folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "fsspec_osspresigned", "serve"),
                    *("--policy", os.fspath(policy), "--port", "0"),
                ],
                stdout=out,
                env={**os.environ, **KEYS},
            )
        for line in self._lines(log):
            if '"event": "started"' in line:
                return str(json.loads(line)["url"])
        raise RuntimeError(f"the service did not start: {log.read_text()[:500]}")

    def _lines(self, log: Path) -> Iterator[str]:
        while self._process.poll() is None:
            yield from log.read_text().rpartition("\n")[0].splitlines()
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)


@candidate(
    "osspresigned:dask",
    verbs={"dask"},
    checks=_CHECKS,
    needs=("distributed",),
    note="worker processes of one thread; each sends whole files",
)
def dask(work: Work, where: Where) -> Timed:
    """By the key signer, from the workers of a dask cluster on this machine."""
    from distributed import Client, LocalCluster  # noqa: PLC0415 - see filesystem

    os.environ.update(KEYS)
    cluster = where.closing.enter_context(
        LocalCluster(
            n_workers=work.concurrency,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            local_directory=where.directory,
        )
    )
    client = where.closing.enter_context(Client(cluster))
    jobs = [
        (name, f"{where.target}/{where.key(index)}")
        for index, name in enumerate(where.files)
    ]
    options = {"endpoint": where.url, "part_size": work.part_size}
    client.gather(client.map(_ready, range(4 * work.concurrency), pure=False))

    def run() -> None:
        client.gather(client.map(_send_one, jobs, options=options, pure=False))

    return run


def _ready(_: int) -> None:
    """Import on a worker what the timed part needs."""
    import fsspec_osspresigned.filesystem  # noqa: F401, PLC0415 - on the worker


def _send_one(job: tuple[str, str], *, options: dict[str, Any]) -> None:
    import fsspec  # noqa: PLC0415 - on the worker

    fsspec.filesystem("osspresigned", signer="keys", **options).put_file(*job)
