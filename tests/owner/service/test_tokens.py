"""Tokens that end by themselves: by time, by a quota, or by a command of the owner."""

from __future__ import annotations

import json
import math
import os
import socket
import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.owner.service.app import (
    PATH,
    ServiceRules,
    create_app,
    create_ruled_app,
)
from fsspec_osspresigned.owner.service.limits import RateLimits
from fsspec_osspresigned.owner.service.policy import (
    Policy,
    ServiceError,
    added_tokens,
    hash_token,
    parse_policies,
)
from fsspec_osspresigned.owner.service.policy_file import PolicyFile
from fsspec_osspresigned.owner.service.process import ServiceSettings, launch
from fsspec_osspresigned.owner.service.token_store import TokenStore
from fsspec_osspresigned.owner.service.uppy import uppy_route
from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.signing.signed_url import describe
from fsspec_osspresigned.tools.cli.app import run
from fsspec_osspresigned.units import shown_moment
from tests.owner.service.conftest import TOKEN, policy_text
from tests.owner.service.test_app import KEYS, send
from tests.owner.service.test_uppy import JSON, SITE

KIB = 1024
FIVE = Policy(
    name="five",
    prefixes=("examplebucket/in/",),
    actions=frozenset(Action) - {Action.PostObject},
    max_objects=5,
)


@pytest.fixture
def store(tmp_path) -> TokenStore:
    """A store that is not yet a file."""
    return TokenStore(tmp_path / "tokens.sqlite3")


def put(name: str, size: int = 3) -> Operation:
    """Return an upload in one request."""
    return Operation(
        action=Action.PutObject,
        bucket="examplebucket",
        key=f"in/{name}",
        content_length=size,
    )


def part(number: int, size: int, upload: str = "U") -> Operation:
    """Return a part of an upload."""
    return evolve(
        put("large", size),
        action=Action.UploadPart,
        upload_id=upload,
        part_number=number,
    )


def count(store: TokenStore, policy: Policy, *operations: Operation) -> list[str]:
    """Count operations, one call of a client each; return the codes of the refusals."""
    codes = []
    for operation in operations:
        try:
            with store.counting(policy) as counted:
                counted(operation)
        except ServiceError as error:
            codes.append(error.code)
    return codes


@contextmanager
def serving(policy, store=None, **options):
    """Serve *policy*; yield a function that asks for uploads of the given keys."""
    rules = ServiceRules(signer=KEYS, tokens={hash_token(TOKEN): policy})
    app = create_ruled_app(lambda: rules, store=store, **options)
    item = {"action": "PutObject", "bucket": "examplebucket", "content_length": 3}
    with LoopbackServer(app) as server:

        def call(*keys, **how):
            body = {"requests": [{**item, "key": key} for key in keys]}
            return send(server, body, token=f"Bearer {TOKEN}", **how)

        yield call


# -- quotas ------------------------------------------------------------------------------


def test_names_count_once(store):
    """A retry is no further object; what is refused leaves the others their right."""
    names = [put(str(n % 5)) for n in range(12)]
    assert count(store, FIVE, *names) == []
    assert (
        count(store, FIVE, put("more"), put("0"), put("more")) == ["quota_exceeded"] * 2
    )
    assert store.left(FIVE) == {"objects_left": 0}


def test_an_upload_in_parts_is_one_object(store):
    """Its begin counts, its parts do not, and its end is of the same name."""
    begun = evolve(put("large"), action=Action.InitiateMultipartUpload)
    ended = evolve(put("large"), action=Action.CompleteMultipartUpload, upload_id="U")
    look = evolve(put("other"), action=Action.HeadObject)
    parts = [part(n, KIB) for n in range(1, 9)]
    assert count(store, FIVE, begun, *parts, ended, look) == []
    assert store.left(FIVE) == {"objects_left": 4}


