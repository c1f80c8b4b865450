"""Whatever is sent, the answer is an ApiError or an object: no body is a bug."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.core.errors import ApiError
from mesh.local.api import jsonpath, negotiate, patch, paths, selectors, strategic, tables
from mesh.local.api.server import Api, Options
from mesh.local.api.store import copy
from mesh.local.api.users import service_account
from tests.local.api.conftest import make_api

POD_SPEC = {
    "serviceAccountName": "default",
    "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always"}],
    "containers": [
        {
            "name": "a",
            "image": "a:1",
            "command": ["x"],
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "ports": [{"containerPort": 80, "name": "http"}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "readinessProbe": {"httpGet": {"port": "http"}},
            "lifecycle": {"preStop": {"httpGet": {"port": 1}}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }
    ],
    "volumes": [
        {
            "name": "v",
            "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]},
        }
    ],
    "tolerations": [{"key": "a"}],
    "imagePullSecrets": [{"name": "a"}],
}
WORKLOAD = {
    "replicas": 1,
    "selector": {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "a", "operator": "Exists"}],
    },
    "strategy": {"rollingUpdate": {"maxSurge": 1}},
    "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD_SPEC},
}
HOOKS = [
    {
        "name": "a.b.c",
        "clientConfig": {"service": {"name": "a", "namespace": "b"}},
        "rules": [
            {
                "apiGroups": ["none"],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["none"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"a": "b"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
]
ROLE = {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
BINDING = {
    "roleRef": {"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"},
    "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "b"}],
}
SCALE = {"specReplicasPath": ".spec.a", "statusReplicasPath": ".status.a"}
CRD = {
    "spec": {
        "group": "x.io",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["w"]},
        "conversion": {"strategy": "None"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"a": {"type": "array", "items": {"type": "string"}}},
                                "required": ["a"],
                            }
                        },
                    }
                },
                "subresources": {"status": {}, "scale": SCALE},
                "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".a"}],
            }
        ],
    }
}
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
RBAC = "rbac.authorization.k8s.io"
ADMISSION = "admissionregistration.k8s.io"
SAMPLES: dict[str, dict[str, Any]] = {
    "pods": {"spec": POD_SPEC},
    "deployments.apps": {"spec": WORKLOAD},
    "services": {
        "spec": {
            "ports": [{"port": 80, "targetPort": "http", "name": "a"}],
            "selector": {"a": "b"},
            "clusterIP": "10.96.9.9",
            "clusterIPs": ["10.96.9.9"],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "type": "NodePort",
        }
    },
    "configmaps": {"data": {"a": "b"}, "binaryData": {"c": "AA=="}, "immutable": True},
    "secrets": {"data": {"a": "Yg=="}, "stringData": {"c": "d"}, "type": "Opaque"},
    "namespaces": {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    "serviceaccounts": {"secrets": [{"name": "a"}], "automountServiceAccountToken": False},
    "events": {
        "involvedObject": {"kind": "Pod", "name": "a"},
        "source": {"component": "c"},
        "count": 1,
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "series": {"count": 2},
    },
    "nodes": {
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready"}], "addresses": [{"type": "InternalIP"}]},
    },
    f"roles.{RBAC}": ROLE,
    f"clusterroles.{RBAC}": {**ROLE, "aggregationRule": {"clusterRoleSelectors": [{}]}},
    f"rolebindings.{RBAC}": BINDING,
    f"clusterrolebindings.{RBAC}": BINDING,
    f"mutatingwebhookconfigurations.{ADMISSION}": {"webhooks": HOOKS},
    f"validatingwebhookconfigurations.{ADMISSION}": {"webhooks": HOOKS},
    CRDS: CRD,
    "endpointslices.discovery.k8s.io": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"port": 1, "name": "a"}],
    },
    "leases.coordination.k8s.io": {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 1}},
    "networkpolicies.networking.k8s.io": {
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 1}]}]}
    },
    "widgets.x.io": {"spec": {"a": ["b"]}, "status": {"a": 1}, "other": {"x": [None]}},
    "poddisruptionbudgets.policy": {"spec": {"minAvailable": 1, "selector": {}}},
}
META = {
    "name": "fuzzed",
    "namespace": "shop",
    "labels": {"a": "b"},
    "annotations": {"c": "d"},
    "finalizers": [],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u"}],
}
JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1 << 70, 1.5, "", "x", "10.0.0.1", [], [None], ["x"], {}, {"a": None}, [{}]]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node below a value."""
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += places(item, (*path, key))
    return found


