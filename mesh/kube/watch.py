"""List-then-watch that heals itself: the objects of one kind as a stream of batches.

The first batch holds the whole list; later ones hold what changed, in order, as it came from
the wire. A stream is resumed at its last resource version, relisted after 410 Gone and every
five minutes, and cut after at most 28 s of silence: the server is asked to end each request
within 25 s, so a stream that stays open longer without a word is frozen. A relist yields only
the differences. Never raises for a refusal: it waits, with jitter, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from mesh.core.errors import ApiError
from mesh.kube.client import KubeClient
from mesh.kube.resources import Object, Resource, find_resource

_log = logging.getLogger(__name__)

Key = tuple[str, str]  # namespace ("" for cluster-wide kinds), name
Shrink = Callable[[Object], Object]


@dataclass(frozen=True, slots=True)
class WatchTiming:
    """All times in seconds. `segment` is the longest one request; `grace` is added to it before
    silence counts as frozen."""

    segment: float = 25.0
    grace: float = 3.0
    relist: float = 300.0
    backoff_first: float = 0.1
    backoff_last: float = 10.0
    absent: float = 5.0  # between looks for a kind that the cluster does not have


DEFAULT_TIMING: Final = WatchTiming()


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes in order: (object, deleted). `synced`: the stream has had its first whole list.

    `absent`: the cluster does not know this kind (its CRD is missing).
    """

    changes: tuple[tuple[Object, bool], ...]
    synced: bool
    absent: bool = False


@dataclass(slots=True)
class WatchStats:
    """What a watch went through, for metrics: counts since its start."""

    relists: int = 0
    resumes: int = 0
    failures: int = 0
    frozen: int = 0
    events: int = 0
    last_contact: float = 0.0  # time.monotonic() of the last word of the server
    last_frozen: float = 0.0  # time.monotonic() when the last frozen stream was noticed


