"""The page of ``serve --ui`` in a real browser, against an OSS that fails on demand."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fsspec_osspresigned.emulator import Fault, server
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.owner import service
from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant
from fsspec_osspresigned.owner.service.policy import hash_token
from fsspec_osspresigned.tools.cli.app import run
from tests.contract.browser.conftest import LOOKING, TOKEN, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
MIB = 1024 * 1024
PASSING = {
    "lost-put": Fault(action="PutObject", drop_reply=True),
    "storm": Fault(status=503, rate=0.4, seed=3, retry_after=1),
    "reset-part": Fault(
        action="UploadPart", part_number=2, cut_after=MIB, reset=True, times=2
    ),
    "expired-parts": Fault(action="UploadPart", refuse="expired", times=2),
    "damaged-part": Fault(action="UploadPart", part_number=3, wrong_crc=True),
}


def made(folder: Path, name: str, size: int, seed: int = 1) -> Path:
    """Return a file of random bytes."""
    path = folder / name
    path.write_bytes(random.Random(seed).randbytes(size))  # noqa: S311 - no secret
    return path


def send_three_parts(world, file: Path) -> None:
    """Upload all but part 3 of four, which the store refuses again and again."""
    page = world.page
    fault = Fault(action="UploadPart", part_number=3, status=503, times=None)
    world.oss.faults.add(fault)
    page.upload(file)
    page.until(
        lambda: page.run(
            "return Object.values(JSON.parse(localStorage['osspresigned.uploads'] ?? '{}'))"
            ".some(entry => Object.keys(entry.parts).length === 3)"
        )
    )


def leave_half_way(world, file: Path) -> None:
    """Upload all but part 3 of four, then load the page again."""
    send_three_parts(world, file)
    world.page.reload()
    world.oss.clear()


def test_small_files(world, tmp_path):
    """Files arrive byte for byte, with their type, one that is empty too."""
    text = tmp_path / "héllo wörld+1.txt"
    text.write_bytes(b"a few words\n")
    files = [text, made(tmp_path, "empty.bin", 0), made(tmp_path, "odd.bin", 12_345)]
    world.page.upload(*files)
    assert world.page.ends() == ["stored"] * 3
    for file in files:
        assert world.stored(file.name) == file.read_bytes()
    found = world.oss.get("examplebucket", f"granted/{text.name}")
    assert found.headers["content-type"] == "text/plain"
    assert "3 of 3 stored and checked" in world.page.text()


def test_reload_in_the_middle(world, tmp_path):
    """After a reload the same file is chosen again, and only what is missing is sent."""
    file = made(tmp_path, "big.bin", 30 * MIB)
    page, oss = world.page, world.oss
    leave_half_way(world, file)
    assert page.run("return document.getElementById('token').value") == ""
    assert "Not finished last time" in page.text()
    page.upload(file)
    assert page.ends() == ["stored"]
    assert world.stored("big.bin") == file.read_bytes()
    sent = [one.part_number for one in oss.requests if one.action == "UploadPart"]
    assert sent == [3]
    assert world.count("InitiateMultipartUpload") == 0
    assert page.run("return localStorage['osspresigned.uploads']") == "{}"
    assert "Not finished last time" not in page.text()


def test_changed_file_of_the_same_date(world, tmp_path):
    """Parts of a file that only looks the same are sent again."""
    file = made(tmp_path, "big.bin", 30 * MIB)
    leave_half_way(world, file)
    stat = file.stat()
    made(tmp_path, "big.bin", 30 * MIB, seed=2)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    world.page.upload(file)
    assert world.page.ends() == ["stored"]
    assert world.stored("big.bin") == file.read_bytes()
    assert world.count("InitiateMultipartUpload") == 0
    assert world.count("UploadPart") == 4


def test_giving_up_what_was_not_finished(world, tmp_path):
    """Parts that a closed page has left in the store can be removed."""
    page, oss = world.page, world.oss
    leave_half_way(world, made(tmp_path, "big.bin", 30 * MIB))
    assert oss.uploads("examplebucket")
    page.type("token", TOKEN)
    page.press("#unfinished-list button")
    page.until(lambda: not oss.uploads("examplebucket"))
    page.until(lambda: "Not finished last time" not in page.text())


def test_wrong_token(world, tmp_path):
    """The page says so, at the field, and sends nothing."""
    file = made(tmp_path, "a.bin", 10)
    world.page.upload(file, token="something-else")
    assert world.page.ends() == ["failed"]
    assert "The token is wrong or was revoked" in world.page.find("#problem").text
    assert world.page.find("#token").get_attribute("aria-invalid") == "true"
    assert world.oss.requests == []
    world.page.type("token", TOKEN)
    world.page.press("#list button")
    world.page.until(lambda: world.page.states() == ["stored"])


def test_token_says_what_it_permits(make_world):
    """The page asks the signer, and fills in the token's only bucket and folder."""
    page = make_world().page
    page.open("")
    page.type("token", TOKEN)
    page.find("#bucket").click()
    page.until(lambda: "You may upload to examplebucket/granted/." in page.text())
    assert page.run("return document.getElementById('bucket').value") == "examplebucket"
    assert page.run("return document.getElementById('folder').value") == "granted/"
    page.type("token", "something-else")
    page.find("#bucket").click()
    page.until(lambda: "You may upload" not in page.text())


