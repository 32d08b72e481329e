"""Grants of the signer service: in the sample's shape, and no wider than the policy."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path

import fsspec
import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.errors import NotCoveredError, SignerUnavailableError
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import (
    PATH,
    ServiceRules,
    create_app,
    create_ruled_app,
    grant_members,
)
from fsspec_osspresigned.owner.service.policy import (
    Policy,
    ServiceError,
    hash_token,
    place_in,
    terms_of,
)
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.signing.post_policy import PostPolicy
from fsspec_osspresigned.units import GIB
from tests.form_signer import signature_refusal

NODE = shutil.which("node")
NOW = 1_795_773_600.0
KEY = Credentials("STS.fake", Secret("fakesecret"), Secret("fake-token-1234567"))
LASTING = Credentials("LTAIfakeid", Secret("fakesecret"))
KEYS = KeySigner(
    credentials=lambda: KEY,
    endpoint=Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com"),
    region="cn-hangzhou",
    clock=lambda: NOW,
)
ONE = Policy(name="one", prefixes=("examplebucket/in/",), actions=[Action.PostObject])
TOKEN = "token-of-one-holder"


@pytest.fixture
def ask():
    """Ask a service for a grant; the facts that it logs are ``ask.told``."""
    told = []
    many = evolve(ONE, name="many", requests_per_minute=1)
    put = evolve(ONE, name="put", actions=[Action.PutObject])
    tokens = {TOKEN: ONE, "token-of-many": many, "token-of-put": put}
    rules = ServiceRules(
        signer=KEYS, tokens={hash_token(text): one for text, one in tokens.items()}
    )
    app = create_ruled_app(lambda: rules, tell=told.append)
    with LoopbackServer(app) as server:
        host = server.url.removeprefix("http://")

        def call(query="", token=TOKEN, method="GET"):
            with closing(http.client.HTTPConnection(host, timeout=10)) as connection:
                headers = {"Authorization": f"Bearer {token}"}
                connection.request(method, f"{PATH}{query}", headers=headers)
                reply = connection.getresponse()
                return reply.status, dict(reply.getheaders()), reply.read()

        call.told = told
        yield call


def form_of(answer, key="in/a"):
    """Return the form that the sample's client makes of an answer."""
    return {
        "success_action_status": "200",
        "policy": answer["policy"],
        "x-oss-signature": answer["signature"],
        "x-oss-signature-version": "OSS4-HMAC-SHA256",
        "x-oss-credential": answer["x_oss_credential"],
        "x-oss-date": answer["x_oss_date"],
        "key": key,
        "x-oss-security-token": answer["security_token"],
    }


def test_answer_has_the_shape_of_the_sample(ask):
    """The members of the official sample, and a form made of them that OSS takes."""
    status, headers, body = ask()
    assert (status, headers["cache-control"]) == (200, "no-store")
    answer = json.loads(body)
    assert {*answer} == {
        *("policy", "signature", "x_oss_signature_version", "x_oss_credential"),
        *("x_oss_date", "security_token", "host", "dir"),
    }
    assert answer["host"] == "https://examplebucket.oss-cn-hangzhou.aliyuncs.com"
    assert answer["dir"] == "in/"
    form = form_of(answer)
    refusal = signature_refusal(form, KEY, NOW)
    assert refusal is None
    policy = PostPolicy.parse(answer["policy"])
    asked = {"bucket": "examplebucket", "now": NOW}
    assert policy.judge(form, size=5 * GIB, **asked) == []
    assert policy.judge({**form, "key": "out/a"}, size=1, **asked)
    assert policy.expires_at == NOW + 3600


@pytest.mark.parametrize(
    ("query", "token", "status", "code"),
    [
        ("", "another-token", 401, "unauthorized"),
        ("", "token-of-put", 403, "action_not_granted"),
        ("?dir=out/", TOKEN, 403, "forbidden"),
        ("?bucket=other", TOKEN, 403, "forbidden"),
        ("?bucket=examplebucket/in", TOKEN, 403, "forbidden"),
        ("?dir=in/$%7Bfilename%7D", TOKEN, 400, "invalid_request"),
    ],
)
def test_refusals(ask, query, token, status, code):
    """A refusal is a problem document, is counted once, and signs nothing."""
    found, _, body = ask(query, token)
    assert found == status
    assert json.loads(body)["code"] == code
    (record,) = ask.told
    assert dict(record.codes) == {code: 1}


def test_place_is_the_only_one_or_is_named():
    """Several places need names; a folder below one needs no more than its own."""
    assert place_in(ONE, {}) == "examplebucket/in/"
    assert place_in(ONE, {"dir": "in/2026"}) == "examplebucket/in/2026/"
    several = evolve(
        ONE, prefixes=("examplebucket/a/", "examplebucket/b/", "bucket-2/a/")
    )
    assert place_in(several, {"bucket": "bucket-2"}) == "bucket-2/a/"
    assert place_in(several, {"dir": "b/"}) == "examplebucket/b/"
    assert place_in(several, {"bucket": "bucket-2", "dir": "a/x/"}) == "bucket-2/a/x/"
    for wish in ({}, {"dir": "a/"}, {"bucket": "examplebucket"}):
        with pytest.raises(ServiceError, match="say which"):
            place_in(several, wish)
    whole = evolve(ONE, prefixes=("examplebucket/",))
    assert place_in(whole, {"dir": ""}) == "examplebucket/"
    with pytest.raises(ServiceError, match="outside"):
        place_in(ONE, {"dir": ""})


