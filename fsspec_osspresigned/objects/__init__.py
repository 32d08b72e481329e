"""Operations on stored objects: HEAD, list, read, copy, delete.

Begin with ``calls``, which sends single requests. ``lookup`` finds out whether a path
is an object or a directory.
"""
