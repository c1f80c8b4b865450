"""What the webhook knows of the cluster: namespaces, install values, bundle, kubelets.

Fed by watches, read by requests; nothing here decides. A namespace that the watch has not
told yet is read directly, since a pod may follow its namespace within milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Final

from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError
from mesh.inject.config import KEY, InjectConfig, load_config
from mesh.inject.patch import Cluster, Namespace
from mesh.inject.switch import ISTIO, LINKERD
from mesh.kube.client import KubeClient
from mesh.kube.resources import Object
from mesh.kube.watch import watch

NATIVE_SINCE: Final = (1, 29)  # native sidecars are on by default from here
MUTATING: Final = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING: Final = "validatingwebhookconfigurations.admissionregistration.k8s.io"
_INJECTORS: Final = {
    "linkerd-proxy-injector.linkerd.io": LINKERD,
    "sidecar-injector.istio.io": ISTIO,
}
_VERSION_RETRY: Final = 2.0  # seconds

log = logging.getLogger(__name__)


class ClusterView:
    """The newest state; `on_webhooks` is called when a webhook configuration changes."""

    def __init__(
        self, client: KubeClient, *, namespace: str, on_webhooks: Callable[[], None]
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._on_webhooks = on_webhooks
        self._namespaces: dict[str, Namespace] = {}
        self._kubelets: dict[str, tuple[int, int]] = {}
        self._foreign: dict[str, frozenset[str]] = {}  # configuration -> dialects it serves
        self._server: tuple[int, int] = (0, 0)
        self._synced: set[str] = set()
        self.config: InjectConfig | None = None
        self.bundle = ""

    @property
    def cluster(self) -> Cluster:
        """Native only when API server and every kubelet are known to be new enough."""
        native = self._server >= NATIVE_SINCE and bool(self._kubelets)
        native = native and min(self._kubelets.values()) >= NATIVE_SINCE
        return Cluster(native, frozenset().union(*self._foreign.values()))

    def waiting_for(self) -> list[str]:
        """What is still missing before a pod can be injected."""
        missing = [kind for kind in ("namespaces", "nodes", "webhooks") if kind not in self._synced]
        if self.config is None:
            missing.append(f"ConfigMap {labels.CONFIG_MAP}")
        if not self.bundle:
            missing.append(f"ConfigMap {labels.TRUST_ROOTS}")
        if self._server == (0, 0):
            missing.append("version of the API server")
        return missing

    def known_namespace(self, name: str) -> Namespace | None:
        """The namespace, if the watch has told it."""
        return self._namespaces.get(name)

    async def namespace(self, name: str) -> Namespace:
        """The namespace as known, else as read now. Raises ApiError."""
        known = self._namespaces.get(name)
        if known is None:
            known = read_namespace(await self._client.get("namespaces", name))
            self._namespaces.setdefault(name, known)
        return known

    async def run(self) -> None:
        """All watches, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_version())
            group.create_task(self._watch("namespaces", self._on_namespace, shrink=shrink_meta))
            group.create_task(self._watch("nodes", self._on_node, shrink=shrink_node))
            group.create_task(self._watch(MUTATING, self._on_configuration, mark="webhooks"))
            ours = f"metadata.name={labels.VALIDATING_CONFIGURATION}"
            group.create_task(self._watch(VALIDATING, self._on_configuration, fields=ours))
            for name in (labels.CONFIG_MAP, labels.TRUST_ROOTS):
                group.create_task(
                    self._watch(
                        "configmaps",
                        self._on_config_map,
                        fields=f"metadata.name={name}",
                        namespace=self._namespace,
                        mark=name,
                    )
                )

    async def _watch(
        self,
        resource: str,
        apply: Callable[[Object, bool], None],
        *,
        fields: str = "",
        namespace: str | None = None,
        mark: str = "",
        shrink: Callable[[Object], Object] | None = None,
    ) -> None:
        batches = watch(self._client, resource, namespace, field_selector=fields, shrink=shrink)
        async for batch in batches:
            for obj, deleted in batch.changes:
                apply(obj, deleted)
            if batch.synced:
                self._synced.add(mark or resource)

    async def _read_version(self) -> None:
        while True:
            try:
                self._server = parse_version(str((await self._client.version())["gitVersion"]))
                return
            except (ApiError, KeyError, ValueError) as error:
                log.warning("version of the API server not read error=%s", error)
                await asyncio.sleep(_VERSION_RETRY)

    def _on_namespace(self, obj: Object, deleted: bool) -> None:
        found = read_namespace(obj)
        if deleted:
            self._namespaces.pop(found.name, None)
        else:
            self._namespaces[found.name] = found

    def _on_node(self, obj: Object, deleted: bool) -> None:
        name = obj["metadata"]["name"]
        self._kubelets.pop(name, None)
        info = (obj.get("status") or {}).get("nodeInfo") or {}
        if not deleted and info.get("operatingSystem", "linux") == "linux":
            try:
                self._kubelets[name] = parse_version(str(info.get("kubeletVersion")))
            except ValueError:
                self._kubelets[name] = (0, 0)

    def _on_configuration(self, obj: Object, deleted: bool) -> None:
        name = obj["metadata"]["name"]
        if name in (labels.WEBHOOK_CONFIGURATION, labels.VALIDATING_CONFIGURATION):
            self._on_webhooks()
            return
        hooks = [] if deleted else [str(h.get("name")) for h in obj.get("webhooks") or []]
        dialects = {d for h in hooks for end, d in _INJECTORS.items() if h.endswith(end)}
        self._foreign[name] = frozenset(dialects)

    def _on_config_map(self, obj: Object, deleted: bool) -> None:
        data = obj.get("data") or {}
        if obj["metadata"]["name"] == labels.TRUST_ROOTS:
            self.bundle = "" if deleted else str(data.get(labels.TRUST_ROOTS_KEY) or "")
            return
        if deleted:
            self.config = None
            return
        try:
            self.config = load_config(str(data.get(KEY) or ""))
        except ConfigError as error:  # the last good one stays in force
            log.error("install values not understood error=%s", error)


def read_namespace(obj: Object) -> Namespace:
    meta = obj["metadata"]
    return Namespace(meta["name"], meta.get("labels") or {}, meta.get("annotations") or {})


def shrink_meta(obj: Object) -> Object:
    """Only what `read_namespace` reads."""
    meta = obj["metadata"]
    kept = {key: meta.get(key) for key in ("name", "labels", "annotations")}
    return {"metadata": kept}


def shrink_node(obj: Object) -> Object:
    """A node's status lists every image; only nodeInfo is kept."""
    info = (obj.get("status") or {}).get("nodeInfo")
    return {"metadata": {"name": obj["metadata"]["name"]}, "status": {"nodeInfo": info}}


def parse_version(text: str) -> tuple[int, int]:
    """(1, 29) of `v1.29.3-gke.1`. Raises ValueError."""
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if match is None:
        raise ValueError(f'expected a version such as v1.29.3, got "{text[:40]}"')
    return int(match[1]), int(match[2])
