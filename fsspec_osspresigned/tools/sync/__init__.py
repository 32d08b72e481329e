"""Synchronisation of a directory with a prefix, in either direction.

Begin with ``sync``. ``plan`` decides what to transfer and delete, and does no I/O.
"""
