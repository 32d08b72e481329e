"""Tools for bucket owners: sign, grant, inspect, check, and serve signatures.

Begin with ``sign``. ``check`` has the checks of a signer, a store, URL maps and grants.
``explain`` says why a store refused an upload, by any program. ``service`` is the
signer service with its page.
"""
