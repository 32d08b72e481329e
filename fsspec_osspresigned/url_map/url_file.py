"""URL file: one presigned URL, and the headers that were signed with it.

The URL is the first line. Each further line is a header, as in an HTTP request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import ConfigurationError
from ..url_checks import header_problems

# The blank after the colon distinguishes a header from a URL.
_HEADER = re.compile(r"([^\s:]+):(?:\s+(.*?))?\s*")


def split_url_file(text: str) -> tuple[str, list[str]]:
    """Return the URL in *text*, and the lines of its headers."""
    url, *lines = text.strip().splitlines() or [""]
    return url.strip(), [line for line in lines if line.strip()]


def headers_in(lines: Sequence[str]) -> Mapping[str, str] | None:
    """Return the headers in the *lines* of a URL file; None without lines.

    Raises ConfigurationError, which does not quote the lines, because they may be part
    of a broken URL.
    """
    if not lines:
        return None
    matches = [_HEADER.fullmatch(line) for line in lines]
    pairs = [(match[1], match[2] or "") for match in matches if match is not None]
    if len(pairs) < len(lines):
        raise ConfigurationError(
            "the URL is broken over several lines: join them; below it, each line is a "
            "header (Name: value)"
        )
    headers = dict(pairs)
    problems = [*header_problems(headers)]
    if len(headers) < len(pairs):
        problems.append("a header is repeated")
    if problems:
        raise ConfigurationError(f"below the presigned URL: {p}" for p in problems)
    return headers


def url_file(url: str, headers: Mapping[str, str]) -> str:
    """Return the text of a URL file, a secret, without a line break at its end."""
    return "\n".join([url, *(f"{name}: {value}" for name, value in headers.items())])
