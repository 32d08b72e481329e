"""Operations on stored objects: HEAD, list, read, copy, delete.

Begin with ``calls``, which sends single requests. ``lookup`` tells whether a path is an
object or a directory.
"""
