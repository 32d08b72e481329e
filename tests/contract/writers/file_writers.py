"""Writers of the standard library and others that take a file object."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tarfile
import zipfile

from tests.contract.writers.matrix import EXCLUSIVE, Fails, Group, World

case = Group("file objects")
DATA = bytes(range(256)) * 1_200


@case("`zipfile`", "a.zip")
def zipfile_write(w: World) -> None:
    with w.open("a.zip") as file, zipfile.ZipFile(file, "w") as out:
        out.writestr("one", DATA)
        out.writestr("two", b"2")
    with zipfile.ZipFile(w.local("a.zip")) as found:
        assert (found.read("one"), found.read("two")) == (DATA, b"2")


@case("`tarfile`", "a.tar")
def tarfile_write(w: World) -> None:
    place = w.source("one", DATA)
    with w.open("a.tar") as file, tarfile.open(fileobj=file, mode="w") as out:
        out.add(place, "one")
    with tarfile.open(w.local("a.tar")) as found:
        assert found.extractfile("one").read() == DATA


@case("`gzip.GzipFile` around it", "a.gz")
def gzip_wrap(w: World) -> None:
    with w.open("a.gz") as file, gzip.GzipFile(fileobj=file, mode="wb") as out:
        out.write(DATA)
    assert gzip.decompress(w.bytes("a.gz")) == DATA


@case("`json.dump`, text", "a.json")
def json_dump_text(w: World) -> None:
    with w.open("a.json", "w") as file:
        json.dump(list(range(30_000)), file)
    assert json.loads(w.bytes("a.json")) == list(range(30_000))


@case('`csv.writer`, `newline=""`', "a.csv")
def csv_module_newline(w: World) -> None:
    with w.open("a.csv", "w", newline="") as file:
        csv.writer(file).writerows([[1, "a\nb"], [2, "c"]] * 2_000)
    assert w.bytes("a.csv") == b'1,"a\nb"\r\n2,c\r\n' * 2_000


@case("`print(file=)`", "a.txt")
def print_to_file(w: World) -> None:
    with w.fs.open(w.path("a.txt"), "w") as file:
        print("abc", file=file, flush=True)
    assert w.bytes("a.txt") == b"abc\n"


@case("`shutil.copyfileobj`", "a.bin")
def shutil_copyfileobj(w: World) -> None:
    with w.open("a.bin") as file:
        shutil.copyfileobj(io.BytesIO(DATA), file)
    assert w.bytes("a.bin") == DATA


@case(
    '`open("w+b")`',
    "a.bin",
    every=Fails("ValueError", "an object cannot be changed in place"),
)
def open_wplus(w: World) -> None:
    w.fs.open(w.path("a.bin"), "w+b")


@case(
    '`open("xb")`',
    "a.bin",
    url_map=EXCLUSIVE,
)
def open_xb(w: World) -> None:
    with w.fs.open(w.path("a.bin"), "xb") as file:
        file.write(b"abc")
    assert w.bytes("a.bin") == b"abc"


@case(
    '`open("xb")` of an object of others',
    every=Fails("FileExistsError", "", leaves=("a.bin",)),
)
def open_xb_existing(w: World) -> None:
    w.before("a.bin")
    with w.fs.open(w.path("a.bin"), "xb") as file:
        file.write(b"abc")


@case('`fsspec.open(compression="gzip")`', "a.gz")
def fsspec_open_compression(w: World) -> None:
    with w.open("a.gz", compression="gzip") as file:
        file.write(DATA)
    assert gzip.decompress(w.bytes("a.gz")) == DATA


@case("`io.BufferedWriter` around it", "a.bin")
def bufferedwriter_wrap(w: World) -> None:
    with w.fs.open(w.path("a.bin"), "wb") as file:
        out = io.BufferedWriter(file)
        for first in range(0, len(DATA), 1_000):
            out.write(DATA[first : first + 1_000])
        out.flush()
        out.detach()
    assert w.bytes("a.bin") == DATA


@case("buffers of every kind", "a.bin")
def pil_like_seek(w: World) -> None:
    with w.open("a.bin") as file:
        file.write(bytearray(b"ab"))
        file.write(memoryview(b"cd"))
        file.flush()
    assert w.bytes("a.bin") == b"abcd"


@case(
    "one that seeks back to patch a header, as PyAV does",
    "a.mp4",
    every=Fails(
        "UnsupportedOperation",
        "seek",
        advice="use `simplecache::osspresigned://`, which sends a local file",
    ),
)
def seeker(w: World) -> None:
    with w.open("a.mp4") as file:
        file.write(b"????" + DATA)
        file.seek(0)
        file.write(b"ftyp")


@case("the same on `simplecache::`", "a.mp4")
def simplecache_seeker(w: World) -> None:
    import fsspec

    url = f"simplecache::{w.url('a.mp4')}"
    with fsspec.open(url, "wb", osspresigned=w.options) as file:
        file.write(b"????" + DATA)
        file.seek(0)
        file.write(b"ftyp")
    assert w.bytes("a.mp4") == b"ftyp" + DATA
