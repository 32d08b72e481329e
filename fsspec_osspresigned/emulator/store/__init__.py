"""Storage of the emulator: objects and multipart uploads.

Begin with ``store``, which holds the buckets.
"""
