"""What the API server does with a request, without HTTP: the one way in for everybody.

HTTP handlers and the controllers in the daemon call the same methods, so both get the
same defaults, validation and admission. Permissions are checked before, in the HTTP shell:
controllers act as the system. Reads and watches go to `Api.store` directly.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mesh.core.errors import ApiError
from mesh.local.api import (
    definitions,
    escalation,
    kinds,
    limits,
    patching,
    pods,
    status,
    strategy,
    workloads,
)
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.execute import Execute
from mesh.local.api.housekeeping import CLEANUP, Housekeeper
from mesh.local.api.resources import Object, Resource
from mesh.local.api.store import Store, copy, timestamp
from mesh.local.api.users import SYSTEM, User
from mesh.local.api.webhooks import Caller, Request, Webhooks

_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_PATCH_TRIES: Final = 5
_PROTECTED: Final = ("default", "kube-system", "kube-public", "kube-node-lease")


def _ignore(_: str) -> None:
    """Warnings of calls that nobody reads."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a write is to be done. `validation` is Strict, Warn or Ignore; `warn` gets warnings."""

    dry_run: bool = False
    validation: str = "Ignore"
    warn: Callable[[str], None] = _ignore
    version: str = ""  # of the resource, where it is not the preferred one
    repeated: list[str] = field(default_factory=list)  # fields given twice in the body


PLAIN: Final = Options()