@dataclass(slots=True)
class Watch:
    """One kind under watch. Iterate `batches()` once; `stats` may be read at any time.

    `shrink` runs on each object as it arrives: what it drops is never held.
    """

    client: KubeClient
    resource: Resource
    namespace: str | None = None
    label_selector: str = ""
    field_selector: str = ""
    shrink: Shrink | None = None
    timing: WatchTiming = DEFAULT_TIMING
    stats: WatchStats = field(default_factory=WatchStats)
    _known: dict[Key, str] = field(default_factory=dict)  # key -> uid/resourceVersion
    _version: str = ""
    _relist_at: float = 0.0
    _failed: int = 0

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Batches for ever; ends when cancelled or closed (use `contextlib.aclosing`)."""
        synced = False
        while True:
            try:
                if not self._version or time.monotonic() >= self._relist_at:
                    changes = await self._list()
                    if changes or not synced:
                        synced = True
                        yield Batch(changes, synced)
                began, events = time.monotonic(), self.stats.events
                async for changes in self._segment():
                    yield Batch(changes, synced)
                if events == self.stats.events and time.monotonic() - began < 1.0:
                    raise ApiError(0, "Closed", "the server ended the watch at once")
                self._failed = 0
            except ApiError as error:
                absent = error.code == 404
                if absent and (self._known or not synced):
                    gone, synced = self._forget_all(), True
                    yield Batch(gone, synced, absent=True)
                await self._wait_after(error)

    async def _list(self) -> tuple[tuple[Object, bool], ...]:
        """The differences between what is known and a fresh list, which becomes the known."""
        found: dict[Key, str] = {}
        changes: list[tuple[Object, bool]] = []
        version = ""
        async for page in self.client.list_pages(
            self.resource,
            self.namespace,
            label_selector=self.label_selector,
            field_selector=self.field_selector,
        ):
            version = page.resource_version
            for obj in page.items:
                key, mark = _key(obj), _mark(obj)
                found[key] = mark
                if self._known.get(key) != mark:
                    changes.append((self._shrunk(obj), False))
        changes += [(self._tombstone(key), True) for key in self._known.keys() - found.keys()]
        self._known = found
        self._version = version
        self._relist_at = time.monotonic() + self.timing.relist * random.uniform(0.8, 1.2)
        self.stats.relists += 1
        self.stats.last_contact = time.monotonic()
        return tuple(changes)

    async def _segment(self) -> AsyncIterator[tuple[tuple[Object, bool], ...]]:
        """One watch request from the current version to its end."""
        seconds = self.timing.segment * random.uniform(0.8, 1.0)
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        if self.label_selector:
            params["labelSelector"] = self.label_selector
        if self.field_selector:
            params["fieldSelector"] = self.field_selector
        silence = self.timing.segment + self.timing.grace
        path = self.resource.path(self.namespace)
        self.stats.resumes += 1
        async with self.client.stream(path, params=params, read_timeout=silence) as pieces:
            self.stats.last_contact = time.monotonic()
            rest = b""
            async for piece in pieces:
                self.stats.last_contact = time.monotonic()
                *lines, rest = (rest + piece).split(b"\n")
                changes = self._read(lines)
                if changes:
                    yield changes

    def _read(self, lines: list[bytes]) -> tuple[tuple[Object, bool], ...]:
        """The last state of each object that `lines` speak of, in the order of first mention."""
        changes: dict[Key, tuple[Object, bool]] = {}
        for line in lines:
            if not line.strip():
                continue
            event = _decode(line)
            kind, obj = event.get("type"), event.get("object") or {}
            if kind == "ERROR":
                raise ApiError(obj.get("code") or 0, obj.get("reason", ""), obj.get("message", ""))
            self._version = (obj.get("metadata") or {}).get("resourceVersion") or self._version
            if kind in ("ADDED", "MODIFIED", "DELETED"):
                self.stats.events += 1
                self._failed = 0
                key, deleted = _key(obj), kind == "DELETED"
                if deleted:
                    self._known.pop(key, None)
                else:
                    self._known[key] = _mark(obj)
                changes[key] = (self._shrunk(obj), deleted)
        return tuple(changes.values())

    async def _wait_after(self, error: ApiError) -> None:
        """Decide what the failure means for the next turn, and wait with full jitter."""
        self.stats.failures += 1
        if error.code:  # also a refusal is a word of the server
            self.stats.last_contact = time.monotonic()
        if error.reason == "TimedOut":
            self.stats.frozen += 1
            self.stats.last_frozen = time.monotonic()
        if error.code in (404, 410) or error.reason in ("Expired", "Gone"):
            self._version = ""
        if error.code == 410 and self._failed == 0:
            self._failed = 1
            return
        timing = self.timing
        wait = min(timing.backoff_last, timing.backoff_first * 2.0 ** min(self._failed, 16))
        wait = max(error.retry_after or 0.0, wait * random.random())
        self._failed += 1
        if error.code == 404:
            wait = timing.absent * random.uniform(0.8, 1.2)
        elif self._failed == 4 or self._failed % 16 == 0 or error.code in (401, 403):
            _log.warning(
                "watch fails resource=%s times=%d code=%d reason=%s: %s",
                self.resource.name,
                self._failed,
                error.code,
                error.reason,
                error.message,
            )
        await asyncio.sleep(wait)

    def _shrunk(self, obj: Object) -> Object:
        return obj if self.shrink is None else self.shrink(obj)

    def _forget_all(self) -> tuple[tuple[Object, bool], ...]:
        gone = tuple((self._tombstone(key), True) for key in self._known)
        self._known.clear()
        return gone

    def _tombstone(self, key: Key) -> Object:
        meta = {"namespace": key[0], "name": key[1]}
        return {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": meta,
        }


def watch(
    client: KubeClient,
    resource: Resource | str,
    namespace: str | None = None,
    *,
    label_selector: str = "",
    field_selector: str = "",
    shrink: Shrink | None = None,
    timing: WatchTiming = DEFAULT_TIMING,
) -> AsyncGenerator[Batch, None]:
    """The batches of one kind; `Watch` is the form whose statistics can be read."""
    known = find_resource(resource) if isinstance(resource, str) else resource
    return Watch(client, known, namespace, label_selector, field_selector, shrink, timing).batches()


def _decode(line: bytes) -> Object:
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ApiError(0, "BadAnswer", f"watch event does not decode: {error}") from error
    if not isinstance(event, dict):
        raise ApiError(0, "BadAnswer", "watch event: expected an object")
    return event


def _key(obj: Object) -> Key:
    meta = obj.get("metadata") or {}
    return meta.get("namespace") or "", meta.get("name") or ""


def _mark(obj: Object) -> str:
    meta = obj.get("metadata") or {}
    return f"{meta.get('uid', '')}/{meta.get('resourceVersion', '')}"
