"""Signer service: an ASGI application, its policy and its processes.

Begin with ``app``, the application. ``policy`` decides which requests are signed, and
``limits`` how many; ``policy_file`` follows the file, ``token_store`` keeps tokens and quotas
of the command line, and ``process`` serves.
"""

from __future__ import annotations

from ...compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    app="create_app",
    policy="Policies Policy added_tokens hash_token parse_policies token_problem",
    process="ServiceSettings launch",
    token_store="TokenStore",
)