def damaged(data: st.DataObject, sample: dict[str, Any]) -> dict[str, Any]:
    """A copy with up to three nodes replaced by junk."""
    obj: dict[str, Any] = copy(sample)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(obj)))
        holder: Any = obj
        for key in way:
            holder = holder[key]
        holder[last] = copy(data.draw(JUNK))
        if not places(obj):
            break
    return obj


async def exercise(api: Api, key: str, obj: dict[str, Any], old: dict[str, Any]) -> None:
    """Create, show, change and delete, as far as each is allowed."""
    row = api.resource(key)
    robot = service_account("shop", "robot")
    with contextlib.suppress(ApiError):
        made = await api.create(key, obj, user=robot, options=Options(validation="Strict"))
        tables.table(row, row.version, [made], now=1.8e9)
    with contextlib.suppress(ApiError):
        made = await api.create(key, obj)
        tables.table(row, row.version, [made], now=1.8e9)
    with contextlib.suppress(ApiError):
        await api.update(key, obj, options=Options(validation="Warn"))
    for how in ("merge", "strategic"):
        with contextlib.suppress(ApiError):
            await api.patch(key, old["metadata"].get("namespace"), "sample", obj, how=how)
    with contextlib.suppress(ApiError):
        await api.patch(key, old["metadata"].get("namespace"), "sample", obj, subresource="status")
    for namespace in ("shop", None):
        with contextlib.suppress(ApiError):
            await api.delete(key, namespace, "fuzzed", grace=0)


@pytest.mark.parametrize("key", list(SAMPLES))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_object_is_refused_or_stored(
    key: str, tmp_path: Path, data: st.DataObject
) -> None:
    api = make_api(tmp_path, is_bare=True)
    sample = {"metadata": dict(META), **SAMPLES[key]}
    good = copy(sample)
    good["metadata"]["name"] = "sample"
    if key == CRDS:
        good["metadata"]["name"] = "widgets.x.io"
    obj = damaged(data, sample)

    async def run() -> None:
        if key == "widgets.x.io":
            await api.create(CRDS, {"metadata": {"name": key}, **CRD})
        old = await api.create(key, good)
        await exercise(api, key, obj, old)

    asyncio.run(run())


@given(st.text(alphabet="ab=!,() innot<>-/.", max_size=20))
def test_a_label_query_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        selectors.matches(selectors.parse_labels(text), {"a": "b"})


@given(st.text(max_size=20))
def test_other_parsers_of_the_query_and_the_head_never_fail(text: str) -> None:
    with contextlib.suppress(ValueError):
        selectors.parse_fields(text)
    negotiate.parse_accept(text)
    negotiate.transformed(text)
    paths.parse("/api/v1/" + text)
    jsonpath.find(text, {"a": [1]})


ANYTHING = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["a", "merge", "replace", "delete"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "spec",
                    "containers",
                    "name",
                    "$patch",
                    "$setElementOrder/containers",
                    "$retainKeys",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(old=ANYTHING, change=ANYTHING)
def test_a_patch_of_anything_is_done_or_refused(old: Any, change: Any) -> None:
    with contextlib.suppress(ValueError):
        patch.apply(old, change)
    if isinstance(old, dict) and isinstance(change, dict):
        with contextlib.suppress(ValueError):
            strategic.merge("Pod", old, change)
