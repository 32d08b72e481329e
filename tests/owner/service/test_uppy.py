"""The route for Uppy signs within the policy, for the named web sites."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.owner.service.app import ServiceRules, create_ruled_app
from fsspec_osspresigned.owner.service.policy import parse_policies
from fsspec_osspresigned.owner.service.process import ServiceSettings
from fsspec_osspresigned.owner.service.uppy import uppy_route
from fsspec_osspresigned.parsing import complete_multipart_upload
from fsspec_osspresigned.signers.keys import KeySigner
from tests.owner.service.conftest import TOKEN, policy_text

SITE = "https://app.example.com"
BUCKET = "examplebucket"
PART = 100 * 1024
JSON = {"Content-Type": "application/json"}


def send(url, method, target, body=None, headers=None):
    """Send one request; return status, body and headers of the reply."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as line:
        line.request(method, target, body, headers or {})
        reply = line.getresponse()
        return reply.status, reply.read(), reply.headers


def sent(url, method="PUT", body=b"", headers=None):
    """Send a request with a presigned URL; return status, body and headers."""
    parts = urlsplit(url)
    return send(url, method, f"{parts.path}?{parts.query}", body, headers)


class Page:
    """Send the requests of a page with Uppy to a service in this process."""

    def __init__(self, url, told):
        self.url, self.told = url, told

    def ask(self, call, query="", headers=None, token=TOKEN):
        """Return status, document and headers of the reply."""
        given = {"Authorization": f"Bearer {token}", **JSON, **(headers or {})}
        target = f"/s3/presign{query}"
        status, body, kept = send(self.url, "POST", target, json.dumps(call), given)
        return status, json.loads(body), kept

    def signed(self, method, key="a.csv", query="", **more):
        """Return the document of a reply that must be good."""
        status, document, headers = self.ask(
            {"method": method, "key": key, **more}, query
        )
        assert status == 200, document
        assert headers["cache-control"] == "no-store"
        return document

    def refused(self, call, query=""):
        """Return status, code and detail of a refusal."""
        status, problem, _ = self.ask(call, query)
        assert status == problem["status"]
        return status, problem["code"], problem["detail"]


@pytest.fixture
def page(oss):
    """Serve a policy, with further lines."""
    servers = []

    def start(*lines, text=None):
        policy = (text or policy_text(*lines)).replace(
            '"HeadObject"', '"HeadObject", "ListParts"'
        )
        signer = KeySigner.from_options("cn-hangzhou", oss.url)
        rules = ServiceRules(signer=signer, tokens=parse_policies(policy).tokens)
        told = []
        app = create_ruled_app(
            lambda: rules,
            tell=told.append,
            routes=lambda service: [uppy_route(service, [SITE])],
        )
        server = LoopbackServer(app)
        servers.append(server)
        return Page(server.__enter__().url, told)

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def test_only_named_sites_may_ask(page):
    """Preflights, replies and refusals have the CORS headers."""
    service = page()
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    name = "access-control-allow-origin"
    for origin, status, leave in ((SITE, 200, SITE), ("https://a.example", 400, None)):
        headers = {"Origin": origin}
        reply = send(service.url, "OPTIONS", "/s3/presign", None, headers | asks)
        assert (reply[0], reply[2].get(name)) == (status, leave)
        assert "access-control-allow-credentials" not in reply[2]
        reply = service.ask({}, headers=headers, token="wrong-token")
        assert (reply[0], reply[2].get(name)) == (401, leave)


@pytest.mark.slow
def test_without_the_option_there_is_no_route(start):
    """Without ``--uppy``, its routes do not exist."""
    url = start().url
    assert send(url, "POST", "/s3/presign")[0] == 404
    url = start("--uppy", SITE).url
    assert send(url, "POST", "/s3/presign")[0] == 401
    assert send(url, "POST", "/s3/presign/")[0] == 404


@pytest.mark.parametrize("origin", ["*", "app.example.com", f"{SITE}/", "null"])
def test_an_origin_that_no_browser_sends_is_refused(origin, policy_file):
    """A mistake is reported at the start, not by a page that cannot upload."""
    with pytest.raises(ConfigurationError, match=r"https://app\.example\.com"):
        ServiceSettings(policy_file=policy_file, uppy_origins=(origin,))


