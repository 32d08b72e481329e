"""Signer service: an ASGI application, its policy and its processes.

Begin with ``app``, the application. ``policy`` decides which requests are signed, and
``limits`` how many; ``policy_file`` reloads the policy, ``token_store`` keeps added
tokens and used quotas, and ``process`` runs the service.
"""

from __future__ import annotations

from ...compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    app="create_app",
    policy="Policies Policy added_tokens hash_token parse_policies token_problem",
    process="ServiceSettings launch",
    token_store="TokenStore",  # noqa: S106 - the name of a module
)
