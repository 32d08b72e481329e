"""Uploads through servers that speak their own words; the store verifies what it gets."""

from __future__ import annotations

import os
import pickle
import time

import fsspec
import pytest

from fsspec_osspresigned.errors import (
    ConfigurationError,
    ExistenceNotVerifiedWarning,
    NotCoveredError,
    ObjectNotVisibleError,
    Outcome,
    PublishWarning,
    SignerError,
    SignerUnavailableError,
    TooLargeError,
)
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.signers.base import Grant
from fsspec_osspresigned.signers.bound import bound_request
from fsspec_osspresigned.signers.described_server import DescribedServer
from fsspec_osspresigned.signers.description import Call, Description
from fsspec_osspresigned.signers.upload_server import (
    ServerRefusedError,
    UploadServer,
    UploadServerContext,
)
from tests.upload_servers import (
    Companion,
    DashScope,
    FakeServer,
    LakeFS,
    MLflow,
    UppySign,
    basic,
)

MIB = 1024 * 1024
LARGE = memoryview(os.urandom(11 * MIB))  # its repr is short
KEY = "sk-CANARYdashscope"
CANARY = "CANARYsecretOfLakeFS"


@pytest.fixture
def dashscope(oss, monkeypatch):
    """Model Studio's server of policies."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    with DashScope(oss) as server:
        yield server


@pytest.fixture
def companion(oss):
    """A Companion without a proxy before it."""
    with Companion(oss) as server:
        yield server


@pytest.fixture
def uppy_sign(oss):
    """A back end that signs what Uppy asks for."""
    with UppySign(oss) as server:
        yield server


@pytest.fixture
def mlflow(oss):
    """A tracking server."""
    with MLflow(oss) as server:
        yield server


@pytest.fixture
def lakefs(oss):
    """A lakeFS that wants an access key and its secret."""
    with LakeFS(oss) as server:
        server.token = basic(f"key:{CANARY}")
        yield server


def studio(server, **options):
    """Return a filesystem of files for a model."""
    usual = {
        "upload_server": f"dashscope+{server.url}",
        "upload_server_options": {"model": "qwen-vl-plus"},
        "retries": 1,
    }
    return fsspec.filesystem("osspresigned", **{**usual, **options})


def uppy(server, **options):
    """Return a filesystem of Companion's uploads."""
    return of("companion", server, **options)


def of(name, server, path="", **options):
    """Return a filesystem of *server*, which the description *name* explains."""
    options = {"retries": 1, "part_size": 5 * MIB, **options}
    place = f"{name}+{server.url}{path}"
    return fsspec.filesystem("osspresigned", upload_server=place, **options)


def stored(oss, location):
    """Return the bytes of the object with the server's name *location*."""
    return oss.objects("examplebucket").get(location.removeprefix("oss://"))


def parts_sent(oss):
    """Return the number of parts that the store got."""
    return sum(record.action == Action.UploadPart for record in oss.requests)


# -- one form ---------------------------------------------------------------------------------


def test_files_for_a_model_are_one_form_each(oss, dashscope):
    """The receipt has the URL that a model reads, and a warning states its lifetime."""
    fs = studio(dashscope)
    with pytest.warns(PublishWarning, match="48 hours") as caught:
        receipt = fs.pipe_file("files/photo.jpg", b"picture")
    assert receipt.location.startswith("oss://dashscope-instant/qwen-vl-plus/")
    assert receipt.location.endswith("/photo.jpg")
    assert receipt.location in str(caught[0].message)
    assert stored(oss, receipt.location) == b"picture"
    assert receipt.verified == "crc64"
    assert fs.url("files/photo.jpg") == receipt.location
    with pytest.raises(FileNotFoundError, match=r"fs\.sign"):
        fs.url("files/other.jpg")
    assert dashscope.calls == ["GET /api/v1/uploads"]


