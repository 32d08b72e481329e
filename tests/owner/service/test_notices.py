"""OSS notifies the owner's web service of each object that a token has uploaded."""

from __future__ import annotations

import ast
import base64
import json
import re
import runpy
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

import pytest
import responses
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.errors import CallbackFailedWarning
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART, Action
from fsspec_osspresigned.owner.service.app import PATH, create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner

EXAMPLE = Path(__file__).parents[3] / "examples" / "serving" / "notices_flask.py"
TOKEN = "a-made-up-token-0"
KEY = "in/ü &b=c.csv"
BODY = b"a,b\n"
PUBLIC = "https://gosspublic.alicdn.com/callback_pub_key_v1.pem"
SECRET = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = SECRET.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
POLICY = Policy(
    name="partner & co",
    prefixes=("examplebucket/in/",),
    actions=frozenset(Action),
    callback="https://app.example.com/uploaded?by=oss",
)


class OSSCallback:
    """OSS's side of a callback: fills in the body, signs it, and sends it."""

    def __init__(self):
        self.client = runpy.run_path(str(EXAMPLE))["app"].test_client()
        self.store = None
        self.asked = []

    def __call__(self, asked):
        self.asked.append(asked)
        stored = self.store.get("examplebucket", KEY)
        facts = {
            "bucket": "examplebucket",
            "object": KEY,
            "size": stored.size,
            "etag": stored.etag,
            "crc64": stored.crc64,
            "mimeType": stored.headers["content-type"],
        }
        body = re.sub(
            r"\$\{(\w+)\}",
            lambda fact: quote(str(facts[fact[1]]), safe=""),
            asked["callbackBody"],
        )
        reply = self.post(asked["callbackUrl"], body)
        return reply.data if reply.status_code == 200 else None

    def post(self, url, body, sent=None, public=PUBLIC):
        """Sign *body*, and send it, or *sent* in its place."""
        parts = urlsplit(url)
        signed = f"{unquote(parts.path)}?{parts.query}\n{body}".encode()
        signature = SECRET.sign(signed, padding.PKCS1v15(), hashes.MD5())  # noqa: S303 - OSS's own
        return self.client.post(
            f"{parts.path}?{parts.query}",
            data=sent or body,
            content_type="application/x-www-form-urlencoded",
            headers={
                "Authorization": base64.b64encode(signature).decode(),
                "x-oss-pub-key-url": base64.b64encode(public.encode()).decode(),
            },
        )


@pytest.fixture
def oss_callback():
    """The web service of the example, which gets OSS's public key from where it is."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as web:
        web.add_passthru("http://127.0.0.1")
        web.get(PUBLIC, body=PEM)
        yield OSSCallback()


@pytest.fixture
def store_options(oss_callback):
    """A store that calls the web service."""
    return {"callback": oss_callback}


@pytest.fixture
def signer(oss, oss_callback, monkeypatch):
    """The address of a service whose policy names the web service."""
    oss_callback.store = oss
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    app = create_app(KeySigner.from_options(), tokens={hash_token(TOKEN): POLICY})
    with LoopbackServer(app) as server:
        yield server.url


@pytest.mark.parametrize(
    ("options", "data", "action"),
    [
        ({}, BODY, "PutObject"),
        ({"part_size": MIN_PART}, bytes(2 * MIN_PART), "CompleteMultipartUpload"),
        (None, BODY, "PostObject"),
    ],
)
def test_each_object_is_told(oss, signer, capsys, options, data, action):
    """One verified notice has the facts of the object, and the name of the token."""
    by_form = {"grant": f"{signer}{PATH}"}
    source = by_form if options is None else {"signer": signer, **options}
    fs = OSSPresignedFileSystem(signer_token="env:OSSPRESIGNED_TOKEN", **source)
    with fs.open(f"examplebucket/{KEY}", "wb", content_type="text/csv") as file:
        file.write(data)
    stored = oss.get("examplebucket", KEY)
    assert oss.requests[-1].action == action
    assert ast.literal_eval(capsys.readouterr().out) == {
        "bucket": "examplebucket",
        "object": KEY,
        "size": str(len(data)),
        "etag": stored.etag,
        "crc64": str(stored.crc64),
        "mimeType": "text/csv",
        "token": "partner & co",
    }


def test_the_bearer_cannot_leave_it_out(oss, signer):
    """A request without the signed header is refused, and nothing is stored."""
    item = {"action": "PutObject", "bucket": "examplebucket", "key": KEY}
    body = json.dumps({"requests": [{**item, "content_length": len(BODY)}]}).encode()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with urlopen(Request(f"{signer}/v1/sign", body, headers)) as reply:
        (result,) = json.load(reply)["results"]
    asked = json.loads(base64.b64decode(result["headers"]["x-oss-callback"]))
    assert asked["callbackUrl"] == POLICY.callback
    with closing(HTTPConnection(urlsplit(oss.url).netloc)) as connection:
        connection.request("PUT", result["url"].removeprefix(oss.url), BODY)
        assert connection.getresponse().status == 403
    assert oss.objects("examplebucket") == {}


def test_a_service_that_refuses_leaves_the_object(oss, signer, oss_callback):
    """The uploader learns that the object is stored, and its owner was not notified."""
    oss_callback.client = runpy.run_path(str(EXAMPLE))["Flask"]("empty").test_client()
    fs = OSSPresignedFileSystem(signer=signer, signer_token="env:OSSPRESIGNED_TOKEN")
    with pytest.warns(CallbackFailedWarning):
        fs.pipe_file(f"examplebucket/{KEY}", BODY)
    assert oss.objects("examplebucket") == {KEY: BODY}


@pytest.mark.parametrize(
    "forged",
    [
        {"sent": "token=other"},
        {"public": "https://gosspublic.alicdn.com.example.org/key.pem"},
        {"public": "http://gosspublic.alicdn.com/callback_pub_key_v1.pem"},
        {"public": "https://gosspublic.alicdn.com/missing.pem"},
    ],
)
def test_only_what_oss_signed_is_taken(oss_callback, forged, capsys):
    """Another body, a key from another address, or none there, is refused."""
    url = POLICY.callback
    assert oss_callback.post(url, "token=one").status_code == 200
    assert capsys.readouterr().out == "{'token': 'one'}\n"
    assert oss_callback.post(url, "token=one", **forged).status_code == 403
    assert oss_callback.client.post("/uploaded", data="token=one").status_code == 403
    assert capsys.readouterr().out == ""
