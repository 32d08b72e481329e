"""``osspresigned serve``: the policy at work, as a process that follows its file."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.errors import ConfigurationError, SignerUnavailableError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.owner.service.app import (
    AccessRecord,
    ServiceRules,
    create_ruled_app,
)
from fsspec_osspresigned.owner.service.limits import RateLimits
from fsspec_osspresigned.owner.service.policy import (
    SignerSettings,
    hash_token,
    parse_policies,
)
from fsspec_osspresigned.owner.service.policy_file import make_signer
from fsspec_osspresigned.secret import Secret, SecretURL
from fsspec_osspresigned.signers import keys as providers
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint, describe
from fsspec_osspresigned.tools import cli
from tests.owner.service.conftest import TOKEN, policy_text

NOW = 1_767_225_600.0
KEYS = KeySigner(
    credentials=lambda: Credentials("LTAIfakeid", Secret("fakesecret")),
    endpoint=Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com"),
    region="cn-hangzhou",
    clock=lambda: NOW,
)


def ask(port: int, *keys: str, token: str = TOKEN, **members):
    """Return status, JSON and headers for PutObjects on *keys*."""
    requests = [
        {
            "action": "PutObject",
            "bucket": "examplebucket",
            "key": key,
            "content_length": 3,
            **members,
        }
        for key in keys
    ]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        body = json.dumps({"requests": requests})
        connection.request(
            "POST", "/v1/sign", body, {"Authorization": f"Bearer {token}"}
        )
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()), reply.headers


@contextlib.contextmanager
def app(text: str, signer=KEYS, **options):
    """Serve a policy in this process; yield the port and the records."""
    rules = ServiceRules(signer=signer, tokens=parse_policies(text).tokens)
    told: list[AccessRecord] = []
    made = create_ruled_app(lambda: rules, tell=told.append, **options)
    with LoopbackServer(made) as server:
        yield server.port, told


def test_calls_are_told_without_secrets():
    """One record a call: who, how much, how it went; no token and no URL."""
    keys = ("data/a", "data/b", "else/c")
    with app(policy_text()) as (port, told):
        assert ask(port, *keys)[0] == 200
        assert ask(port, "data/a", token="wrong")[0] == 401
        assert ask(port)[0] == 400
    found = [(r.token, r.requests, r.status, dict(r.codes)) for r in told]
    assert found == [
        ("writer", 3, 200, {"forbidden": 1}),
        (None, 0, 401, {"unauthorized": 1}),
        ("writer", 0, 400, {"invalid_request": 1}),
    ]
    assert told[0].paths == tuple(f"examplebucket/{key}" for key in keys)
    assert told[0].milliseconds > 0
    for record in told:
        assert all(s not in str(record) for s in (TOKEN, "wrong", "signature="))


def test_a_fault_ends_one_call_only():
    """An unforeseen exception gives an empty 500, and its class in the log."""

    class Faulty:
        def sign(self, operations):
            raise KeyError("fakesecret")

    with app(policy_text(), Faulty()) as (port, told):
        status, reply, _ = ask(port, "data/a")
        assert (status, reply["code"]) == (500, "unavailable")
        assert "fakesecret" not in str(reply)
        assert ask(port, "else/a")[0] == 200
    assert [record.fault for record in told] == ["KeyError", None]


def test_requests_per_minute_are_counted_per_token():
    """A token above its rate gets Retry-After; other tokens are not affected."""
    now = [0.0]
    text = policy_text("requests_per_minute = 6")
    text += "\n" + policy_text(token="another-token-00", name="free")
    with app(text, limits=RateLimits(lambda: now[0])) as (port, told):
        assert ask(port, *["data/a"] * 6)[0] == 200
        status, reply, headers = ask(port, "data/a")
        assert (status, reply["code"], reply["retry_after"]) == (
            429,
            "rate_limited",
            10,
        )
        assert headers["Retry-After"] == "10"
        assert ask(port, "data/a", token="another-token-00")[0] == 200
        now[0] += 10
        assert ask(port, "data/a")[0] == 200
        now[0] += 1e6  # a long pause permits one minute's requests, not more
        assert ask(port, *["data/a"] * 6)[0] == 200
        assert ask(port, "data/a")[0] == 429
    assert told[1].codes == {"rate_limited": 1}


def begin(port: int, body: bytes, token: str = TOKEN) -> socket.socket:
    """Send the head of a call for *body*, and return when the service awaits the rest."""
    connection = socket.create_connection(("127.0.0.1", port))
    head = (
        f"POST /v1/sign HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    connection.sendall(head.encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    return connection


def finish(connection: socket.socket, body: bytes) -> int:
    """Send the rest of a call and return the status of the reply."""
    with connection:
        connection.sendall(body)
        return int(connection.recv(100).split()[1])


CALL = json.dumps({"requests": [{"action": "HeadObject"}] * 6}).encode()


def test_batches_that_come_together_do_not_multiply_the_rate():
    """Only one of the calls that began within the rate is answered beyond it."""
    text = policy_text("requests_per_minute = 6")
    with app(text, limits=RateLimits(lambda: 0.0)) as (port, told):
        begun = [begin(port, CALL) for _ in range(5)]
        assert [finish(one, CALL) for one in begun] == [200, 429, 429, 429, 429]
    assert [record.requests for record in told] == [6, 0, 0, 0, 0]


@pytest.mark.parametrize("body", [CALL, b"{"])
def test_large_bodies_cost_what_they_could_hold(body):
    """A body of 1 MiB counts as a hundred requests, whatever it holds."""
    text = policy_text("requests_per_minute = 100")
    body = body.ljust(1 << 20)
    with app(text, limits=RateLimits(lambda: 0.0)) as (port, _):
        assert finish(begin(port, body), body) in (200, 400)
        assert ask(port, "data/a")[0] == 429


TWO_TOKENS = f"{policy_text()}\n{policy_text(token='another-token-00', name='free')}"


def test_calls_without_a_reply_are_bounded_for_each_token():
    """One token does not take the room of the others by heads alone."""
    with app(TWO_TOKENS, limits=RateLimits(calls=2)) as (port, _):
        begun = [begin(port, CALL) for _ in range(2)]
        status, reply, headers = ask(port, "data/a")
        assert (status, reply["retry_after"], headers["Retry-After"]) == (429, 1, "1")
        assert ask(port, "data/a", token="another-token-00")[0] == 200
        assert [finish(each, CALL) for each in begun] == [200, 200]
        assert ask(port, "data/a")[0] == 200


def test_bodies_without_a_reply_are_bounded_for_each_token():
    """One token does not fill the memory by bodies that are nearly complete."""
    body = CALL.ljust(1000)
    with app(TWO_TOKENS, limits=RateLimits(body_bytes=1500)) as (port, told):
        begun = begin(port, body)
        begun.sendall(body[:900])
        while finish(begin(port, body), body) == 200:
            time.sleep(0.01)
        assert told[-1].status == 429
        assert finish(begin(port, body, "another-token-00"), body) == 200
        assert finish(begun, body[900:]) == 200
        assert finish(begin(port, body), body) == 200


class Held:
    """A signer that holds each call for the key ``data/held`` until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.running = 0

    def sign(self, operations):
        """Sign *operations*, some of them late."""
        if operations[0].key == "data/held":
            self.running += 1
            self.begun.release()
            assert self.go.acquire(timeout=30)
            self.running -= 1
        return KEYS.sign(operations)


