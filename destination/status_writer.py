"""Writes verdicts to users' objects: one replica does it, and only where something changed."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable
from typing import Final

from destination.dialects.undone import RESOURCES, UDP_ROUTES
from destination.facts import Object
from destination.fragments import Outcome, Ref
from destination.live import LiveCluster
from destination.route_conditions import route_status_of
from destination.status import event_of, message_of, status_of
from destination.store import GRANTS, ROUTES, SERVICES
from mesh.core.errors import ApiError
from mesh.kube.client import KubeClient
from mesh.kube.lease import Lease
from mesh.kube.resources import Resource, find_resource

log = logging.getLogger(__name__)

_PAUSE: Final = 0.02  # seconds between two writes; users' objects are few
_RETRY: Final = 2.0
_MOST_EVENTS: Final = 10_000  # remembered, so that no event is repeated


class StatusWriter:
    """The queue of objects whose status may be out of date."""

    def __init__(self, client: KubeClient, live: LiveCluster, lease: Lease) -> None:
        self._client = client
        self._live = live
        self._lease = lease
        self._queue: dict[Ref, None] = {}
        self._woken = asyncio.Event()
        # Resources whose CRD has no status, or one that is another controller's.
        self._without_status = {*RESOURCES, GRANTS} - {UDP_ROUTES}
        self._told: dict[Ref, str] = {}  # what the last event of an object said
        self.written = 0

    def changed(self, objects: Iterable[Ref]) -> None:
        """These objects have a new outcome, or were themselves changed."""
        self._queue.update(dict.fromkeys(objects))
        self._woken.set()

    async def run(self) -> None:
        """Write while the lease is held. Never raises."""
        while True:
            await self._lease.taken()
            self.changed(self._live.snapshot.outcomes)
            while self._lease.is_held:
                await self._drain()
                await self._wait()

    async def _wait(self) -> None:
        self._woken.clear()
        if self._queue:
            return
        try:
            async with asyncio.timeout(5.0):  # the lease may be lost meanwhile
                await self._woken.wait()
        except TimeoutError:
            return

    async def _drain(self) -> None:
        failed: list[Ref] = []
        while self._queue and self._lease.is_held:
            ref = next(iter(self._queue))
            del self._queue[ref]
            try:
                if await self._write(ref):
                    self.written += 1
                    await asyncio.sleep(_PAUSE)
            except ApiError as error:
                log.info("status not written object=%s: %s", _print(ref), error.message)
                if error.code not in (400, 403, 404, 422):
                    failed.append(ref)
            except Exception:
                log.exception("status not written object=%s", _print(ref))
        if failed:
            loop = asyncio.get_running_loop()
            loop.call_later(_RETRY, self.changed, failed)

    async def _write(self, ref: Ref) -> bool:
        """Bring one object's status up to date; False when it was."""
        outcome = self._live.snapshot.outcomes.get(ref)
        seen = self._live.store.seen.get(ref)
        body: Object | None = None
        if seen is not None and ref.resource in (*ROUTES, UDP_ROUTES):
            status = route_status_of(outcome, seen, _now())
            if status is not None:  # others write there too: only over what we have seen
                meta = {"resourceVersion": seen.resource_version}
                body = {"metadata": meta, "status": status}
        elif seen is not None and outcome is not None:
            status = status_of(outcome, seen, _now())
            body = None if status is None else {"status": status}
        if outcome is None and body is None:
            self._told.pop(ref, None)
            return False
        if outcome is not None and (seen is None or ref.resource in self._without_status):
            return await self._tell(ref, outcome)
        resource = self._live.routing.get(ref.resource)
        if body is None or resource is None:
            return False
        return await self._patch(ref, resource, body, outcome)

    async def _patch(
        self, ref: Ref, resource: Resource, body: Object, outcome: Outcome | None
    ) -> bool:
        try:
            await self._client.patch(
                resource,
                ref.name,
                body,
                namespace=ref.namespace,
                subresource="status",
            )
        except ApiError as error:
            if error.code != 404:
                raise
            # Either the object is gone, or its CRD has no status: reading it tells.
            await self._client.get(resource, ref.name, ref.namespace)
            log.info("no status in this cluster resource=%s: verdicts as events", ref.resource)
            self._without_status.add(ref.resource)
            return outcome is not None and await self._tell(ref, outcome)
        return True

    async def _tell(self, ref: Ref, outcome: Outcome) -> bool:
        """An event, unless the last one said the same."""
        text = f"{outcome.verdict}: {message_of(outcome)}"
        if self._told.get(ref) == text:
            return False
        if len(self._told) >= _MOST_EVENTS:
            self._told.clear()
        self._told[ref] = text
        resource = self._resource(ref)
        if resource is None:
            return False
        event = event_of(
            ref,
            resource.kind,
            resource.api_version,
            self._uid(ref),
            outcome,
            now=_now(),
            name=f"{ref.name[:200]}.{secrets.token_hex(6)}",
        )
        await self._client.create("events", event)
        return True

    def _uid(self, ref: Ref) -> str:
        """The uid of an object, without which `kubectl describe` does not show its events."""
        if ref.resource == SERVICES:
            service = self._live.store.services.get((ref.namespace, ref.name))
            return service.uid if service is not None else ""
        seen = self._live.store.seen.get(ref)
        return seen.uid if seen is not None else ""

    def _resource(self, ref: Ref) -> Resource | None:
        if ref.resource == SERVICES:
            return find_resource(SERVICES)
        return self._live.routing.get(ref.resource)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _print(ref: Ref) -> str:
    return f"{ref.resource}/{ref.namespace}/{ref.name}"
