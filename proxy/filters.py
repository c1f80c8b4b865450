"""What a rule and its backend change in a request and in its response. Pure.

Compiled once per plan; a plan without filters has none of this. The order is the model's:
CORS, redirect, request edits, rewrite; mirrors are the pipeline's. Fields that frame a
message are never edited, whatever an object says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mesh.core.filters import change_path, location
from mesh.core.model import Filters, HeaderEdit, Mirror, Redirect, Rewrite
from proxy import guard
from proxy.cors import Crossing
from proxy.guard import Fields
from proxy.heads import path_of
from proxy.http1 import COLON, CRLF, Request

_FRAMING: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"te", b"keep-alive")
)


class Reply:
    """An answer that a filter gives in place of a server: status, fields, and a word for it."""

    __slots__ = ("fields", "reason", "status")

    def __init__(self, status: int, fields: Fields, reason: str) -> None:
        self.status = status
        self.fields = fields
        self.reason = reason


class Edit:
    """A HeaderEdit in bytes."""

    __slots__ = ("_add", "_dropped", "_removed", "_set", "host")

    def __init__(self, edit: HeaderEdit) -> None:
        self._set = _pairs(edit.set)
        self._add = _pairs(edit.add)
        self._removed = frozenset(
            name for name in map(_name, edit.remove) if name not in _FRAMING and name != b"host"
        )
        self._dropped = frozenset(name for name, _ in self._set) | self._removed
        self.host = next((value for name, value in self._set if name == b"host"), None)

    def apply(self, fields: Fields) -> Fields:
        """The fields as they are after the edit; what was given stays as it was."""
        out = guard.without(fields, *self._dropped) if self._dropped else fields[:]
        for name, value in self._set:
            out += (name, COLON, value, CRLF)
        for name, value in self._add:
            if name in self._removed:
                continue
            for i in range(0, len(out), 4):
                if len(out[i]) == len(name) and out[i].lower() == name:
                    out[i + 2] = b"%b,%b" % (out[i + 2], value)
                    break
            else:
                out += (name, COLON, value, CRLF)
        return out


class FilterSet:
    """All filters of one plan: first the rule's, then its backend's."""

    __slots__ = (
        "_cors",
        "_edits",
        "_redirect",
        "_replies",
        "_rewrites",
        "changes_response",
        "mirrors",
    )

    def __init__(self, parts: Iterable[Filters]) -> None:
        found = list(parts)
        self._cors = next((Crossing(part.cors) for part in found if part.cors), None)
        self._redirect = next((part.redirect for part in found if part.redirect), None)
        self._edits = [Edit(part.request) for part in found if part.request]
        self._replies = [Edit(part.response) for part in found if part.response]
        self._rewrites = [part.rewrite for part in found if part.rewrite]
        self.mirrors: list[Mirror] = [mirror for part in found for mirror in part.mirrors]
        self.changes_response = bool(self._replies) or self._cors is not None

    def answer(self, request: Request, port: int) -> Reply | None:
        """What is answered without a server: a preflight, a redirect. `port` was dialled."""
        if self._cors is not None:
            fields = self._cors.preflight(request)
            if fields is not None:
                return Reply(204, fields, "cors-preflight")
        if self._redirect is not None:
            reply = _redirection(self._redirect, request, port)
            if self._cors is not None:
                reply.fields = self._cors.response(request, reply.fields)
            return reply
        return None

    def request(self, request: Request) -> Request:
        """The request as it goes on: itself, or a changed copy."""
        if not self._edits and not self._rewrites:
            return request
        changed = request.copy()
        for edit in self._edits:
            changed.fields = edit.apply(changed.fields)
            if edit.host is not None:
                changed.host = edit.host
        for rewrite in self._rewrites:
            _rewrite(changed, rewrite)
        return changed

    def response(self, request: Request, fields: Fields) -> Fields:
        """The fields of a response as they go back; `request` as the client sent it."""
        for edit in self._replies:
            fields = edit.apply(fields)
        return self._cors.response(request, fields) if self._cors is not None else fields


def compile_filters(*parts: Filters | None) -> FilterSet | None:
    """The filters of a rule and of its backend, or None where there are none."""
    given = [part for part in parts if part is not None]
    return FilterSet(given) if given else None


def _rewrite(request: Request, rewrite: Rewrite) -> None:
    if rewrite.hostname is not None:
        request.host = rewrite.hostname.encode("latin-1", "replace")
        request.fields = [
            b"Host",
            COLON,
            request.host,
            CRLF,
            *guard.without(request.fields, b"host"),
        ]
    if rewrite.path is not None:
        path = change_path(rewrite.path, path_of(request.target))
        _, mark, query = request.target.partition(b"?")
        request.target = path.encode("latin-1", "replace") + mark + query


def _redirection(redirect: Redirect, request: Request, port: int) -> Reply:
    host = request.host.decode("latin-1")
    _, _, query = request.target.partition(b"?")
    text = location(
        redirect,
        scheme="http",
        host=host,
        port=port,
        path=path_of(request.target),
        query=query.decode("latin-1"),
    )
    fields = [b"location", COLON, text.encode("latin-1", "replace"), CRLF]
    return Reply(redirect.status, fields, "redirect")


def _name(text: str) -> bytes:
    return text.lower().encode("latin-1", "replace")


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Names and values that may be written: no framing, no line ends."""
    out = []
    for name, value in pairs:
        data = value.encode("utf-8", "replace")
        if _name(name) not in _FRAMING and not set(data) & set(b"\r\n\0"):
            out.append((_name(name), data))
    return out
