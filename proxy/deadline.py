"""How long a request may still take, in the words of headers. Pure.

A proxy tells the next one how many milliseconds are left, in a header that only the mesh may
send; gRPC's own `grpc-timeout` is honoured and shortened, never lengthened, so that a server
does not work for a client that has gone.
"""

from __future__ import annotations

from typing import Final

_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_DIGITS: Final = 8  # of gRPC's TimeoutValue
_LONGEST: Final = 10**8 - 1


def parse_grpc_timeout(value: bytes) -> float | None:
    """Seconds of a `grpc-timeout`, or None of what is none (gRPC over HTTP2, "Timeout")."""
    digits, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return None
    return int(digits) * unit


def write_grpc_timeout(seconds: float) -> bytes:
    """`grpc-timeout` for at most so many seconds, in the finest unit that holds them."""
    left = max(0.0, seconds)
    for unit in (b"n", b"u", b"m", b"S", b"M", b"H"):
        count = int(left / _UNITS[unit])
        if count <= _LONGEST:
            return b"%d%b" % (count, unit)
    return b"%d%b" % (_LONGEST, b"H")


def write_millis(seconds: float) -> bytes:
    """Whole milliseconds that are left, at least 0."""
    return b"%d" % max(0, int(seconds * 1000))


def parse_millis(value: bytes) -> float | None:
    """Seconds of a number of milliseconds, or None."""
    if not value.isdigit() or len(value) > 12:
        return None
    return int(value) / 1000