def test_invitation_asks_for_nothing_more(make_world, tmp_path, capsys):
    """Its address opens a page that says what is permitted, uploads, and gives a receipt."""
    world = make_world()
    page, policy = world.page, str(tmp_path / "policy.toml")
    place = ("--prefix", "examplebucket/granted/", "--url", world.serve.url)
    assert (
        run(
            ["serve", "invite", "bob", "--policy", policy, *place, "--max-objects", "1"]
        )
        == 0
    )
    fragment = (
        capsys.readouterr().out.splitlines()[0].removeprefix(f"{world.serve.url}/")
    )

    def is_permitted():
        page.driver.get("about:blank")
        page.open(fragment)
        page.until(lambda: page.find("#permitted").text)
        return "You may upload" in page.text()

    page.until(is_permitted)  # the service takes a second to see the token
    said = page.find("#permitted").text
    assert "to examplebucket/granted/. Files left: 1." in said
    assert "Existing files are never replaced. Valid until" in said
    assert not page.find("#by-hand").is_displayed()
    file = made(tmp_path, "a.bin", 10)
    page.choose(file)
    page.start()
    assert page.ends() == ["stored"]
    assert world.stored("a.bin") == file.read_bytes()

    page.run(
        "URL.createObjectURL = b => { b.text().then(t => (window.saved = t)); return '#'; }"
    )
    page.press("#receipt")
    receipt = json.loads(page.until(lambda: page.run("return window.saved")))
    assert receipt["path"] == "examplebucket/granted/a.bin"
    assert receipt["size"] == 10
    assert receipt["crc64"] == str(crc64(file.read_bytes()))

    assert page.find("#start").text == "Add more files"
    page.choose(made(tmp_path, "b.bin", 10))
    page.start()
    assert page.ends() == ["stored", "failed"]
    assert "The upload exceeds the quota of this token" in page.text()
    assert run(["serve", "token", "revoke", "bob", "--policy", policy]) == 0

    def is_refused():
        page.driver.get("about:blank")
        page.open(fragment)
        page.until(lambda: page.find("#permitted").text)
        return "The token is wrong or was revoked" in page.text()

    page.until(is_refused)
    assert not page.find("#by-hand").is_displayed()


def test_space_that_is_left_is_told_before_the_upload(make_world, tmp_path):
    """Files beyond the token's permission are refused before a byte is sent."""
    page = make_world('max_bytes = "1MiB"\n').page
    page.open("")
    page.type("token", TOKEN)
    page.find("#bucket").click()
    page.until(lambda: "Space left: 1.0 MiB." in page.text())
    page.choose(made(tmp_path, "a.bin", MIB), made(tmp_path, "b.bin", MIB))
    assert "2 ready, 2.0 MiB. Only 1.0 MiB may still be uploaded" in page.text()


