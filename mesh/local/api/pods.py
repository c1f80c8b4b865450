"""Built-in admission of pods: service account, token volume, tolerations, priority. Pure.

Works in place; a second time changes nothing, since it also runs after webhooks that
added containers.
"""

from __future__ import annotations

from typing import Final

from mesh.local.api import status
from mesh.local.api.defaults import containers
from mesh.local.api.rbac import Roles
from mesh.local.api.resources import Object
from mesh.local.api.store import copy

TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_VOLUME: Final = "kube-api-access-"
TOKEN_LIFE: Final = 3607  # seconds, as the real admission asks for
ROOT_CA: Final = "kube-root-ca.crt"
_MODE: Final = 420
_AWAY: Final = 300  # seconds that a pod stays bound to a node that went away
_CLASSES: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def admit(store: Roles, pod: Object, *, suffix: str) -> None:
    """Complete a pod that is to be created. Raises ApiError 403."""
    account = _service_account(store, pod)
    _mount_token(pod["spec"], account, suffix)
    if not pod["spec"].get("imagePullSecrets") and account.get("imagePullSecrets"):
        pod["spec"]["imagePullSecrets"] = copy(account["imagePullSecrets"])
    _tolerate(pod["spec"])
    _prioritize(store, pod)


def _service_account(store: Roles, pod: Object) -> Object:
    meta, spec = pod["metadata"], pod["spec"]
    name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = store.find("serviceaccounts", meta["namespace"], name)
    if account is None:
        raise status.forbidden(
            "pods",
            meta.get("name", ""),
            f"error looking up service account {meta['namespace']}/{name}: "
            f'serviceaccount "{name}" not found',
        )
    return account


def _mount_token(spec: Object, account: Object, suffix: str) -> None:
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken")
    if wanted is False:
        return
    volumes = spec.get("volumes") or []
    name = next((v["name"] for v in volumes if str(v.get("name")).startswith(TOKEN_VOLUME)), None)
    lacking = [c for c in containers(spec) if not _has_mount(c)]
    if not lacking:
        return
    if name is None:
        name = TOKEN_VOLUME + suffix
        spec["volumes"] = [*volumes, _token_volume(name)]
    mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
    for container in lacking:
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), dict(mount)]


def _has_mount(container: Object) -> bool:
    return any(m.get("mountPath") == TOKEN_PATH for m in container.get("volumeMounts") or ())


def _token_volume(name: str) -> Object:
    sources: list[Object] = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFE, "path": "token"}},
        {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [
                    {
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }
                ]
            }
        },
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": _MODE}}


def _tolerate(spec: Object) -> None:
    tolerations = spec.get("tolerations") or []
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(
            t.get("key") in (key, None, "") and t.get("effect") in ("NoExecute", None, "")
            for t in tolerations
        ):
            tolerations = [
                *tolerations,
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _AWAY,
                },
            ]
    spec["tolerations"] = tolerations


def _prioritize(store: Roles, pod: Object) -> None:
    spec = pod["spec"]
    name = spec.get("priorityClassName")
    value, policy = 0, "PreemptLowerPriority"
    if name and name in _CLASSES:
        value = _CLASSES[name]
    elif name:
        found = store.find("priorityclasses.scheduling.k8s.io", None, name)
        if found is None:
            why = f"no PriorityClass with name {name} was found"
            raise status.forbidden("pods", pod["metadata"].get("name", ""), why)
        value, policy = found.get("value", 0), found.get("preemptionPolicy", policy)
    else:
        for found in store.scan("priorityclasses.scheduling.k8s.io"):
            if found.get("globalDefault"):
                spec["priorityClassName"] = found["metadata"]["name"]
                value, policy = found.get("value", 0), found.get("preemptionPolicy", policy)
    spec["priority"], spec["preemptionPolicy"] = value, policy
