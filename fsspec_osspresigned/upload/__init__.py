"""Uploads: the code that stores bytes as an object, in one request or in parts.

Begin with ``upload``. ``steps`` calls the store, and ``plan`` decides how to split an
object into parts.
"""
