"""Keeps the webhook trusted: the Secret, the TLS context, and caBundle in our configurations.

First writer wins: a replica creates the Secret, the others read it. A look every half minute
reloads what another replica renewed, renews at 70 % of life, and puts caBundle back where it
was wiped (an apply by a tool that owns the whole object). Only caBundle is ever written.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mesh.core import labels
from mesh.core.errors import ApiError, IdentityError
from mesh.inject.certs import Serving, make_serving, read_secret, service_names, write_secret
from mesh.kube.client import KubeClient

LOOK_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.5  # until the first certificate is there; doubles
CONFIGURATIONS: Final = (
    ("mutatingwebhookconfigurations.admissionregistration.k8s.io", labels.WEBHOOK_CONFIGURATION),
    (
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        labels.VALIDATING_CONFIGURATION,
    ),
)
_JSON_PATCH: Final = "application/json-patch+json"

log = logging.getLogger(__name__)


class ServingKeeper:
    """Owns the serving certificate of this replica. `context` is for the server's listener."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        cluster_domain: str,
        key_dir: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._names = service_names(namespace, cluster_domain)
        self._key_dir = key_dir
        self._clock = clock
        self._wake = asyncio.Event()
        self.serving: Serving | None = None
        self.trusted = False  # every configuration of ours carries the bundle
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3

    @property
    def ready(self) -> bool:
        return self.serving is not None and self.trusted

    def look(self) -> None:
        """Something may have changed: look now."""
        self._wake.set()

    async def run(self) -> None:
        """For ever: look, then wait. Failures are logged and tried again; never raises."""
        wait = RETRY_SECONDS
        while True:
            self._wake.clear()
            try:
                await self.refresh()
                wait = LOOK_SECONDS
            except ApiError as error:
                log.warning("webhook trust not refreshed reason=%s error=%s", error.reason, error)
                wait = LOOK_SECONDS if self.ready else min(wait * 2, LOOK_SECONDS)
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """One look at the Secret and both configurations. Raises ApiError."""
        serving = await self._current()
        if serving != self.serving:
            self._load(serving)
        missing = [not await self._trust(kind, name) for kind, name in CONFIGURATIONS]
        self.trusted = not any(missing)

    async def _current(self) -> Serving:
        """The Secret's credentials, made or renewed when there are none that last."""
        try:
            secret = await self._client.get("secrets", labels.INJECT_SECRET, self._namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return await self._create()
        previous = None
        try:
            previous = read_secret(secret, self._names)
            if self._clock() < previous.renew_at:
                return previous
        except IdentityError as error:
            log.warning("webhook certificate replaced reason=%s error=%s", error.reason, error)
        return await self._replace(secret, previous)

    async def _create(self) -> Serving:
        fresh = make_serving(self._names, now=self._clock())
        try:
            await self._client.create("secrets", write_secret(fresh, self._namespace))
        except ApiError as error:
            if error.code != 409:
                raise
            secret = await self._client.get("secrets", labels.INJECT_SECRET, self._namespace)
            return read_secret(secret, self._names)  # another replica was first
        log.info("webhook certificate made not_after=%.0f", fresh.not_after)
        return fresh

    async def _replace(self, secret: dict[str, Any], previous: Serving | None) -> Serving:
        fresh = make_serving(self._names, now=self._clock(), previous=previous)
        body = write_secret(fresh, self._namespace)
        body["metadata"]["resourceVersion"] = secret["metadata"].get("resourceVersion")
        try:
            await self._client.replace("secrets", body)
        except ApiError as error:
            if error.code == 409 and previous is not None:
                return previous  # another replica renews; the next look reads its work
            raise
        log.info("webhook certificate renewed not_after=%.0f", fresh.not_after)
        return fresh

    def _load(self, serving: Serving) -> None:
        """Put the pair into the context: handshakes from now on use it."""
        self._key_dir.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._key_dir, prefix="webhook-")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(serving.key + serving.certificate)
            self.context.load_cert_chain(name)
        finally:
            os.unlink(name)
        self.serving = serving

    async def _trust(self, kind: str, name: str) -> bool:
        """Make one configuration carry our bundle; False when there is no such object."""
        assert self.serving is not None
        try:
            found = await self._client.get(kind, name)
        except ApiError as error:
            if error.code == 404:
                log.warning("webhook configuration missing name=%s; run mesh install", name)
                return False
            raise
        ops = trust_patch(found, self.serving.ca_bundle)
        if ops:
            await self._client.patch(kind, name, ops, content_type=_JSON_PATCH)
            log.info("webhook configuration trusts this CA name=%s", name)
        return True


def trust_patch(configuration: dict[str, Any], ca_bundle: str) -> list[dict[str, Any]]:
    """The JSON patch that writes caBundle where it differs; guarded by each webhook's name."""
    ops: list[dict[str, Any]] = []
    for index, hook in enumerate(configuration.get("webhooks") or []):
        if (hook.get("clientConfig") or {}).get("caBundle") == ca_bundle:
            continue
        at = f"/webhooks/{index}"
        ops.append({"op": "test", "path": f"{at}/name", "value": hook.get("name")})
        ops.append({"op": "add", "path": f"{at}/clientConfig/caBundle", "value": ca_bundle})
    return ops
