"""``osspresigned demo``: an owner with keys and an uploader without.

Begin with ``owner``, which starts the uploader and compares every byte.
"""