def test_call_keeps_its_place_until_its_reply():
    """A body that is complete still counts: it waits in memory for its signatures."""
    signer = Held()
    with (
        app(TWO_TOKENS, signer, limits=RateLimits(calls=1)) as (port, _),
        ThreadPoolExecutor() as pool,
    ):
        held = pool.submit(ask, port, "data/held")
        assert signer.begun.acquire(timeout=30)
        assert ask(port, "data/a")[0] == 429
        assert ask(port, "data/a", token="another-token-00")[0] == 200
        signer.go.release()
        assert held.result()[0] == 200
        assert ask(port, "data/a")[0] == 200


def test_calls_of_a_token_wait_only_for_each_other():
    """Each token has a queue of its own, which takes a few threads and no more."""
    signer = Held()
    with (
        app(TWO_TOKENS, signer, limits=RateLimits(threads=1)) as (port, _),
        ThreadPoolExecutor() as pool,
    ):
        held = [pool.submit(ask, port, "data/held") for _ in range(5)]
        for _ in held:
            assert signer.begun.acquire(timeout=30)
            assert ask(port, "data/a", token="another-token-00")[0] == 200
            assert signer.running == 1
            signer.go.release()
        assert [call.result()[0] for call in held] == [200] * 5


def test_filesystem_lives_with_sizes_and_locks(monkeypatch):
    """The client sends signed lengths, and raises a different error for each refusal."""
    text = policy_text("max_size = 1000", "max_part_size = 500", "overwrite = false")
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    with Emulator() as oss:
        signer = evolve(
            KEYS,
            credentials=lambda: oss.credentials,
            endpoint=oss.endpoint,
            clock=time.time,
        )
        with app(text, signer) as (port, _):
            fs = OSSPresignedFileSystem(
                signer=f"http://127.0.0.1:{port}",
                signer_token="env:OSSPRESIGNED_TOKEN",
            )
            fs.pipe_file("examplebucket/data/a", b"abc")
            with pytest.raises(OSError, match="1000 bytes"):
                fs.pipe_file("examplebucket/data/b", b"x" * 1001)
            with pytest.raises(FileExistsError):
                fs.pipe_file("examplebucket/data/a", b"x")
        assert bytes(oss.get("examplebucket", "data/a").data()) == b"abc"