def test_replacing_is_asked_for(world, tmp_path):
    """If the token permits looking and replacing, the page names the objects at risk."""
    page = world.page
    page.upload(made(tmp_path, "a.bin", 20), token=LOOKING)
    assert page.ends() == ["stored"]
    page.reload()
    page.type("token", LOOKING)
    page.find("#bucket").click()
    page.until(lambda: "A file with the same name is replaced" in page.text())
    page.run("window.confirm = t => { window.asked = t; return window.answer; }")
    files = [made(tmp_path, name, 10) for name in ("a.bin", "new.bin")]
    page.choose(*files)
    page.start()
    asked = page.until(lambda: page.run("return window.asked"))
    assert asked.startswith(
        "1 of these files exist already, or the page cannot see whether they exist: a.bin."
    )
    assert page.states() == ["ready"] * 2
    page.run("window.answer = true")
    page.start()
    page.until(lambda: page.states() == ["stored"] * 2)
    assert world.stored("a.bin") == files[0].read_bytes()


def test_nothing_is_replaced_unasked(world, tmp_path):
    """The page asks before it replaces a file, also after a change of token or folder."""
    page, file = world.page, made(tmp_path, "a.bin", 20)
    page.upload(file, token=LOOKING)
    assert page.ends() == ["stored"]
    kept = file.read_bytes()
    page.driver.get("about:blank")
    page.open()
    page.run("window.asked = 0; window.confirm = () => { asked += 1; return answer; }")
    page.run("window.answer = false")
    page.choose(made(tmp_path, "a.bin", 10, seed=2))

    def is_declined(number):
        page.until(lambda: page.run("return window.asked") == number)
        page.until(lambda: page.states() == ["ready"])
        assert world.stored("a.bin") == kept

    page.type("token", LOOKING)
    page.start()
    is_declined(1)
    world.oss.faults.add(Fault(action="HeadObject", status=503))
    page.start()
    is_declined(2)
    assert not world.oss.faults.pending
    page.run("window.answer = true")
    page.type("folder", "outside/")
    page.start()
    assert page.ends() == ["failed"]
    page.run("window.answer = false")
    page.type("folder", "granted/")
    page.press("#list button")
    is_declined(4)


def test_pause_keeps_the_parts(world, tmp_path):
    """Parts that were sent before are not sent again."""
    file = made(tmp_path, "big.bin", 30 * MIB)
    page, oss = world.page, world.oss
    send_three_parts(world, file)
    page.press("#pause")
    page.until(lambda: page.states() == ["paused"])
    oss.clear()
    assert page.find("#start").text == "Continue"
    page.start()
    assert page.ends() == ["stored"]
    assert world.stored("big.bin") == file.read_bytes()
    assert [r.part_number for r in oss.requests if r.action == "UploadPart"] == [3]
    assert world.count("InitiateMultipartUpload") == 0


def test_all_that_failed_is_tried_again_at_once(world, tmp_path):
    """The button sends all failed files again; the bars show the failure until then."""
    page, files = world.page, [made(tmp_path, f"{n}.bin", 10) for n in range(5)]
    page.upload(*files, token="something-else")
    assert page.ends() == ["failed"] * 5
    assert page.find("#uploads").get_attribute("data-failed") == "true"
    assert page.find("#whole").get_property("value") == 0
    assert page.find("#start").text == "Upload 5 files"
    page.type("token", TOKEN)
    page.start()
    assert page.ends() == ["stored"] * 5
    assert page.find("#whole").get_property("value") == 1
    assert page.find("#uploads").get_attribute("data-failed") == "false"
    assert page.find("#start").text == "Add more files"


def test_refused_prefix(world, tmp_path):
    """The page says that the token does not reach there, for small and for large."""
    files = made(tmp_path, "a.bin", 10), made(tmp_path, "b.bin", 17 * MIB)
    world.page.upload(*files, folder="elsewhere")
    assert world.page.ends() == ["failed", "failed"]
    assert world.page.text().count("does not allow writing there") == 2
    assert world.oss.requests == []


@pytest.mark.parametrize("name", PASSING)
def test_faults_that_pass(world, tmp_path, name):
    """Temporary failures are retried, signed again or started over, and all files arrive."""
    files = made(tmp_path, "small.bin", 99_999), made(tmp_path, "big.bin", 18 * MIB)
    fault = PASSING[name]
    world.oss.faults.add(fault)
    world.page.upload(*files)
    assert world.page.ends() == ["stored", "stored"]
    for file in files:
        assert world.stored(file.name) == file.read_bytes()
    assert fault.rate or not world.oss.faults.pending


