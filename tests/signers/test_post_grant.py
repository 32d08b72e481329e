"""Grants as a source of signatures: files, servers, and the objects that they allow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from fsspec_osspresigned.errors import (
    ConfigurationError,
    NetworkError,
    NotCoveredError,
    SignerError,
    SignerUnavailableError,
    WrongRequestSignedError,
)
from fsspec_osspresigned.model import Action, Operation, Reply
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers import make_signer
from fsspec_osspresigned.signers.post_grant import FetchedGrant, PostGrantSigner
from tests.signers.grants import BUCKET, NOW, PREFIX, URL, document, flat_v4

PATH = f"{BUCKET}/in/x"
TOKEN = "tokenCANARYtoken"


def post(key: str = "in/x", action: Action = Action.PostObject) -> Operation:
    """Return one upload."""
    return Operation(action=action, bucket=BUCKET, key=key, content_length=5)


def never(*_: object) -> Any:
    """Fail where no server and no other filesystem may be asked."""
    raise AssertionError


def signer_of(grant: Any, **options: Any) -> PostGrantSigner:
    """Return the signer of an option, which sends no request."""
    found = make_signer(Options(grant=grant, **options), never)
    assert isinstance(found, PostGrantSigner)
    return found


def current(*items: Any, **facts: Any) -> dict[str, Any]:
    """Return a grant that has just been made."""
    return document(*items, **{"now": time.time(), **facts})


# -- places --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}"])
def test_files_hold_grants(tmp_path, form):
    """A grant is read from a file, and again when the file changes."""
    path = tmp_path / "grant.json"
    path.write_text(json.dumps(current()))
    path.chmod(0o600)
    signer = signer_of(form.format(path))
    (signed,) = signer.sign([post()])
    assert signed.url.reveal() == URL
    path.write_text(json.dumps(current(["starts-with", "$key", "out/"])))
    with pytest.raises(NotCoveredError, match="does not meet"):
        signer.sign([post()])
    signer.invalidate(signed)
    assert signer.sign([post("out/x")])


def test_exposed_file_is_told(tmp_path):
    """A grant that others can read is worth a warning, and a broken change too."""
    path = tmp_path / "grant.json"
    path.write_text(json.dumps(current()))
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="holds a grant and can be read by others"):
        signer = signer_of(str(path))
    path.write_text("{")
    with pytest.warns(UserWarning, match="the old grant stays in use"):
        assert signer.sign([post()])


def test_bad_places_are_named(tmp_path):
    """Mistakes are found when the filesystem is made, and name the source."""
    path = tmp_path / "grant.json"
    path.write_text("{}")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"grant\.json: it has no policy"):
        signer_of(str(path))
    with pytest.raises(ConfigurationError, match="cannot read the grant"):
        signer_of(str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="grant: it is not JSON"):
        signer_of("{")
    with pytest.raises(ConfigurationError, match="it has no policy"):
        signer_of({})


def test_plain_http_needs_the_option():
    """A grant does not leave this machine unencrypted, unless that is wished."""
    given = {**current(), "url": URL.replace("https", "http")}
    with pytest.raises(ConfigurationError, match=f"{BUCKET}.*is plain http"):
        signer_of(given)
    assert signer_of(given, allow_http=True).sign([post()])


# -- what it signs -------------------------------------------------------------------------


def test_grants_store_whole_objects_only():
    """A path is uploaded by one form, until the grant ends; all other calls are refused."""
    signer = signer_of(current())
    found = signer.grant(PATH)
    assert (found.single, found.multipart) == (True, None)
    assert found.action is Action.PostObject
    assert found.expires_at == pytest.approx(time.time() + 3600, abs=60)
    with pytest.raises(NotCoveredError, match="does not meet"):
        signer.grant(f"{BUCKET}/out/x")
    for action in Action:
        if action is not Action.PostObject:
            with pytest.raises(NotCoveredError, match="only store whole new objects"):
                signer.preflight(post(action=action))
    signer.preflight(post())
    with pytest.raises(NotCoveredError, match="does not meet"):
        signer.preflight(post("out/x"))


# -- servers -------------------------------------------------------------------------------


class Time:
    """A clock that moves only when a test moves it."""

    now = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Server:
    """Answers in place of a server, and notes what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, str | None, int]] = []

    def __call__(self, method, url, headers, body, limit) -> Reply:
        """Answer as the next of the answers says; the last one stands for all others."""
        assert body == b""
        self.asked.append((method, url.reveal(), headers.get("Authorization"), limit))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Reply):
            return answer
        return Reply(
            status=200,
            headers={"content-type": "application/json"},
            body=json.dumps(answer).encode(),
        )


def fetching(
    server: Callable[..., Reply],
    url: str = "https://app.example.com/sign?for=me",
    **more: Any,
) -> tuple[PostGrantSigner, Time]:
    """Return the signer of a server's grants, and its clock."""
    clock = Time()
    source = FetchedGrant(url, exchange=server, clock=clock, **more)
    return PostGrantSigner(source, clock), clock


