"""URL maps: presigned URLs that were made beforehand.

Begin with ``url_map``; ``parser`` reads the text, ``source`` the place it comes from.
"""
