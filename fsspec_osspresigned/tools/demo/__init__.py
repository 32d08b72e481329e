"""Demo ``osspresigned demo``: an owner with access keys and an uploader without keys.

Begin with ``owner``, which starts the uploader and compares every byte.
"""