def test_bytes_that_are_always_damaged(world, tmp_path):
    """A checksum that never fits is an error, not a success."""
    world.oss.faults.add(Fault(action="PutObject", wrong_crc=True, times=None))
    world.page.upload(made(tmp_path, "a.bin", 1000))
    assert world.page.ends() == ["failed"]
    assert "arrive damaged" in world.page.text()
    assert world.count("PutObject") == 3


def test_token_without_parts(make_world, tmp_path):
    """If uploads in parts are not signed, a large file is sent in one request."""
    token = "browser-test-token-one-put-55"
    world = make_world(
        f'\n[[tokens]]\nname = "one"\nsha256 = "{hash_token(token)}"\n'
        'buckets = ["examplebucket"]\nprefixes = ["granted/"]\nactions = ["PutObject"]\n'
    )
    file = made(tmp_path, "big.bin", 30 * MIB)
    world.page.upload(file, token=token)
    assert world.page.ends() == ["stored"]
    assert world.stored("big.bin") == file.read_bytes()
    assert [one.action for one in world.oss.requests if one.method != "OPTIONS"] == [
        "PutObject"
    ]


def test_folder(world, tmp_path):
    """A folder is uploaded with the names of what is in it."""
    (tmp_path / "top" / "inner").mkdir(parents=True)
    made(tmp_path / "top" / "inner", "a.bin", 10)
    made(tmp_path / "top", "b.bin", 20)
    world.page.type("token", TOKEN)
    world.page.find("#directory").send_keys(str(tmp_path / "top"))
    world.page.start()
    assert world.page.ends() == ["stored", "stored"]
    assert len(world.stored("top/inner/a.bin")) == 10
    assert len(world.stored("top/b.bin")) == 20


def test_refusal_of_the_store(world, tmp_path):
    """A refusal is shown with its code, and no parts are left behind."""
    world.oss.faults.add(Fault(action="UploadPart", code="AccessDenied", times=None))
    world.page.upload(made(tmp_path, "big.bin", 17 * MIB))
    assert world.page.ends() == ["failed"]
    assert "The store refused (AccessDenied). Tell the owner" in world.page.text()
    world.page.until(lambda: not world.oss.uploads("examplebucket"))


