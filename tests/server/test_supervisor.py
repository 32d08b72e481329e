"""``osspresigned serve`` with several workers, and with TLS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import time
import urllib.request

import pytest

from fsspec_osspresigned import cli
from fsspec_osspresigned.asgi_server import listen
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.server.supervisor import Supervisor
from tests.server.conftest import TOKEN, pem, policy_text

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("keys")]


def is_alive(pid: int) -> bool:
    """Return whether the process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_share_a_port_a_policy_and_an_end(start, policy_file, number):
    """Each reads the policy again, and one signal ends them all."""
    service = start("--workers", "2", "--log-keys", "--ui")
    assert service.started["workers"] == 2
    workers = service.workers()
    assert len(workers) == 2
    assert service.ask() == 200
    assert service.until("sign")["paths"] == ["examplebucket/data/a"]
    with urllib.request.urlopen(service.url) as page:
        assert page.status == 200
        assert "Strict-Transport-Security" not in page.headers
    other = policy_file.with_suffix(".new")
    other.write_text(policy_text(token="another-token-00"))
    other.replace(policy_file)
    service.process.send_signal(signal.SIGHUP)
    for _ in range(2):
        service.until("policy_reloaded")
    assert {service.ask() for _ in range(8)} == {401}
    assert {service.ask("another-token-00") for _ in range(8)} == {200}
    code, out, err = service.end(number)
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"
    assert not any(map(is_alive, workers))


@pytest.mark.slow
def test_worker_that_dies_is_replaced(start):
    """The others serve on meanwhile."""
    service = start("--workers", "2")
    victim = min(service.workers())
    os.kill(victim, signal.SIGKILL)
    assert service.until("worker_died")["code"] == -signal.SIGKILL
    assert service.ask() == 200
    assert victim not in service.workers(1)
    assert service.end()[0] == 0


@pytest.mark.slow
def test_worker_that_cannot_start_is_tried_again(start, policy_file):
    """A mistake in the policy stops no worker that runs, and no replacement for good."""
    service = start("--workers", "2")
    workers = service.workers()
    policy_file.write_text(policy_text("typo = 1"))
    os.kill(min(workers), signal.SIGKILL)
    assert service.until("worker_died")["code"] == -signal.SIGKILL
    assert service.until("worker_died")["code"] == 2
    assert service.ask() == 200
    policy_file.write_text(policy_text())
    assert service.workers(1).isdisjoint(workers)
    assert service.end()[0] == 0


@pytest.mark.slow
def test_workers_end_with_who_looks_after_them(start):
    """A supervisor that is killed leaves nobody behind on the port."""
    service = start("--workers", "2")
    workers = service.workers()
    service.process.kill()
    service.process.communicate()
    while any(map(is_alive, workers)):
        time.sleep(0.02)
    with pytest.raises(ConnectionRefusedError):
        service.ask()


def test_dying_workers_are_started_more_and_more_slowly():
    """A worker that cannot live is tried again, with longer waits."""
    said = []

    async def play():
        with listen("127.0.0.1", 0) as listener:
            supervisor = Supervisor(
                work=sys.exit,
                count=1,
                listener=listener,
                first_wait=0.01,
            )

            def say(event, **facts):
                said.append((event, facts["code"], facts["again_in"]))
                if len(said) == 3:
                    os.kill(os.getpid(), signal.SIGTERM)

            supervisor.say = say
            await supervisor.run()

    asyncio.run(play())
    assert said == [("worker_died", 1, wait) for wait in (0.01, 0.02, 0.04)]


def test_worker_that_cannot_be_made_is_tried_again():
    """Want of memory or of files at one moment costs no worker for ever."""
    said = []

    async def play():
        with listen("127.0.0.1", 0) as listener:
            supervisor = Supervisor(
                work=lambda _: None,  # it cannot be handed to another process
                count=1,
                listener=listener,
                first_wait=0.01,
            )

            def say(_, **facts):
                said.append(facts)
                if len(said) == 2:
                    supervisor.stop()

            supervisor.say = say
            await supervisor.run()

    asyncio.run(play())
    assert [facts["again_in"] for facts in said] == [0.01, 0.02]
    assert said[0]["code"] is None
    assert said[0]["problem"].startswith("not started: ")


def test_worker_that_lived_long_is_replaced_soon():
    """Its death has another cause than how it is started."""
    waits = []

    async def play():
        with listen("127.0.0.1", 0) as listener:
            supervisor = Supervisor(
                work=repr,
                count=1,
                listener=listener,
                first_wait=0.01,
                good_seconds=0,
            )

            def say(_, **facts):
                waits.append(facts["again_in"])
                if len(waits) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)

            supervisor.say = say
            await supervisor.run()

    asyncio.run(play())
    assert waits == [0.01, 0.01]


def test_worker_that_is_being_started_is_stopped_too():
    """A signal that comes between two moments is not lost."""

    async def play():
        with listen("127.0.0.1", 0) as listener:
            supervisor = Supervisor(
                work=socket.socket.accept,
                count=1,
                listener=listener,
            )
            running = asyncio.create_task(supervisor.run())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            supervisor.stop()
            await running

    asyncio.run(play())


def serial_of(port: int) -> str:
    """Return the serial number of the certificate that is shown at *port*."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        context.wrap_socket(connection) as wrapped,
    ):
        data = wrapped.getpeercert(binary_form=True)
    assert data is not None
    return data.hex()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_service_speaks_tls(start, policy_file, tmp_path, monkeypatch, workers):
    """A filesystem uploads through an https signer; a renewed certificate is shown."""
    certificate, key = pem(tmp_path, "first")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    with Emulator() as oss:
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", oss.credentials.access_key_id)
        monkeypatch.setenv(
            "OSS_ACCESS_KEY_SECRET", oss.credentials.access_key_secret.reveal()
        )
        policy_file.write_text(f'signer.endpoint = "{oss.url}"\n{policy_text()}')
        service = start(
            *("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)),
            *("--workers", str(workers)),
        )
        assert service.url.startswith("https://127.0.0.1:")
        if workers > 1:
            service.workers(workers)  # who is not yet there would die of SIGHUP
        fs = OSSPresignedFileSystem(
            signer=service.url, signer_token="env:OSSPRESIGNED_TOKEN"
        )
        fs.pipe_file("examplebucket/data/a", b"abc")
        assert bytes(oss.get("examplebucket", "data/a").data()) == b"abc"
    trusting = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(f"{service.url}/healthz", context=trusting) as reply:
        assert reply.headers["Strict-Transport-Security"].startswith("max-age=")
    before = serial_of(service.port)
    other, other_key = pem(tmp_path, "second")
    other_key.replace(key)
    other.replace(certificate)
    service.process.send_signal(signal.SIGHUP)
    for _ in range(workers):
        service.until("certificate_reloaded")
    assert serial_of(service.port) != before
    with pytest.raises(OSError):
        service.ask()
    assert service.end()[0] == 0


def test_mistakes_are_told_before_the_port_is_taken(policy_file, tmp_path, capsys):
    """A key without a certificate, a certificate that is none."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nonsense")
    call = ["serve", "--policy", str(policy_file), "--port", "0"]
    assert cli.main([*call, "--ssl-keyfile", str(wrong)]) == 2
    assert "--ssl-keyfile needs --ssl-certfile" in capsys.readouterr().err
    assert cli.main([*call, "--ssl-certfile", str(wrong)]) == 2
    assert "cannot be used" in capsys.readouterr().err
