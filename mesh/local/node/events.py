"""Events: what happened to an object, repeated ones counted, all kept an hour."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api.store import Store

Object = dict[str, Any]
_LIFE = 3600.0  # seconds
_SWEEP = 60.0
_MOST = 2000  # events that may be counted up instead of repeated

log = logging.getLogger(__name__)


def _whole(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def reference(obj: Object) -> Object:
    """An ObjectReference to any object."""
    meta = obj["metadata"]
    made = {
        "apiVersion": obj.get("apiVersion", ""),
        "kind": obj.get("kind", ""),
        "name": meta["name"],
        "uid": meta.get("uid", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
    }
    if meta.get("namespace"):
        made["namespace"] = meta["namespace"]
    return made


class Recorder:
    """Writes Events of one component to the store; never raises."""

    def __init__(self, store: Store, component: str, host: str = "") -> None:
        self._store = store
        self._component = component
        self._host = host
        self._known: OrderedDict[tuple[str, ...], str] = OrderedDict()

    def named(self, component: str) -> Recorder:
        """The recorder of another component."""
        return Recorder(self._store, component, self._host)

    def event(
        self, obj: Object, reason: str, message: str, *, warning: bool = False, path: str = ""
    ) -> None:
        """Record an event about `obj`; the same again raises its count."""
        now = time.time()
        involved = reference(obj)
        if path:
            involved["fieldPath"] = path
        namespace = involved.get("namespace", "default")
        key = (involved["uid"], reason, message, path)
        try:
            if key in self._known and self._again(namespace, self._known[key], now):
                return
            if self._is_ending(namespace):
                return
            self._create(namespace, involved, reason, message, warning, key, now)
        except ApiError as error:
            log.debug("event lost reason=%s error=%s", reason, error)

    def _is_ending(self, namespace: str) -> bool:
        """What is written into a namespace that is being emptied would keep it from ending."""
        found = self._store.find("namespaces", None, namespace)
        return found is not None and "deletionTimestamp" in found["metadata"]

    def _again(self, namespace: str, name: str, now: float) -> bool:
        found = self._store.find("events", namespace, name)
        if found is None:
            return False
        found["count"] = int(found.get("count") or 1) + 1
        found["lastTimestamp"] = _whole(now)
        self._store.update("events", found)
        return True

    def _create(
        self,
        namespace: str,
        involved: Object,
        reason: str,
        message: str,
        warning: bool,
        key: tuple[str, ...],
        now: float,
    ) -> None:
        name = f"{involved['name']}.{secrets.token_hex(8)}"
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        self._store.create(
            "events",
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": involved,
                "reason": reason,
                "message": message[:1024],
                "source": source,
                "firstTimestamp": _whole(now),
                "lastTimestamp": _whole(now),
                "eventTime": None,
                "count": 1,
                "type": "Warning" if warning else "Normal",
                "reportingComponent": self._component,
                "reportingInstance": self._host,
            },
        )
        self._known[key] = name
        while len(self._known) > _MOST:
            self._known.popitem(last=False)


def _seconds(event: Object) -> float:
    """When an event happened last."""
    text = event.get("lastTimestamp") or event.get("eventTime")
    text = text or event["metadata"].get("creationTimestamp") or "1970-01-01T00:00:00Z"
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


async def expire(store: Store) -> None:
    """Forget events an hour after they happened last, whoever wrote them. Until cancelled."""
    while True:
        for event in store.list("events"):
            if _seconds(event) < time.time() - _LIFE:
                try:
                    store.delete(
                        "events", event["metadata"]["namespace"], event["metadata"]["name"]
                    )
                except ApiError as error:
                    log.debug("event not removed error=%s", error)
        await asyncio.sleep(_SWEEP)
