"""The pytest plugin."""

from __future__ import annotations

import requests

BUCKET = "examplebucket"


def test_the_fixture_of_the_plugin(oss_emulator):
    """The plugin's fixture gives a running emulator."""
    assert requests.get(oss_emulator.url, timeout=5).status_code == 403
    assert oss_emulator.buckets == [BUCKET]
