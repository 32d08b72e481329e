"""Operations on stored objects: HEAD, list, read, copy, delete.

Begin with ``calls``; ``lookup`` answers questions about paths.
"""
