"""Refusals in pasted text: the reply of a store, and facts about the request.

The text may be an error document in XML or JSON, a dump of ``curl -v``, an exception of
an SDK, a log line, or several of these. It may also contain the presigned URL.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from ..client.causes import Refusal
from ..client.error_codes import MEANINGS, members, name
from ..errors import ConfigurationError
from ..model import SignedRequest
from ..parsing import moment
from ..secret import SecretURL
from ..signing.mismatch import received_request
from ..signing.signed_url import describe
from ..units import KIB
from ..url_checks import has_signature, url_problem

MAX_TEXT = 64 * KIB

# Fields of error documents that are read; all others are ignored.
_MEMBERS = """
    Code Message RequestId EC Endpoint Region ServerTime RequestTime Expires
    StringToSign CanonicalRequest SignatureProvided
    OSSAccessKeyId AWSAccessKeyId SecurityToken HeadersNotSigned MaxSizeAllowed
""".split()  # noqa: SIM905 - a list of many quoted names is not readable
# Outside of XML, these names are read only in a dictionary, because settings have the
# same names.
_PLACES = ("Endpoint", "Region", "Expires")
_NAMES = {member.lower(): member for member in _MEMBERS}
_ELEMENT = re.compile(rf"<({'|'.join(_MEMBERS)})>([^<]*)</\1>")
# A field in JSON, in a dictionary of Python or JavaScript, or as Go's
# ``ErrorCode=...``.
_MEMBER = re.compile(
    rf"""(?ix) (?<![A-Za-z]) ["']? (?:error[ ]?)?
    ( {"|".join([*_MEMBERS, "request[ -]id"]).lower()} )
    ["']? \s* [:=] \s* (?:\[\s*)?
    (?: "( (?:[^"\\]|\\.){{0,8192}} )" | '( (?:[^'\\]|\\.){{0,8192}} )'
      | ( [^\s"'\[{{<] [^\n,;}})]{{0,300}} ) ) """
)
_OF_BOTO = re.compile(r"An error occurred \((\w+)\) when [^:]{0,80}: ([^\n]{0,300})")
_EC = re.compile(r"\b[0-9]{4}-[0-9]{8}\b")
_STATUS = re.compile(
    r"""(?ix) HTTP/[0-9.]+ \s+ ([1-5][0-9]{2})\b
    | (?: status(?:[ _-]?code)? | response[ ]?code | StatusCodeError )
      ["'\]]? \s* [:=(] \s* ([1-5][0-9]{2})\b
    | \b([45][0-9]{2}) [ ] (?:Client|Server)[ ]Error """
)
_HEADER = re.compile(
    r"""(?imx) ["'\s<] (x-oss-ec|x-oss-err|x-[a-z]{3}-request-id|date)
    ["']? \s* (?:[:=,]|=>) \s* ["']? ([^"'\r\n]{1,4096}) """
)
_REQUEST = re.compile(
    r"""(?mx) ^[>\s]{0,20} (PUT|POST|GET|HEAD|DELETE) [ ] (\S+) [ ] HTTP/[0-9.]+ \r?$
    ( (?: \n [>\s]{0,20} [A-Za-z][A-Za-z0-9-]*:[^\n]* )* ) """
)
_LINE = re.compile(r"(?m)^[>\s]*([A-Za-z][A-Za-z0-9-]*):[ ]?([^\r\n]*)")
_URL = re.compile(r"https?://[^\s\"'<>`\\]+")
_SIGNED = re.compile(
    r"(?i)[?&](x-(oss|amz|goog)-(date|credential|algorithm)|\w*AccessKeyId|GoogleAccessId)="
)
# V1's string to sign, with its lines joined or indented, as browsers and logs show it.
_LOOSE_V1 = re.compile(
    r"""(?x) (PUT|POST|GET|HEAD|DELETE) \s+ (?:(\S{22}==)\s+)?
    (?: ( [\w.+-]+/[\w.+-]+ (?:;[^\n/]{1,80}?)? | false ) \s+ )?
    ( [0-9]{9,} | \w{3},[ ][^\n/]{15,30}GMT ) \s+ (\S.*) """,
    re.DOTALL,
)
_KEY_IDS = ("OSSAccessKeyId", "AWSAccessKeyId")
# codes without a specific meaning
_VAGUE = ("InvalidArgument", "InvalidRequest", "NotImplemented")
_REFUSED = 300  # the lowest status of a reply that stored nothing
_FORM = re.compile("according to Policy|Invalid Policy|MaxSizeAllowed")


def read_refusal(text: str, now: float) -> Refusal:
    """Return the refusal in *text*; *now* is seconds since the epoch.

    Raises:
        ConfigurationError: *text* is too long, or has neither status nor code.
    """
    if len(text) > MAX_TEXT:
        del text
        raise ConfigurationError(
            f"the text is longer than {MAX_TEXT // KIB} KiB: give only the refusal"
        )
    text = _unescaped(text)
    headers = {n.lower(): value.strip() for n, value in _HEADER.findall(text)}
    document = _document(text, headers)
    statuses = [int(next(filter(None, match))) for match in _STATUS.findall(text)]
    # A dump begins with replies of proxies and with "100 Continue", so the last status
    # counts.
    status = next((s for s in reversed(statuses) if s >= _REFUSED), None)
    if status is None and statuses:
        status = statuses[-1]
    if not document.get("Code") and "EC" not in document and (status or 0) < _REFUSED:
        del text, headers, document  # a traceback may show variables
        raise ConfigurationError(
            "the text contains no refusal (neither an error code nor a status): give everything that the store or the program printed; osspresigned doctor describes "
            "a URL alone"
        )
    request = _REQUEST.search(text)
    sent = None if request is None else dict(_LINE.findall(request[3]))
    sent = None if sent is None else {n.lower(): v.strip() for n, v in sent.items()}
    url = _presigned(text, request and request[2], sent or {})
    method = request[1] if request else "PUT"
    if url is not None and sent is None:
        # Only the request that the store received is known, and the host of the URL.
        # Assume that no signed header was missing.
        sent = dict.fromkeys(describe(url).additional_headers, "")
        if pieces := received_request(document, url):
            sent = {n: v for n, v in pieces.headers.items() if n != "host"}
            method = pieces.method
    signed = None
    if url is not None:
        signed = SignedRequest(method=method, url=url, headers=sent or {})
    server = moment(document.get("ServerTime", ""))
    ec = name(document.get("EC", ""))
    return Refusal(
        status=status,
        code=name(document.get("Code", "")),
        ec=ec,
        document=document,
        text=text,
        form=bool(_FORM.search(text)) or ec.startswith("0006-"),
        signed=signed,
        is_sent=request is not None,
        url=describe(url or SecretURL("")),
        # The refusal may be old, so the only useful clock is the store's.
        now=now if server is None else server,
        offset=None if server is None else 0.0,
    )


def _unescaped(text: str) -> str:
    # Parts of a long bytes literal, as pprint writes it.
    text = re.sub(r"'[ \r]{0,9}\n {0,99}b'", "", text)
    if "&lt;Code&gt;" in text or "&lt;Error&gt;" in text:
        text = html.unescape(text)
    # A log may show the document as a string with escapes, and another log may escape
    # that line again.
    for _ in range(2):
        start = re.search(r"<Error\b|<Code>", text)
        if start and re.search(r"\\n\s*<|\\\"", text[start.start() :]):
            text = text.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
    return text.replace("\\u0026", "&").replace("\\u003d", "=")


def _document(text: str, headers: Mapping[str, str]) -> dict[str, str]:
    document = {n: html.unescape(value) for n, value in _ELEMENT.findall(text)}
    document = document or dict(members(b"", headers))
    if not document:
        for key, double, single, bare in _MEMBER.findall(text):
            value = (double or single or bare.rstrip(". ")).replace("\\n", "\n")
            known = _NAMES[re.sub("[ -]", "", key.lower())]
            if known in _PLACES and (bare or key != known):
                continue
            # The name "code" is also used for exit codes and statuses.
            if value and (known != "Code" or re.fullmatch("[A-Z][A-Za-z]+", value)):
                document.setdefault(known, value)
    if match := _OF_BOTO.search(text):
        document.setdefault("Code", match[1])
        document.setdefault("Message", match[2])
    if "Code" not in document and (code := _code_in(text)):
        document["Code"] = code
    if ec := _EC.search(headers.get("x-oss-ec", "")) or _EC.search(text):
        document["EC"] = ec[0]
    for header, value in headers.items():
        if header.endswith("request-id"):
            document.setdefault("RequestId", value)
    document.setdefault("ServerTime", headers.get("date", ""))
    return {n: v if n in _KEY_IDS else _tidy(n, v) for n, v in document.items()}


def _code_in(text: str) -> str:
    # Exceptions have the names of codes: oss2.exceptions.AccessDenied,
    # AccessDeniedError.
    words = re.findall(r"\b[A-Z][A-Za-z]{3,63}\b", text)
    bare = (re.sub("(Error|Exception)$", "", word) for word in words)
    return next((w for w in bare if w in MEANINGS or w in _VAGUE), "")


def _tidy(member: str, value: str) -> str:
    value = value.strip()
    if member in ("StringToSign", "CanonicalRequest") and "\n" not in value:
        value = value.replace("\\n", "\n")
    if member == "StringToSign" and (match := _LOOSE_V1.fullmatch(value)):
        *lines, resource = (piece or "" for piece in match.groups())
        return "\n".join([*lines, *map(str.strip, resource.splitlines())])
    return value


def _presigned(
    text: str, target: str | None, sent: Mapping[str, str]
) -> SecretURL | None:
    urls = [match.rstrip(".,;)]}") for match in _URL.findall(text)]
    if target is not None and target.startswith("/") and "host" in sent:
        urls.append(f"https://{sent['host']}{target}")
    signed = [url for url in urls if has_signature(url) or _SIGNED.search(url)]
    usable = (url for url in signed if url_problem(url) is None)
    url = next(usable, None)
    return None if url is None else SecretURL(url)
