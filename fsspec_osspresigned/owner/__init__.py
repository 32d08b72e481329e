"""Tools for the owner of a bucket: sign, inspect, check.

Begin with ``sign``; ``conformance`` tries the rules of the protocol on a signer.
"""
