"""One holder among replicas, by a Lease (coordination.k8s.io/v1).

Safe against clocks that differ: a replica takes a lease over only after watching it unchanged
for its whole duration on its own clock, and gives itself up before anyone may do so.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from mesh.core.errors import ApiError
from mesh.kube.client import KubeClient
from mesh.kube.resources import Object

_LEASES: Final = "leases.coordination.k8s.io"

log = logging.getLogger(__name__)


class Lease:
    """One lease as seen by one replica. `run` for as long as it should be sought."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        holder: str,
        duration: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._duration = duration
        self._clock = clock
        self._renewed = -1e9  # when we last wrote it
        self._seen = ""  # version of another holder's lease
        self._seen_at = 0.0
        self._taken = asyncio.Event()

    @property
    def is_held(self) -> bool:
        """Whether we hold it, with a third of its duration to spare."""
        return self._clock() - self._renewed < self._duration * 2 / 3

    async def taken(self) -> None:
        """Return once it is held."""
        while not self.is_held:
            self._taken.clear()
            await self._taken.wait()

    async def run(self) -> None:
        """Take the lease when it is free, and renew it. Never raises."""
        while True:
            was_held = self.is_held
            try:
                await self._try_once()
            except ApiError as error:
                log.debug("lease not written name=%s: %s", self._name, error.message)
            if self.is_held and not was_held:
                log.info("lease taken name=%s", self._name)
                self._taken.set()
            await asyncio.sleep(self._duration / 5 * random.uniform(0.8, 1.0))

    async def release(self) -> None:
        """Let another replica have it at once."""
        if not self.is_held:
            return
        self._renewed = -1e9
        try:
            lease = await self._client.get(_LEASES, self._name, self._namespace)
            if lease["spec"].get("holderIdentity") == self._holder:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.replace(_LEASES, lease)
        except (ApiError, KeyError, TypeError) as error:
            log.debug("lease not released name=%s: %s", self._name, error)

    async def _try_once(self) -> None:
        began = self._clock()
        try:
            lease = await self._client.get(_LEASES, self._name, self._namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            await self._client.create(_LEASES, self._fresh())
            self._renewed = began
            return
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._holder) and not self._is_over(lease):
            return
        lease["spec"] = self._spec(spec, is_taken=holder != self._holder)
        await self._client.replace(_LEASES, lease)  # 409 when another one was quicker
        self._renewed = began

    def _is_over(self, lease: Object) -> bool:
        """Whether another's lease has stood unchanged for its duration, on our clock."""
        version = str((lease.get("metadata") or {}).get("resourceVersion"))
        now = self._clock()
        if version != self._seen:
            self._seen, self._seen_at = version, now
        seconds = (lease.get("spec") or {}).get("leaseDurationSeconds") or self._duration
        return now - self._seen_at >= seconds

    def _fresh(self) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self._namespace, "name": self._name},
            "spec": self._spec({}, is_taken=True),
        }

    def _spec(self, old: Object, *, is_taken: bool) -> Object:
        now = micro_time()
        spec = {
            **old,
            "holderIdentity": self._holder,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "renewTime": now,
        }
        if is_taken:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(old.get("leaseTransitions") or 0) + bool(old)
        return spec


def micro_time() -> str:
    """The time now as Kubernetes' MicroTime: RFC 3339 with six digits."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
