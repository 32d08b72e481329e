"""URL maps: presigned URLs that were made in advance.

Begin with ``url_map``. ``parser`` reads the text; ``source`` opens its file or URL.
"""
