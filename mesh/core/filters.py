"""What filters make of a path and of a redirect's Location. Pure text; the proxy has the bytes.

The rules are Gateway API's (HTTPPathModifier, HTTPRequestRedirectFilter).
"""

from __future__ import annotations

from typing import Final

from mesh.core.model import PathChange, Redirect
from mesh.core.names import split_authority

_PORTS: Final = {"http": 80, "https": 443}


def change_path(change: PathChange, path: str) -> str:
    """The new path for a request's path, both without query. Never empty."""
    if change.full is not None:
        return change.full or "/"
    rest = path[len(change.matched.rstrip("/")) :]
    return (change.prefix.rstrip("/") + rest) or "/"


def location(
    redirect: Redirect, *, scheme: str, host: str, port: int, path: str, query: str
) -> str:
    """The Location of a redirect, absolute (RFC 9110 §10.2.2).

    `host` is the request's Host, with or without its port; `port` the one that was dialled. A
    redirect to another scheme without a port means that scheme's own.
    """
    new_scheme = redirect.scheme or scheme
    number = redirect.port
    if number is None:
        number = _PORTS.get(redirect.scheme or "", port)
    name = redirect.hostname or split_authority(host)[0]
    if ":" in name:
        name = f"[{name}]"
    if number != _PORTS.get(new_scheme):
        name = f"{name}:{number}"
    if redirect.path is not None:
        path = change_path(redirect.path, path)
    return f"{new_scheme}://{name}{path}" + (f"?{query}" if query else "")
