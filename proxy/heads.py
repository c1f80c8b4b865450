"""A request head as the shared evaluator wants to see it: decoded text, path without query."""

from __future__ import annotations

from proxy.http1 import Request


class RequestHead:
    """Implements `mesh.core.match.Head` over a parsed request."""

    __slots__ = ("_fields", "_target", "method", "path")

    def __init__(self, request: Request) -> None:
        self._fields = request.fields
        self.method = request.method.decode("latin-1")
        self.path = path_of(request.target)
        self._target = request.target

    @property
    def query(self) -> str:
        return self._target.partition(b"?")[2].decode("latin-1")

    def values(self, name: str) -> list[str]:
        wanted = name.encode("latin-1", "replace")
        fields = self._fields
        return [
            fields[i + 2].decode("latin-1")
            for i in range(0, len(fields), 4)
            if fields[i].lower() == wanted
        ]


def path_of(target: bytes) -> str:
    """The path of a request target, without scheme, authority and query."""
    if not target.startswith(b"/"):
        _, _, rest = target.partition(b"://")
        _, slash, path = rest.partition(b"/")
        target = slash + path or b"/"
    return target.partition(b"?")[0].decode("latin-1")
