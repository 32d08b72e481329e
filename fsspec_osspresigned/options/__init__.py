"""Storage options, and keywords of one call, converted strictly into values.

Begin with ``options``.
"""