class Chain:
    """What the official chain hands out."""

    def __init__(self, *answers, end=None):
        self.answers = answers
        self.end = end

    def get_credentials(self):
        """Return itself as the credentials."""
        if not self.answers:
            raise RuntimeError("metadata said fakesecret")
        return self

    def get_access_key_id(self):
        return self.answers[0]

    def get_access_key_secret(self):
        return self.answers[1]

    def get_security_token(self):
        return self.answers[2]

    def get_expiration(self):
        return self.end


class Wrapped:
    """A provider that hands on what another one has, as profiles do."""

    def __init__(self, inner, told=None):
        self.name = "default"
        self.inner = inner
        self.told = told or Chain("STS.id", "fakesecret", "token")

    def get_credentials(self):
        """Return the key without its end."""
        return self.told


@pytest.mark.parametrize(
    ("inner", "end"),
    [
        (Chain("STS.id", "fakesecret", "token", end=int(NOW) + 60), NOW + 60),
        (Wrapped(Chain("STS.in", "s", "token", end=int(NOW) + 60)), NOW + 60),
        (Chain("STS.id", "fakesecret", "token"), NOW + 900),
        (None, NOW + 900),
    ],
)
def test_end_is_found_where_the_chain_hides_it(inner, end):
    """A key with a minute left does not sign for a quarter of an hour."""
    source = providers.ChainCredentials(chain=Wrapped(inner), clock=lambda: NOW)
    assert source().expires_at == end


def test_key_is_renewed_before_its_end_and_refused_after():
    """Every batch takes the key of now, and no URL lives longer than its key."""
    now = [NOW]
    chain = Chain("STS.first", "fakesecret", "token", end=int(NOW) + 100)
    signer = KeySigner(
        credentials=providers.ChainCredentials(chain=chain, clock=lambda: now[0]),
        endpoint=KEYS.endpoint,
        region=KEYS.region,
        clock=lambda: now[0],
    )
    with app(policy_text(), signer) as (port, _):

        def facts():
            (result,) = ask(port, "data/a")[1]["results"]
            if "error" in result:
                return result["error"]["code"]
            url = SecretURL(result["url"])
            return url.reveal().partition("credential=")[2][:9], describe(
                url
            ).expires_at

        assert facts() == ("STS.first", NOW + 100)
        now[0] += 99
        assert facts() == ("STS.first", NOW + 100)
        now[0] += 1
        assert facts() == "unavailable"
        chain.answers = ("STS.later", "fakesecret", "token")
        chain.end = int(NOW) + 100_000
        assert facts() == ("STS.later", NOW + 100 + 3600)


