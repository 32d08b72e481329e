"""The signer service under one hostile client: its memory, and how long others wait.

`benchmarks/service_attacks.py` holds the attacks, and measures each for longer.
"""

from __future__ import annotations

import shutil

import pytest

from benchmarks.service_attacks import (
    PATIENCE,
    certificate,
    family,
    measure,
    service,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here"),
]
SECONDS = 6.0
MAX_MEMORY = 300.0  # MiB


@pytest.mark.parametrize(
    ("name", "tls"),
    [
        ("reset", False),
        ("reset", True),
        ("idle_and_silent", False),
        ("objects", False),
        ("lists", False),
    ],
)
def test_hostile_client_neither_fills_the_memory_nor_shuts_others_out(
    tmp_path, name, tls
):
    """Most calls of another client are answered, and the memory has a bound."""
    connections = 1000 if name in ("reset", "idle_and_silent") else 100
    with service(tmp_path, *(certificate(tmp_path) if tls else ())) as (pid, port):
        outcome = measure(
            name,
            port,
            lambda: family(pid),
            tls=tls,
            connections=connections,
            seconds=SECONDS,
        )
    answered = [wait for wait in outcome.waits if wait < PATIENCE]
    assert outcome.sent
    assert outcome.peak < MAX_MEMORY
    assert len(answered) > len(outcome.waits) / 2
