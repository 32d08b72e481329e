"""Uploads: the algorithm that turns bytes into an object.

Begin with ``upload``. ``steps`` has its calls to the store, ``plan`` its decisions.
"""
