"""One filesystem for equal options: threads, pickles, loops, processes and forks."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import threading
import traceback
import warnings

import fsspec
import fsspec.generic
import pytest

from fsspec_osspresigned.errors import (
    ConfigurationError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.secret import Secret, SecretURL
from tests.filesystem.conftest import forked
from tests.form_signer import grant_of

ROOT = "examplebucket"


def test_equal_options_share_one_client_in_every_thread(fs):
    """Connections and memory are shared by all threads."""
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                fsspec.filesystem("osspresigned", signer="keys")
            )
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fsspec.filesystem("osspresigned", signer="keys") is fs
    assert all(one == fs and one.client is fs.client for one in found)
    assert fs.fsid == found[0].fsid
    other = OSSPresignedFileSystem(signer="keys", overwrite=False)
    assert other is not fs
    assert other.fsid != fs.fsid


def test_options_travel_by_pickle_and_json(fs):
    """Workers make the same filesystem from options that are references."""
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert json.loads(fs.to_json())["signer"] == "keys"
    assert fsspec.AbstractFileSystem.from_json(fs.to_json()) is fs
    assert fsspec.AbstractFileSystem.from_dict(fs.to_dict()) is fs
    again = json.loads(fs.to_json(include_password=False))
    assert again["protocol"] == "osspresigned"
    file = fsspec.open(f"osspresigned://{ROOT}/a", "wb", signer="keys")
    assert pickle.loads(pickle.dumps(file)).fs is fs


def test_no_secret_travels_with_references(fs, owner, environment):
    """A pickled OpenFile names the variable and the file, never what is in them."""
    place = owner.url_file("a")
    secret = owner.oss.credentials.access_key_secret.reveal()
    for options in ({"signer": "keys"}, {"url": place}):
        file = fsspec.open(f"osspresigned://{ROOT}/a", "wb", **options)
        for text in (pickle.dumps(file), file.fs.to_json().encode()):
            assert b"ignature" not in text
            assert secret.encode() not in text


@pytest.mark.parametrize("option", ["url", "url_map", "text map", "callable", "token"])
def test_what_would_spell_out_a_secret_stays_here(owner, option):
    """The error names the option and what to give instead."""
    url = owner.url("a")
    options, remedy = {
        "url": ({"url": url}, r"url= .* env:NAME or file:PATH"),
        "url_map": ({"url_map": {f"{ROOT}/a": url}}, r"url_map= .* pass a file"),
        "text map": ({"url_map": json.dumps({f"{ROOT}/a": url})}, r"url_map= .* file"),
        "callable": ({"signer": lambda _: url}, "'module:function'"),
        "token": (
            {"signer": "http://127.0.0.1:1", "signer_token": lambda: "t"},
            "signer_token=",
        ),
    }[option]
    fs = OSSPresignedFileSystem(**options)
    file = fsspec.core.OpenFile(fs, f"{ROOT}/a", "wb")
    for spill in (
        lambda: pickle.dumps(fs),
        lambda: pickle.dumps(file),
        fs.to_json,
        fs.to_dict,
    ):
        with pytest.raises(TypeError, match=remedy) as caught:
            spill()
        assert "ignature" not in str(caught.value)


def _inline(owner, kind):
    """Return options with a secret in themselves, a path, and the secrets."""
    url, path = owner.url("a"), f"{ROOT}/a"
    grant = json.dumps(document := grant_of(owner.oss, ROOT, "in/"))
    fields = document["fields"]
    secrets = [url.partition("?")[2], fields["policy"], fields["x-oss-signature"]]
    options, path = {
        "url": ({"presigned_url": url}, path),
        "alias": ({"url": url}, path),
        "hidden url": ({"presigned_url": SecretURL(url)}, path),
        "map": ({"url_map": {path: url}}, path),
        "text map": ({"url_map": json.dumps({path: url})}, path),
        "list map": ({"url_map": [{"path": path, "url": url}]}, path),
        "hidden map": ({"url_map": Secret(json.dumps({path: url}))}, path),
        "grant": ({"grant": json.loads(grant)}, f"{ROOT}/in/a"),
        "text grant": ({"grant": grant}, f"{ROOT}/in/a"),
        "hidden grant": ({"grant": Secret(grant)}, f"{ROOT}/in/a"),
    }[kind]
    return options, path, secrets


@pytest.mark.parametrize(
    "kind",
    [
        *("url", "alias", "hidden url", "map", "text map", "list map", "hidden map"),
        *("grant", "text grant", "hidden grant"),
    ],
)
def test_an_inline_secret_shows_in_no_repr(owner, kind):
    """The secret uploads, makes the same filesystem again, and is in no text."""
    options, path, secrets = _inline(owner, kind)
    fs = OSSPresignedFileSystem(**options)
    fs.pipe_file(path, b"stored")
    assert owner.stored()[path.partition("/")[2]] == b"stored"
    assert OSSPresignedFileSystem(**fs.storage_options) is fs
    cached = fsspec.filesystem("simplecache", fs=fs)
    with pytest.raises(TypeError) as caught:
        fs.to_dict()
    frames = traceback.TracebackException(  # without the one of this test
        TypeError, caught.value, caught.tb.tb_next, capture_locals=True
    )
    held = [
        fs,
        fs.storage_options,
        vars(fs),
        fs.client,
        fs.client.options,
        fsspec.core.OpenFile(fs, path, "wb"),
        fs.open(path, "wb"),
        fs.get_mapper(path),
        cached,
        cached.storage_options,
        {"task": (fs.pipe_file, path, b"", fs.storage_options)},
        caught.value,
        frames,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file open for writing is dropped
        texts = [f"{one!r} {one}" for one in held[:-1]]
        texts.append("".join(held[-1].format()))
        del held
        gc.collect()
    for text in texts:
        assert not any(secret in text for secret in secrets)


def test_a_chain_never_takes_one_inline_secret_for_another(owner):
    """Two maps for two objects behind simplecache:: are two filesystems."""
    for key in ("a", "b"):
        hidden = OSSPresignedFileSystem(url_map={f"{ROOT}/{key}": owner.url(key)})
        with fsspec.open(
            f"simplecache::osspresigned://{ROOT}/{key}",
            "wb",
            osspresigned=hidden.storage_options,
        ) as file:
            file.write(key.encode())
    assert owner.stored() == {"a": b"a", "b": b"b"}


def test_a_relative_map_means_where_it_was_named(owner, tmp_path, monkeypatch):
    """Another working directory, in this process or a worker, changes nothing."""
    owner.map_file("a")
    monkeypatch.chdir(tmp_path)
    fs = OSSPresignedFileSystem(url_map="urls.json")
    assert fs.storage_options["url_map"] == str(tmp_path / "urls.json")
    assert json.loads(fs.to_json())["url_map"] == str(tmp_path / "urls.json")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(pickle.dumps(fs)) is fs
    with pytest.raises(OSError, match=r"elsewhere/urls\.json"):
        OSSPresignedFileSystem(url_map="urls.json")


def test_a_forked_child_uploads_its_own_file(fs, owner):
    """An inherited filesystem and a fresh one both work, and do not hang."""
    fs.pipe({f"{ROOT}/parent/{n}": b"p" for n in range(4)})  # threads, sockets, a loop
    assert fs.exists(f"{ROOT}/parent/0")

    def act():
        fs.pipe({f"{ROOT}/child/{n}": b"c" for n in range(4)})
        fresh = fsspec.filesystem("osspresigned", signer="keys")
        with fresh.open(f"{ROOT}/child/fresh", "wb") as file:
            file.write(b"f")
        assert fs.exists(f"{ROOT}/child/0")
        assert fs.isdir(f"{ROOT}/child")
        assert fs.client is fresh.client

    assert forked(act) == 0
    assert len(owner.stored()) == 9
    assert fs.exists(f"{ROOT}/child/fresh")


def test_the_loop_is_the_callers_or_begun_when_asked_for(environment):
    """A small upload starts no thread for a loop."""
    assert OSSPresignedFileSystem(signer="keys", asynchronous=True).loop is None
    shared = OSSPresignedFileSystem(signer="keys").loop
    assert shared is fsspec.asyn.get_loop()
    own = asyncio.new_event_loop()
    assert OSSPresignedFileSystem(signer="keys", loop=own).loop is own
    own.close()


def test_verbs_work_inside_a_running_loop(fs, owner, tmp_path):
    """Notebooks have a loop in the main thread."""
    (tmp_path / "f").write_bytes(b"f")

    async def main():
        fs.pipe({f"{ROOT}/{n}": b"x" for n in range(3)})
        fs.put(str(tmp_path / "f"), f"{ROOT}/f")
        with fs.open(f"{ROOT}/g", "wb") as file:
            file.write(b"g")
        return fs.cat_file(f"{ROOT}/f")

    assert asyncio.run(main()) == b"f"
    assert len(owner.stored()) == 5


def test_coroutines_run_in_the_callers_loop(environment, owner, tmp_path):
    """With ``asynchronous=True`` everything is awaited, several at once."""
    fs = OSSPresignedFileSystem(signer="keys", asynchronous=True)
    (tmp_path / "f").write_bytes(b"f")

    async def main():
        names = [f"{ROOT}/{n}" for n in range(10)]
        await asyncio.gather(*(fs._pipe_file(name, b"x") for name in names))
        await fs._put_file(str(tmp_path / "f"), f"{ROOT}/f")
        await fs._put([str(tmp_path / "f")], f"{ROOT}/d/")
        await fs._pipe({f"{ROOT}/p": b"p"})
        await fs._touch(f"{ROOT}/t")
        await fs._cp_file(f"{ROOT}/p", f"{ROOT}/q")
        await fs._makedirs(f"{ROOT}/made", exist_ok=True)
        await fs._get_file(f"{ROOT}/f", str(tmp_path / "back"))
        assert await fs._exists(f"{ROOT}/p")
        assert (await fs._info(f"{ROOT}/p"))["size"] == 1
        assert await fs._find(f"{ROOT}/d") == [f"{ROOT}/d/f"]
        await fs._rm(f"{ROOT}/d", recursive=True)
        return await fs._cat_file(f"{ROOT}/f")

    assert asyncio.run(main()) == b"f"
    assert (tmp_path / "back").read_bytes() == b"f"
    assert len(owner.stored()) == 14


def test_another_endpoint_in_the_environment_is_another_instance(
    environment, monkeypatch
):
    """Another endpoint of the environment gives another instance."""
    first = OSSPresignedFileSystem(signer="keys")
    monkeypatch.setenv("OSS_ENDPOINT", "https://oss-cn-hangzhou.aliyuncs.com")
    second = OSSPresignedFileSystem(signer="keys")
    assert second is not first
    assert second.client is not first.client
    assert first.client is first.client


def test_the_asynchronous_twin_shares_connections_memory_and_transaction(fs, owner):
    """Zarr makes one for itself: what either does, the other knows."""
    other = fsspec.filesystem("osspresigned", signer="keys", asynchronous=True)
    assert other is not fs
    assert other.client is fs.client

    async def main():
        with fs.transaction:
            await other._pipe_file(f"{ROOT}/a", b"a")
            assert not owner.stored()

    asyncio.run(main())
    assert owner.stored() == {"a": b"a"}


def test_anon_of_pandas_makes_no_other_filesystem(fs):
    """The value that pandas adds means nothing here; another one is refused."""
    assert OSSPresignedFileSystem(signer="keys", anon=True) is fs
    assert "anon" not in fs.storage_options
    for given in ({"anon": False}, {"anon": 1}, {"client_kwargs": {}}, {"instance": 1}):
        with pytest.raises(ConfigurationError, match="unknown option"):
            OSSPresignedFileSystem(signer="keys", **given)
