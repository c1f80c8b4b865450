"""What the API server does with a request, without HTTP: the one way in for everybody.

HTTP handlers and the controllers in the daemon call the same methods, so both get the
same defaults, validation and admission. Permissions are checked before, in the HTTP shell:
controllers act as the system. Reads and watches go to `Api.store` directly.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mesh.local.api import status
from mesh.local.api.addresses import ClusterIPs
from mesh.local.api.resources import Object, Resource
from mesh.local.api.store import Store
from mesh.local.api.users import SYSTEM, User

_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


def _ignore(_: str) -> None:
    """Warnings of calls that nobody reads."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a write is to be done. `validation` is Strict, Warn or Ignore; `warn` gets warnings."""

    dry_run: bool = False
    validation: str = "Ignore"
    warn: Callable[[str], None] = _ignore
    version: str = ""  # of the resource, where it is not the preferred one


PLAIN: Final = Options()


class Api:
    """The API server's behaviour over one store."""

    def __init__(self, store: Store, *, cluster_ips: ClusterIPs, logs: Path) -> None:
        self.store = store
        self.cluster_ips = cluster_ips
        self.logs = logs  # <logs>/<namespace>/<pod>/<container>.log, written by the kubelet

    def resource(self, key: str) -> Resource:
        """The row of a resource key. Raises ApiError 404."""
        row = self.store.registry.find(key)
        if row is None:
            raise status.no_such_thing(key)
        return row

    async def create(
        self, resource: str, obj: Object, *, user: User = SYSTEM, options: Options = PLAIN
    ) -> Object:
        """Create an object, with defaults, admission and validation. Raises ApiError."""
        row = self.resource(resource)
        fresh = self._named(row, obj)
        if options.dry_run:
            return self.store.prepared(row.store_key, fresh)
        return self.store.create(row.store_key, fresh)

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
        return self.store.update(row.store_key, obj, subresource=subresource)

    async def delete(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        *,
        user: User = SYSTEM,
        grace: int | None = None,
        uid: str | None = None,
        options: Options = PLAIN,
    ) -> Object:
        """Delete an object; `grace` in seconds for pods. Gives it as it was last."""
        row = self.resource(resource)
        return self.store.delete(row.store_key, namespace, name, grace=grace, uid=uid)

    def _named(self, row: Resource, obj: Object) -> Object:
        meta: dict[str, Any] = {**obj.get("metadata", {})}
        if not meta.get("name") and meta.get("generateName"):
            suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
            meta["name"] = meta["generateName"] + suffix
        return {**obj, "apiVersion": row.api_version, "kind": row.kind, "metadata": meta}
