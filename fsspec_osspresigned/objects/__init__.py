"""Operations on stored objects: look, list, read, copy, delete.

Begin with ``operations``; ``lookup`` answers questions about paths.
"""
