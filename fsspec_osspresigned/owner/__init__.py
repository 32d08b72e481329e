"""Tools for the owner of a bucket: sign, inspect, check.

Begin with ``sign``. ``conformance`` checks that a signer follows the protocol.
"""
