"""The one algorithm that turns bytes into an object.

Begin with ``upload``; ``steps`` are its calls to the store, ``plan`` its pure decisions.
"""
