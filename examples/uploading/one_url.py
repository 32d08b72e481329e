"""Upload one file through the URL that you were given: one_url.py FILE URL-FILE"""
import sys

import fsspec

local, url_file = sys.argv[1:]
fs = fsspec.filesystem("osspresigned", presigned_url=f"file:{url_file}")
receipt = fs.put_file(local, "")  # the URL says which object it is
print(f"{receipt.path}: {receipt.size} bytes stored, checked by {receipt.verified}")
