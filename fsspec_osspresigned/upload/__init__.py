"""Uploads: the code that stores bytes as an object, in one request or in parts.

Begin with ``upload``. ``plan`` decides how to split an object into parts,
``upload_modes`` sends it in one request or in parts, and ``oss_calls`` calls the store.
``writer`` is the file that ``open`` returns.
"""
