"""Reading URL maps from files, variables and URLs, and writing them."""

from __future__ import annotations

import io
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.signers.post_grant_parser import parse_grant
from fsspec_osspresigned.url_map.parser import parse
from fsspec_osspresigned.url_map.source import (
    MapSource,
    SecretFileReadableWarning,
    UnreadableMapWarning,
    kind_of,
    load,
    load_file,
    write,
)
from fsspec_osspresigned.url_map.url_map import MapEntry, MapRequest, URLMap

URL = "https://examplebucket.oss-cn-hangzhou.aliyuncs.com/k?Signature=CANARY"
ENTRY = MapEntry(put=MapRequest(url=SecretURL(URL)))
MAP = URLMap({"b/k": ENTRY})


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    """A map in a file of its own."""
    path = tmp_path / "urls.json"
    write(MAP, path)
    return path


def test_written_file_is_private_and_whole(map_file):
    """Only the owner can read it, and no draft stays beside it."""
    assert map_file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(map_file.parent) == ["urls.json"]
    assert dict(load(map_file).current()) == dict(MAP)


def test_directory_is_not_replaced(tmp_path):
    """The error of the system is raised as it is, and no draft stays."""
    place = tmp_path / "urls.json"
    place.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write(MAP, place)
    assert caught.value.filename2 == str(place) or caught.value.filename == str(place)
    assert os.listdir(tmp_path) == ["urls.json"]
    assert os.listdir(place) == []


def test_failed_write_keeps_what_was_there(map_file, monkeypatch):
    """An error in the middle leaves the old file and no draft."""
    before = map_file.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space") as caught:
        write(URLMap({}), map_file)
    assert caught.value.filename == str(map_file)
    assert map_file.read_bytes() == before
    assert os.listdir(map_file.parent) == ["urls.json"]


def test_relative_place_is_made_absolute(map_file, monkeypatch):
    """A later change of directory does not lose the map."""
    monkeypatch.chdir(map_file.parent)
    assert load("urls.json").path == map_file


def test_environment_and_standard_input(monkeypatch):
    """env:NAME and - are read once."""
    monkeypatch.setenv("URLS", URL)
    assert "examplebucket/k" in load("env:URLS").current()
    stdin = io.TextIOWrapper(io.BytesIO(URL.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert "examplebucket/k" in load("-").current()
    with pytest.raises(ConfigurationError, match=r"env:GONE: the environment variable"):
        load("env:GONE")


def test_remote_places_go_through_the_opener():
    """A map at a remote URL is opened by its fsspec filesystem."""
    source = load("memory://urls.json", lambda _: f'{{"b/k": "{URL}"}}'.encode())
    assert not source.local
    assert "b/k" in source.current()
    with pytest.raises(ConfigurationError, match="give a local file"):
        load("memory://urls.json")

    def fail(place: str) -> bytes:
        raise ValueError(place)

    with pytest.raises(ConfigurationError, match=r"s3://b/k\?\.\.\.: ValueError") as e:
        load("s3://b/k?secret", fail)
    assert "secret" not in str(e.value)


def test_map_over_plain_http_is_refused():
    """A map is a secret: over http it comes from this machine only, or on demand."""

    def opener(_: str) -> bytes:
        return f'{{"b/k": "{URL}"}}'.encode()

    with pytest.raises(ConfigurationError, match=r"h/urls\.json is plain http"):
        load("http://h/urls.json", opener)
    assert "b/k" in load("http://h/urls.json", opener, allow_http=True).current()
    assert "b/k" in load("http://127.0.0.1:1/urls.json", opener).current()


@pytest.mark.parametrize("name", ["Signature", "x-oss-signature", "X-Amz-Signature"])
def test_signed_url_as_place_names_the_option(name):
    """A single URL passed as a map raises an error that names the right option."""
    with pytest.raises(ConfigurationError, match="url=") as caught:
        load(f"https://h/k?{name}=CANARY")
    assert "CANARY" not in str(caught.value)


def test_missing_file_and_bad_content_name_the_place(tmp_path):
    """Each problem says in which file it is."""
    with pytest.raises(ConfigurationError, match=r"urls.json: No such file"):
        load(tmp_path / "urls.json")
    bad = tmp_path / "bad.json"
    bad.write_text('{"b/k": 1, "b/l": 2}')
    bad.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        load(bad)
    assert all(p.startswith(f"{bad}: ") for p in caught.value.problems)
    assert len(caught.value.problems) == 2
    bad.write_bytes(b"{\xff")
    with pytest.raises(
        ConfigurationError, match=r"bad\.json: URL map: not UTF-8 at byte 1"
    ):
        load(bad)


def test_file_that_others_can_read_is_warned_about(map_file):
    """The file is a secret, so its mode is checked."""
    map_file.chmod(0o644)
    with pytest.warns(SecretFileReadableWarning, match="chmod 600"):
        load(map_file)


def test_changed_file_is_read_again(map_file):
    """An outside job renews URLs by replacing the file."""
    source = load(map_file)
    first = source.current()
    assert source.current() is first
    assert not source.has_changed
    write(URLMap({"b/k": ENTRY, "b/l": ENTRY}), map_file)
    assert source.has_changed
    assert set(source.current()) == {"b/k", "b/l"}
    map_file.unlink()
    assert not source.has_changed
    assert len(source.current()) == 2


def test_file_is_read_once_for_all_who_wait(map_file):
    """Threads that see a change together read it once, and get the same map."""
    reads: list[URLMap] = []
    pause = threading.Event()

    def read():
        if reads:
            pause.wait(0.1)
        reads.append(URLMap({"b/k": ENTRY}))
        return reads[-1]

    source = MapSource(read, path=map_file, local=True)
    write(URLMap({"b/k": ENTRY, "b/l": ENTRY}), map_file)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: source.current(), range(4)))
    assert len(reads) == 2
    assert all(one is reads[1] for one in found)


