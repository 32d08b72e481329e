"""Signer service: an ASGI application, its policy and its processes.

Begin with ``app``, the application. ``policy`` decides which requests are signed, and
``limits`` how many; ``policy_file`` reloads the policy, ``token_store`` keeps added
tokens and used quotas, and ``process`` runs the service.
"""
