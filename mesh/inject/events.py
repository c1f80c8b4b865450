"""Events on the workload that a pod belongs to: injected, not injected and why, doubtful.

The same news about the same workload is one event whose count goes up. Sent by one task
behind a short queue: a slow API server never holds up an admission, it loses events, counted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.inject.workload import controller_of
from mesh.kube.client import KubeClient

INJECTED: Final = "Injected"
SKIPPED: Final = "InjectionSkipped"
DOUBTFUL: Final = "InjectionWarning"
MISSED: Final = "InjectionMissed"

_QUEUE: Final = 256
_REMEMBERED: Final = 1024  # workloads and news
_QUIET: Final = 60.0  # seconds in which the same news is not sent again
_MESSAGE: Final = 1000  # characters

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """One thing to tell: about the pod (its owner), of a kind, as a sentence."""

    pod: Mapping[str, Any]
    namespace: str
    reason: str
    message: str

    @property
    def is_warning(self) -> bool:
        return self.reason != INJECTED


class EventWriter:
    """Queues news and writes it. `lost` counts what was dropped."""

    def __init__(
        self,
        client: KubeClient,
        *,
        instance: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._instance = instance
        self._clock = clock
        self._queue: asyncio.Queue[News] = asyncio.Queue(_QUEUE)
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()  # name -> (when, count)
        self.lost = 0

    def tell(self, news: News) -> None:
        """Never waits."""
        try:
            self._queue.put_nowait(news)
        except asyncio.QueueFull:
            self.lost += 1

    async def run(self) -> None:
        """For ever; never raises."""
        while True:
            news = await self._queue.get()
            try:
                await self._write(news)
            except ApiError as error:
                self.lost += 1
                log.debug("event not written reason=%s error=%s", error.reason, error)
            finally:
                self._queue.task_done()

    async def _write(self, news: News) -> None:
        involved = await self._involved(news)
        if involved is None:
            return
        name = event_name(involved, news)
        when, count = self._told.pop(name, (0.0, 0))
        now = self._clock()
        if now - when >= _QUIET:
            when, count = now, count + 1
            await self._send(make_event(name, involved, news, self._instance, now, count))
        self._told[name] = (when, count)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)

    async def _send(self, event: dict[str, Any]) -> None:
        try:
            await self._client.create("events", event)
        except ApiError as error:
            if error.code != 409:
                raise
            changed = {key: event[key] for key in ("count", "lastTimestamp", "message")}
            meta = event["metadata"]
            await self._client.patch("events", meta["name"], changed, namespace=meta["namespace"])

    async def _involved(self, news: News) -> dict[str, str] | None:
        """The reference of the owner that a person would describe; None where there is none."""
        owner = controller_of(news.pod)
        if owner is None:
            meta = news.pod.get("metadata") or {}
            if not meta.get("name"):
                return None
            return _reference({"kind": "Pod", "apiVersion": "v1", **meta}, news.namespace)
        if owner.get("kind") == "ReplicaSet":
            try:
                found = await self._client.get(
                    "replicasets.apps", str(owner.get("name")), news.namespace
                )
                owner = controller_of(found) or owner
            except ApiError as error:
                log.debug("owner not read replicaset=%s error=%s", owner.get("name"), error)
        return _reference(owner, news.namespace)


def event_name(involved: Mapping[str, str], news: News) -> str:
    """The same for the same news about the same object."""
    about = "/".join((involved.get("uid", ""), news.reason, news.message))
    digest = hashlib.sha256(about.encode()).hexdigest()[:16]
    return f"{involved['name'][:200]}.{digest}"


def make_event(
    name: str,
    involved: Mapping[str, str],
    news: News,
    instance: str,
    now: float,
    count: int,
) -> dict[str, Any]:
    """A core/v1 Event."""
    stamp = dt.datetime.fromtimestamp(int(now), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": news.namespace},
        "involvedObject": dict(involved),
        "reason": news.reason,
        "message": news.message[:_MESSAGE],
        "type": "Warning" if news.is_warning else "Normal",
        "source": {"component": labels.INJECT, "host": instance},
        "reportingComponent": labels.INJECT,
        "reportingInstance": instance,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": count,
    }


def _reference(owner: Mapping[str, Any], namespace: str) -> dict[str, str]:
    found = {key: str(owner.get(key) or "") for key in ("apiVersion", "kind", "name", "uid")}
    return {key: text for key, text in found.items() if text} | {"namespace": namespace}