def test_parts_leave_no_row_where_only_objects_count(store):
    """Otherwise the holder could fill the disk, and delay the owner's commands."""
    assert count(store, FIVE, put("large")) == []
    size = store.path.stat().st_size
    with store.counting(FIVE) as counted:
        for number in range(1, 1001):
            counted(part(number, KIB, f"{number:032X}"))
    assert store.path.stat().st_size == size
    assert store.left(FIVE) == {"objects_left": 4}


def test_reading_waits_for_no_writer(store):
    """The service applies revocations and quotas that another process changes."""
    assert count(store, FIVE, put("a")) == []
    with closing(sqlite3.connect(store.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert store.left(FIVE) == {"objects_left": 4}
        assert store.entries() == []


def test_questions_of_one_token_wait_in_its_own_queue(store):
    """The threads of the service stay free for other tokens."""
    with serving(FIVE, store, limits=RateLimits(calls=0)) as call:
        assert call(method="GET", path="/v1/permissions")[0] == 429


def test_bytes_count_by_part(store):
    """A repeated part costs nothing; another upload of the same name does."""
    policy = evolve(FIVE, max_objects=None, max_bytes=10 * KIB)
    assert count(store, policy, part(1, 4 * KIB), part(1, 4 * KIB)) == []
    assert count(store, policy, part(1, 2 * KIB), part(2, 5 * KIB)) == []
    assert store.left(policy) == {"bytes_left": KIB}
    assert count(store, policy, part(3, 2 * KIB)) == ["quota_exceeded"]
    with (
        pytest.raises(ServiceError, match=r"needs 2\.0 KiB, and 1\.0 KiB is left"),
        store.counting(policy) as charge,
    ):
        charge(part(3, 2 * KIB))
    assert count(store, policy, part(1, KIB, "V")) == []
    assert count(store, policy, put("a", 1), put("b", 0)) == ["quota_exceeded"]


def test_processes_share_the_count_and_a_restart_keeps_it(store):
    """Two connections that count at the same time never permit more together."""
    others = [TokenStore(store.path) for _ in range(4)]
    names = [put(str(n)) for n in range(40)]
    with ThreadPoolExecutor(8) as threads:
        calls = [
            threads.submit(count, others[n % 4], FIVE, name)
            for n, name in enumerate(names)
        ]
        refused = [code for call in calls for code in call.result()]
    assert len(refused) == 35
    assert TokenStore(store.path).left(FIVE) == {"objects_left": 0}
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_service_counts_what_it_signs(store):
    """A refused item costs nothing, the others of the call are signed."""
    keys = ("out/a", *(f"in/{n}" for n in range(7)))
    with serving(FIVE, store) as call:
        results = call(*keys)[1]["results"]
        left = call(method="GET", path="/v1/permissions")[1]
    codes = [result.get("error", {}).get("code") for result in results]
    assert codes == ["forbidden", *[None] * 5, *["quota_exceeded"] * 2]
    assert left["objects_left"] == 0


def test_size_is_signed_if_bytes_count(store):
    """Otherwise the holder could send more than was counted."""
    with serving(evolve(FIVE, max_bytes=KIB), store) as call:
        [result] = call("in/a")[1]["results"]
    assert result["headers"]["Content-Length"] == "3"
    assert "content-length" in describe(SecretURL(result["url"])).additional_headers


def test_database_that_cannot_be_made_is_told(keys, policy_file, tmp_path):
    """At the start, and in the log of each call: nothing is signed uncounted."""
    missing = TokenStore(tmp_path / "missing" / "tokens.sqlite3")
    said = f"cannot use the tokens in {missing.path}: No such file or directory"
    told = []
    with serving(FIVE, missing, tell=told.append) as call:
        assert call("in/a")[0] == 500
    assert told[0].fault == f"{said}: --tokens FILE names another file"
    policy_file.write_text(policy_text("max_objects = 1"))
    settings = ServiceSettings(policy_file=policy_file, tokens_file=missing.path, host="192.0.2.1")  # fmt: skip
    with pytest.raises(ConfigurationError, match="cannot use the tokens in"):
        launch(settings)


def test_quota_needs_the_file():
    """An application without one would permit everything."""
    with pytest.raises(ConfigurationError, match="quotas need the file"):
        create_app(KEYS, tokens={hash_token(TOKEN): FIVE})


# -- time --------------------------------------------------------------------------------


def test_token_ends():
    """The holder reads when; before that, no URL outlives the token."""
    policy = evolve(FIVE, max_objects=None, expires_at=time.time() + 300)
    with serving(policy) as call:
        [result] = call("in/a")[1]["results"]
    assert 200 <= result["expires_in"] <= 300
    assert (
        math.ceil(policy.expires_at - time.time()) == policy.permissions()["expires_in"]
    )
    with serving(evolve(policy, expires_at=1_767_225_600.0)) as call:
        status, reply, _ = call("in/a")
    assert (status, reply["code"]) == (401, "unauthorized")
    assert reply["detail"] == "the token expired at 2026-01-01T00:00:00Z"


@pytest.mark.parametrize("path", ["/v1/sign", "/s3/presign"])
def test_call_that_began_before_the_revocation_is_refused(path):
    """A call whose body arrives after a revocation is refused."""
    tokens = {hash_token(TOKEN): evolve(FIVE, max_objects=None)}
    app = create_ruled_app(
        lambda: ServiceRules(signer=KEYS, tokens=tokens),
        routes=lambda service: [uppy_route(service, [SITE])],
    )
    item = {"action": "HeadObject", "bucket": "examplebucket", "key": "in/a"}
    body = json.dumps({"requests": [item], "method": "PUT", "key": "a"}).encode()
    head = {"Authorization": f"Bearer {TOKEN}", "Content-Length": len(body), **JSON}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with (
        LoopbackServer(app) as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
    ):
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{lines}\r\n".encode())  # fmt: skip
        # The service asks for the body, so it has taken the token.
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        tokens.clear()
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_nothing_is_signed_in_the_last_second_of_a_token():
    """A signature lives for whole seconds, and would outlive the token."""
    with pytest.raises(ServiceError, match="the token has expired"):
        evolve(FIVE, expires_at=time.time() + 0.9).life()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1/sign", lambda reply: reply["results"][0]["error"]),
        ("/s3/presign", lambda reply: reply),
        (PATH, lambda reply: reply),
    ],
)
def test_a_late_signature_does_not_outlive_the_token(path, told):
    """The signer may wait for its key after the lifetime was computed."""
    late = evolve(KEYS, clock=lambda: time.time() + 5)
    policy = Policy(
        name="short",
        prefixes=("examplebucket/in/",),
        actions=frozenset(Action),
        expires_at=time.time() + 60,
    )
    app = create_ruled_app(
        lambda: ServiceRules(signer=late, tokens={hash_token(TOKEN): policy}),
        routes=lambda service: [uppy_route(service, [SITE])],
    )
    item = {"action": "HeadObject", "bucket": "examplebucket", "key": "in/a"}
    head = {"Authorization": f"Bearer {TOKEN}", **JSON}
    with LoopbackServer(app) as server:
        reply = requests.request(
            "GET" if path == PATH else "POST",
            server.url + path,
            json={"requests": [item], "method": "PUT", "key": "in/a"},
            headers=head,
            timeout=60,
        )
    error = told(reply.json())
    assert (error["status"], error["code"]) == (503, "unavailable")
    assert error["detail"] == "the signature would outlive the token: retry"


