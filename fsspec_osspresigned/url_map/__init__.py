"""URL maps: files with URLs that were presigned in advance.

Begin with ``url_map``, which has the classes of a map and its entries. ``parser`` makes
a map from text; ``source`` reads the text from a file or a URL. ``url_file`` reads and
writes a file with a single URL.
"""
