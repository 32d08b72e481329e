"""Local files that several processes share.

Begin with ``file_lock``. ``line_file`` appends whole lines, and ``file_stamp`` shows
whether a file has changed.
"""