# -- the policy file ---------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["", '"'])
def test_policy_file_has_them_too(mark):
    """With the time as TOML has it, or as a text."""
    text = policy_text(
        f"expires = {mark}2026-12-31T18:00:00+08:00{mark}",
        "max_objects = 7",
        'max_bytes = "2GiB"',
    )
    [policy] = parse_policies(text).tokens.values()
    assert policy.expires_at == datetime(2026, 12, 31, 10, tzinfo=UTC).timestamp()
    assert (policy.max_objects, policy.max_bytes) == (7, 2 << 30)


# -- commands ----------------------------------------------------------------------------

PREFIX = ("--prefix", "examplebucket/partner/")


def test_added_token_works_until_it_is_revoked(keys, policy_file, capsys):
    """Within one look, without a restart, even if the policy file is broken by then."""
    given = ("--policy", str(policy_file))
    said = []
    keeper = PolicyFile(path=policy_file, say=lambda *facts, **_: said.append(facts))
    keeper.load()
    assert run(["serve", "token", "add", "bob", *given, *PREFIX, "--once"]) == 0
    made = capsys.readouterr().out.strip()
    keeper.refresh()
    policy = keeper.rules.tokens[hash_token(made)]
    assert (policy.name, policy.max_objects, policy.overwrite) == ("bob", 1, False)
    assert policy.prefixes == ("examplebucket/partner/",)
    assert hash_token(TOKEN) in keeper.rules.tokens
    database = policy_file.with_suffix(".sqlite3")
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert made.encode() not in database.read_bytes()

    assert run(["serve", "token", "list", *given]) == 0
    assert "bob: examplebucket/partner/, " in (out := capsys.readouterr().out)
    assert out.endswith("1 of 1 objects left\n")
    policy_file.write_text("broken")
    assert run(["serve", "token", "revoke", "bob", *given]) == 0
    keeper.refresh()
    assert [*keeper.rules.tokens] == [hash_token(TOKEN)]
    assert run(["serve", "token", "revoke", "bob", *given]) == 2


