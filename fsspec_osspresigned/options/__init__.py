"""Storage options, and options of one call, converted strictly into values.

Begin with ``options``.
"""
