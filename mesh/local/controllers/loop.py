"""What every controller is: watches that name keys, and one reconcile at a time for each key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mesh.core.errors import ApiError, MeshError
from mesh.local.api import selectors

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
Reconcile = Callable[[Key], Awaitable[float | None]]
"""Brings one key to its desired state; gives seconds after which to look again, or None."""

_BACKOFF_FIRST, _BACKOFF_LONGEST = 0.05, 10.0  # seconds

log = logging.getLogger(__name__)


class Loop:
    """Runs `reconcile` for keys: each key in order, different keys side by side."""

    def __init__(self, name: str, reconcile: Reconcile) -> None:
        self.name = name
        self._reconcile = reconcile
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    def add(self, key: Key) -> None:
        """Reconcile this key soon; once more if it runs right now."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
            return
        task = asyncio.get_running_loop().create_task(self._run(key))
        self._running[key] = task

    def add_after(self, key: Key, seconds: float) -> None:
        """Reconcile this key after a while, unless it happens before."""
        if key in self._timers:
            self._timers[key].cancel()
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(seconds, self.add, key)

    async def _run(self, key: Key) -> None:
        delay: float | None = None
        try:
            delay = await self._reconcile(key)
            self._failures.pop(key, None)
        except MeshError as error:
            delay = self._failed(key)
            if not (isinstance(error, ApiError) and error.code in (404, 409)):
                log.warning("%s failed key=%s error=%s", self.name, "/".join(key), error)
        except Exception:
            delay = self._failed(key)
            log.exception("%s failed key=%s", self.name, "/".join(key))
        finally:
            self._running.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif delay is not None:
            self.add_after(key, delay)

    def _failed(self, key: Key) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        return float(min(_BACKOFF_FIRST * 2 ** min(count - 1, 16), _BACKOFF_LONGEST))

    def stop(self) -> None:
        """Cancel what runs and what waits."""
        for timer in self._timers.values():
            timer.cancel()
        for task in self._running.values():
            task.cancel()


def key_of(obj: Object) -> Key:
    """The key of an object."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def controller_of(obj: Object, kind: str) -> Key | None:
    """The key of the controller of that kind that owns an object."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller") and owner.get("kind") == kind:
            return obj["metadata"].get("namespace", ""), owner["name"]
    return None


def owned_by(obj: Object, uid: str) -> bool:
    """Whether the owner with this uid controls the object."""
    return any(
        owner.get("controller") and owner.get("uid") == uid
        for owner in obj["metadata"].get("ownerReferences") or ()
    )


def owner_reference(obj: Object) -> Object:
    """The ownerReference by which `obj` controls another object."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def matches(selector: Object, labels: dict[str, str] | None) -> bool:
    """Whether a LabelSelector selects these labels; an empty one selects everything."""
    return selectors.matches(selectors.parse_selector(selector), labels)
