"""Every way in which signatures arrive, from the option to the stored bytes."""

from __future__ import annotations

import io
import json
import pickle
import time

import fsspec
import pandas as pd
import pytest
from attrs import evolve

from fsspec_osspresigned.errors import (
    ConfigurationError,
    ExistenceNotVerifiedWarning,
    NotCoveredError,
    SignatureMismatchError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import PresignRequest
from tests.filesystem.conftest import service
from tests.signers.grants import document

BUCKET = "examplebucket"


@pytest.mark.parametrize("path", ["", "osspresigned://", f"{BUCKET}/data/a.csv"])
def test_one_url_is_for_its_object(owner, path):
    """Verbs mean the URL's object, by the empty path or by its name."""
    fs = OSSPresignedFileSystem(url=owner.url_file("data/a.csv"))
    assert fs.pipe_file(path, b"value").path == f"{BUCKET}/data/a.csv"
    assert owner.stored() == {"data/a.csv": b"value"}
    assert fs.info(path)["name"] == f"{BUCKET}/data/a.csv"
    assert fs.cat_file(path) == b"value"


def test_a_map_is_read_through_fsspec(owner):
    """The map may lie wherever fsspec reads; from there it must not lead to loopback."""
    with open(owner.map_file("a"), "rb") as file:
        fsspec.filesystem("memory").pipe("/maps/urls.json", file.read())
    fs = OSSPresignedFileSystem(url_map="memory://maps/urls.json")
    with pytest.raises(NotCoveredError, match=f"nearest: {BUCKET}/a"):
        fs.pipe(f"{BUCKET}/aa", b"1")
    with pytest.raises(ConfigurationError, match="this machine over http"):
        fs.pipe(f"{BUCKET}/a", b"1")


def test_plain_http_to_elsewhere_is_refused(owner):
    """A presigned URL must not cross a network in the clear, unless that is wanted."""
    url = owner.url("a").replace(owner.oss.url, "http://example.com")
    place = owner.url_file("a").removeprefix("file:")
    with open(place, "w") as file:
        file.write(url)
    fs = OSSPresignedFileSystem(url=f"file:{place}")
    with pytest.raises(ConfigurationError, match="http"):
        fs.pipe_file("", b"x")


def test_options_come_from_the_configuration_of_fsspec(owner):
    """A tool without storage options works by the environment that fsspec reads."""
    found: dict = {}
    environ = {
        "FSSPEC_OSSPRESIGNED_URL_MAP": owner.map_file("a"),
        "FSSPEC_OSSPRESIGNED_OVERWRITE": "False",
        "FSSPEC_OSSPRESIGNED_PART_SIZE": "1MiB",
        "FSSPEC_OSSPRESIGNED": json.dumps({"metadata": {"k": "v"}}),
    }
    fsspec.config.set_conf_env(found, environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "osspresigned", found["osspresigned"])
        fs = fsspec.filesystem("osspresigned", overwrite=True, metadata={})
        fs.pipe_file(f"{BUCKET}/a", b"x")
        assert fsspec.filesystem("osspresigned").client.options.overwrite is False
        assert fsspec.filesystem("osspresigned").client.options.metadata == {"k": "v"}
    assert fs.client.options.part_size == 1024 * 1024
    assert owner.stored() == {"a": b"x"}


def test_token_of_the_environment_goes_to_its_own_signer_only(monkeypatch):
    """Options of others may name a signer, and must not send it the token of ours."""
    own = "https://sign.example.com"
    defaults = {"signer": own, "signer_token": "env:OSSPRESIGNED_TOKEN"}
    monkeypatch.setitem(fsspec.config.conf, "osspresigned", defaults)
    for given in ({}, {"signer": own}):
        found = OSSPresignedFileSystem(**given).client.options
        assert found.signer_token == defaults["signer_token"]
    for other in ("https://other.example.com", print):
        assert OSSPresignedFileSystem(signer=other).client.options.signer_token is None
    token = "env:OSSPRESIGNED_OTHER"
    named = OSSPresignedFileSystem(
        signer="https://third.example.com", signer_token=token
    )
    assert named.client.options.signer_token == token
    monkeypatch.setitem(fsspec.config.conf, "osspresigned", {"signer_token": token})
    alone = OSSPresignedFileSystem(signer="https://other.example.com")
    assert alone.client.options.signer_token is None


def test_token_of_the_environment_goes_to_no_other_server_of_grants(monkeypatch):
    """A grant that options name takes the token away, unless it is a file beside its signer."""
    own, token = "https://sign.example.com", "env:OSSPRESIGNED_TOKEN"
    server, there = "https://app.example.com/", "https://other.example.com/"

    def given(configured: dict, **options: str) -> Options:
        monkeypatch.setitem(
            fsspec.config.conf, "osspresigned", {**configured, "signer_token": token}
        )
        return OSSPresignedFileSystem(**options).client.options

    assert given({"grant": server}).signer_token == token
    assert given({"grant": server}, grant=server).signer_token == token
    assert given({"grant": server}, grant=there).signer_token is None
    assert given({"signer": own}, grant=there).signer_token is None
    found = given({"grant": server}, signer=own)
    assert (found.signer_token, found.grant) == (None, None)
    monkeypatch.setenv("GRANT", json.dumps(document()))
    assert given({"grant": server}, grant="env:GRANT").signer_token is None
    found = given({"signer": own}, grant="env:GRANT")
    assert (found.signer_token, found.signer) == (token, own)
    monkeypatch.setitem(fsspec.config.conf, "osspresigned", {"url_map": "/none"})
    assert OSSPresignedFileSystem(grant="env:GRANT").client.options.url_map is None


def test_one_url_from_every_writer(owner, monkeypatch):
    """Fsspec's own ``url_to_fs`` has a parameter ``url``: ``presigned_url`` gets through."""
    frame = pd.DataFrame({"n": [1, 2]})
    url = owner.url_file("a.parquet")
    frame.to_parquet("osspresigned://", storage_options={"presigned_url": url})
    stored = io.BytesIO(owner.stored()["a.parquet"])
    assert pd.read_parquet(stored).equals(frame)
    fs, path = fsspec.url_to_fs("osspresigned://", presigned_url=url)
    assert (fs, path) == (OSSPresignedFileSystem(url=url), "")
    monkeypatch.setitem(fsspec.config.conf, "osspresigned", {"presigned_url": url})
    OSSPresignedFileSystem().pipe_file("", b"x")
    assert owner.stored() == {"a.parquet": b"x"}
    other = OSSPresignedFileSystem(url=owner.url_file("b"))
    other.pipe_file("", b"y")
    assert owner.stored() == {"a.parquet": b"x", "b": b"y"}


def test_a_named_source_stands_in_for_that_of_the_environment(owner, monkeypatch):
    """A URL or a map that is passed wins over the environment's signer."""
    defaults = {"signer": "https://sign.example.com", "signer_token": "file:/none"}
    monkeypatch.setitem(fsspec.config.conf, "osspresigned", defaults)
    OSSPresignedFileSystem(url=owner.url_file("a")).pipe_file("", b"x")
    assert owner.stored() == {"a": b"x"}
    mapped = OSSPresignedFileSystem(url_map=owner.map_file("b"))
    assert mapped.client.options.signer == defaults["signer"]
    mapped.pipe_file(f"{BUCKET}/b", b"y")
    again = pickle.loads(pickle.dumps(OSSPresignedFileSystem(url=owner.url_file("a"))))
    again.pipe_file("", b"z")
    assert owner.stored() == {"a": b"z", "b": b"y"}
    monkeypatch.setitem(fsspec.config.conf, "osspresigned", {"url": "file:/none"})
    again = OSSPresignedFileSystem(url_map=owner.map_file("b"))
    assert again.client.options.presigned_url is None


def ruby_url(oss, key: str, version: str) -> str:
    """Return a presigned PUT as the Ruby SDK writes it: a blank of the key is a plus."""
    return (
        PresignRequest(
            oss.credentials,
            oss.endpoint,
            method="PUT",
            bucket=BUCKET,
            key=key,
            region="cn-hangzhou",
            version=version,
            now=time.time(),
            expires_in=600,
        )
        .url()
        .reveal()
        .replace("%20", "+")
    )


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("kind", ["map", "list", "url"])
def test_blank_that_is_written_as_a_plus(oss, version, kind):
    """Stored, recorded and remembered is the key with a blank, which OSS reads there."""
    url, receipts = ruby_url(oss, "in/a b+c", version), []
    assert "/in/a+b%2Bc?" in url
    source = {
        "map": {"url_map": {f"{BUCKET}/in/a b+c": url}},
        "list": {"url_map": [url]},
        "url": {"presigned_url": url},
    }[kind]
    fs = OSSPresignedFileSystem(**source, receipts=receipts.append)
    fs.pipe_file(f"{BUCKET}/in/a b+c", b"data")
    assert oss.objects(BUCKET) == {"in/a b+c": b"data"}
    assert [receipt.path for receipt in receipts] == [f"{BUCKET}/in/a b+c"]
    assert fs.info(f"{BUCKET}/in/a b+c")["size"] == 4
    with pytest.warns(ExistenceNotVerifiedWarning):
        assert not fs.exists(f"{BUCKET}/in/a+b+c")


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("kind", ["map", "url"])
def test_plus_of_a_key_that_is_not_escaped(oss, version, kind):
    """The URL is sent so that OSS reads the plus, or refuses it: never as a blank."""
    path = f"{BUCKET}/in/a+b"
    raw = ruby_url(oss, "in/a+b", version).replace("%2B", "+", 1)
    assert "/in/a+b?" in raw

    def through(url):
        return OSSPresignedFileSystem(
            **({"url_map": {path: url}} if kind == "map" else {"presigned_url": url})
        )

    through(raw).pipe_file(path, b"plus")
    assert oss.objects(BUCKET) == {"in/a+b": b"plus"}
    with pytest.raises(SignatureMismatchError):
        through(ruby_url(oss, "in/a b", version)).pipe_file(path, b"blank")
    assert oss.objects(BUCKET) == {"in/a+b": b"plus"}


class Plus:
    """A signer that writes blanks and pluses of a key as pluses."""

    def __init__(self, oss) -> None:
        self.keys = KeySigner(endpoint=oss.endpoint, region="cn-hangzhou")

    def sign(self, operations):
        """Return requests whose V4 query has neither blanks nor pluses."""
        signed = self.keys.sign(operations)
        urls = [one.url.reveal().replace("%20", "+") for one in signed]
        return [
            evolve(one, url=url.replace("%2B", "+"))
            for one, url in zip(signed, urls, strict=True)
        ]


def test_plus_of_a_key_from_a_service(oss):
    """What a signer service returns is bound and sent in the same way."""
    with service("in/", Plus(oss)) as options:
        fs = OSSPresignedFileSystem(**options)
        for name in ("a b", "a+b"):
            fs.pipe_file(f"{BUCKET}/in/{name}", name.encode())
    assert oss.objects(BUCKET) == {"in/a b": b"a b", "in/a+b": b"a+b"}