def test_cancel(world, tmp_path):
    """Cancelling stops the bytes, and removes what was sent; it can begin again."""
    page, oss = world.page, world.oss
    file = made(tmp_path, "big.bin", 30 * MIB)
    oss.faults.add(
        Fault(action="UploadPart", part_number=2, bytes_per_second=MIB // 2, times=1)
    )
    page.upload(file)
    page.until(lambda: world.count("UploadPart") >= 2)
    page.press("#list button")
    assert page.ends() == ["cancelled"]
    assert oss.uploads("examplebucket") == []
    assert world.stored("big.bin") is None
    assert page.run("return localStorage['osspresigned.uploads']") == "{}"
    oss.clear()
    page.press("#list button")
    page.until(lambda: page.states() == ["stored"])
    assert world.stored("big.bin") == file.read_bytes()


def test_object_that_must_stay(make_world, tmp_path):
    """A policy without overwriting: the page says that the name is taken."""
    world = make_world("overwrite = false\n")
    file = made(tmp_path, "a.bin", 10)
    world.page.upload(file)
    assert world.page.ends() == ["stored"]
    file.write_bytes(b"other")
    world.page.reload()
    world.page.upload(file)
    assert world.page.ends() == ["failed"]
    assert "already exists" in world.page.text()
    assert world.stored("a.bin") != b"other"


def test_limits_of_size(make_world, tmp_path):
    """Parts are cut as the policy wants; a file that is too large sends no byte."""
    more = 'max_size = "20MiB"\nmax_part_size = "4MiB"\n'
    world = make_world(more)
    files = made(tmp_path, "fits.bin", 19 * MIB), made(tmp_path, "large.bin", 21 * MIB)
    world.page.upload(*files)
    assert world.page.ends() == ["stored", "failed"]
    assert world.stored("fits.bin") == files[0].read_bytes()
    assert "larger than this token allows" in world.page.text()
    sent = [one for one in world.oss.requests if one.action == "UploadPart"]
    assert {one.key for one in sent} == {"granted/fits.bin"}
    assert world.oss.uploads("examplebucket") == []


def test_bucket_without_a_rule(monkeypatch, make_world, tmp_path):
    """A bucket that knows nothing of the page: the page says what is missing."""
    monkeypatch.setattr(server, "CORSMiddleware", lambda app, **_: app)
    world = make_world()
    world.page.upload(made(tmp_path, "a.bin", 10))
    world.page.until(lambda: "Waiting to try again" in world.page.text())
    world.page.press("#list button")
    assert world.page.ends() == ["cancelled"]
    assert world.stored("a.bin") is None


def test_file_that_changes_before_it_is_sent(world, tmp_path):
    """A file that changed after it was chosen is not sent."""
    file = made(tmp_path, "a.bin", 1000)
    world.page.type("token", TOKEN)
    world.page.choose(file)
    file.write_bytes(b"another length")
    world.page.start()
    assert world.page.ends() == ["failed"]
    assert "has changed. Choose it again" in world.page.text()
    assert world.stored("a.bin") is None


def signed_grant(world, folder: Path, *, now: float | None = None, **terms) -> Path:
    """Return a grant file for ``granted/`` that the store's key has signed."""
    facts = {"bucket": "examplebucket", "prefix": "granted/", **terms}
    oss = world.oss
    made_now = sign_grant(
        oss.credentials,
        oss.endpoint,
        GrantTerms(**facts),
        region="cn-hangzhou",
        now=time.time() if now is None else now,
    )
    path = folder / "grant.json"
    path.write_text(made_now.text())
    return path


def led_elsewhere(grant: Path, url: str) -> None:
    """Give the grant in a file another URL."""
    members = json.loads(grant.read_text())
    grant.write_text(json.dumps({**members, "url": url}))


def test_grant_files_of_no_use(world, tmp_path):
    """An invalid, expired or foreign grant is reported, and no byte is sent."""
    page, grant, file = world.page, tmp_path / "grant.json", made(tmp_path, "a.bin", 9)
    world.strays = True
    page.open("")
    grant.write_text("{}")
    page.find("#grant").send_keys(str(grant))
    page.until(
        lambda: "This is not a complete grant file" in page.find("#problem").text
    )
    page.find("#grant").send_keys(str(signed_grant(world, tmp_path, now=1_577_836_800)))
    page.until(lambda: "The grant has expired" in page.find("#problem").text)
    assert page.find("#token").is_displayed()
    led_elsewhere(signed_grant(world, tmp_path), "http://127.0.0.1:1/examplebucket/")
    page.find("#grant").send_keys(str(grant))
    page.until(lambda: not page.find("#token").is_displayed())
    assert page.find("#bucket").get_property("value") == "examplebucket"
    assert page.find("#folder").get_property("value") == "granted/"
    page.choose(file)
    page.start()
    page.until(lambda: "must not send to the address" in page.find("#problem").text)
    page.press("#list button")
    assert page.ends() == ["cancelled"]
    assert world.oss.requests == []


def test_grant_file_instead_of_a_token(world, tmp_path):
    """Small, large and odd files go in forms, each checked; the page keeps no grant."""
    text = tmp_path / "héllo wörld+1.txt"
    text.write_bytes(b"a few words\n")
    files = [text, made(tmp_path, "big.bin", 18 * MIB), made(tmp_path, "empty.bin", 0)]
    page = world.page
    page.open("")
    page.find("#grant").send_keys(
        str(signed_grant(world, tmp_path, sizes=(0, 20 * MIB)))
    )
    page.until(lambda: not page.find("#token").is_displayed())
    assert "grant.json: until" in page.find("#grant-text").text
    page.choose(*files, made(tmp_path, "large.bin", 21 * MIB))
    page.start()
    assert page.ends() == ["stored", "stored", "stored", "failed"]
    assert "takes files of 0 B to 20 MiB" in page.text()
    for file in files:
        assert world.stored(file.name) == file.read_bytes()
    found = world.oss.get("examplebucket", f"granted/{text.name}")
    assert found.headers["content-type"] == "text/plain"
    asked = [one.action for one in world.oss.requests if one.method != "OPTIONS"]
    assert asked == ["PostObject"] * 3
    assert world.serve.calls() == []


def test_files_become_public_only_if_the_person_agrees(world, tmp_path):
    """The page says that a grant makes files public, and asks before it sends any."""
    page, file = world.page, made(tmp_path, "a.bin", 9)
    assert not page.find("#publish").is_displayed()
    grant = signed_grant(world, tmp_path, acl="public-read")
    page.find("#grant").send_keys(str(grant))
    page.until(lambda: page.find("#publish").is_displayed())
    assert "makes the files public" in page.text()
    page.choose(file)
    page.start()
    assert page.ends() == ["failed"]
    assert "Tick the box" in page.text()
    assert world.oss.requests == []
    page.find("#publish").click()
    page.press("#list button")
    page.until(lambda: page.states() == ["stored"])
    assert (
        world.oss.get("examplebucket", "granted/a.bin").headers["x-oss-object-acl"]
        == "public-read"
    )
    page.find("#grant").send_keys(str(signed_grant(world, tmp_path)))
    page.until(lambda: not page.find("#publish").is_displayed())
    assert not page.find("#publish").is_selected()


def test_page_without_a_service(world, tmp_path):
    """With a grant the files of the page work from any web server."""
    site = tmp_path / "site"
    shutil.copytree(Path(service.__file__).parent / "page", site / "ui")
    (site / "ui" / "index.html").rename(site / "index.html")
    file = made(tmp_path, "a.bin", 12_345)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as static:
        threading.Thread(target=static.serve_forever, args=(0.01,)).start()
        try:
            page = Page(world.page.driver, f"http://127.0.0.1:{static.server_port}")
            page.find("#grant").send_keys(str(signed_grant(world, tmp_path)))
            page.until(lambda: not page.find("#token").is_displayed())
            page.choose(file)
            page.start()
            assert page.ends() == ["stored"]
        finally:
            static.shutdown()
    assert world.stored("a.bin") == file.read_bytes()


def test_dropped_files(world):
    """Files that are dropped on the page are those that it lists, and no name is markup."""
    world.page.type("token", TOKEN)
    world.page.run(
        "const data = new DataTransfer();"
        "data.items.add(new File(['one'], 'one.txt', {type: 'text/plain'}));"
        "data.items.add(new File(['two'], '<img src=x>'));"
        "window.dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true}))"
    )
    world.page.until(lambda: world.page.states() == ["ready", "ready"])
    assert world.page.run("return document.images.length") == 0
    world.page.start()
    assert world.page.ends() == ["stored", "stored"]
    assert world.stored("one.txt") == b"one"
    assert world.stored("<img src=x>") == b"two"


def test_chinese_browser_gets_a_chinese_page(world, tmp_path):
    """The page follows the browser, and says so to screen readers and translators."""
    page = world.page
    agent = page.run("return navigator.userAgent")
    override = {"userAgent": agent, "acceptLanguage": "zh-TW"}
    page.driver.execute_cdp_cmd("Network.setUserAgentOverride", override)
    try:
        page.reload()
        assert page.find("html").get_attribute("lang") == "zh-CN"
        assert page.driver.title == "上传文件"
        page.upload(made(tmp_path, "a.bin", 10), folder="elsewhere/")
        assert page.ends() == ["failed"]
        assert "此令牌不允许写入该位置" in page.text()
    finally:
        override["acceptLanguage"] = "en-US"
        page.driver.execute_cdp_cmd("Network.setUserAgentOverride", override)


def test_by_keyboard_alone(world, tmp_path):
    """From the token to the button with Tab, Enter sends."""
    from selenium.webdriver import ActionChains, Keys  # noqa: PLC0415

    page = world.page
    page.choose(made(tmp_path, "a.bin", 10))
    page.find("#token").send_keys(TOKEN)
    seen = []
    for _ in range(8):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        seen.append(page.run("return document.activeElement.id || 'row'"))
        if seen[-1] == "start":
            break
    fields = ["grant", "bucket", "folder", "files", "directory"]
    assert seen == [*fields, "row", "start"]
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    assert page.ends() == ["stored"]
    page.until(lambda: "1 of 1" in page.run("return live.textContent"))