def test_one_policy_stores_many_files_while_it_is_valid(oss, dashscope):
    """Paths below the first folder are kept, so equal names do not collide."""
    fs = studio(dashscope)
    with pytest.warns(PublishWarning):
        receipts = fs.pipe({f"files/{n}/a.jpg": bytes([n]) for n in range(20)})
    assert dashscope.calls == ["GET /api/v1/uploads"]
    assert len({receipt.location for receipt in receipts}) == 20
    for receipt in receipts:
        number = int(receipt.path.split("/")[1])
        assert stored(oss, receipt.location) == bytes([number])


def test_the_same_name_again_gets_another_policy(oss, dashscope):
    """A second file of a name replaces nothing and is not refused: it has its own URL."""
    fs = studio(dashscope)
    with pytest.warns(PublishWarning):
        receipts = [fs.pipe_file("files/a.jpg", bytes([n])) for n in range(3)]
    assert [stored(oss, r.location) for r in receipts] == [b"\0", b"\1", b"\2"]
    assert dashscope.calls == ["GET /api/v1/uploads"] * 3


def test_too_large_a_file_is_refused_before_it_is_sent(oss, dashscope):
    """The limit of the model is that of the policy, and of the reply."""
    dashscope.largest_mb = 1
    fs = studio(dashscope)
    with pytest.raises(TooLargeError, match="at most 1048576 bytes"):
        fs.pipe_file("files/a", bytes(MIB + 1))
    with (
        pytest.raises(TooLargeError, match="at most"),
        fs.open("files/a", "wb") as file,
    ):
        for _ in range(20):
            file.write(bytes(MIB))
    assert not oss.objects("examplebucket")
    assert not oss.requests


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"upload_server_options": None}, "name of the model that will read"),
        ({"upload_server_options": {"modell": "x"}}, "no option 'modell'"),
        ({"signer": "keys"}, "upload_server= cannot be combined"),
        ({"upload_server": "dashscop"}, "known are companion, dashscope"),
    ],
)
def test_wrong_options_are_named_before_anything_is_asked(dashscope, options, match):
    """Missing and wrong options are reported together, with the valid ones."""
    with pytest.raises(ConfigurationError, match=match):
        studio(dashscope, **options)
    assert not dashscope.calls