def test_a_policy_without_tokens_waits_for_invitations(keys, tmp_path, capsys):
    """A service that starts before the first invitation takes it up; typos are found."""
    file = tmp_path / "policy.toml"
    file.write_text('signer.region = "cn-hangzhou"\n[[token]]\n')
    keeper = PolicyFile(path=file, say=print)
    with pytest.raises(ConfigurationError, match="did you mean tokens"):
        keeper.load()
    file.write_text("")
    assert run(["serve", "--policy", str(file), "--check"]) == 0
    keeper.load()
    assert run(["serve", "invite", "bob", "--policy", str(file), *PREFIX]) == 0
    keeper.refresh()
    assert [policy.name for policy in keeper.rules.tokens.values()] == ["bob"]


def test_invitation_is_an_address_and_two_commands(policy_file, capsys):
    """The address has the token after the #, which is never sent; no command has it."""
    call = ["serve", "invite", "bob", "--policy", str(policy_file), "--expires", "90d"]
    place = ("--prefix", "examplebucket/of partner+1/")
    assert run([*call, *place, "--url", "https://sign.example.com/a;b/"]) == 0
    ended = capsys.readouterr()
    address, shown, save, command = ended.out.splitlines()
    database = policy_file.with_suffix(".sqlite3")
    assert ended.err.splitlines() == [
        f"added to {database}, which the service must use (--tokens)",
        "the address needs serve --ui",
    ]
    [entry] = TokenStore(database).entries()
    token = address.partition("#token=")[2].partition("&")[0]
    assert entry["sha256"] == hash_token(token)
    assert address == (
        f"https://sign.example.com/a;b/#token={token}&examplebucket/of%20partner%2B1/"
    )
    assert shown == token
    assert save.startswith("(umask 077; cat > osspresigned-token) ")
    assert command == (
        "osspresigned put FILE 'examplebucket/of partner+1/' "
        "--signer 'https://sign.example.com/a;b' --token file:osspresigned-token"
    )
    [policy] = added_tokens([entry]).values()
    assert 89 < (policy.expires_at - time.time()) / 86_400 <= 90


def test_invitation_may_end_at_a_time(policy_file, capsys):
    """The expiry is exact to the second; without --url, the address is local."""
    end = shown_moment(time.time() + 86_400)
    call = ["serve", "invite", "bob", "--policy", str(policy_file), *PREFIX]
    assert run([*call, "--expires", end]) == 0
    assert "is this machine alone: give --url" in capsys.readouterr().err
    [entry] = TokenStore(policy_file.with_suffix(".sqlite3")).entries()
    ends = datetime.fromisoformat(entry["expires"]) - datetime.fromisoformat(end)
    assert abs(ends) <= timedelta(seconds=1)


