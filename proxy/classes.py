"""What the profiles of the Services that a pod serves say of the requests that come in."""

from __future__ import annotations

from typing import Final

from mesh.core.route import CompiledClass, RouteTable
from proxy.heads import RequestHead
from proxy.http1 import Request

MAX_CLASSED: Final = 512  # remembered (method, path) pairs of one authority


class Classes:
    """The route classes of one authority, with what they said of recent requests."""

    __slots__ = ("_known", "_table", "authority", "profile")

    def __init__(self, authority: str, table: RouteTable) -> None:
        self._table = table
        self._known: dict[tuple[bytes, bytes], CompiledClass | None] = {}
        self.authority = authority
        source = table.target.profile.source if table.target.profile is not None else None
        self.profile = f"{source.namespace}/{source.name}" if source is not None else ""

    def find(self, request: Request) -> CompiledClass | None:
        key = (request.method, request.target)
        if key in self._known:
            return self._known[key]
        if len(self._known) >= MAX_CLASSED:
            self._known.clear()
        found = self._known[key] = self._table.find_class(RequestHead(request))
        return found
