"""The wire guard: what a head may contain before anything else looks at it. Pure.

llhttp parses; the limits, and the rules that it leaves to its user, are here (RFC 9112 §3.2,
§6, §9.6, §11.2). Every refusal is a PeerError with a fixed reason and the status to answer.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import HttpParserInvalidMethodError

from mesh.core.errors import PeerError
from mesh.core.labels import CLIENT_STRIPPED_PREFIXES

Fields = list[bytes]  # name, b": ", value, b"\r\n", name, ...

MAX_HEAD: Final = 64 * 1024  # bytes of one head
MAX_LINE: Final = 16 * 1024  # bytes of a target or a field
MAX_FIELDS: Final = 128
MAX_CHUNK_OVERHEAD: Final = 4096  # bytes of chunk framing beyond the allowance
CHUNK_ALLOWANCE: Final = 32  # bytes of framing that a chunk may need

# The rules that a field may fall under.
PLAIN: Final = 0
DROPPED: Final = 1
HOST: Final = 2
LENGTH: Final = 3
CODING: Final = 4
CONNECTION: Final = 5
UPGRADE: Final = 6
TE: Final = 7
TWIN: Final = 8
OURS: Final = 9

HASH: Final = 0x23  # octets: looking for one in bytes is quick, for a text of one is not
SPACE: Final = 0x20

KINDS: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"te": TE,
    b"keep-alive": DROPPED,
    b"proxy-connection": DROPPED,
    b"http2-settings": DROPPED,
    b"content_length": TWIN,
    b"transfer_encoding": TWIN,
}

_NAMES: Final = """
    Accept Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Origin Age
    Authorization Cache-Control Content-Disposition Content-Encoding Content-Language
    Content-Type Cookie Date ETag Expires If-Modified-Since If-None-Match Last-Modified Link
    Location Origin Pragma Range Referer Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Server
    Set-Cookie Strict-Transport-Security Traceparent Tracestate User-Agent Vary Via
    X-Content-Type-Options X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Powered-By
    X-Real-IP X-Request-ID X-Request-Id X-B3-TraceId X-B3-SpanId X-B3-Sampled
    X-Frame-Options X-XSS-Protection Upgrade-Insecure-Requests Priority DNT
"""
# The rules of names in their usual spellings: one look-up, and most pass.
RULES: Final = {
    spelling: KINDS.get(name.lower().encode(), PLAIN)
    for name in (*_NAMES.split(), "Host", "Content-Length", "Connection")
    for spelling in (name.encode(), name.lower().encode(), name.title().encode())
}

# Those that need no rule at all.
USUAL: Final = frozenset(name for name, kind in RULES.items() if kind == PLAIN)

TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST_TEXT: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{0,5})?"
)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)([/?][^#]*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(rb"(?:[A-Za-z0-9\-._~%]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_NOT_IN_TRAILERS: Final = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"te",
        b"trailer",
        b"keep-alive",
        b"proxy-connection",
        b"authorization",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"www-authenticate",
        b"cookie",
        b"set-cookie",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"expect",
        b"range",
        b"cache-control",
        b"max-forwards",
        b"age",
        b"date",
        b"location",
        b"vary",
    )
)
_NOT_NOMINATED: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization")
)
_STRIPPED: Final = (*CLIENT_STRIPPED_PREFIXES,)


def kind_of(name: bytes) -> int:
    """The rule that a field falls under. Raises PeerError for twins of framing fields."""
    lower = name.lower()
    kind = KINDS.get(lower, PLAIN)
    if kind == TWIN:
        raise PeerError("field_twin", "a field that only looks like a framing field")
    return kind


def is_ours(name: bytes) -> bool:
    """Whether only the mesh may send this field, also in spellings that CGI would unify."""
    return name.lower().replace(b"_", b"-").startswith(_STRIPPED)


def is_text(value: bytes) -> bool:
    """Whether a value or phrase has no control characters but tabs (RFC 9110 §5.5)."""
    return not _CONTROL.search(value)


def without(fields: Fields, *names: bytes) -> Fields:
    """The fields without some names (given in lower case)."""
    kept: Fields = []
    for i in range(0, len(fields), 4):
        if fields[i].lower() not in names:
            kept += fields[i : i + 4]
    return kept


def get(fields: Fields, name: bytes) -> bytes | None:
    """The first value of a field, by its lower-case name."""
    size = len(name)
    for i in range(0, len(fields), 4):
        if len(fields[i]) == size and fields[i].lower() == name:
            return fields[i + 2]
    return None


def parse_length(value: bytes) -> int:
    """Content-Length (RFC 9110 §8.6): digits only, one value."""
    text = value.strip(b" \t")
    if not (text.isdigit() and len(text) <= 18):
        raise PeerError("bad_length", "Content-Length is not one number")
    return int(text)


def check_coding(value: bytes, *, repeated: bool) -> None:
    """Transfer-Encoding: chunked alone and once (RFC 9112 §6.1)."""
    if repeated or value.strip(b" \t").lower() != b"chunked":
        raise PeerError("bad_coding", "Transfer-Encoding other than chunked", status=501)


def check_host(host: bytes, minor: int) -> None:
    """Host: present in 1.1, one authority without user or path (RFC 9112 §3.2)."""
    if not host and not minor:
        return
    if not _HOST_TEXT.fullmatch(host):
        raise PeerError("bad_host", "Host missing or not an authority")


def check_target(method: bytes, target: bytes, host: bytes) -> None:
    """The four forms of RFC 9112 §3.2; absolute-form must agree with Host."""
    if len(target) > MAX_LINE:
        raise PeerError("target_too_long", "request target too long", status=414)
    if HASH in target:
        raise PeerError("bad_target", "fragment in the request target")
    if method == b"CONNECT":
        if _AUTHORITY.fullmatch(target):
            return
    elif target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return
    elif match := _ABSOLUTE.fullmatch(target):
        if match[1].lower() == host.lower() and _HOST_TEXT.fullmatch(match[1]):
            return
        raise PeerError("host_conflict", "Host differs from the request target")
    raise PeerError("bad_target", "request target in no known form")


def drop_nominated(fields: Fields, words: bytes) -> Fields:
    """The fields without those named by Connection. Raises when it names one we need."""
    names = {word.strip(b" \t") for word in words.split(b",")}
    if names & _NOT_NOMINATED:
        raise PeerError("bad_connection", "Connection names a field that is not its own")
    return without(fields, *names)


def wants_upgrade(upgrade: bytes, nominated: bytes | None) -> bool:
    """Whether this is an upgrade that we carry: one protocol, not h2c, named by Connection."""
    if not nominated or b"upgrade" not in (word.strip() for word in nominated.split(b",")):
        return False
    return not (b"," in upgrade or upgrade == b"two" or upgrade.strip() == b"h2c")


def clean_trailers(fields: Fields) -> Fields | None:
    """Trailers without fields that may not come late (RFC 9110 §6.5.1)."""
    kept: Fields = []
    for i in range(0, len(fields), 4):
        name = fields[i].lower()
        if name not in _NOT_IN_TRAILERS and not is_ours(name):
            kept += fields[i : i + 4]
    return kept or None


def parse_error(error: Exception) -> PeerError:
    """What llhttp refused, as an answer."""
    if isinstance(error, HttpParserInvalidMethodError):
        return PeerError("bad_method", "unknown method", status=501)
    return PeerError("bad_request", f"not HTTP/1: {error}")
