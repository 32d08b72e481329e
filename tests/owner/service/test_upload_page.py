"""Files and headers that ``serve --ui`` sends to browsers."""

from __future__ import annotations

import http.client
import re
import xml.etree.ElementTree as ET
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.applications import Starlette

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.upload_page import page_routes, source_of
from fsspec_osspresigned.signing.endpoint import Endpoint
from tests.serve_child import Serve

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "fsspec_osspresigned" / "owner" / "service" / "page"
TOKEN = "a-token-of-this-page-0"


def get(address: str, path: str) -> tuple[int, dict[str, str], str]:
    """Return status, headers and text."""
    host = address.removeprefix("http://")
    with closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        connection.request("GET", path)
        reply = connection.getresponse()
        headers = {name.lower(): value for name, value in reply.getheaders()}
        return reply.status, headers, reply.read().decode()


@pytest.fixture
def address():
    """The address of an app that serves only the page."""
    endpoint = Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com")
    with LoopbackServer(Starlette(routes=page_routes(lambda: endpoint))) as server:
        yield server.url


def test_page_and_its_files_are_served(address):
    """Each file is served with its type; a missing one is 404."""
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    status, headers, text = get(address, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert text == (FOLDER / "index.html").read_text("utf-8")
    for file in FOLDER.iterdir():
        status, headers, text = get(address, f"/ui/{file.name}")
        assert status == 200
        assert text == file.read_text("utf-8")
        assert headers["content-type"].startswith(types.get(file.suffix[1:], "text/"))
    assert get(address, "/ui/other.js")[0] == 404
    assert get(address, "/ui/..%2fpage_routes.py")[0] == 404


def test_browser_may_do_what_the_page_needs_and_no_more(address):
    """The policy names this service and the endpoint's buckets; nothing is inline."""
    _, headers, _ = get(address, "/")
    policy = dict(
        part.split(" ", 1) for part in headers["content-security-policy"].split("; ")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "worker-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "connect-src": "'self' https://*.oss-cn-hangzhou.aliyuncs.com",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert get(address, "/ui/worker.js")[1]["content-security-policy"]


@pytest.mark.parametrize(
    ("text", "style", "source"),
    [
        ("https://oss-x.aliyuncs.com", "virtual", "https://*.oss-x.aliyuncs.com"),
        ("https://files.example.com", "cname", "https://files.example.com"),
        ("http://127.0.0.1:9000", "path", "http://127.0.0.1:9000"),
    ],
)
def test_source_is_where_the_buckets_are(text, style, source):
    """One host, or all that are below it."""
    assert source_of(Endpoint.parse(text, style=style)) == source


def test_nothing_comes_from_elsewhere_and_nothing_is_inline():
    """No address of another site, no script or style in the markup, no markup in scripts."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.extend((tag, *pair) for pair in attrs)

        def handle_data(self, data):
            assert not data.strip() or self.lasttag not in {"script", "style"}

    Reader().feed((FOLDER / "index.html").read_text("utf-8"))
    assert not [row for row in found if row[1] == "style" or row[1].startswith("on")]
    assert {row[2] for row in found if row[1] in {"src", "href"}} == {
        "ui/icon.svg",
        "ui/style.css",
        "ui/uploader.js",
    }
    for file in FOLDER.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text
        assert not re.search(
            r"innerHTML|insertAdjacent|document\.write|eval\(|console\.\w", text
        )


def test_documented_rule_lets_the_page_work():
    """It allows each method that the page uses, and exposes each header that it reads."""
    text = (ROOT / "docs" / "browser.md").read_text("utf-8")
    (rule,) = re.findall(r"^```xml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    tree = ET.fromstring(rule)  # noqa: S314 - our own page
    allowed = {found.text for found in tree.iter("AllowedMethod")}
    exposed = {(found.text or "").lower() for found in tree.iter("ExposeHeader")}
    scripts = "".join(file.read_text("utf-8") for file in FOLDER.glob("*.js"))
    actions = re.findall(r'(?:perform\(|sign\(|action: )"(\w+)"', scripts)
    used = {Action(action).method for action in actions}
    read = set(re.findall(r'header\("([\w-]+)"\)', scripts))
    assert used == allowed
    assert {name.lower() for name in read} | {"x-oss-hash-crc64ecma"} == exposed


def test_service_serves_the_page_only_on_demand(oss, tmp_path):
    """``--ui`` adds it, for the endpoint of the policy; without, nothing is changed."""
    for option, status in (("--ui", 200), ("--log-keys", 404)):
        with Serve(oss, tmp_path, TOKEN, "", option) as serve:
            found, headers, text = get(serve.url, "/")
            assert found == status
            assert get(serve.url, "/healthz")[0] == 200
            assert get(serve.url, "/ui/style.css")[0] == status
        if status == 200:
            sources = f"connect-src 'self' {oss.url}"
            assert headers["content-security-policy"].endswith(sources)
        else:
            assert '"not_found"' in text
