"""`mesh local apply`: what `kubectl apply -f` does, for machines without kubectl.

The same requests in the same order: read the object, create it with the last-applied
annotation, or send the difference between what was applied before, what is applied now and
what is there. Namespaces and CRDs first is the file's business, as with kubectl.
"""

from __future__ import annotations

import json
from typing import Any, Final

from mesh.core.errors import ApiError, ConfigError
from mesh.kube.client import MERGE, STRATEGIC, KubeClient
from mesh.kube.resources import Object, Resource

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_BUILT_IN_SUFFIX: Final = (".k8s.io",)
_BUILT_IN: Final = ("", "apps", "batch", "policy", "autoscaling")


class Applier:
    """Applies objects one by one; looks kinds up in discovery once."""

    def __init__(self, client: KubeClient, *, namespace: str = "default") -> None:
        self._client = client
        self._namespace = namespace
        self._kinds: dict[tuple[str, str], Resource] = {}

    async def apply(self, obj: Object) -> str:
        """Apply one object; the line that kubectl prints: `service/web created`.

        Raises ApiError, or ConfigError when the object has no kind that the server knows.
        """
        resource = await self._find(obj)
        meta = obj.setdefault("metadata", {})
        if resource.namespaced:
            meta.setdefault("namespace", self._namespace)
        namespace = meta.get("namespace") if resource.namespaced else None
        label = f"{resource.kind.lower()}{'.' + resource.group if resource.group else ''}"
        name = f"{label}/{meta['name']}"
        desired = with_last_applied(obj)
        try:
            live = await self._client.get(resource, meta["name"], namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            await self._client.create(resource, desired, namespace=namespace)
            return f"{name} created"
        patch = difference(last_applied(live), desired, live)
        if not patch:
            return f"{name} unchanged"
        kind = STRATEGIC if _is_built_in(resource) else MERGE
        await self._client.patch(
            resource, meta["name"], patch, namespace=namespace, content_type=kind
        )
        return f"{name} configured"

    async def _find(self, obj: Object) -> Resource:
        api_version, kind = obj.get("apiVersion"), obj.get("kind")
        name = (obj.get("metadata") or {}).get("name")
        if not (isinstance(api_version, str) and isinstance(kind, str) and name):
            raise ConfigError("expected an object with apiVersion, kind and metadata.name")
        if (api_version, kind) not in self._kinds:
            group, _, version = api_version.rpartition("/")
            base = f"/apis/{api_version}" if group else f"/api/{version}"
            try:
                listing = await self._client.call("GET", base)
            except ApiError as error:
                if error.code != 404:
                    raise
                listing = {}
            for item in listing.get("resources") or []:
                if item["kind"] == kind and "/" not in item["name"]:
                    self._kinds[api_version, kind] = Resource(
                        group, version, item["name"], kind, bool(item["namespaced"])
                    )
        try:
            return self._kinds[api_version, kind]
        except KeyError:
            raise ConfigError(
                f"{kind} {name}: the API server has no kind {kind} in {api_version}; "
                "apply its CustomResourceDefinition first"
            ) from None


def with_last_applied(obj: Object) -> Object:
    """The object with itself, as compact JSON, in the annotation that kubectl uses."""
    meta = dict(obj["metadata"])
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if k != LAST_APPLIED}
    bare = {**obj, "metadata": {**meta, "annotations": annotations}}
    text = json.dumps(bare, separators=(",", ":"), sort_keys=True) + "\n"
    return {**obj, "metadata": {**meta, "annotations": {**annotations, LAST_APPLIED: text}}}


def last_applied(live: Object) -> Object:
    """What was applied before, {} when nobody did."""
    text = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED, "{}")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def difference(before: Any, desired: Object, live: Object) -> Object:
    """The patch from `live` to `desired`: set what differs, null what was applied and is gone."""
    patch: Object = {}
    for key, value in desired.items():
        if key not in live:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(live[key], dict):
            inner = before.get(key) if isinstance(before, dict) else None
            if below := difference(inner or {}, value, live[key]):
                patch[key] = below
        elif not _covers(live[key], value):
            patch[key] = value
    for key in before if isinstance(before, dict) else ():
        if key not in desired and key in live:
            patch[key] = None
    return patch


def _covers(live: Any, desired: Any) -> bool:
    """Whether `live` says all that `desired` says (the server adds defaults inside lists)."""
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(
            key in live and _covers(live[key], value) for key, value in desired.items()
        )
    if isinstance(desired, list):
        return (
            isinstance(live, list)
            and len(live) == len(desired)
            and all(_covers(a, b) for a, b in zip(live, desired, strict=True))
        )
    return bool(live == desired)


def _is_built_in(resource: Resource) -> bool:
    if resource.group in ("gateway.networking.k8s.io",):
        return False
    return resource.group in _BUILT_IN or resource.group.endswith(_BUILT_IN_SUFFIX)
