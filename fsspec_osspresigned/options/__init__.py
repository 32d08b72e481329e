"""Storage options and options of single calls, with their validation.

Begin with ``options``.
"""
