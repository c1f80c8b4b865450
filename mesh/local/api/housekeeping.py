"""What the cluster keeps tidy by itself, whoever writes: namespaces, custom kinds, roles.

Runs inside the writer's call, so that a namespace has its service account when `create`
returns. Namespaces are emptied and removed; definitions become resources and take their
objects with them; aggregated ClusterRoles follow their parts.
"""

from __future__ import annotations

import logging
from typing import Final

from mesh.core.errors import ApiError
from mesh.local.api import definitions, rbac
from mesh.local.api.pods import ROOT_CA
from mesh.local.api.resources import Object
from mesh.local.api.store import Change, Store

CLEANUP: Final = "customresourcecleanup.apiextensions.k8s.io"
_ROUNDS: Final = 5
_LOG: Final = logging.getLogger("mesh.local.api")


class Housekeeper:
    """Listens to one store. `ca` is the PEM of the cluster CA, for `kube-root-ca.crt`."""

    def __init__(self, store: Store, ca: str) -> None:
        self._store = store
        self._ca = ca
        self._aggregating = False

    def start(self) -> None:
        """Catch up with what the journal brought, then listen."""
        for definition in list(self._store.scan(definitions.KEY)):
            self._register(definition)
        self._store.listen(self._heard)
        for namespace in list(self._store.scan("namespaces")):
            self._tend(namespace)
        for definition in list(self._store.scan(definitions.KEY)):
            self._clean(definition)

    def _heard(self, change: Change) -> None:
        try:
            self._react(change)
        except ApiError as error:
            _LOG.warning("housekeeping failed resource=%s error=%s", change.resource, error)

    def _react(self, change: Change) -> None:
        meta = change.obj["metadata"]
        match change.resource:
            case "namespaces" if change.type != "DELETED":
                self._tend(change.obj)
            case definitions.KEY:
                if change.type == "DELETED":
                    spec = change.obj["spec"]
                    self._store.registry.drop(f"{spec['names']['plural']}.{spec['group']}")
                else:
                    self._register(change.obj)
                    self._clean(change.obj)
            case rbac.CLUSTER_ROLES:
                self._aggregate()
            case _:
                if change.type == "DELETED":
                    self._after_removal(change.resource, meta.get("namespace", ""), meta["name"])

    # -- namespaces ------------------------------------------------------------------------

    def _tend(self, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        if "deletionTimestamp" in namespace["metadata"]:
            self._empty(name)
            return
        if self._store.find("serviceaccounts", name, "default") is None:
            self._store.create(
                "serviceaccounts",
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": "default", "namespace": name},
                },
            )
        if self._store.find("configmaps", name, ROOT_CA) is None:
            note = "Contains a CA bundle that can be used to verify the kube-apiserver"
            self._store.create(
                "configmaps",
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {
                        "name": ROOT_CA,
                        "namespace": name,
                        "annotations": {"kubernetes.io/description": note},
                    },
                    "data": {"ca.crt": self._ca},
                },
            )

    def _empty(self, name: str) -> None:
        for key in self._kept_in(name):
            for obj in list(self._store.scan(key, name)):
                if "deletionTimestamp" not in obj["metadata"]:
                    self._store.delete(key, name, obj["metadata"]["name"])
        self._finish(name)

    def _finish(self, name: str) -> None:
        namespace = self._store.find("namespaces", None, name)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return
        if any(next(self._store.scan(key, name), None) for key in self._kept_in(name)):
            return
        if namespace["spec"].get("finalizers"):
            namespace["spec"]["finalizers"] = []
            namespace["metadata"].pop("resourceVersion")
            self._store.update("namespaces", namespace)

    def _kept_in(self, name: str) -> list[str]:
        return [r.key for r in self._store.registry if r.namespaced and not r.stored_as]

    def _after_removal(self, resource: str, namespace: str, name: str) -> None:
        if namespace:
            found = self._store.find("namespaces", None, namespace)
            if found is not None and "deletionTimestamp" in found["metadata"]:
                self._finish(namespace)
            elif found is not None and (resource, name) in (
                ("serviceaccounts", "default"),
                ("configmaps", ROOT_CA),
            ):
                self._tend(found)
        row = self._store.registry.find(resource)
        if row is not None and row.custom:
            definition = self._store.find(definitions.KEY, None, resource)
            if definition is not None and "deletionTimestamp" in definition["metadata"]:
                self._clean(definition)

    # -- custom kinds ------------------------------------------------------------------------

    def _register(self, definition: Object) -> None:
        row = definitions.row(definition) if definitions.is_established(definition) else None
        if row is not None:
            self._store.registry.put(row)

    def _clean(self, definition: Object) -> None:
        meta = definition["metadata"]
        if "deletionTimestamp" not in meta or CLEANUP not in meta.get("finalizers", ()):
            return
        key = meta["name"]
        for obj in list(self._store.scan(key)):
            if "deletionTimestamp" not in obj["metadata"]:
                self._store.delete(key, obj["metadata"].get("namespace"), obj["metadata"]["name"])
        fresh = self._store.find(definitions.KEY, None, key)
        if fresh is None or next(self._store.scan(key), None) is not None:
            return
        left = [f for f in fresh["metadata"].get("finalizers", ()) if f != CLEANUP]
        fresh["metadata"]["finalizers"] = left
        self._store.update(definitions.KEY, fresh)

    # -- roles -------------------------------------------------------------------------------

    def _aggregate(self) -> None:
        """Until nothing changes; roles that select each other settle after a few rounds."""
        if self._aggregating:
            return
        self._aggregating = True
        try:
            for _ in range(_ROUNDS):
                before = self._store.revision
                self._aggregate_once()
                if self._store.revision == before:
                    return
        finally:
            self._aggregating = False

    def _aggregate_once(self) -> None:
        roles = list(self._store.scan(rbac.CLUSTER_ROLES))
        for role in roles:
            if role.get("aggregationRule"):
                rules = rbac.aggregate(roles, role)
                if rules != (role.get("rules") or []):
                    fresh = self._store.get(rbac.CLUSTER_ROLES, None, role["metadata"]["name"])
                    self._store.update(rbac.CLUSTER_ROLES, {**fresh, "rules": rules})
