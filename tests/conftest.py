"""A clean environment for every test, and an OSS on a loopback port."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from tests.canary import Plugin
from tests.watchdog import Watchdog

# The default run repeats itself exactly; `deep` is for a search over night.
hypothesis.settings.register_profile(
    "default-run", derandomize=True, max_examples=60, deadline=None, database=None
)
hypothesis.settings.register_profile("deep", max_examples=5_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default-run"))

_FOREIGN = ("OSS_", "FSSPEC_", "OSSPRESIGNED_", "ALIBABA_CLOUD_")
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}


def pytest_configure(config: pytest.Config) -> None:
    """Look for leaks, and for threads that wait for ever, in every run."""
    config.pluginmanager.register(Plugin(), "canary")
    config.pluginmanager.register(Watchdog(), "watchdog")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what the machine's owner has set: keys, options of ours, proxies."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)


@pytest.fixture
def emulator() -> Iterator[object]:
    """An OSS of its own, with the bucket ``examplebucket``."""
    from fsspec_osspresigned.emulator import Emulator  # noqa: PLC0415 - an extra

    with Emulator() as oss:
        yield oss


@pytest.fixture
def signed(oss: object) -> Callable[[str], str]:
    """Presign a PUT of one object of ``examplebucket``, in the test's own store."""
    from fsspec_osspresigned.signing import presign  # noqa: PLC0415 - measured first

    def sign(key: str) -> str:
        return presign(
            oss.credentials,
            oss.endpoint,
            method="PUT",
            bucket="examplebucket",
            key=key,
            region="cn-hangzhou",
            now=time.time(),
            expires_in=600,
        ).reveal()

    return sign
