"""The string formats that schemas may name, as far as Kubernetes checks them. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Final

from mesh.core.quantity import parse_duration

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_HOST: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?"
)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def is_valid(form: str, text: str) -> bool:
    """Whether the text has the format; unknown formats take everything."""
    check = _CHECKS.get(form)
    if check is None:
        return True
    try:
        return check(text) is not False
    except (ValueError, binascii.Error):
        return False


def _date_time(text: str) -> bool:
    if not _TIME.fullmatch(text):
        return False
    datetime.fromisoformat(re.sub(r"\.\d+", "", text).upper().replace("Z", "+00:00"))
    return True


_CHECKS: Final[Mapping[str, Callable[[str], Any]]] = {
    "date-time": _date_time,
    "date": date.fromisoformat,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "cidr": lambda text: "/" in text and ipaddress.ip_network(text, strict=False),
    "uuid": uuid.UUID,
    "byte": lambda text: base64.b64decode(text, validate=True),
    "duration": parse_duration,
    "email": lambda text: bool(_EMAIL.fullmatch(text)),
    "hostname": lambda text: bool(_HOST.fullmatch(text)),
    "mac": lambda text: bool(re.fullmatch(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", text)),
}
