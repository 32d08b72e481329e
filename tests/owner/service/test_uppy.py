"""Routes for Uppy: within the policy, for the named web sites, and true after a lost reply."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.owner.service.app import ServiceRules, create_ruled_app
from fsspec_osspresigned.owner.service.policy import parse_policies
from fsspec_osspresigned.owner.service.process import ServiceSettings
from fsspec_osspresigned.owner.service.uppy import uppy_route
from fsspec_osspresigned.parsing import complete_multipart_upload
from fsspec_osspresigned.signers.keys import KeySigner
from tests.owner.service.conftest import TOKEN, Service, policy_text

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


def posted(url, fields, data):
    """Send a form; return its status."""
    mark = "a-mark-between-fields"
    body = b"".join(
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    head = (
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    body += head.encode() + data + f"\r\n--{mark}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    return send(url, "POST", urlsplit(url).path, body, kind)[0]


class Companion:
    """What a client of Companion sends to a service in this process."""

    def __init__(self, url, told):
        self.url, self.told = url, told

    def ask(self, method, target, document=None, headers=None, token=TOKEN):
        """Return status, document and headers of the reply."""
        body = None if document is None else json.dumps(document)
        given = {"Authorization": f"Bearer {token}", **(JSON if body else {})}
        reply = send(
            self.url, method, f"/s3{target}", body, {**given, **(headers or {})}
        )
        return reply[0], json.loads(reply[1] or "null"), reply[2]

    def good(self, *args, **more):
        """Return the document of a reply that must be good."""
        status, document, headers = self.ask(*args, **more)
        assert status == 200, document
        assert headers["cache-control"] == "no-store"
        return document

    def refused(self, *args, **more):
        """Return status, code and detail of a refusal."""
        status, problem, _ = self.ask(*args, **more)
        assert status == problem["status"]
        return status, problem["code"], problem["detail"]

    def begun(self, name="a.bin"):
        """Begin an upload; return its place below the routes, and its key."""
        given = {"filename": name, "type": "text/csv", "metadata": {}}
        upload = self.good("POST", "/multipart", given)
        return f"/multipart/{upload['uploadId']}", upload["key"]

    def sent(self, sizes=(PART, 5)):
        """Send an upload but for its end; return its place, its query, and its parts."""
        place, key = self.begun()
        query = urlencode({"key": key})
        parts = []
        for number, size in enumerate(sizes, 1):
            url = self.good("GET", f"{place}/{number}?{query}")["url"]
            status, _, headers = sent(url, body=bytes([number]) * size)
            assert status == 200
            parts.append({"PartNumber": number, "ETag": headers["etag"].strip('"')})
        return place, query, parts


@pytest.fixture
def companion(oss):
    """Serve a policy, with further lines."""
    servers = []

    def start(*lines, text=None):
        actions = '"HeadObject", "ListParts", "PostObject"'
        policy = (text or policy_text(*lines)).replace('"HeadObject"', actions)
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
        return Companion(server.__enter__().url, told)

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def test_only_named_sites_may_ask(companion):
    """A browser is told so before and after the call, also after a refusal."""
    service = companion()
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    name = "access-control-allow-origin"
    for origin, status, leave in ((SITE, 200, SITE), ("https://a.example", 400, None)):
        headers = {"Origin": origin}
        reply = send(service.url, "OPTIONS", "/s3/presign", None, headers | asks)
        assert (reply[0], reply[2].get(name)) == (status, leave)
        assert "access-control-allow-credentials" not in reply[2]
        reply = service.ask("GET", "/params", headers=headers, token="wrong-token")
        assert (reply[0], reply[2].get(name)) == (401, leave)


@pytest.mark.slow
def test_without_the_option_there_are_no_routes(start):
    """Whoever does not ask for Uppy has nothing more on the network."""
    url = start().url
    for method, target in (("POST", "/s3/presign"), ("GET", "/s3/params")):
        assert send(url, method, target)[0] == 404
    url = start("--uppy", SITE).url
    assert send(url, "GET", "/s3/params")[0] == 401
    assert send(url, "GET", "/s3/params/")[0] == 404


@pytest.mark.slow
def test_the_process_sends_and_stops(oss, policy_file):
    """The command sends with its own key, writes one line a call, and ends with 0."""
    service = Service(policy_file, "--uppy", SITE)
    try:
        place, key = Companion(service.url, []).begun()
        assert [upload.key for upload in oss.uploads(BUCKET)] == [key]
        line = service.until("sign")
        assert (line["token"], line["signed"], line["status"]) == ("writer", 1, 200)
        code, out, err = service.end()
    finally:
        service.process.kill()
    assert (code, err) == (0, "")
    assert TOKEN not in out
    assert place.rpartition("/")[2] not in out


@pytest.mark.parametrize("origin", ["*", "app.example.com", f"{SITE}/", "null"])
def test_an_origin_that_no_browser_sends_is_refused(origin, policy_file):
    """A mistake is reported at the start, not by a page that cannot upload."""
    with pytest.raises(ConfigurationError, match=r"https://app\.example\.com"):
        ServiceSettings(policy_file=policy_file, uppy_origins=(origin,))


def test_a_post_of_another_site_is_refused(companion, oss):
    """A browser sends a form, or a text, to any site without asking for leave."""
    service = companion()
    given = json.dumps({"filename": "a", "type": "text/csv"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        status, _, _ = send(service.url, "POST", "/s3/multipart", given, headers)
        assert status == 400
    assert oss.requests == []


def test_all_calls_of_companion(companion, oss):
    """The replies are those of Companion 6.2.2, and the object is whole."""
    service = companion()
    given = {"filename": "ü/a.csv", "type": "text/csv", "metadata": {"who": "é", "n": 1, "none": None}}  # fmt: skip
    upload = service.good("POST", "/multipart", given)
    assert {*upload} == {"key", "uploadId", "bucket"}
    assert upload["key"].startswith("data/")
    assert upload["key"].endswith("-ü/a.csv")
    assert upload["bucket"] == BUCKET
    place = f"/multipart/{upload['uploadId']}"
    query = urlencode({"key": upload["key"]})
    assert service.good("GET", f"{place}?{query}") == []
    urls = service.good("GET", f"{place}/batch?{query}&partNumbers=2,1")
    assert {*urls["presignedUrls"]} == {"1", "2"}
    for number, size in (("2", 5), ("1", PART)):
        assert sent(urls["presignedUrls"][number], body=b"x" * size)[0] == 200
    parts = service.good("GET", f"{place}?{query}")
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(1, PART), (2, 5)]
    one = service.good("GET", f"{place}/1?{query}")
    assert one["url"].startswith("http")
    assert 3500 < one["expires"] <= 3600
    done = service.good("POST", f"{place}/complete?{query}", {"parts": parts[::-1]})
    assert {*done} == {"location", "key", "bucket"}
    assert send(done["location"], "HEAD", urlsplit(done["location"]).path)[0] == 403
    stored = oss.get(BUCKET, done["key"])
    assert stored.data() == b"x" * (PART + 5)
    assert stored.headers["content-type"] == "text/csv"
    assert stored.headers["x-oss-meta-who"] == "=?UTF-8?B?w6k=?="
    assert stored.headers["x-oss-meta-n"] == "1"
    assert stored.headers["x-oss-meta-none"] == "null"


def test_a_lost_upload_is_said_to_be_lost(companion, oss):
    """Abort ends it; each later call is told that there is no such upload."""
    service = companion()
    place, query, parts = service.sent()
    assert service.good("DELETE", f"{place}?{query}") == {}
    assert oss.uploads(BUCKET) == []
    for call in (
        ("GET", f"{place}?{query}"),
        ("DELETE", f"{place}?{query}"),
        ("POST", f"{place}/complete?{query}", {"parts": parts}),
    ):
        assert service.refused(*call)[:2] == (404, "not_found")
    assert service.told[-1].codes == {"not_found": 1}


def test_lost_reply_to_complete(companion, oss):
    """The object that is there by then is the proof."""
    service = companion()
    place, query, parts = service.sent()
    oss.faults.add(Fault(action="CompleteMultipartUpload", drop_reply=True))
    done = service.good("POST", f"{place}/complete?{query}", {"parts": parts})
    assert oss.get(BUCKET, done["key"]).size == PART + 5


def test_parts_that_are_not_stored_complete_nothing(companion, oss):
    """The list must name stored parts by their ETags, and must be a list."""
    service = companion()
    place, query, parts = service.sent()
    target = f"{place}/complete?{query}"
    other = {"PartNumber": 2, "ETag": "0" * 32}
    for wrong in ([parts[0], other], [*parts, {**other, "PartNumber": 3}], [], {}, "ab", [{}], [{"PartNumber": "1", "ETag": "x"}], [{"PartNumber": [1], "ETag": "x"}], None):  # fmt: skip
        assert service.refused("POST", target, {"parts": wrong})[0] == 400
    assert oss.objects(BUCKET) == {}
    assert service.good("POST", target, {"parts": parts})


def test_no_object_is_replaced_where_the_policy_forbids_it(companion, oss):
    """Also by Complete, which the service sends."""
    service = companion("overwrite = false")
    place, query, parts = service.sent()
    key = "data/there"
    call = {"method": "PUT", "key": "there", "contentType": "text/csv"}
    signed = service.good("POST", "/presign", call)
    assert signed["key"] == key
    assert sent(signed["url"], body=b"x", headers=signed["headers"])[0] == 200
    assert sent(signed["url"], body=b"y", headers=signed["headers"])[0] == 409
    call["key"] = parse_qs(query)["key"][0]
    signed = service.good("POST", "/presign", call)
    assert sent(signed["url"], body=b"x", headers=signed["headers"])[0] == 200
    target = f"{place}/complete?{query}"
    problem = service.refused("POST", target, {"parts": parts})
    assert problem[:2] == (409, "object_exists")
    assert oss.get(BUCKET, call["key"]).data() == b"x"


def test_a_form_permits_its_own_object_only(companion, oss):
    """No other key, no larger file, no other type and no ACL."""
    service = companion("max_size = 10", "max_part_size = 10")
    query = urlencode({"filename": "a", "type": "text/csv", "metadata[n]": "1"})
    form = service.good("GET", f"/params?{query}")
    assert {*form} == {"method", "url", "fields", "expires"}
    assert form["method"] == "POST"
    assert 3500 < form["expires"] <= 3600
    url, fields = form["url"], form["fields"]
    assert posted(url, fields, b"x" * 10) == 201
    stored = oss.get(BUCKET, fields["key"])
    assert (stored.data(), stored.headers["x-oss-meta-n"]) == (b"x" * 10, "1")
    assert posted(url, fields, b"x" * 11) == 400
    for changed in (
        {"key": f"{fields['key']}2"},
        {"x-oss-content-type": "text/html"},
        {"x-oss-object-acl": "public-read"},
        {"x-oss-meta-n": "2"},
    ):
        assert posted(url, {**fields, **changed}, b"x") == 403
    query = urlencode({"filename": "${filename}", "type": "text/csv"})
    assert service.refused("GET", f"/params?{query}")[:2] == (400, "invalid_request")


def test_a_form_keeps_the_terms_of_the_policy(companion, oss):
    """Storage class, ACL and protection are pinned, as in a grant."""
    service = companion(
        'storage_classes = ["Standard"]', 'acls = ["private"]', "overwrite = false"
    )
    query = urlencode({"filename": "a", "type": "text/csv"})
    form = service.good("GET", f"/params?{query}")
    url, fields = form["url"], form["fields"]
    assert fields["x-oss-object-acl"] == "private"
    for changed in (
        {"x-oss-storage-class": "DeepColdArchive"},
        {"x-oss-object-acl": "public-read"},
        {"x-oss-forbid-overwrite": "false"},
    ):
        assert posted(url, {**fields, **changed}, b"x") == 403
    assert posted(url, fields, b"x") == 201
    assert oss.get(BUCKET, fields["key"]).headers["x-oss-storage-class"] == "Standard"
    assert posted(url, fields, b"y") == 409


def test_sizes_are_signed_where_the_policy_limits_them(companion, oss):
    """Without a size nothing is signed, and with one no other body is taken."""
    service = companion('max_size = "300KiB"', 'max_part_size = "100KiB"')
    part = {"method": "PUT", "key": "a", "uploadId": "0004", "partNumber": 1}
    for call in ({"method": "PUT", "key": "a"}, part):
        assert service.refused("POST", "/presign", call)[:2] == (413, "too_large")
    call = {"method": "PUT", "key": "a", "contentType": "text/csv", "contentLength": 3}
    signed = service.good("POST", "/presign", call)
    assert {name.lower() for name in signed["headers"]} == {"content-type"}
    assert sent(signed["url"], body=b"1234", headers=signed["headers"])[0] == 403
    assert sent(signed["url"], body=b"123", headers=signed["headers"])[0] == 200
    given = {"filename": "a", "type": "text/csv"}
    assert service.refused("POST", "/multipart", given)[:2] == (413, "too_large")
    assert oss.uploads(BUCKET) == []


def test_each_request_of_uppy_is_signed(companion, oss):
    """By method and members, with the headers that Uppy sends with each."""
    service = companion()

    def signed(method, **more):
        return service.good(
            "POST", "/presign", {"method": method, "key": "a.csv", **more}
        )

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


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x", "9" * 5000, "٣"])
def test_bad_part_numbers_are_refused(companion, number):
    """On both routes, whatever their length."""
    service, number = companion(), quote(number)
    for target in (f"0004/{number}?key=a", f"0004/batch?key=a&partNumbers=1,{number}"):
        problem = service.refused("GET", f"/multipart/{target}")
        assert problem[:2] == (400, "invalid_request")


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
def test_other_requests_are_not_signed(companion, call):
    """Bad members are refused, by name."""
    assert companion().refused("POST", "/presign", call)[:2] == (400, "invalid_request")


def test_what_the_policy_does_not_grant_is_refused(companion):
    """Actions, types and headers, on every route."""
    service = companion('content_types = ["image/png"]', 'headers = ["content-type"]')
    kind = {"filename": "a", "type": "text/csv"}
    put = {"method": "PUT", "key": "a", "contentType": "text/csv"}
    for call in (
        ("POST", "/presign", put),
        ("POST", "/multipart", kind),
        ("GET", f"/params?{urlencode(kind)}"),
    ):
        assert service.refused(*call)[:2] == (403, "header_refused")
    kept = {"filename": "a", "type": "image/png", "metadata[n]": "1"}
    fields = service.good("GET", f"/params?{urlencode(kept)}")["fields"]
    assert "x-oss-meta-n" not in fields
    deleting = {"method": "DELETE", "key": "a"}
    assert service.refused("POST", "/presign", deleting)[1] == "action_not_granted"
    bad = {"filename": "a", "type": "image/png", "metadata": {"a b": "1"}}
    assert service.refused("POST", "/multipart", bad)[1] == "invalid_request"


def test_no_key_leaves_the_prefix(companion):
    """A key of elsewhere stands below the prefix; one place of several must be named."""
    service = companion()
    for key, stored in (
        ("data/a", "data/a"),
        ("other/a", "data/other/a"),
        ("../a", "data/../a"),
        ("data", "data/data"),
    ):
        call = {"method": "PUT", "key": key}
        assert service.good("POST", "/presign", call)["key"] == stored
    both = policy_text().replace('["data/"]', '["data/", "more/"]')
    service = companion(text=both)
    call = {"method": "PUT", "key": "a"}
    status, _, detail = service.refused("POST", "/presign", call)
    assert (status, detail) == (400, "say which: ?bucket=...&dir=...")
    assert service.good("POST", "/presign?dir=more/x", call)["key"] == "more/x/a"
    assert service.refused("POST", "/presign?dir=x", call)[:2] == (403, "forbidden")


def test_limits_and_log_are_those_of_other_calls(companion):
    """A batch counts by its parts; the record has no URL and no token."""
    service = companion("requests_per_minute = 4")
    place = "/multipart/0004"
    query = "key=a&partNumbers="
    many = ",".join(map(str, range(1, 102)))
    assert service.good("GET", f"{place}/batch?{query}1,2,3")
    assert service.refused("GET", f"{place}/batch?{query}{many}")[0] == 413
    assert service.refused("GET", f"{place}/1?key=a")[:2] == (429, "rate_limited")
    first, second, third = service.told
    assert (first.token, first.requests, first.status) == ("writer", 3, 200)
    assert first.paths == (f"{BUCKET}/data/a",) * 3
    assert (second.codes, third.codes) == ({"batch_too_large": 1}, {"rate_limited": 1})
    assert all(text not in str(service.told) for text in (TOKEN, "signature"))


def test_long_lists_of_parts_are_charged(companion, oss):
    """Each thousand parts are a call to the store, also for a call without an effect."""
    service = companion("requests_per_minute = 6")
    place, query, _ = service.sent((PART,))
    (upload,) = oss.uploads(BUCKET)
    upload.parts |= {n: evolve(upload.parts[1], number=n) for n in range(2, 4001)}
    wrong = {"parts": [{"PartNumber": 1, "ETag": "0" * 32}]}
    assert service.refused("POST", f"{place}/complete?{query}", wrong)[0] == 400
    lists = [record for record in oss.requests if record.action == "ListParts"]
    assert len(lists) == 4
    assert service.refused("GET", f"{place}/1?{query}")[:2] == (429, "rate_limited")


def test_what_the_store_refuses_is_told(companion, oss):
    """The owner's key may lack a permission, and the store may be down."""
    service = companion()
    given = {"filename": "a", "type": "text/csv"}
    oss.faults.add(Fault(action="InitiateMultipartUpload", refuse="denied"))
    status, code, detail = service.refused("POST", "/multipart", given)
    assert (status, code) == (403, "forbidden")
    assert detail.startswith("the store: ")
    action = "InitiateMultipartUpload"
    oss.faults.add(Fault(action=action, status=503, code="ServiceUnavailable", times=9))
    assert service.refused("POST", "/multipart", given)[:2] == (503, "unavailable")