PROFILE = """
[default]
type = access_key
access_key_id = LTAIfakeid
access_key_secret = fakesecret
"""
ASK_THE_CHAIN = """
from fsspec_osspresigned.signers.keys import credential_provider
found = credential_provider("alibabacloud")()
print(found.access_key_id, found.expires_at)
"""


@contextlib.contextmanager
def metadata(end: int):
    """Serve a temporary key as an address of the chain does; yield the address."""

    async def answer(scope, receive, send):
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))
        found = {
            "Code": "Success",
            "AccessKeyId": "STS.fakeid",
            "AccessKeySecret": "fakesecret",
            "SecurityToken": "token",
            "Expiration": moment,
        }
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = json.dumps(found).encode()
        await send({"type": "http.response.body", "body": body})

    with LoopbackServer(answer) as server:
        yield server.url


@pytest.mark.parametrize("where", ["environment", "profile", "address"])
def test_official_chain_works(tmp_path, where):
    """The real package, in a process of its own, because it reads variables once."""
    if importlib.util.find_spec("alibabacloud_credentials") is None:
        pytest.skip("the extra credentials is not installed")
    end = int(time.time()) + 300
    with metadata(end) as address:
        variables = {
            "environment": {
                "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAIfakeid",
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "fakesecret",
            },
            "profile": {"ALIBABA_CLOUD_CREDENTIALS_FILE": str(tmp_path / "profile")},
            "address": {"ALIBABA_CLOUD_CREDENTIALS_URI": address},
        }
        (tmp_path / "profile").write_text(PROFILE)
        found = subprocess.run(
            [sys.executable, "-c", ASK_THE_CHAIN],
            env={
                **os.environ,
                "HOME": str(tmp_path),
                "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
                **variables[where],
            },
            capture_output=True,
            text=True,
            check=False,
        )
    wanted = f"STS.fakeid {end}.0" if where == "address" else "LTAIfakeid None"
    assert (found.stdout.strip(), found.returncode) == (wanted, 0), found.stderr


def test_temporary_key_in_the_environment_needs_its_end(keys, monkeypatch):
    """A temporary key needs its expiry, or URLs could outlive it unnoticed."""
    monkeypatch.setenv("OSS_SESSION_TOKEN", "token")
    with pytest.raises(ConfigurationError, match="OSS_SESSION_EXPIRATION is not"):
        make_signer(SignerSettings())
    monkeypatch.setenv("OSS_SESSION_EXPIRATION", "tomorrow")
    with pytest.raises(ConfigurationError, match="2026-11-25T10:00:00Z"):
        make_signer(SignerSettings())
    monkeypatch.setenv("OSS_SESSION_EXPIRATION", "2026-01-01T00:00:10Z")
    signer = make_signer(SignerSettings())
    assert signer.credentials().expires_at == NOW + 10


@pytest.mark.parametrize("chain", [Chain(), Chain("", "s", None), Chain("id", "", "t")])
def test_chain_without_a_key_is_tried_again_later(chain):
    """Nothing that the chain said is passed on."""
    with pytest.raises(SignerUnavailableError) as caught:
        providers.ChainCredentials(chain=chain)()
    assert "fakesecret" not in str(caught.value)


