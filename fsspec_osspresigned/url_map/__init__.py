"""URL maps: presigned URLs that were made beforehand.

Begin with ``model``; ``parser`` reads the text, ``source`` the place it comes from.
"""
