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


async def stream(
    request: web.Request,
    store: Store,
    watch: Watch,
    asked: WatchRequest,
    *,
    show: Callable[[Object], Object],
    bookmark: Callable[[Object], Object],
    blank: Object,
    content_type: str,
) -> web.StreamResponse:
    """Send a watch until its time is over or the client is gone.

    `show` makes an object what the client sees, `bookmark` the same for a bookmark; `blank`
    is kind and apiVersion of one.
    """
    response = web.StreamResponse(headers={"Content-Type": content_type})
    encode = msgspec.json.Encoder().encode
    await response.prepare(request)

    async def send(type_: str, obj: Object) -> None:
        await response.write(encode({"type": type_, "object": obj}) + b"\n")

    def mark(revision: int, *, initial: bool) -> Object:
        meta: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial:
            meta["annotations"] = {INITIAL_END: "true"}
        return bookmark({**blank, "metadata": meta})

    try:
        begun = store.revision
        while (found := watch.take()) is not None:
            await send(found[0], show(found[1]))
        if asked.initial and asked.bookmarks:
            await send("BOOKMARK", mark(begun, initial=True))
        loop = asyncio.get_running_loop()
        end = loop.time() + asked.timeout
        while not watch.is_closed and (left := end - loop.time()) > 0:
            try:
                await asyncio.wait_for(watch.wait(), min(left, BOOKMARK_EVERY))
            except TimeoutError:
                if asked.bookmarks and left > BOOKMARK_EVERY:
                    await send("BOOKMARK", mark(store.revision, initial=False))
                continue
            while (found := watch.take()) is not None:
                await send(found[0], show(found[1]))
    except ApiError as error:
        await send("ERROR", status.status_object(error))
    finally:
        watch.close()
    await response.write_eof()
    return response
