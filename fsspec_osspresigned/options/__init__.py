"""Storage options, and options of single calls, validated.

Begin with ``options``.
"""
