"""Uploads: the code that stores bytes as an object, in one request or in parts.

Begin with ``upload``. ``steps`` has its calls to the store, ``plan`` decides how to
split.
"""
