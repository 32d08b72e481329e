"""A real Chromium, a signer with its page, and an emulator that it uploads to."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsspec_osspresigned.emulator import Emulator, verifying
from fsspec_osspresigned.owner.service.policy import hash_token
from tests.serve_child import Serve

TOKEN = "browser-test-token-7f3a"
LOOKING = "browser-test-token-looks-91"
STRICT = bool(os.environ.get("ALL_BROWSER"))  # what is missing is an error
_WRITES = '"PutObject", "InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"'
_SECONDS = 40


def _missing(what: str) -> None:
    if STRICT:
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium under the control of selenium."""
    try:
        from selenium import webdriver  # noqa: PLC0415 - not in every environment
    except ImportError:
        _missing("selenium")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver_file = shutil.which("chromedriver")
    if browser is None or driver_file is None:
        _missing("chromium or chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "no-proxy-server",
        "window-size=1000,900",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # It logs what it reads from the browser, whose own log names refused URLs.
    for name in ("selenium", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(driver_file)
    )
    yield driver
    driver.quit()


class Page:
    """The upload page, driven like a user would."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url
        driver.get_log("browser")  # what others left there
        driver.get("about:blank")
        self.open()

    def open(self, fragment: str = "#examplebucket/granted/") -> None:
        """Load it, with bucket and folder in the address."""
        self.driver.get(f"{self.url}/{fragment}")
        self.until(lambda: self.run("return document.documentElement.dataset.ready"))

    def reload(self) -> None:
        """Load it again."""
        self.driver.refresh()
        self.until(lambda: self.run("return document.documentElement.dataset.ready"))

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in it."""
        return self.driver.execute_script(script, *arguments)

    def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until something holds, and return it."""
        end = time.monotonic() + _SECONDS
        while not (found := holds()):
            if time.monotonic() > end:
                raise AssertionError(f"never came; the page says {self.text()!r}")
            time.sleep(0.05)
        return found

    def find(self, selector: str) -> Any:
        """Return the first element."""
        return self.driver.find_element("css selector", selector)

    def text(self) -> str:
        """Return what is to be read on it."""
        return str(self.find("main").text)

    def type(self, field: str, text: str) -> None:
        """Fill in a field."""
        self.find(f"#{field}").clear()
        self.find(f"#{field}").send_keys(text)

    def choose(self, *files: Path) -> None:
        """Choose files."""
        self.find("#files").send_keys("\n".join(map(str, files)))

    def start(self) -> None:
        """Press the button."""
        self.find("#start").click()

    def press(self, selector: str) -> None:
        """Press a button of a row, which may be below the bar: scroll to it first."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def states(self) -> list[str]:
        """Return the state of each file."""
        script = "return [...document.querySelectorAll('#list .row')].map(r => r.dataset.state)"
        return list(self.run(script))

    def upload(self, *files: Path, token: str = TOKEN, **fields: str) -> None:
        """Fill everything in and begin."""
        for name, text in {"token": token, **fields}.items():
            self.type(name, text)
        self.choose(*files)
        self.start()

    def ends(self) -> list[str]:
        """Wait until no file moves; return the states."""
        closed = {"ready", "stored", "failed", "cancelled"}
        self.until(lambda: set(self.states()) <= closed)
        return self.states()

    def everything(self) -> str:
        """Return all that the page holds, shows, keeps and has written."""
        held = self.run(
            "return JSON.stringify([document.documentElement.outerHTML, location.href,"
            "{...localStorage}, {...sessionStorage}, document.cookie,"
            "performance.getEntriesByType('resource').map(e => e.name)])"
        )
        # What the browser itself notes about requests that fail, for developers.
        own = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["source"] != "network"
            and "blocked by CORS policy" not in entry["message"]
        ]
        return "\n".join((held, *own))


class World:
    """An emulator, a signer service with its page, and the page in a browser."""

    def __init__(self, oss: Emulator, serve: Serve, page: Page) -> None:
        self.oss = oss
        self.serve = serve
        self.page = page
        self.strays = False  # whether the page is led where it must not send

    def count(self, action: str) -> int:
        """Return how often the store was asked for something."""
        return sum(one.action == action for one in self.oss.requests)

    def stored(self, name: str) -> bytes | None:
        """Return the bytes of an object in the granted folder."""
        found = self.oss.get("examplebucket", f"granted/{name}")
        return None if found is None else found.data()


@pytest.fixture
def make_world(
    chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    """Make a world; at its end, no signature and no token may be anywhere in it."""
    signatures: set[str] = set()
    real = verifying.sign_v4

    def sign(*args: Any, **kwargs: Any) -> str:
        made = real(*args, **kwargs)
        signatures.add(made)
        return made

    monkeypatch.setattr(verifying, "sign_v4", sign)
    worlds: list[World] = []
    with contextlib.ExitStack() as stack:

        def make(more: str = "") -> World:
            oss = stack.enter_context(Emulator())
            looks = (
                f'\n[[tokens]]\nname = "looks"\nsha256 = "{hash_token(LOOKING)}"\n'
                'buckets = ["examplebucket"]\nprefixes = ["granted/"]\n'
                f'actions = [{_WRITES}, "HeadObject"]\n'
            )
            serve = Serve(oss, tmp_path, TOKEN, more + looks, "--ui")
            stack.enter_context(serve)
            worlds.append(World(oss, serve, Page(chromium, serve.url)))
            return worlds[-1]

        yield make
        for world in worlds:
            seen = world.page.everything() + world.serve.log.read_text()
            for secret in (TOKEN, LOOKING, *signatures):
                assert secret not in seen
            assert "x-oss-signature" not in seen
            assert world.strays or "Content Security Policy" not in seen


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """The usual one."""
    return make_world()
