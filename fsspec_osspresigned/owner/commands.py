"""curl commands that send a signed request, for people without this package."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Literal

from ..errors import ConfigurationError
from ..model import SignedRequest

Shell = Literal["sh", "powershell"]

# PowerShell treats these characters as apostrophes.
_QUOTES = re.compile("(['\u2018-\u201b])")
# Windows treats these names as other paths, or as devices.
_NO_FILE = re.compile(
    r'.*[\\/:*?"<>|].*|(con|prn|aux|nul|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?',
    re.IGNORECASE,
)


def command(request: SignedRequest, key: str, shell: Shell) -> str:
    """Return a command for *shell* that sends *request*; it is a secret.

    The local file is named like the last part of *key*. Raises ConfigurationError if
    this name, or a header, cannot be written in a command.
    """
    name = key.rpartition("/")[2]
    is_windows = shell == "powershell"
    is_elsewhere = name in (".", "..") or (is_windows and _NO_FILE.fullmatch(name))
    if not name or not name.isprintable() or is_elsewhere:
        kind = "file of Windows" if is_windows else "file"
        msg = f"the key {key!r} does not end in the name of a {kind}: use --print"
        raise ConfigurationError(msg)
    if name[0] in "-.@":  # curl gives these first characters a special meaning
        name = f"./{name}"
    # --globoff: the name may contain brackets, which curl would otherwise expand.
    words = ["--fail", "--globoff", *_METHODS[request.method](name)]
    for header, value in request.headers.items():
        words += ["--header", f"{header}: {value}" if value else f"{header};"]
    words.append(request.url.reveal())
    if shell == "sh":
        return shlex.join(["curl", *words])
    return " ".join(["curl.exe", *map(_for_powershell, words)])


_METHODS: Mapping[str, Callable[[str], list[str]]] = {
    "PUT": lambda name: ["--upload-file", name],
    "GET": lambda name: ["--output", name],
    "HEAD": lambda _: ["--head"],
    "DELETE": lambda _: ["--request", "DELETE"],
}


def _for_powershell(word: str) -> str:
    if re.fullmatch(r"--[a-z-]+|[A-Z]+", word):
        return word
    if '"' in word or word.endswith("\\"):
        # PowerShell 5 and 7 pass these characters to a program in different ways.
        msg = "PowerShell cannot pass a double quote or a final backslash: use --print"
        raise ConfigurationError(msg)
    return "'" + _QUOTES.sub(r"\1\1", word) + "'"