def test_providers_are_named(monkeypatch):
    """The environment needs no package; the chain's absence names the extra."""
    environment = providers.credential_provider("environment")
    assert environment is providers.environment_credentials
    with pytest.raises(ConfigurationError, match="'vault': use environment or"):
        providers.credential_provider("vault")
    name = "alibabacloud_credentials.provider"
    monkeypatch.setitem(sys.modules, "alibabacloud_credentials", None)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"osspresigned\[credentials\]"):
        providers.credential_provider("alibabacloud")
    fake = types.ModuleType(name)
    fake.DefaultCredentialsProvider = lambda: Chain("LTAIfakeid", "s", None)
    package = types.ModuleType("alibabacloud_credentials")
    monkeypatch.setitem(sys.modules, "alibabacloud_credentials", package)
    monkeypatch.setitem(sys.modules, name, fake)
    settings = SignerSettings(region="cn-hangzhou", credentials="alibabacloud")
    assert make_signer(settings).credentials().access_key_id == "LTAIfakeid"
    fake.DefaultCredentialsProvider = lambda: {}["fakesecret"]
    with pytest.raises(ConfigurationError, match=r"the chain fails \(KeyError\)"):
        providers.credential_provider("alibabacloud")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_signs_logs_and_stops(start, number):
    """From the first line of the log to the last, and exit code 0."""
    service = start("--log-keys")
    assert service.started["event"] == "started"
    assert service.started["tokens"] == 1
    assert ask(service.port, "data/a")[1]["results"][0]["expires_in"] >= 3599
    line = service.until("sign")
    assert line["paths"] == ["examplebucket/data/a"]
    assert (line["token"], line["signed"], line["codes"]) == ("writer", 1, {})
    code, out, err = service.end(number)
    assert (code, err) == (0, "")
    assert json.loads(out)["event"] == "stopped"


@pytest.mark.parametrize(
    ("host", "warns"),
    [("0.0.0.0", True), ("127.0.0.1", False)],  # noqa: S104 - its warning
)
def test_an_address_of_other_machines_is_warned_of(start, host, warns):
    """The service has no TLS and no limits of connections: that is its proxy's part."""
    _, _, err = start("--host", host).end()
    assert ("reverse proxy" in err) is warns


def test_stop_finishes_the_call_that_runs(start):
    """SIGTERM refuses new connections, and answers what came before."""
    service = start()
    begun = begin(service.port, CALL)
    service.process.send_signal(signal.SIGTERM)
    while is_open(service.port):
        time.sleep(0.01)
    assert finish(begun, CALL) == 200
    assert service.end()[0] == 0


def is_open(port: int) -> bool:
    """Return whether connections are taken."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.slow
def test_policy_reload_fails_no_request(start, policy_file):
    """By signal and by the file's change, good and bad, while others ask."""
    service = start()
    statuses = []
    done = threading.Event()

    def load():
        while not done.is_set():
            status, reply, _ = ask(service.port, *["data/a"] * 20)
            statuses.append((status, all("url" in r for r in reply["results"])))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    replace(policy_file, policy_text("typo = 1", "acls = [3]"))
    refused = service.until("policy_refused")
    assert len(refused["problems"]) == 2
    more = policy_text(token="another-token-00", name="second")
    replace(policy_file, f"{policy_text()}\n{more}")
    assert service.until("policy_reloaded")["tokens"] == 2
    service.process.send_signal(signal.SIGHUP)
    assert service.until("policy_reloaded")["tokens"] == 2
    done.set()
    for thread in threads:
        thread.join()
    assert len(statuses) > 2
    assert set(statuses) == {(200, True)}
    assert ask(service.port, "data/a", token="another-token-00")[0] == 200
    replace(policy_file, more)
    service.until("policy_reloaded")
    assert ask(service.port, "data/a")[0] == 401
    assert service.end()[0] == 0


