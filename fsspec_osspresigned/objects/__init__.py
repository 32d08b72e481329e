"""Operations on stored objects: HEAD, list, read, copy, delete.

Begin with ``operations``; ``lookup`` answers questions about paths.
"""