def test_a_refusal_hides_the_token(oss, dashscope, monkeypatch):
    """The server repeats what it got, and the error does not."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-CANARYwrong")
    with pytest.raises(SignerError, match="HTTP 401") as caught:
        studio(dashscope).pipe_file("files/a", b"1")
    assert "CANARY" not in str(caught.value)
    assert "check signer_token=" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example.com",
        "https://dashscope.aliyuncs.com.example.com",
        "http://dashscope.aliyuncs.com",
        "http://x.localhost:9",
    ],
)
def test_a_token_is_sent_only_where_its_owner_is(dashscope, monkeypatch, url):
    """The token that a description names goes to its hosts only, also if all is trusted.

    A token of the user goes to the user's URL.
    """
    options = {
        "upload_server": f"dashscope+{url}",
        "upload_server_options": {"model": "m"},
        "allow_http": True,
    }
    monkeypatch.setenv("OSSPRESIGNED_TRUST", options["upload_server"])
    with pytest.raises(ConfigurationError, match=r"for .*, give signer_token="):
        fsspec.filesystem("osspresigned", **options)
    fsspec.filesystem("osspresigned", **options, signer_token=lambda: "tok")


# -- forms and parts --------------------------------------------------------------------------


def test_large_files_are_parts_at_companion(oss, companion):
    """URLs of parts come together; the server completes the upload."""
    receipt = uppy(companion).pipe_file("photos/a.bin", LARGE)
    assert stored(oss, receipt.location) == LARGE
    assert receipt.verified == "crc64"
    assert [part.size for part in receipt.parts] == [5 * MIB, 5 * MIB, MIB]
    kinds = [call.split("/")[-1] for call in companion.calls]
    assert kinds == ["multipart", "batch", "complete"]


@pytest.mark.parametrize("data", [b"picture", LARGE], ids=["form", "parts"])
def test_a_server_that_names_objects_replaces_none(oss, companion, data):
    """``overwrite=False`` and mode x are fulfilled: the same path is another object."""
    fs = uppy(companion, overwrite=False)
    receipts = [fs.pipe_file("a/b", data), fs.pipe_file("a/b", data, mode="create")]
    with fs.open("a/b", "xb") as file:
        file.write(data)
    locations = {receipt.location for receipt in (*receipts, file.receipt)}
    assert len(locations) == 3
    assert all(stored(oss, location) == data for location in locations)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_last_reply_that_cannot_be_read_is_an_unknown_outcome(
    oss, companion, retries
):
    """The server, or a page before it, has answered 200: the object may be stored."""
    companion.spoil("complete")
    with pytest.raises(OSError, match="whether the object is stored is unknown") as it:
        uppy(companion, retries=retries).pipe_file("a/b", LARGE)
    assert it.value.outcome is Outcome.UNKNOWN
    assert len(oss.objects("examplebucket")) == 1


def test_a_last_call_that_failed_is_known_to_have_failed(oss, companion):
    """The server still lists the parts, so nothing was published."""
    companion.refuse("complete", 503, times=9)
    with pytest.raises(OSError, match="HTTP 503") as caught:
        uppy(companion).pipe_file("a/b", LARGE)
    assert caught.value.outcome is Outcome.NOT_STORED
    assert not oss.objects("examplebucket")
    assert not oss.uploads("examplebucket")


def test_what_a_server_does_not_offer_is_refused(oss, companion):
    """Headers that no call of the server takes are refused before the first byte."""
    fs = uppy(companion)
    with pytest.raises(NotCoveredError, match="x-oss-meta-a"):
        fs.pipe_file("a/b", LARGE, metadata={"a": "b"})
    with pytest.raises(NotCoveredError, match="x-oss-object-acl"):
        fs.pipe_file("a/b", LARGE, acl="private")
    with (
        pytest.raises(NotCoveredError, match="x-oss-object-acl"),
        fs.open("a/b", "wb", acl="private") as file,
    ):
        file.write(LARGE)
    assert "POST /s3/multipart" not in companion.calls
    with (
        pytest.warns(ExistenceNotVerifiedWarning),
        pytest.raises(ObjectNotVisibleError, match="GetObject is not granted"),
    ):
        fs.cat_file("a/c")
    assert not oss.requests


def test_a_filesystem_of_an_upload_server_can_be_pickled(oss, companion):
    """Another process gets the text of the option, and makes its own server."""
    fs = pickle.loads(pickle.dumps(uppy(companion)))
    assert fs.pipe_file("a/b", b"1").location


# -- a server that signs any call ---------------------------------------------------------------


def test_a_back_end_of_sign_request_signs_each_call(oss, uppy_sign):
    """The client sends the XML of the store itself; so resuming works as with a signer."""
    fs = of("uppy-sign", uppy_sign, "/presign")
    assert fs.pipe_file("photos/a b.jpg", b"picture").verified == "crc64"
    receipt = fs.pipe_file("photos/large", LARGE)
    assert oss.objects("examplebucket") == {
        "photos/a b.jpg": b"picture",
        "photos/large": LARGE,
    }
    assert receipt.location == "photos/large"
    assert receipt.verified == "crc64"


# -- MLflow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, len(LARGE)])
def test_artifacts_are_parts_whose_urls_come_at_once(oss, mlflow, size):
    """The server hears the number of parts, and gives exactly their URLs."""
    fs = of("mlflow-artifacts", mlflow)
    receipt = fs.pipe_file("0/run/artifacts/a b/model.bin", LARGE[:size])
    key = "mlartifacts/0/run/artifacts/a b/model.bin"
    assert oss.objects("examplebucket") == {key: LARGE[:size]}
    assert receipt.location == "mlflow-artifacts:/0/run/artifacts/a b/model.bin"
    steps = [call.split("/")[5] for call in mlflow.calls]
    assert steps == ["create", "complete"]
    assert parts_sent(oss) == max(1, -(-size // (5 * MIB)))


@pytest.mark.parametrize(
    ("name", "scheme"), [("mlflow", "runs"), ("mlflow-model", "models")]
)
def test_an_artifact_is_one_put_with_the_headers_of_the_server(
    oss, mlflow, name, scheme
):
    """The content type is what the server has signed, whatever the name suggests."""
    receipt = of(name, mlflow).pipe_file("m-1/a/b.pkl", b"model")
    assert receipt.location == f"{scheme}:/m-1/a/b.pkl"
    assert oss.objects("examplebucket") == {"mlruns/m-1/artifacts/a/b.pkl": b"model"}
    (kept,) = oss.store.buckets["examplebucket"].objects.values()
    assert kept.headers["content-type"] == "text/csv"


# -- lakeFS -------------------------------------------------------------------------------------


def repository(lakefs, **options):
    """Return a filesystem of *lakefs*, with its key."""
    token = {"signer_token": lambda: f"key:{CANARY}"}
    return of("lakefs", lakefs, **{**token, **options})


@pytest.mark.parametrize("size", [0, 5, len(LARGE)])
def test_objects_are_linked_after_their_bytes_are_stored(oss, lakefs, size):
    """A last call makes the object visible, also after a single PUT."""
    receipt = repository(lakefs).pipe_file("repo/main/a b/c.csv", LARGE[:size])
    key, about = lakefs.linked["repo/main/a b/c.csv"]
    assert oss.objects("examplebucket")[key] == LARGE[:size]
    assert about["content_type"] == "text/csv"
    assert receipt.location == "lakefs://repo/main/a b/c.csv"
    assert receipt.verified == "crc64"
    if size <= 5 * MIB:
        assert about["size_bytes"] == size
        assert '"' not in about["checksum"]


def test_an_existing_object_is_not_replaced_if_that_is_asked(oss, lakefs):
    """The last call itself refuses it, before the old object is replaced."""
    fs = repository(lakefs)
    fs.pipe_file("repo/main/a", b"old")
    with pytest.raises(FileExistsError, match="answered HTTP 412 to PUT"):
        fs.pipe_file("repo/main/a", b"new", overwrite=False)
    assert oss.objects("examplebucket")[lakefs.linked["repo/main/a"][0]] == b"old"
    with pytest.raises(NotCoveredError, match="cannot set overwrite=False"):
        fs.pipe_file("repo/main/large", LARGE, overwrite=False)


@pytest.mark.parametrize("path", ["repo", "repo/main", "repo/main/../x", "repo//x"])
def test_paths_that_lead_elsewhere_are_refused(lakefs, path):
    """A path must name what the server needs, and stay where it belongs."""
    with pytest.raises(ConfigurationError, match="path"):
        repository(lakefs).pipe_file(path, b"1")
    assert not lakefs.calls


# -- descriptions of the user -------------------------------------------------------------------


class Elsewhere(FakeServer):
    """A server whose URLs lead to another host or object."""

    url_of = staticmethod(lambda self: self.presign("PUT", "a/b"))

    def answer(self, method, path, query, given):
        """Return what the test wants."""
        return {"url": type(self).url_of(self), "headers": {"Host": "x"}}


MINE = """
location = "mine:{path}"
[single]
post = "/sign/{+path}"
json = { team = "{option.team}" }
url = "/url"
headers = "/headers"
[options]
team = "whose files these are"
"""


def mine(tmp_path, server, **options):
    """Return a filesystem of a description that the user wrote and trusts."""
    place = tmp_path / "mine.toml"
    if not place.exists():
        place.write_text(MINE)
    options = {"upload_server_options": {"team": "x"}, "retries": 0, **options}
    return fsspec.filesystem(
        "osspresigned", upload_server=f"{place}+{server.url}", **options
    )


def test_a_description_of_the_user_is_a_file_that_must_be_trusted(
    oss, tmp_path, monkeypatch
):
    """Options may be those of others, and a description says where a token goes."""
    with Elsewhere(oss) as server:
        with pytest.raises(ConfigurationError, match="OSSPRESIGNED_TRUST="):
            mine(tmp_path, server)
        monkeypatch.setenv("OSSPRESIGNED_TRUST", str(tmp_path / "mine.toml"))
        receipt = mine(tmp_path, server).pipe_file("a/b", b"1")
    assert receipt.location == "mine:a/b"
    assert oss.objects("examplebucket") == {"a/b": b"1"}


EXACT = """
[open]
post = "/s3/multipart"
json = { filename = "{path}", type = "{content_type}" }
save = { key = "/key", id = "/uploadId" }
[sign]
get = "/s3/multipart/{upload.id}/batch"
query = { key = "{upload.key}", partNumbers = "{numbers}" }
urls = "/presignedUrls"
key = "{path}"
[finish]
post = "/s3/multipart/{upload.id}/complete"
[abort]
delete = "/s3/multipart/{upload.id}"
query = { key = "{upload.key}" }
"""


def test_a_description_can_demand_the_key_of_the_user(
    oss, tmp_path, monkeypatch, companion
):
    """A server that renames the object is refused before a part is sent."""
    place = tmp_path / "exact.toml"
    place.write_text(EXACT)
    monkeypatch.setenv("OSSPRESIGNED_TRUST", str(place))
    fs = of(place, companion)
    with pytest.raises(SignerError, match="another object than 'a/b'"):
        fs.pipe_file("a/b", LARGE)
    assert parts_sent(oss) == 0
    assert not oss.uploads("examplebucket")


class OwnServer(UploadServer):
    """A server that a module explains: it signs one PUT, and answers in plain text."""

    signs = frozenset({Action.PutObject})
    host = "127.0.0.1"

    def __init__(self, server):
        self.server = server
        self.binding = UploadServerContext(exchange=None).binding(self.host)

    def grant(self, path):
        """One PUT stores an object."""
        return Grant(multipart=None)

    def request(self, operation):
        """Sign a PUT of another key than the path has."""
        if operation.key == "busy":
            raise ServerRefusedError(429, "later")
        url = SecretURL(self.server.presign("PUT", f"own/{operation.key}"))
        location = f"own:{operation.key}"
        return bound_request(
            operation, url, {}, self.binding, issued_at=time.time(), location=location
        )


@pytest.mark.parametrize("is_function", [False, True])
def test_a_module_explains_what_no_description_can(oss, is_function):
    """An UploadServer of the user, or its function, stands in the option itself.

    Errors are those of others.
    """
    with FakeServer(oss) as server:
        own = OwnServer(server)
        given = (lambda context: own) if is_function else own
        options = {"upload_server": given, "retries": 0}
        fs = fsspec.filesystem("osspresigned", **options)
        assert fs.pipe_file("a/b", b"1").location == "own:b"
        with pytest.raises(SignerUnavailableError, match="later"):
            fs.pipe_file("a/busy", b"1")
    assert oss.objects("examplebucket") == {"own/b": b"1"}
    with pytest.raises(TypeError, match="upload_server= is an object of this process"):
        pickle.dumps(fs)


def test_the_name_of_a_module_must_be_trusted():
    """Options of others cannot choose which code is imported."""
    with pytest.raises(ConfigurationError, match="would import code"):
        fsspec.filesystem(
            "osspresigned", upload_server="os:getcwd+https://x.example.com"
        )


@pytest.mark.parametrize(
    ("url", "match"),
    [
        (lambda _: "https://elsewhere.example.com/a/b", "neither an OSS host nor"),
        (lambda server: server.presign("PUT", "a/b", {"uploadId": "1"}), "'uploadId'"),
        (lambda _: "ftp://x/a", "not an absolute http"),
        (lambda _: 5, "no URL"),
    ],
)
def test_urls_that_lead_elsewhere_are_refused(oss, tmp_path, monkeypatch, url, match):
    """A server's URL must be for this call, at a host that is allowed."""
    monkeypatch.setenv("OSSPRESIGNED_TRUST", str(tmp_path / "mine.toml"))
    monkeypatch.setattr(Elsewhere, "url_of", staticmethod(url))
    with Elsewhere(oss) as server, pytest.raises(SignerError, match=match):
        mine(tmp_path, server).pipe_file("a/b", b"1")
    assert not oss.requests


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("[single]\nget = 5\nurl = '/url'", "needs one of get, post"),
        (
            "[single]\nget = '/{what}'\nurl = '/url'",
            "single.get has {what}, which means nothing",
        ),
        (
            "[single]\nget = '/'\nurls = '/url'",
            "unknown key 'single.urls': did you mean 'url'",
        ),
        ("colour = 'red'\n[single]\nget = '/'", "unknown key 'colour'"),
        ("location = 5\n[single]\nget = '/'", "location has a value of the wrong"),
        ("base = '/x'", "needs one of the tables"),
        ("[open]\npost = '/'", "open needs the table finish"),
        (
            (
                "resumes = true\n[open]\npost = '/'\nurls = '/u'\nsave.done = '/d'\n"
                "[finish]\nput = '{upload.done}'"
            ),
            "resumes would keep a URL that a reply names, for finish",
        ),
        (
            (
                "[open]\npost = '/'\nurls = '/u'\nsave.ticket = '/t'\n"
                "[finish]\nput = '/{ticket}'"
            ),
            "finish.put has {ticket}, .* did you mean 'upload.ticket'",
        ),
        ("token = 'env:X'\n[single]\nget = '/'", "token needs url and hosts"),
        (
            "[single]\nget = '/'\njson.a = ['{etag}']",
            "single.json has {etag}, which means nothing here",
        ),
        (
            "[open]\npost = '/'\nurls = '/u'\n[finish]\npost = '/'\njson = ['{upload.id}']",
            "finish.json has {upload.id}, which no reply before has named",
        ),
        ("[single]\nget = '/'\njson = {}\nform = {}", "has json and form"),
        (
            "[single]\nget = '/'\njson = 2026-01-01",
            "single.json has a value of the wrong",
        ),
        (
            "headers = {A = '{secret}'}\n[single]\nget = '/'",
            "headers has {secret}",
        ),
        ("[single]\nget = '/'\nurl = '/u?'", "may be absent only if compares= says"),
        (
            "base = '.evil.example'\n[single]\nget = '/'",
            "base = '.evil.example' must be",
        ),
        ("base = ':9999'\n[single]\nget = '/'", "must be empty or begin with '/'"),
        ("base = '/a?b'\n[single]\nget = '/'", "has a query"),
        ("[single]\nget = '.evil.example/x'", "single.get = '.evil.example/x' must be"),
        ("[single]\nget = '{+path}'", "must be empty, begin with '/', or be a URL"),
        ("[open]\npost = '/'\n[finish]\nput = '.{name}'", "finish.put = '.{name}'"),
        ("not toml", "is not valid TOML"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ('"a\\nFAKE: stored" = 1\n[single]\nget = "/"', r"key 'a\\nFAKE: stored'"),
        ('[single]\nget = "/"\n"a\\nFAKE" = 1', r"key 'single.a\\nFAKE'"),
    ],
)
@pytest.mark.usefixtures("no_collection")
def test_what_is_wrong_in_a_description_is_named(
    oss, tmp_path, monkeypatch, change, match
):
    """The file and the member are named before anything is sent."""
    place = tmp_path / "mine.toml"
    place.write_text(change)
    monkeypatch.setenv("OSSPRESIGNED_TRUST", str(place))
    with pytest.raises(ConfigurationError, match=match):
        fsspec.filesystem(
            "osspresigned", upload_server=f"{place}+https://x.example.com"
        )


@pytest.mark.parametrize("path", [".evil.example", ":99/a", "@evil.example/{name}"])
def test_no_call_leaves_the_server(path):
    """A description that was not loaded from a file moves no token to another host."""
    sent = []
    server = DescribedServer(
        Description(name="mine", single=Call(method="GET", path=path)),
        UploadServerContext(
            url="https://good.example", exchange=lambda *call: sent.append(call)
        ),
    )
    operation = Operation(action=Action.PutObject, bucket="b", key="k")
    with pytest.raises(ConfigurationError, match=r"would leave good\.example"):
        server.request(operation)
    assert not sent
