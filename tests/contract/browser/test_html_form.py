"""A plain HTML form, and a script's ``FormData``, in a real browser."""

from __future__ import annotations

import random
import time

import pytest

from fsspec_osspresigned.emulator import Emulator, Fault
from tests.emulator.forms import BUCKET, signed

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
# The fields are filled in later: no signature is written into a file.
PAGE = """<!doctype html><meta charset="utf-8"><title>Upload</title>
<form method="post" enctype="multipart/form-data"><input type="file" name="file"></form>"""
FILL = """const form = document.forms[0]; form.action = arguments[0]
for (const [name, value] of Object.entries(arguments[1])) {
  const field = Object.assign(document.createElement('input'), {type: 'hidden', name, value})
  form.prepend(field)
}"""
FETCH = """const [url, fields, done] = arguments, form = new FormData()
for (const [name, value] of Object.entries(fields)) form.append(name, value)
form.append('file', document.forms[0].file.files[0])
fetch(url, {method: 'POST', body: form}).then(
  async r => done([r.status, r.headers.get('x-oss-hash-crc64ecma'), await r.text()]),
  error => done(String(error)))"""


@pytest.fixture
def made(chromium, tmp_path):
    """An emulator, a page with its file chosen, and the fields of a policy."""
    page, file = tmp_path / "page.html", tmp_path / "ü 1.bin"
    page.write_text(PAGE, "utf-8")
    file.write_bytes(random.Random(1).randbytes(3_000_000))  # noqa: S311 - no secret
    chromium.get(page.as_uri())
    chromium.find_element("css selector", "input").send_keys(str(file))
    with Emulator() as oss:
        conditions = [
            {"bucket": BUCKET},
            ["starts-with", "$key", "in/"],
            ["content-length-range", 1, 3_000_000],
        ]
        fields = signed(oss.credentials, *conditions)
        yield oss, {**fields, "key": "in/${filename}"}, file.read_bytes()
    chromium.get("about:blank")


def submit(chromium, oss, fields) -> str:
    """Press the button, and return what the browser shows then."""
    known = len(oss.requests)
    chromium.execute_script(FILL, f"{oss.url}/{BUCKET}/", fields)
    chromium.execute_script("document.forms[0].submit()")
    end = time.monotonic() + 40
    while len(oss.requests) == known:
        assert time.monotonic() < end
        time.sleep(0.05)
    while not (source := chromium.page_source) or "Upload</title>" in source:
        assert time.monotonic() < end
        time.sleep(0.05)
    return str(source)


def test_a_plain_form(chromium, made):
    """A form without any script stores the file; the browser shows the document."""
    oss, fields, data = made
    shown = submit(chromium, oss, {**fields, "success_action_status": "201"})
    assert "PostResponse" in shown
    assert "in/ü 1.bin" in shown
    stored = oss.get(BUCKET, "in/ü 1.bin")
    assert stored.data() == data
    assert stored.headers["content-type"] == "application/octet-stream"


def test_a_plain_form_that_is_refused(chromium, made):
    """A key that the policy does not allow stores nothing, and the browser says so."""
    oss, fields, _ = made
    shown = submit(chromium, oss, {**fields, "key": "out/${filename}"})
    assert "AccessDenied" in shown
    assert not oss.objects(BUCKET)


def test_a_script_of_another_origin(chromium, made):
    """``fetch`` reads the checksum of a success, and the code of a refusal."""
    oss, fields, data = made
    url = f"{oss.url}/{BUCKET}/"
    oss.faults.add(Fault(action="PostObject", status=503))
    status, _, text = chromium.execute_async_script(FETCH, url, fields)
    assert (status, "ServiceUnavailable" in text) == (503, True)
    assert not oss.objects(BUCKET)
    status, crc, _ = chromium.execute_async_script(FETCH, url, fields)
    stored = oss.get(BUCKET, "in/ü 1.bin")
    assert (status, crc, stored.data()) == (204, str(stored.crc64), data)
