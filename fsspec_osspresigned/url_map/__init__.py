"""URL maps: files with URLs that were presigned in advance.

Begin with ``url_map``, which has the classes of a map and its entries. ``parser`` makes
a map from text; ``source`` reads the text from a file or a URL. ``url_file`` reads and
writes a file with a single URL.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    parser="parse",
    source="Opener kind_of load load_file warn_if_exposed write write_text",
    url_file="headers_in split_url_file url_file",
    url_map="EXTRAS MapEntry MapRequest URLMap dump",
)