class Api:
    """The API server's behaviour over one store.

    `cluster_ips` are the node's service ranges; `logs` is the folder in which the kubelet
    writes `<namespace>/<pod>/<container>.log`; `ca` is the PEM of the cluster CA; `call`
    asks an admission webhook.
    """

    def __init__(
        self,
        store: Store,
        *,
        cluster_ips: ClusterIPs,
        logs: Path,
        ca: str = "",
        call: Caller | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.cluster_ips = cluster_ips
        self.logs = logs
        self.clock = clock
        self.execute: Execute | None = None  # the kubelet's, once there is one
        self._webhooks = Webhooks(store, call) if call is not None else None
        Housekeeper(store, ca).start()

    def resource(self, key: str) -> Resource:
        """The row of a resource key. Raises ApiError 404."""
        row = self.store.registry.find(key)
        if row is None:
            raise status.no_such_thing(key)
        return row

    def read(self, row: Resource, version: str, namespace: str | None, name: str) -> Object:
        """An object as a version of its resource shows it. Raises ApiError 404."""
        found = self.store.find(row.store_key, namespace, name)
        if found is None:
            raise status.not_found(row, name)
        return kinds.to_version(row, version, found)

    # -- create ------------------------------------------------------------------------------

    async def create(
        self, resource: str, obj: Object, *, user: User = SYSTEM, options: Options = PLAIN
    ) -> Object:
        """Create an object, with defaults, admission and validation. Raises ApiError."""
        row = self.resource(resource)
        version = options.version or row.version
        fresh = self._decode(row, version, obj, options)
        fresh["metadata"].pop("uid", None)
        self._name(fresh["metadata"])
        self._check_namespace(row, fresh["metadata"])
        self._readmit_new(row, fresh)
        request = _request("CREATE", row, version, fresh, user, options)

        def readmit(changed: Object) -> None:
            kinds.fill_defaults(row, version, changed)
            self._readmit_new(row, changed)

        if self._webhooks is not None:
            fresh = await self._webhooks.mutate(request, fresh, options.warn, readmit)
        self._begin(row, version, fresh)
        kinds.check(row, version, fresh, None)
        escalation.check(self.store, row, fresh, user)
        if self._webhooks is not None:
            await self._webhooks.validate(request, fresh, options.warn)
        meta = fresh["metadata"]
        self._check_namespace(row, meta)  # it may have gone while webhooks were asked
        self._warn_about(row, version, fresh, options)
        if row.key == "pods":
            space = meta["namespace"]
            there = self.store.scan("pods", space)
            limits.check_quotas(fresh, self.store.scan("resourcequotas", space), there)
        kept = kinds.to_storage(row, self._storage_version(row), fresh)
        if options.dry_run:
            if self.store.find(row.store_key, meta.get("namespace"), meta["name"]) is not None:
                raise status.already_exists(row, meta["name"])
            done = self.store.prepared(row.store_key, kept)
        else:
            done = self.store.create(row.store_key, kept)
        return kinds.to_version(row, version, done)

    # -- update ------------------------------------------------------------------------------

    async def update(
        self,
        resource: str,
        obj: Object,
        *,
        user: User = SYSTEM,
        subresource: str | None = None,
        options: Options = PLAIN,
    ) -> Object:
        """Replace an object, or its status with `subresource="status"`. Raises ApiError."""
        row = self.resource(resource)
        version = options.version or row.version
        meta = _metadata(obj)
        old = self.read(row, version, meta.get("namespace"), meta.get("name", ""))
        self._must_name_version(row, old, meta)
        fresh = self._decode(row, version, obj, options)
        if subresource == "status":
            return await self._update_status(row, version, fresh, old, user, options)
        if subresource == "finalize":
            return self._finalize(fresh, old)
        return await self._replace(row, version, fresh, old, user, options)

    async def _replace(
        self,
        row: Resource,
        version: str,
        fresh: Object,
        old: Object,
        user: User,
        options: Options,
    ) -> Object:
        meta = fresh["metadata"]
        fresh = self.store.merged(row.store_key, old, fresh)
        self._place(row, fresh, old)
        request = _request("UPDATE", row, version, old, user, options, old=old)

        def readmit(changed: Object) -> None:
            kinds.fill_defaults(row, version, changed)

        if self._webhooks is not None and fresh != old:
            fresh = await self._webhooks.mutate(request, fresh, options.warn, readmit)
        kinds.check(row, version, fresh, old)
        escalation.check(self.store, row, fresh, user)
        if row.key == definitions.KEY:
            self._establish(fresh)
        if self._webhooks is not None and fresh != old:
            await self._webhooks.validate(request, fresh, options.warn)
        self._warn_about(row, version, fresh, options)
        fresh["metadata"]["resourceVersion"] = meta.get("resourceVersion") or ""
        return self._store_update(row, version, fresh, old, options)

    async def _update_status(
        self,
        row: Resource,
        version: str,
        fresh: Object,
        old: Object,
        user: User,
        options: Options,
    ) -> Object:
        merged = self.store.merged(row.store_key, old, fresh, subresource="status")
        request = replace(
            _request("UPDATE", row, version, old, user, options, old=old), subresource="status"
        )
        if self._webhooks is not None and merged != old:
            merged = await self._webhooks.mutate(request, merged, options.warn, _keep)
            await self._webhooks.validate(request, merged, options.warn)
        kinds.check_status(row, version, merged)
        merged["metadata"]["resourceVersion"] = fresh["metadata"].get("resourceVersion") or ""
        return self._store_update(row, version, merged, old, options, subresource="status")

    def _store_update(
        self,
        row: Resource,
        version: str,
        fresh: Object,
        old: Object,
        options: Options,
        *,
        subresource: str | None = None,
    ) -> Object:
        kept = kinds.to_storage(row, self._storage_version(row), fresh)
        if row.key == definitions.KEY:
            return self._update_definition(kept, options)
        if options.dry_run:
            stored = self.store.get(row.store_key, _space(old), old["metadata"]["name"])
            done = self.store.merged(row.store_key, stored, kept, subresource=subresource)
        else:
            done = self.store.update(row.store_key, kept, subresource=subresource)
        return kinds.to_version(row, version, done)

    def _update_definition(self, definition: Object, options: Options) -> Object:
        if options.dry_run:
            return definition
        done = self.store.update(definitions.KEY, definition)
        if "deletionTimestamp" in done["metadata"]:
            return done
        established = {**done, "status": definition.get("status") or {}}
        return self.store.update(definitions.KEY, established, subresource="status")

    def _finalize(self, fresh: Object, old: Object) -> Object:
        kept = copy(old)
        kept["spec"]["finalizers"] = (fresh.get("spec") or {}).get("finalizers") or []
        return self.store.update("namespaces", kept)

    # -- patch -------------------------------------------------------------------------------

    async def patch(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        change: Any,
        *,
        how: str = "merge",
        user: User = SYSTEM,
        subresource: str | None = None,
        options: Options = PLAIN,
    ) -> Object:
        """Change an object by a `merge`, `json` or `strategic` patch. Raises ApiError.

        Tried again when the object changes meanwhile, unless the patch names a revision.
        """
        row = self.resource(resource)
        version = options.version or row.version
        for left in reversed(range(_PATCH_TRIES)):
            old = self.read(row, version, namespace, name)
            fresh = patching.apply(row, old, change, how)
            self._check_patched(row, old, fresh)
            if not fresh["metadata"].get("resourceVersion"):
                fresh["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
            try:
                return await self.update(
                    resource, fresh, user=user, subresource=subresource, options=options
                )
            except ApiError as error:
                stale = fresh["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
                if error.code != 409 or stale or not left:
                    raise
        raise AssertionError("unreachable")

    def _check_patched(self, row: Resource, old: Object, fresh: Object) -> None:
        meta = fresh.get("metadata")
        if not isinstance(meta, dict):
            raise status.bad_request("the patch removes metadata")
        for part in ("name", "namespace"):
            if meta.get(part) != old["metadata"].get(part):
                fault = status.bad(f"metadata.{part}", meta.get(part), "field is immutable")
                name = old["metadata"]["name"]
                raise status.invalid(row.group, row.kind, name, [fault])

    # -- delete ------------------------------------------------------------------------------

    async def delete(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        *,
        user: User = SYSTEM,
        grace: int | None = None,
        uid: str | None = None,
        orphan: bool = False,
        options: Options = PLAIN,
    ) -> Object:
        """Delete an object; `grace` in seconds for pods. Gives it as it was last.

        What it owns is collected by a controller; with `orphan` it is let go first.
        """
        row = self.resource(resource)
        version = options.version or row.version
        old = self.read(row, version, namespace, name)
        if row.key == "namespaces" and name in _PROTECTED:
            raise status.forbidden(row, name, "this namespace may not be deleted")
        if self._webhooks is not None:
            request = _request("DELETE", row, version, old, user, options, old=old)
            await self._webhooks.validate(request, None, options.warn)
        if options.dry_run:
            return old
        if orphan:
            self._orphan(old["metadata"]["uid"])
        done = self.store.delete(row.store_key, namespace, name, grace=grace, uid=uid)
        return kinds.to_version(row, version, done)

    def _orphan(self, uid: str) -> None:
        for row in list(self.store.registry):
            for obj in list(self.store.scan(row.key)):
                owners = obj["metadata"].get("ownerReferences") or ()
                if any(owner.get("uid") == uid for owner in owners):
                    fresh = copy(obj)
                    left = [owner for owner in owners if owner.get("uid") != uid]
                    if left:
                        fresh["metadata"]["ownerReferences"] = left
                    else:
                        del fresh["metadata"]["ownerReferences"]
                    self.store.update(row.key, fresh)

    # -- parts -------------------------------------------------------------------------------

    def _decode(self, row: Resource, version: str, obj: Object, options: Options) -> Object:
        return kinds.decode(
            row,
            version,
            obj,
            validation_mode=options.validation,
            repeated=options.repeated,
            warn=options.warn,
        )

    def _name(self, meta: Object) -> None:
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = str(meta["generateName"])[:58] + random_suffix()

    def _check_namespace(self, row: Resource, meta: Object) -> None:
        if not row.namespaced:
            meta.pop("namespace", None)
            return
        name = meta.get("namespace", "")
        if not name:
            fault = status.required("metadata.namespace")
            raise status.invalid(row.group, row.kind, meta.get("name", ""), [fault])
        namespace = self.store.find("namespaces", None, name)
        if namespace is None:
            raise status.not_found("namespaces", name)
        if "deletionTimestamp" in namespace["metadata"]:
            raise status.forbidden(
                row,
                meta.get("name", ""),
                f"unable to create new content in namespace {name} because it is being terminated",
            )

    def _readmit_new(self, row: Resource, obj: Object) -> None:
        """Built-in admission of a new object, before webhooks and after each change."""
        if row.key == "pods" and isinstance(obj.get("spec"), dict):
            pods.admit(self.store, obj, suffix=random_suffix())
            limits.fill_limits(obj, self.store.scan("limitranges", obj["metadata"]["namespace"]))

    def _begin(self, row: Resource, version: str, obj: Object) -> None:
        """What a new object starts with: addresses and its first status."""
        match row.key:
            case "pods":
                strategy.begin_pod(obj)
            case "services":
                self._place(row, obj, None)
            case definitions.KEY:
                finalizers = obj["metadata"].setdefault("finalizers", [])
                if CLEANUP not in finalizers:
                    finalizers.append(CLEANUP)
                if not definitions.validate(obj):
                    self._establish(obj)
            case "namespaces":
                obj["status"] = {"phase": "Active"}
            case "deployments.apps":
                obj["status"] = {}
            case "jobs.batch":
                obj["metadata"]["uid"] = str(uuid.uuid4())
                workloads.begin_job(obj)
            case "statefulsets.apps":
                obj["status"] = {"replicas": 0, "availableReplicas": 0}
            case "daemonsets.apps":
                obj["status"] = dict.fromkeys(workloads.DAEMON_SET_NUMBERS, 0)
            case "poddisruptionbudgets.policy":
                names = ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")
                obj["status"] = dict.fromkeys(names, 0)
            case "replicasets.apps":
                obj["status"] = {"replicas": 0}
            case _:
                if row.has_status(version):
                    obj.pop("status", None)

    def _place(self, row: Resource, obj: Object, old: Object | None) -> None:
        """Give a Service its addresses. Raises ApiError 422."""
        if row.key != "services" or not isinstance(obj.get("spec"), dict):
            return
        taken: set[str] = set()
        ports: set[int] = set()
        for other in self.store.scan("services"):
            if old is None or other["metadata"]["uid"] != old["metadata"]["uid"]:
                taken.update(other["spec"].get("clusterIPs") or ())
                ports.update(port.get("nodePort", 0) for port in other["spec"].get("ports") or ())
        faults = strategy.place_service(obj, old, self.cluster_ips, taken, ports)
        if faults:
            raise status.invalid(row.group, row.kind, obj["metadata"].get("name", ""), faults)

    def _establish(self, definition: Object) -> None:
        clashes = definitions.conflicts(definition, self.store.registry)
        definitions.begin(definition, clashes, timestamp(self.clock()))

    def _storage_version(self, row: Resource) -> str:
        if not row.custom:
            return row.version
        definition = self.store.peek(definitions.KEY, None, row.key)
        return definitions.storage_version(definition)

    def _must_name_version(self, row: Resource, old: Object, meta: Object) -> None:
        if row.custom and not meta.get("resourceVersion"):
            fault = status.bad("metadata.resourceVersion", 0, "must be specified for an update")
            name = old["metadata"]["name"]
            raise status.invalid(row.group, row.kind, name, [fault])

    def _warn_about(self, row: Resource, version: str, obj: Object, options: Options) -> None:
        if row.key == definitions.KEY and definitions.has_rules(obj.get("spec")):
            options.warn("mesh local does not evaluate x-kubernetes-validations")
        if row.plural == "networkpolicies":
            options.warn("mesh local stores networkpolicies and does not enforce them")


def _metadata(obj: Object) -> Object:
    """The metadata of an object that says where it belongs. Raises ApiError 400."""
    meta = obj.get("metadata") or {}
    if not isinstance(meta, dict):
        raise status.bad_request("metadata is not an object")
    for part in ("name", "namespace", "resourceVersion", "uid"):
        if not isinstance(meta.get(part), str | None):
            raise status.bad_request(f"metadata.{part} is not a string")
    return meta


def _request(
    operation: str,
    row: Resource,
    version: str,
    obj: Object,
    user: User,
    options: Options,
    *,
    old: Object | None = None,
) -> Request:
    """What webhooks are told about one operation."""
    meta = obj["metadata"]
    kind = f"{operation.capitalize()}Options"
    return Request(
        operation,
        row,
        version,
        meta.get("namespace", ""),
        meta.get("name", ""),
        user,
        dry_run=options.dry_run,
        old=old,
        options={"kind": kind, "apiVersion": "meta.k8s.io/v1"},
    )


def random_suffix() -> str:
    """Five letters, as generated names end."""
    return "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))


def _keep(_: Object) -> None:
    """What is not new is not completed again."""


def _space(obj: Object) -> str | None:
    namespace: str | None = obj["metadata"].get("namespace")
    return namespace