def test_limits_of_the_policy_are_terms():
    """Size, overwriting, ACL, storage class and types are kept by the signed policy."""
    policy = evolve(
        ONE,
        max_size=100,
        overwrite=False,
        acls=frozenset({"public-read", "private"}),
        storage_classes=frozenset({"Standard", "IA"}),
        content_types=("image/png", "image/jpeg"),
        max_expires_in=60,
    )
    terms = terms_of(policy, "examplebucket/in/")
    assert terms.sizes == (0, 100)
    assert (terms.acl, terms.overwrite, terms.expires_in) == ("private", False, 60)
    assert terms.fields == {"x-oss-storage-class": "Standard"}
    answer = grant_members(KEYS, policy, "examplebucket/in/")
    assert answer["x_oss_forbid_overwrite"] == "true"
    assert answer["x_oss_object_acl"] == "private"
    assert answer["x_oss_storage_class"] == "Standard"
    asked = {"bucket": "examplebucket", "size": 1, "now": NOW}
    form = form_of(answer)
    signed = PostPolicy.parse(answer["policy"])
    assert len(signed.judge(form, **asked)) == 4
    named = {
        name.replace("_", "-"): value
        for name, value in answer.items()
        if name.startswith("x_oss_")
    }
    own = {**form, **named, "x-oss-content-type": "image/png"}
    assert signed.judge(own, **asked) == []


def test_lasting_key_has_no_token():
    """The key exists but is empty, so that no client sends ``undefined``."""
    lasting = evolve(KEYS, credentials=lambda: LASTING)
    answer = grant_members(lasting, ONE, "examplebucket/in/")
    assert answer["security_token"] == ""
    form = form_of(answer)
    del form["x-oss-security-token"]
    refusal = signature_refusal(form, LASTING, NOW)
    assert refusal is None


# What OSS's sample page does with the answer, field by field.
SAMPLE_CLIENT = """
const [address, token, name, text] = process.argv.slice(2);
const reply = await fetch(address, { headers: { Authorization: `Bearer ${token}` } });
const data = await reply.json();
const formData = new FormData();
formData.append("success_action_status", "200");
formData.append("policy", data.policy);
formData.append("x-oss-signature", data.signature);
formData.append("x-oss-signature-version", "OSS4-HMAC-SHA256");
formData.append("x-oss-credential", data.x_oss_credential);
formData.append("x-oss-date", data.x_oss_date);
formData.append("key", data.dir + name);
formData.append("x-oss-security-token", data.security_token);
formData.append("file", new Blob([text]), name);
const stored = await fetch(data.host, { method: "POST", body: formData });
console.log(stored.status);
"""


@pytest.mark.skipif(NODE is None, reason="there is no node here")
def test_client_of_the_sample_uploads(tmp_path):
    """The browser code of the sample works as it is, but for the bearer token."""
    (tmp_path / "client.mjs").write_text(SAMPLE_CLIENT)
    with Emulator(credentials=[KEY]) as oss:
        signer = evolve(
            KEYS,
            endpoint=oss.endpoint,
            clock=time.time,
        )
        app = create_app(signer, tokens={hash_token(TOKEN): ONE})
        with LoopbackServer(app) as server:
            done = subprocess.run(
                [NODE, "client.mjs", server.url + PATH, TOKEN, "a b.txt", "hello"],
                cwd=tmp_path,
                env={"PATH": str(Path(str(NODE)).parent)},
                capture_output=True,
                text=True,
                timeout=50,
                check=False,
            )
        assert (done.stdout, done.stderr) == ("200\n", "")
        assert oss.get("examplebucket", "in/a b.txt").data() == b"hello"


def test_our_own_uploader_gets_its_grants_here(oss, monkeypatch):
    """The address of the service is a grant; what the policy pins is sent unasked."""
    policy = evolve(ONE, overwrite=False, acls=frozenset({"private"}), max_size=100)
    signer = evolve(
        KEYS,
        credentials=lambda: oss.credentials,
        endpoint=oss.endpoint,
        clock=time.time,
    )
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    app = create_app(signer, tokens={hash_token(TOKEN): policy})
    with LoopbackServer(app) as server:
        fs = fsspec.filesystem(
            "osspresigned",
            grant=server.url + PATH,
            signer_token="env:OSSPRESIGNED_TOKEN",
            skip_instance_cache=True,
        )
        fs.pipe_file("examplebucket/in/a", b"one")
        with pytest.raises(NotCoveredError, match="size"):
            fs.pipe_file("examplebucket/in/b", bytes(101))
        with pytest.raises(FileExistsError):
            fs.pipe_file("examplebucket/in/a", b"two")
    found = oss.get("examplebucket", "in/a")
    assert found.data() == b"one"
    assert found.headers["x-oss-object-acl"] == "private"


class _Absent:
    def __call__(self):
        raise SignerUnavailableError("the chain rests")


@pytest.mark.parametrize(
    ("signer", "code"),
    [
        (evolve(KEYS, version="v1"), "action_not_granted"),
        (object(), "action_not_granted"),
        (evolve(KEYS, credentials=_Absent()), "unavailable"),
    ],
)
def test_signers_that_make_no_grants(signer, code):
    """V1, a signer without keys, and one whose keys are missing have own errors."""
    with pytest.raises(ServiceError) as error:
        grant_members(signer, ONE, "examplebucket/in/")
    assert error.value.code == code
