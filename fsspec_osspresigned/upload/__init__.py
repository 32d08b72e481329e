"""Uploads: sends bytes as an object, in one request or in parts.

Begin with ``upload``. ``plan`` decides how to split an object into parts, ``modes`` sends
it in one request or in parts. ``writer`` is the file that ``open`` returns. ``journal``
records what a later process needs to resume an upload.
"""
