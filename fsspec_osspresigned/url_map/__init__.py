"""URL maps: files with URLs that were presigned in advance.

Begin with ``url_map``, the data. ``parser`` reads the text; ``source`` opens its file
or URL.
"""