def test_servers_are_asked_once():
    """A grant serves all objects, until shortly before its end."""
    later = document(now=NOW + 3580)
    server = Server(flat_v4(), later)
    signer, clock = fetching(server)
    first = signer.sign([post(), post("in/y")])
    assert signer.grant(PATH).expires_at == NOW + 3600
    assert [one.issued_at for one in first] == [NOW, NOW]
    clock.now = NOW + 3569
    assert not first[0].is_stale(clock.now)
    signer.sign([post()])
    assert server.asked == [
        ("GET", "https://app.example.com/sign?for=me", None, 1 << 20)
    ]
    clock.now = NOW + 3580
    assert first[0].is_stale(clock.now)
    (signed,) = signer.sign([post()])
    assert len(server.asked) == 2
    assert (signed.issued_at, signed.expires_at) == (NOW + 3580, NOW + 7180)


def test_an_outage_is_survived_as_long_as_a_grant_is_left():
    """A server that is away matters only when no grant is left."""
    away = NetworkError("connection refused")
    server = Server(document(), away)
    signer, clock = fetching(server)
    signer.sign([post()])
    clock.now = NOW + 3590
    assert signer.sign([post()])
    clock.now = NOW + 3600
    with pytest.raises(
        SignerUnavailableError, match="no answer from the server"
    ) as caught:
        signer.sign([post()])
    assert caught.value.filename == caught.value.path == PATH


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Reply(status=404), "app.example.com answered HTTP 404:"),
        (Reply(status=302, headers={"location": "https://x"}), "give its final URL"),
        (Reply(status=401), "check signer_token="),
        (
            Reply(
                status=400,
                headers={"content-type": "application/json"},
                body=b'{"detail": "which dir?"}',
            ),
            "HTTP 400 .which dir",
        ),
        (
            Reply(
                status=200,
                headers={"content-type": "text/html; charset=x"},
                body=b"<p>",
            ),
            "did not return a grant but text/html: it is not JSON",
        ),
        ({"code": 1, "msg": "log in first"}, "it has no policy.*it says: log in first"),
        (SignerError("the answer is too long"), "too long"),
    ],
)
def test_servers_without_a_grant_are_named(answer, reason):
    """A redirect, a page or an error instead of a grant has its own message."""
    signer, _ = fetching(Server(answer))
    with pytest.raises(SignerError, match=reason) as caught:
        signer.sign([post()])
    assert not isinstance(caught.value, SignerUnavailableError)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("https://evil.example.com/", "neither an OSS host nor that of the server"),
        ("http://examplebucket.oss-cn-hangzhou.aliyuncs.com/", "is plain http"),
        ("http://127.0.0.1/", "leads to this machine"),
        ("https://examplebucket.evil.aliyuncs.com/", "neither an OSS host"),
    ],
)
def test_fetched_grants_are_bound_to_hosts_of_oss(host, reason):
    """A server cannot send files elsewhere, unless the user allows the host."""
    given = {**document(), "url": host}
    signer, _ = fetching(Server(given))
    with pytest.raises(WrongRequestSignedError, match=reason):
        signer.sign([post()])
    if "evil.example" in host:
        signer, _ = fetching(Server(given), allowed_hosts={"evil.example.com": BUCKET})
        assert signer.sign([post()])[0].url.reveal() == host


def test_fetched_grants_are_bound_to_the_bucket():
    """A grant for another bucket than the path's signs nothing."""
    other = URL.replace(BUCKET, "otherbucket")
    given = {**document(bucket="otherbucket", url=other), "bucket": "otherbucket"}
    signer, _ = fetching(Server(given))
    with pytest.raises(NotCoveredError, match="is for the bucket 'otherbucket'"):
        signer.sign([post()])


def test_tokens_go_along_and_are_read_anew():
    """A refused token is read once more; the server cannot bring it into a message."""
    tokens = iter([Secret("old0CANARYtoken0"), Secret(TOKEN)])
    server = Server(Reply(status=401), document())
    signer, _ = fetching(server, token=lambda: next(tokens))
    signer.sign([post()])
    assert [one[2] for one in server.asked] == [
        "Bearer old0CANARYtoken0",
        f"Bearer {TOKEN}",
    ]
    server = Server({"message": f"who is {TOKEN}?"})
    signer, _ = fetching(server, token=lambda: Secret(TOKEN))
    with pytest.raises(SignerError, match="who is <hidden>"):
        signer.sign([post()])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://app.example.com/", "is plain http"),
        ("https://u:p@x/", "user information"),
    ],
)
def test_bad_addresses_are_refused(url, reason):
    """An address that would send a token in plain sight is refused at once."""
    with pytest.raises(ConfigurationError, match=reason):
        make_signer(Options(grant=url), never)


def test_fetched_grants_do_not_open_objects_unasked():
    """A public ACL needs the user's word, unless the owner's own file says so."""
    acl = {"x-oss-object-acl": "public-read"}
    asked = Operation(
        action=Action.PostObject,
        bucket=BUCKET,
        key="in/x",
        headers=acl,
        content_length=1,
    )
    signer, _ = fetching(Server(document(PREFIX, acl)))
    with pytest.raises(NotCoveredError, match="give acl='public-read' to confirm"):
        signer.sign([post()])
    assert signer.sign([asked])
    assert signer_of(current(PREFIX, acl)).sign([post()])
    signer, _ = fetching(Server(document(PREFIX, {"x-oss-object-acl": "private"})))
    assert signer.sign([post()])