def replace(file: Path, text: str) -> None:
    """Replace *file* by one with *text* at once, as editors do."""
    other = file.with_suffix(".new")
    other.write_text(text)
    other.replace(file)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "--policy FILE"),
        (["--policy", "bad.toml"], 2, "2 problems:\n- token 'writer': typo is not"),
        (["--policy", "good.toml", "--port", "PORT"], 1, "choose another --port"),
        (["--policy", "good.toml", "--host", "192.0.2.1"], 1, "choose another --host"),
        (["--policy", "good.toml", "--host", "no.invalid"], 1, "choose another --host"),
    ],
)
def test_service_that_cannot_start(
    keys, tmp_path, monkeypatch, capsys, options, code, said
):
    """The reason names the option, or every mistake of the policy."""
    monkeypatch.chdir(tmp_path)
    Path("good.toml").write_text(policy_text())
    Path("bad.toml").write_text(policy_text("typo = 1", "acls = [3]"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = [port if option == "PORT" else option for option in options]
        assert cli.main(["serve", *options]) == code
    assert said in capsys.readouterr().err


def test_missing_keys_are_told_before_the_start(policy_file, capsys):
    """All variables at once."""
    assert cli.main(["serve", "--policy", str(policy_file)]) == 2
    said = capsys.readouterr().err
    assert "OSS_ACCESS_KEY_ID" in said
    assert "OSS_ACCESS_KEY_SECRET" in said
    assert "set OSS_REGION, or region under [signer], for example cn-hangzhou" in said


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (f"{TOKEN}\n", 0, hash_token(TOKEN)),
        (TOKEN, 0, hash_token(TOKEN)),
        ("short\n", 2, "less than 16"),
        ("two words in one line\n", 2, "RFC 6750"),
    ],
)
def test_hash_of_a_token_is_printed(monkeypatch, capsys, given, code, said):
    """The token comes from stdin, so that no shell remembers it."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    assert cli.main(["serve", "--hash-token"]) == code
    out, err = capsys.readouterr()
    assert said in out + err
    assert given.strip() not in out + err


def test_policy_is_checked_without_a_key(tmp_path, capsys):
    """``--check`` prints permissions or mistakes, and opens no port."""
    place = tmp_path / "policy.toml"
    place.write_text(
        f"""[[tokens]]
        name = "lab"
        sha256 = "{hash_token(TOKEN)}"
        buckets = ["examplebucket"]
        prefixes = ["a/", "b/"]
        actions = ["PutObject", "HeadObject"]
        max_objects = 7
        callback = "https://app.example.com/uploaded"
        expires = 2026-01-01T00:00:00Z
        """
    )
    call = ["serve", "--policy", str(place), "--check"]
    assert cli.main(call) == 0
    ended = capsys.readouterr()
    assert ended.err == "warning: token 'lab' has expired\n"
    told = dict(line.split("  ", 1) for line in ended.out.splitlines())
    assert {name: text.strip() for name, text in told.items()} == {
        "token": "lab",
        "paths": "below examplebucket/a/, examplebucket/b/",
        "actions": "HeadObject, PutObject",
        "overwrite": "permitted",
        "URLs": "valid for 1 h at most",
        "token expires": told["token expires"],
        "objects": "7 at most",
        "callback": "https://app.example.com/uploaded",
    }
    assert told["token expires"].startswith("2026-01-01T00:00:00Z (EXPIRED")
    place.write_text(place.read_text().replace("Head", "Heat").replace('"a/"', "1"))
    assert cli.main(call) == 2
    err = capsys.readouterr().err
    assert "token 'lab': actions[1]" in err
    assert "token 'lab': prefixes[0]" in err
    place.write_bytes(b"\xff")
    assert cli.main(call) == 2
    assert "is not UTF-8 at byte 0" in capsys.readouterr().err


def test_missing_server_extra_names_it(monkeypatch, capsys, policy_file):
    """Without uvicorn, the error says what to install."""
    name = "fsspec_osspresigned.owner.service.process"
    importlib.import_module(name)  # so that it can be taken away
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", "--policy", str(policy_file)]) == 2
    assert "fsspec-osspresigned[server]" in capsys.readouterr().err


def test_call_that_never_comes_whole_is_told():
    """A client that disconnects or is too slow is no error in the log."""
    with app(policy_text()) as (port, told):
        begin(port, CALL).close()
        while not told:
            time.sleep(0.01)
    assert (told[0].status, told[0].codes) == (408, {"incomplete": 1})
    assert told[0].fault is None


def test_log_names_the_client_behind_a_proxy_on_this_machine(start):
    """Invalid HTTP of a client adds no line to the log."""
    service = start()
    odd = [
        b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ]
    for request in odd:
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 ")
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    with contextlib.closing(connection):
        headers = {"X-Forwarded-For": "192.0.2.1"}
        connection.request("POST", "/v1/sign", b"{}", headers)
        assert connection.getresponse().status == 401
    _, out, _ = service.end()
    first, last = map(json.loads, out.splitlines())
    assert (first["status"], first["client"]) == (401, "192.0.2.1")
    assert last["event"] == "stopped"
