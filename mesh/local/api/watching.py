"""Watches over HTTP: one JSON line an event, bookmarks, initial events, and 410.

Shell: owns the response and the waiting; which events there are is the store's business.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web

from mesh.core.errors import ApiError
from mesh.local.api import status
from mesh.local.api.resources import Object
from mesh.local.api.store import Store, Watch

BOOKMARK_EVERY: Final = 60.0  # seconds
_SHORTEST: Final = 1800  # seconds a watch lasts when the client names no timeout
INITIAL_END: Final = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What the query of a watch says."""

    since: int | None
    bookmarks: bool
    initial: bool  # send what there is, then a bookmark that says so
    timeout: float  # seconds

    @classmethod
    def parse(cls, query: dict[str, str]) -> WatchRequest:
        """Raises ApiError 400, 422."""
        revision = query.get("resourceVersion", "")
        if revision and not revision.isdigit():
            raise status.bad_request(f"invalid resource version {revision!r}")
        initial = is_true(query.get("sendInitialEvents"))
        match = query.get("resourceVersionMatch", "")
        if "sendInitialEvents" in query and match != "NotOlderThan":
            words = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            fault = status.forbidden_field("resourceVersionMatch", words)
            raise status.invalid("meta.k8s.io", "ListOptions", "", [fault])
        since = int(revision) if revision not in ("", "0") else None
        if initial:
            since = None
        elif "sendInitialEvents" in query and since is None:
            since = -1  # from now on, without what there is
        seconds = query.get("timeoutSeconds", "")
        timeout = float(seconds) if seconds.isdigit() and int(seconds) else 0.0
        if not timeout:
            timeout = _SHORTEST + secrets.randbelow(_SHORTEST)
        bookmarks = is_true(query.get("allowWatchBookmarks"))
        return cls(since, bookmarks, initial, timeout)


def is_true(text: str | None) -> bool:
    return text is not None and text.lower() in ("", "1", "t", "true")


@dataclass(frozen=True, slots=True)
class View:
    """How one watch shows things: objects, bookmarks, and under which content type."""

    show: Callable[[Object], Object]
    bookmark: Callable[[Object], Object]
    kind: str
    api_version: str
    content_type: str


class Stream:
    """One watch on its way to one client."""

    def __init__(self, store: Store, watch: Watch, asked: WatchRequest, view: View) -> None:
        self._store = store
        self._watch = watch
        self._asked = asked
        self._view = view
        self._response = web.StreamResponse(headers={"Content-Type": view.content_type})
        self._encode = msgspec.json.Encoder().encode

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Send events until the time is over, the watch is closed or the client is gone."""
        await self._response.prepare(request)
        try:
            await self._send_waiting()
            if self._asked.initial and self._asked.bookmarks:
                await self._mark(initial=True)
            await self._follow()
        except ApiError as error:
            await self._send("ERROR", status.status_object(error))
        finally:
            self._watch.close()
        await self._response.write_eof()
        return self._response

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._asked.timeout
        while not self._watch.is_closed and (left := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, BOOKMARK_EVERY)):
                    await self._watch.wait()
            except TimeoutError:
                if self._asked.bookmarks and left > BOOKMARK_EVERY:
                    await self._mark(initial=False)
            else:
                await self._send_waiting()

    async def _send_waiting(self) -> None:
        while (found := self._watch.take()) is not None:
            await self._send(found[0], self._view.show(found[1]))

    async def _send(self, type_: str, obj: Object) -> None:
        await self._response.write(self._encode({"type": type_, "object": obj}) + b"\n")

    async def _mark(self, *, initial: bool) -> None:
        """A bookmark of now: only sent when nothing waits, so all before it was delivered."""
        meta: Object = {"resourceVersion": str(self._store.revision), "creationTimestamp": None}
        if initial:
            meta["annotations"] = {INITIAL_END: "true"}
        view = self._view
        blank = {"kind": view.kind, "apiVersion": view.api_version, "metadata": meta}
        await self._send("BOOKMARK", view.bookmark(blank))