def test_token_of_the_policy_file_is_revoked_there(policy_file, capsys):
    """The command says so, and leaves its quota as it is."""
    store, policy = TokenStore.of(policy_file), evolve(FIVE, name="writer")
    assert count(store, policy, put("a")) == []
    call = ["serve", "token", "revoke", "writer", "--policy", str(policy_file)]
    assert run(call) == 2
    assert "remove a token of the policy from its file" in capsys.readouterr().err
    assert store.left(policy) == {"objects_left": 4}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["writer", *PREFIX], "the policy already has a token 'writer'"),
        (["bob", "--prefix", "examplebucket/partner"], "end it with a slash"),
        (["bob", "--prefix", "examplebucket"], "is the whole bucket"),
        (["bob", "--prefix", "B/partner/"], "buckets"),
        (["bob", *PREFIX, "--expires", "4000d"], "3650d"),
        (["bob", *PREFIX, "--expires", "2020-12-31T18:00:00Z"], "is not a lifetime"),
        (["bob", *PREFIX, "--url", "http://sign.example.com"], "--url"),
    ],
)
def test_mistakes_of_an_invitation(policy_file, capsys, arguments, said):
    """Nothing is made then."""
    call = ["serve", "invite", "--policy", str(policy_file), *arguments]
    assert run(call) == 2
    ended = capsys.readouterr()
    assert said in ended.err
    assert ended.out == ""
    assert not policy_file.with_suffix(".sqlite3").exists()


def test_a_name_is_given_once(policy_file, capsys):
    """The first token stays."""
    call = ["serve", "token", "add", "bob", "--policy", str(policy_file), *PREFIX]
    assert run(call) == 0
    assert run(call) == 2
    assert "a token 'bob' already exists" in capsys.readouterr().err
    assert run(["serve", "token", "list", "--json", *call[4:6]]) == 0
    [listed] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert listed["prefixes"] == ["examplebucket/partner/"]


def test_a_domain_gets_tokens_of_one_bucket(tmp_path, capsys):
    """The service would sign for the bucket that is asked for first, and no other."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[signer]\nendpoint = "https://f.example.com"\nstyle = "cname"\n')

    def add(name, *call):
        given = (name, "--policy", str(policy), "--prefix", f"{name}bucket/in/")
        return run(["serve", *call, *given])

    assert add("one", "token", "add") == 0
    for call in (["token", "add"], ["invite", "--url", "https://sign.example.com"]):
        assert add("two", *call) == 2
        said = "the domain of one bucket, not of onebucket, twobucket"
        assert said in capsys.readouterr().err
    [kept] = TokenStore.of(policy).entries()
    assert kept["name"] == "one"


def test_quotas_of_the_policy_file_are_listed(policy_file, store, capsys):
    """Beside the added tokens; other tokens of the file have nothing to count."""
    policy_file.write_text(policy_text("max_objects = 7"))
    [policy] = parse_policies(policy_file.read_text()).tokens.values()
    given = ("--policy", str(policy_file), "--tokens", str(store.path))
    assert run(["serve", "token", "list", *given]) == 0
    assert capsys.readouterr().out == ""
    assert count(store, policy, put("a"), put("b")) == []
    assert run(["serve", "token", "list", *given]) == 0
    assert (
        capsys.readouterr().out == "writer: examplebucket/data/, 5 of 7 objects left\n"
    )


def test_database_that_is_none_is_named(policy_file, capsys):
    """The message has its path and what SQLite says."""
    Path(policy_file.with_suffix(".sqlite3")).write_bytes(os.urandom(4096))
    assert run(["serve", "token", "list", "--policy", str(policy_file)]) == 2
    assert "cannot use the tokens in" in capsys.readouterr().err


def test_options_before_the_command_are_not_lost(policy_file, capsys):
    """They would have no effect there."""
    assert run(["serve", "--policy", str(policy_file), "token", "list"]) == 2
    assert "at the end of the command" in capsys.readouterr().err