def test_broken_change_leaves_the_old_map(map_file):
    """A map that is being overwritten does not stop an upload."""
    source = load(map_file)
    map_file.write_text("{")
    with pytest.warns(UnreadableMapWarning, match="stays in use"):
        assert "b/k" in source.current()
    assert "b/k" in source.current()


OF_KINDS = {
    "grant": '{"version": 1, "url": "https://h", "fields": {"policy": "TOPSECRET"}}',
    "URL map": '{"version": 1, "objects": {"b/k": "https://h/k?s=TOPSECRET"}}',
    "presigned URL": "https://b.oss-cn-hangzhou.aliyuncs.com/k?Signature=TOPSECRET",
    "": "day,n",
}


@pytest.mark.parametrize("kind", OF_KINDS)
def test_secret_of_another_kind_is_named(kind, tmp_path):
    """The content of a file decides its kind, and the error names the right option."""
    place = tmp_path / "secret"
    place.touch(0o600)
    place.write_text(OF_KINDS[kind])
    assert kind_of(place.read_bytes()) == kind
    option = {"URL map": "url_map=", "grant": "grant="}.get(kind, "presigned_url=")
    for wanted, read in (("URL map", parse), ("grant", parse_grant)):
        if wanted == kind or (wanted, kind) == ("URL map", "presigned URL"):
            continue
        with pytest.raises(ConfigurationError) as caught:
            load_file(place, read, kind=wanted)
        said = f"this is a {kind}: give it as {option}"
        assert (said in str(caught.value)) == bool(kind)
        assert "TOPSECRET" not in str(caught.value)


def test_broken_secret_of_its_kind_keeps_its_problems(tmp_path):
    """A grant without a policy is no URL map, and lines of URLs are no single URL."""
    place = tmp_path / "secret"
    place.touch(0o600)
    place.write_text('{"url": "https://h/", "fields": {}}')
    with pytest.raises(ConfigurationError, match="it has no policy"):
        load_file(place, parse_grant, kind="grant")
    place.write_text("https://h/k?a=1\nhttps://h/%zz\n")
    with pytest.raises(ConfigurationError, match="line 1: the URL "):
        load_file(place, parse)
