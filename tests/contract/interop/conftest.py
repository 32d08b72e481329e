"""Stores of a test's own, identities to sign with, and the page about all of it."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from attrs import evolve, frozen

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials
from tests.conftest import presigned
from tests.contract.interop import table
from tests.owner.service.conftest import Service, policy_text

HERE = Path(__file__).parent
BUCKET = "examplebucket"
REGION = "cn-hangzhou"
STRICT = bool(os.environ.get("ALL_INTEROP"))  # what is missing is an error
# They write whole URLs into their logs, signatures included.
_TALKATIVE = (
    "aiooss2", "alibabacloud_oss_v2", "asyncio", "boto3", "botocore", "curl", "httpcore",
    "httpx", "oss2", "ossfs", "s3transfer", "urllib3", "werkzeug",
)  # fmt: skip


@frozen
class Identity:
    """A version of the signature, and a key: permanent, or with an STS token."""

    version: str
    key: Credentials

    @property
    def pair(self) -> tuple[str, str]:
        """Id and secret."""
        return self.key.access_key_id, self.key.access_key_secret.reveal()

    @property
    def token(self) -> str | None:
        """The STS token."""
        token = self.key.security_token
        return None if token is None else token.reveal()


OWNER = Credentials("LTAI5tInteropOwner", Secret("interop-secret-of-owner"))
WRONG = evolve(OWNER, access_key_secret=Secret("another"))  # with a wrong secret
STS = Credentials(
    "STS.NTInteropTemporary",
    Secret("interop-secret-of-sts"),
    Secret("CAIS+interop/token=="),
)
IDENTITIES = [
    pytest.param(Identity(version, key), id=f"{version}-{name}")
    for version in ("v1", "v4")
    for name, key in (("key", OWNER), ("sts", STS))
]


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Let others' code warn; keep what its markers say for the page."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.interop)
        item.add_marker(pytest.mark.filterwarnings("default"))
    config.stash[_cells] = table.cells_of(ours)
    config.stash[_files] = {item.path for item in ours}


_cells = pytest.StashKey[list[table.Cell]]()
_files = pytest.StashKey[set[Path]]()


@pytest.fixture
def cells(request: pytest.FixtureRequest) -> list[table.Cell]:
    """The cells of all collected tests, selected or not."""
    return request.config.stash[_cells]


@pytest.fixture
def files(request: pytest.FixtureRequest) -> set[Path]:
    """The files they are in."""
    return request.config.stash[_files]


@pytest.fixture(autouse=True)
def hushed() -> Iterator[None]:
    """Keep others from writing signatures into the log of a test."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture
def store_options() -> dict[str, Any]:
    """Two keys: the owner's, and a temporary one."""
    return {"credentials": [OWNER, STS], "buckets": (BUCKET, "second")}


@pytest.fixture(params=IDENTITIES)
def identity(request: pytest.FixtureRequest) -> Identity:
    """Each version of the signature with each kind of key."""
    return request.param


@pytest.fixture
def sign(oss: Emulator) -> Callable[..., str]:
    """Sign a URL here."""

    def made(method: str, key: str, *, by: Identity | None = None, **more: Any) -> str:
        who = by or Identity("v4", OWNER)
        signer = {"credentials": who.key, "version": who.version}
        return presigned(oss, method, key, **signer, **more)

    return made


SITE = "https://app.example.com"


@pytest.fixture
def served(oss: Emulator, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start ``osspresigned serve`` for uploaders on ``SITE``; return its address.

    The token ``TOKEN`` may upload below ``data/``; *lines* are further ones of its policy.
    """
    running = []

    def start(*lines: str) -> str:
        file = tmp_path / "policy.toml"
        text = policy_text(*lines).replace('"HeadObject"', '"ListParts"')
        file.write_text(text, "utf-8")
        service = Service(file, "--uppy", SITE)
        running.append(service.process)
        return service.url

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def fs(oss: Emulator) -> Any:
    """This filesystem with the owner's key, and parts of the smallest size."""
    return fsspec.filesystem(
        "osspresigned",
        signer="keys",
        part_size=100 * 1024,
        multipart_threshold=100 * 1024,
        skip_instance_cache=True,
    )


def library(name: str) -> Any:
    """Import a client, which may warn, and must be there where all must be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return absent(f"the package {name} is not installed")


class Lazy:
    """A package that is imported when a test first asks for something in it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        """Return what the package has; pytest, which looks at everything, gets none."""
        if name.startswith(("_", "pytest")):
            raise AttributeError(name)
        return getattr(library(self._name), name)


def absent(what: str) -> None:
    """Skip with a reason that is printed, or fail where nothing may be missing."""
    if STRICT:
        pytest.fail(what)
    pytest.skip(what)


def program(name: str) -> str:
    """Return the path of a program beside Python, or of the machine, which may lack it."""
    beside = os.path.dirname(sys.executable)
    found = shutil.which(name, path=beside) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., list[Any]]:
    """Return the command that runs a script of ``node/`` with packages of npm."""
    runner = program("node")
    folders = [f for f in os.environ.get("NODE_PATH", "").split(os.pathsep) if f]

    def prepared(name: str, *needs: str) -> list[Any]:
        home = [f for f in folders if all((Path(f) / n).is_dir() for n in needs)]
        if needs and not home:
            absent(f"NODE_PATH leads to no {' and '.join(needs)} of npm")
        place = tmp_path / "node"
        place.mkdir(exist_ok=True)
        if home and not (place / "node_modules").exists():
            (place / "node_modules").symlink_to(home[0])
        shutil.copy(HERE / "node" / name, place)
        return [runner, place / name]

    return prepared