def test_a_post_of_another_site_is_refused(page):
    """A browser sends a form, or a text, to any site without asking for leave."""
    service = page()
    call = {"method": "PUT", "key": "a", "contentType": "text/csv"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert service.ask(call, headers={"Content-Type": kind})[0] == 400


def test_no_object_is_replaced_where_the_policy_forbids_it(page, oss):
    """The second PUT is refused by the store."""
    signed = page("overwrite = false").signed("PUT", "there")
    assert signed["key"] == "data/there"
    assert sent(signed["url"], body=b"x", headers=signed["headers"])[0] == 200
    assert sent(signed["url"], body=b"y", headers=signed["headers"])[0] == 409


def test_sizes_are_signed_where_the_policy_limits_them(page):
    """Without a size nothing is signed, and with one no other body is taken."""
    service = page('max_size = "300KiB"', 'max_part_size = "100KiB"')
    part = {"method": "PUT", "key": "a", "uploadId": "0004", "partNumber": 1}
    for call in ({"method": "PUT", "key": "a"}, part):
        assert service.refused(call)[:2] == (413, "too_large")
    signed = service.signed("PUT", contentType="text/csv", contentLength=3)
    assert {name.lower() for name in signed["headers"]} == {"content-type"}
    assert sent(signed["url"], body=b"1234", headers=signed["headers"])[0] == 403
    assert sent(signed["url"], body=b"123", headers=signed["headers"])[0] == 200


def test_each_request_of_uppy_is_signed(page, oss):
    """By method and members, with the headers that Uppy sends with each."""
    signed = page().signed
    opened = signed("POST")
    assert (opened["key"], opened["headers"]) == (
        "data/a.csv",
        {"Content-Type": "text/csv"},
    )
    reply = sent(opened["url"], "POST", headers=opened["headers"])[1].decode()
    upload = {"uploadId": reply.partition("<UploadId>")[2].partition("<")[0]}
    part = signed("PUT", **upload, partNumber=1)
    etag = sent(part["url"], body=b"x" * PART)[2]["etag"].strip('"')
    listed = sent(signed("GET", **upload)["url"], "GET")
    assert etag in listed[1].decode()
    ends = signed("POST", **upload)
    parts = complete_multipart_upload([(1, etag)])
    assert ends["headers"] == {"Content-Type": "application/xml"}
    assert sent(ends["url"], "POST", parts, ends["headers"])[0] == 200
    assert oss.get(BUCKET, "data/a.csv").data() == b"x" * PART
    assert sent(signed("DELETE", **upload)["url"], "DELETE")[0] == 404


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"method": "PUT"},
        {"method": "PUT", "key": 1},
        {"method": "HEAD", "key": "a"},
        {"method": "PUT", "key": "a", "uploadId": "0"},
        {"method": "PUT", "key": "a", "partNumber": 1},
        {"method": "POST", "key": "a", "uploadId": None},
        {"method": "PUT", "key": "a", "uploadId": "0", "partNumber": 0},
        {"method": "PUT", "key": "", "contentType": "text/csv"},
        {"method": "PUT", "key": "a", "contentType": "text/csv\nx-oss-object-acl: a"},
        {"method": "PUT", "key": "a", "expiresIn": "1"},
        {"method": ["PUT"], "key": "a"},
    ],
)
def test_other_requests_are_not_signed(page, call):
    """Bad members are refused, by name."""
    assert page().refused(call)[:2] == (400, "invalid_request")


def test_no_key_leaves_the_prefix(page):
    """A key of elsewhere stands below the prefix; one place of several must be named."""
    service = page()
    for key, stored in (
        ("data/a", "data/a"),
        ("other/a", "data/other/a"),
        ("../a", "data/../a"),
        ("data", "data/data"),
    ):
        assert service.signed("PUT", key)["key"] == stored
    both = policy_text().replace('["data/"]', '["data/", "more/"]')
    service = page(text=both)
    call = {"method": "PUT", "key": "a"}
    status, _, detail = service.refused(call)
    assert (status, detail) == (400, "say which: ?bucket=...&dir=...")
    assert service.signed("PUT", "a", "?dir=more/x")["key"] == "more/x/a"
    assert service.refused(call, "?dir=x")[:2] == (403, "forbidden")


def test_limits_and_log_are_those_of_other_calls(page):
    """The record has no URL and no token."""
    service = page("requests_per_minute = 1")
    assert service.signed("PUT", "a")
    call = {"method": "PUT", "key": "a"}
    assert service.refused(call)[:2] == (429, "rate_limited")
    first, second = service.told
    assert (first.token, first.requests, first.status) == ("writer", 1, 200)
    assert first.paths == (f"{BUCKET}/data/a",)
    assert second.codes == {"rate_limited": 1}
    assert all(text not in str(service.told) for text in (TOKEN, "signature"))
