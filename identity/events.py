"""Kubernetes events on identity's Deployment: what an operator should see of the trust chain."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import Any, Final

from identity.storage import Kube
from mesh.core import labels
from mesh.core.errors import ApiError

_MAX_WAITING: Final = 64

log = logging.getLogger(__name__)


class EventWriter:
    """Writes events one after the other, from a short queue; a lost one is a log line."""

    def __init__(self, kube: Kube, *, namespace: str, pod_name: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._pod_name = pod_name
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MAX_WAITING)

    def announce(self, reason: str, message: str, is_warning: bool) -> None:
        """Write an event soon; never blocks and never raises."""
        try:
            self._queue.put_nowait(self._event(reason, message, is_warning, time.time()))
        except asyncio.QueueFull:
            log.warning("event lost reason=%s", reason)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._kube.create("events", event)
            except ApiError as error:
                if error.code != 409:  # 409: another replica has said the same
                    log.warning("event lost reason=%s error=%s", event["reason"], error.message)
            finally:
                self._queue.task_done()

    async def drain(self) -> None:
        """Wait until all events are written."""
        await self._queue.join()

    def _event(self, reason: str, message: str, is_warning: bool, now: float) -> dict[str, Any]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        digest = hashlib.sha256(f"{reason} {message} {int(now / 3600)}".encode()).hexdigest()[:16]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{labels.IDENTITY}.{digest}", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": labels.IDENTITY,
                "namespace": self._namespace,
            },
            "type": "Warning" if is_warning else "Normal",
            "reason": reason,
            "message": message[:1000],
            "source": {"component": labels.IDENTITY},
            "reportingComponent": labels.IDENTITY,
            "reportingInstance": self._pod_name,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