@contextlib.contextmanager
def running(command: list[Any], values: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start *command* with *values* as JSON on its standard input."""
    with subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdin.write(json.dumps(values).encode())
        process.stdin.close()
        yield process


@pytest.fixture
def node(script: Callable[..., list[Any]]) -> Callable[..., Any]:
    """Run a script of ``node/`` with packages of npm; its reply is JSON."""

    def run(name: str, *needs: str, **values: Any) -> Any:
        with running(script(name, *needs), values) as process:
            # communicate() cannot be used: the script asks for URLs through this pipe.
            said = process.stdout.read()
            errors = process.stderr.read().decode()
        assert process.returncode == 0, errors
        return json.loads(said)

    return run


@pytest.fixture
def node_server(script: Callable[..., list[Any]]) -> Iterator[Callable[..., str]]:
    """Start a server in Node, which prints its URL, and stop it after the test."""
    with contextlib.ExitStack() as stack:

        def start(name: str, *needs: str, **values: Any) -> str:
            process = stack.enter_context(running(script(name, *needs), values))
            stack.callback(process.kill)
            return str(process.stdout.readline().decode().strip())

        yield start


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory):
    """SeaweedFS, a store that is used in earnest; it verifies both versions."""
    runner = program("weed")
    place = tmp_path_factory.mktemp("seaweedfs")
    keys = {"accessKey": "S3RVER", "secretKey": "S3RVER"}
    identity = {"name": "owner", "credentials": [keys], "actions": ["Admin"]}
    (place / "keys").write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(4)
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    given = [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    # The ports of its own protocol are 10,000 above unless they are given.
    inner = zip(names, free_ports(4), strict=True)
    given += [f"-{name}.grpc={port}" for name, port in inner]
    fixed = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-volume.max=20"]
    fixed += [
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
    ]
    fixed += [f"-dir={place}", f"-s3.config={place / 'keys'}"]
    with subprocess.Popen(
        [runner, "server", *fixed, *given],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        address = f"http://127.0.0.1:{ports[-1]}"
        try:
            make_bucket(made(address, "S3RVER", "s3v4"))
            yield address
        finally:
            process.terminate()


def kill_during(command, is_reached, **options):
    """Run a program, and kill it as soon as *is_reached* returns True."""
    with subprocess.Popen(command, **options) as child:
        while not is_reached():
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()


def free_ports(count):
    """Return ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def make_bucket(owner):
    """Make the bucket as soon as a store that is starting can do so."""
    errors = library("botocore.exceptions")
    for _ in range(300):
        try:
            owner.create_bucket(Bucket=BUCKET)
        except (errors.BotoCoreError, errors.ClientError):
            time.sleep(0.1)
        else:
            return
    pytest.fail("SeaweedFS did not start")


def made(address, secret, version):
    """Return boto3 at a server, path style."""
    return library("boto3").client(
        "s3",
        endpoint_url=address,
        aws_access_key_id="S3RVER",
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=library("botocore.config").Config(
            signature_version=version,
            s3={"addressing_style": "path"},
        ),
    )


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The server of moto; it does not verify signatures."""
    server = library("moto.server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "fake")
        thread = server.ThreadedMotoServer(
            ip_address="127.0.0.1", port=0, verbose=False
        )
        thread.start()
        try:
            yield f"http://127.0.0.1:{thread.get_host_and_port()[1]}"
        finally:
            thread.stop()
