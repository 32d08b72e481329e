"""Signer service: an ASGI application, its policy and its processes.

Begin with ``app``, the application. ``policy`` decides which requests are signed, and
``limits`` how many; ``policy_file`` follows the file, and ``process`` serves.
"""

from __future__ import annotations

from ...compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    app="create_app",
    policy="Policy hash_token parse_policies token_problem",
    process="ServiceSettings launch",
)
