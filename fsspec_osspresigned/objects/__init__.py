"""Operations on stored objects: HEAD, list, read, copy, delete.

Begin with ``reading``, which reads one object. ``lookup`` checks whether a path is an
object or a directory.
"""
