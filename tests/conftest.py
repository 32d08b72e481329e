"""A clean environment for every test, and an OSS on a loopback port."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.canary import Plugin
from tests.loop_guard import LoopGuard
from tests.watchdog import Watchdog

# The default run repeats itself exactly. `deep` looks where no run has looked before, on
# machines of a CI too, for which hypothesis has another default.
hypothesis.settings.register_profile(
    "default-run", derandomize=True, max_examples=60, deadline=None, database=None
)
hypothesis.settings.register_profile(
    "deep",
    derandomize=False,
    max_examples=500,
    deadline=None,
    database=None,
    print_blob=True,
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default-run"))

_FOREIGN = ("OSS_", "FSSPEC_", "OSSPRESIGNED_", "ALIBABA_CLOUD_")
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}


def pytest_configure(config: pytest.Config) -> None:
    """Look in every run for leaks, threads that wait forever, and a loop held up."""
    # A shell lets its background jobs ignore Ctrl-C, and their children, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(Plugin(), "canary")
    config.pluginmanager.register(Watchdog(), "watchdog")
    config.pluginmanager.register(LoopGuard(), "loop guard")


def pytest_collection_finish() -> None:
    """Leave the modules and tests out of each collection of garbage in the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Collect no garbage at the end of a deep stack, where finalizers cannot run."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what the machine's owner has set: keys, options of ours, proxies, language."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if os.environ.get(name, "").startswith("zh"):
            monkeypatch.setenv(name, "C.UTF-8")


@pytest.fixture(autouse=True)
def forget_clients() -> Iterator[None]:
    """Let no filesystem of one test reach the next: ports are used again."""
    yield
    if "fsspec_osspresigned.filesystem.filesystem" in sys.modules:
        from fsspec_osspresigned import OSSPresignedFileSystem  # noqa: PLC0415
        from fsspec_osspresigned.client.client import reset  # noqa: PLC0415

        OSSPresignedFileSystem.clear_instance_cache()
        reset()


@pytest.fixture
def store_options() -> dict[str, Any]:
    """Arguments of the ``Emulator`` that ``oss`` is; a module may replace them."""
    return {}


def key_variables(store: Any) -> dict[str, str]:
    """Return the environment variables of the owner of an emulator."""
    key = store.credentials
    values = {
        "OSS_ACCESS_KEY_ID": key.access_key_id,
        "OSS_ACCESS_KEY_SECRET": key.access_key_secret.reveal(),
        "OSS_ENDPOINT": store.url,
        "OSS_REGION": store.region,
    }
    if key.security_token:
        values["OSS_SESSION_TOKEN"] = key.security_token.reveal()
    return values


@pytest.fixture
def oss(
    store_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Any]:
    """A store with the bucket ``examplebucket``.

    The keys of its owner are in the environment, and the test runs in a directory of
    its own, which is also the home directory.
    """
    from fsspec_osspresigned.emulator import Emulator  # noqa: PLC0415 - an extra

    with Emulator(**store_options) as store:
        for name, value in key_variables(store).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        monkeypatch.chdir(tmp_path)
        yield store


def presigned(store: Any, method: str, key: str, **options: Any) -> str:
    """Presign a URL of ``examplebucket``; *options* go to ``PresignRequest``."""
    from fsspec_osspresigned.signing import PresignRequest  # noqa: PLC0415 - measured first

    wanted = {
        "credentials": store.credentials,
        "endpoint": store.endpoint,
        "bucket": "examplebucket",
        "region": "cn-hangzhou",
        "now": time.time(),
        "expires_in": 600,
        **options,
    }
    return PresignRequest(method=method, key=key, **wanted).url().reveal()


@pytest.fixture
def signed(oss: object) -> Callable[[str], str]:
    """Presign a PUT of one object of ``examplebucket``, in the test's own store."""
    return partial(presigned, oss, "PUT")
