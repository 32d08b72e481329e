"""The signer service behind its proxy under one hostile client.

`benchmarks/service_attacks.py` holds the attacks, and measures each for longer.
"""

from __future__ import annotations

import pytest

from benchmarks.service_attacks import (
    ATTACKS,
    NGINX,
    PATIENCE,
    connections_of,
    measure,
    proxy,
    service,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NGINX, reason="no nginx here"),
]
SECONDS = 3.0
MAX_MEMORY = 300.0  # MiB


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_client_neither_fills_the_memory_nor_shuts_others_out(tmp_path, name):
    """Every call of another client is answered, and the memory has a bound."""
    with (
        service(tmp_path) as (pid, port),
        proxy(tmp_path, port) as (_, front),
    ):
        count = connections_of(name)
        outcome = measure(
            name, front, pid, tls=True, connections=count, seconds=SECONDS
        )
    assert outcome.waits
    assert max(outcome.waits) < PATIENCE
    assert outcome.peak < MAX_MEMORY
