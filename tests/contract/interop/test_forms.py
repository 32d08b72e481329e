"""Policies that are signed here, in forms that others send."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest

from tests.contract.interop.conftest import (
    BUCKET,
    OWNER,
    STS,
    library,
    program,
)
from tests.contract.interop.table import FORMS
from tests.emulator.forms import signed

DATA = os.urandom(1_500_000)  # curl asks with Expect above 1 MB
NAME = "ü é (1).bin"


def curl(url, fields, file):
    """``curl -F``; the fields go in by standard input, not on the command line."""
    lines = [f'url = "{url}"', *(f'form-string = "{n}={v}"' for n, v in fields.items())]
    lines.append(f'form = "file=@{file};type=image/png"')
    said = subprocess.run(
        [program("curl"), "-sS", "-o", os.devnull, "-w", "%{http_code}", "-K", "-"],
        input="\n".join(lines).encode(), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return int(said.stdout)


def by_requests(url, fields, file):
    """Requests, with an open file."""
    requests = library("requests")
    with open(file, "rb") as body:
        files = {"file": (NAME, body, "image/png")}
        return requests.post(url, data=fields, files=files, timeout=10).status_code


def httpx(url, fields, file):
    """Httpx, with an open file."""
    with open(file, "rb") as body:
        files = {"file": (NAME, body, "image/png")}
        return library("httpx").post(url, data=fields, files=files).status_code


def aiohttp(url, fields, file):
    """Aiohttp, which gives each field a type of its own."""
    aiohttp = library("aiohttp")

    async def post():
        form = aiohttp.FormData(quote_fields=False)
        for name, value in fields.items():
            form.add_field(name, value, content_type="text/plain")
        with open(file, "rb") as body:  # noqa: ASYNC230 - a small file
            form.add_field("file", body, filename=NAME, content_type="image/png")
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, data=form) as reply,
            ):
                return reply.status

    return asyncio.run(post())


SENDERS = {
    "curl": curl,
    "requests": by_requests,
    "httpx": httpx,
    "aiohttp": aiohttp,
}


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("key", [OWNER, STS], ids=["key", "sts"])
@pytest.mark.parametrize(
    "send",
    [
        pytest.param(send, marks=pytest.mark.interop(FORMS, name, "form"), id=name)
        for name, send in SENDERS.items()
    ],
)
def test_form(oss, tmp_path, send, key, version):
    """The file arrives whole, under its own name; another prefix is refused."""
    file = tmp_path / NAME
    file.write_bytes(DATA)
    conditions = [
        {"bucket": BUCKET},
        ["starts-with", "$key", "in/"],
        ["in", "$content-type", ["image/png"]],
        ["content-length-range", len(DATA), len(DATA)],
    ]
    fields = signed(key, *conditions, version=version) | {"x-oss-meta-owner": "me"}
    url = f"{oss.url}/{BUCKET}/"
    assert send(url, {**fields, "key": "in/${filename}"}, file) == 204
    stored = oss.get(BUCKET, f"in/{NAME}")
    assert stored.data() == DATA
    assert stored.headers["content-type"] == "image/png"
    assert stored.headers["x-oss-meta-owner"] == "me"
    assert send(url, {**fields, "key": "out/${filename}"}, file) == 403
    assert set(oss.objects(BUCKET)) == {f"in/{NAME}"}
