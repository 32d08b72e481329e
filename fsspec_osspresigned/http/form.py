"""Framing of a signed form: multipart/form-data around the data (RFC 7578).

Fields are sent as in the samples of OSS's SDKs: ``name`` is quoted, there are no other
headers, values are in UTF-8, and the key is the first field. The data is the last part,
because OSS ignores parts after the data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache

from attrs import frozen

from ..errors import ConfigurationError
from ..model import SignedForm
from ..units import KIB, MIB

# Limits of OSS (API reference, PostObject; EC 0006-00000110 and 0006-00000112).
MAX_NAME = 8 * KIB
MAX_VALUE = 2 * MIB
MAX_FIELDS = 8 * MIB  # maximum bytes before the data
MAX_KEY = 1023

# Patterns are compiled on first use. Servers decode quoted names in different ways, so
# only names are permitted that need no quoting.
_NAME = r"(?:[!#$&-\[\]-~]|%(?![0-9A-Fa-f]{2}))+"
_CONTROL = r"[\x00-\x08\x0a-\x1f\x7f]"
_HALF = r"[\ud800-\udfff]"  # a surrogate, which UTF-8 cannot express
# Fields that never become headers of the object, so their values may contain any
# character.
_FREE = ("policy", "callback")
_FORBIDDEN = {
    "file": "is the data, which is sent last",
    "success_action_redirect": "hides whether the object is stored: leave it out",
}
_LOOKED_AT = {"key", *_FORBIDDEN}
_SURELY_SHORT = MAX_VALUE // 4  # characters, each with at most 4 bytes
_TYPES = ("x-oss-content-type", "content-type")  # OSS uses the first of these fields
_PLAIN_TYPE = r"[\x20-\x7e]+"


@frozen(eq=False)
class FormFrame:
    """Bytes before and after the data of a form, as memoryviews.

    A traceback that shows variables does not show the content of a memoryview.
    """

    before: memoryview
    after: memoryview
    headers: Mapping[str, str]  # headers of the request, which describe the framing


NO_FRAME = FormFrame(memoryview(b""), memoryview(b""), {})


def form_frame(form: SignedForm, path: str | None = None) -> FormFrame:
    """Return the bytes around the data of *form*; the boundary has 128 random bits.

    Raises ConfigurationError if some fields cannot be sent unchanged, and names them
    all, or if the fields have more than 8 MiB.
    """
    boundary = os.urandom(16).hex()
    problems: list[str] = []
    before = memoryview(_before(form, boundary, problems))
    if problems:
        raise ConfigurationError(problems, path=path)
    if before.nbytes > MAX_FIELDS:
        msg = "the form: its fields have more than 8 MiB in all"
        raise ConfigurationError(msg, path=path)
    after = memoryview(f"\r\n--{boundary}--\r\n".encode())
    kind = f"multipart/form-data; boundary={boundary}"
    return FormFrame(before, after, {"Content-Type": kind})


def _before(form: SignedForm, boundary: str, problems: list[str]) -> bytes:
    start = f"--{boundary}\r\nContent-Disposition: form-data; name="
    parts, kinds, seen = [""], dict[str, str](), set[str]()
    for number, (name, value) in enumerate(form.fields.items(), 1):
        lower, text = name.lower(), value.reveal()
        if not _is_name(name):
            # The name is not shown, because it may be a secret value by mistake.
            problems.append(
                f"the form: field {number} has a name that needs quoting, or is too long"
            )
            continue
        # Nearly all values need no further check.
        plain = text.isascii() if lower in _FREE else text.isprintable()
        plain = plain and len(text) <= _SURELY_SHORT
        if not (plain and lower not in _LOOKED_AT) and (why := _problem(lower, text)):
            problems.append(f"the form: the field {name[:40]} {why}")
        if lower in seen:
            problems.append(f"the form: the field {name[:40]} appears twice")
        seen.add(lower)
        part = f'{start}"{name}"\r\n\r\n{text}'
        if name == "key":
            parts[0] = part
            continue
        parts.append(part)
        if lower in _TYPES:
            kinds[lower] = text
    if not parts[0]:
        problems.insert(0, "the form: the field key is missing")
    if problems:
        return b""
    # OSS prefers the type of this part to the field, so both have the same type.
    kind = next((kinds[name] for name in _TYPES if name in kinds), "")
    is_plain = kind and re.fullmatch(_PLAIN_TYPE, kind)
    typed = f"\r\nContent-Type: {kind}" if is_plain else ""
    parts.append(f'{start}"file"; filename="file"{typed}\r\n\r\n')
    return "\r\n".join(parts).encode()


@lru_cache(maxsize=256)  # all forms of a grant have the same names
def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and re.fullmatch(_NAME, text) is not None


def _problem(name: str, text: str) -> str:
    if name in _FORBIDDEN:
        return _FORBIDDEN[name]
    if not text.isascii() and re.search(_HALF, text):
        return "has characters that UTF-8 cannot express"
    size = len(text.encode())
    if name == "key":
        if not 1 <= size <= MAX_KEY or text[0] in "/\\":
            return (
                f"must have 1 to {MAX_KEY} bytes, and begin with no slash or backslash"
            )
        return "has ${, which OSS would replace" if "${" in text else ""
    is_free = name in _FREE or name.startswith("x:")
    if not is_free and re.search(_CONTROL, text):
        return "has the end of a line in its value, or another control character"
    return "has more than 2 MiB" if size > MAX_VALUE else ""
