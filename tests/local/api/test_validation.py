"""Built-in kinds: unknown fields, wrong types, defaults, and what validation refuses."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.api import defaults, fields, paths, strategy, validation
from mesh.local.api.paths import Target
from mesh.local.api.resources import Registry, Resource
from mesh.local.api.store import copy


def row(key: str) -> Resource:
    found = Registry().find(key)
    assert found is not None
    return found


def shape(key: str) -> fields.Shape:
    found = fields.shape_of(row(key))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("key", "obj", "unknown"),
    [
        ("pods", {"spec": {"dnsPolice": "x"}}, ['unknown field "spec.dnsPolice"']),
        (
            "deployments.apps",
            {"spec": {"template": {"spec": {"containers": [{}, {"imag": "x"}]}}}},
            ['unknown field "spec.template.spec.containers[1].imag"'],
        ),
        ("configmaps", {"data": {"anything": "goes"}, "dat": {}}, ['unknown field "dat"']),
        ("pods", {"metadata": {"labels": {"any": "x"}, "label": {}}}, ["metadata.label"]),
        (
            "customresourcedefinitions.apiextensions.k8s.io",
            {
                "spec": {
                    "versions": [
                        {
                            "schema": {
                                "openAPIV3Schema": {
                                    "properties": {
                                        "a": {"items": {"typ": "x"}, "default": {"free": 1}}
                                    }
                                }
                            }
                        }
                    ]
                }
            },
            ["openAPIV3Schema.properties.a.items.typ"],
        ),
    ],
)
def test_unknown_fields_are_found_at_every_depth(key: str, obj: Any, unknown: list[str]) -> None:
    found = fields.check(shape(key), obj).unknown

    assert len(found) == len(unknown)
    assert all(words in one for words, one in zip(unknown, found, strict=True))


@pytest.mark.parametrize(
    ("key", "obj", "words"),
    [
        (
            "configmaps",
            {"data": {"a": 1}},
            "cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            "deployments.apps",
            {"spec": {"replicas": "two"}},
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int",
        ),
        ("pods", {"spec": {"containers": {}}}, "cannot unmarshal object into Go struct field"),
        ("pods", {"spec": {"containers": ["x"]}}, "of type v1.Container"),
        ("pods", {"spec": {"hostNetwork": "yes"}}, "of type bool"),
        ("services", {"spec": {"ports": [{"targetPort": True}]}}, "cannot unmarshal bool"),
        (
            "pods",
            {"spec": {"containers": [{"resources": {"limits": {"cpu": []}}}]}},
            "cannot unmarshal array",
        ),
    ],
)
def test_a_wrong_type_is_told_as_go_does(key: str, obj: Any, words: str) -> None:
    assert words in fields.check(shape(key), obj).mismatch


def test_decoding_drops_nulls_and_unknown_fields() -> None:
    obj: dict[str, Any] = {
        "metadata": {"name": "a", "labels": None},
        "spec": {"containers": [{"name": "c", "odd": 1}]},
    }

    fields.prune(shape("pods"), obj)

    assert obj == {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("app", "Always"),
        ("app:latest", "Always"),
        ("registry:5000/app", "Always"),
        ("registry:5000/app:1", "IfNotPresent"),
        ("app@sha256:0", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    pod: dict[str, Any] = {"spec": {"containers": [{"name": "a", "image": image}]}}

    defaults.set_defaults("pods", pod)

    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


@pytest.mark.parametrize("resource", list(Registry()), ids=lambda resource: resource.key)
def test_defaults_are_filled_in_once(resource: Resource) -> None:
    obj: dict[str, Any] = {
        "metadata": {"name": "a"},
        "spec": {
            "template": {"spec": {"containers": [{"name": "a", "readinessProbe": {}}]}},
            "containers": [{"name": "a", "ports": [{"containerPort": 1}]}],
            "ports": [{"port": 1}],
        },
        "webhooks": [{"rules": [{}], "clientConfig": {"service": {}}}],
        "ports": [{"port": 1}],
    }

    defaults.set_defaults(resource.key, obj)
    again = defaults_again(resource.key, obj)

    assert again == obj


def defaults_again(key: str, obj: dict[str, Any]) -> dict[str, Any]:
    fresh = copy(obj)
    defaults.set_defaults(key, fresh)
    return fresh


@pytest.mark.parametrize(
    ("requests", "limits", "quality"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1024Mi"}, "Guaranteed"),
        ({"cpu": "1"}, {"cpu": "2", "memory": "1Gi"}, "Burstable"),
    ],
)
def test_the_quality_of_service_follows_the_resources(
    requests: Any, limits: Any, quality: str
) -> None:
    spec = {"containers": [{"resources": {"requests": requests, "limits": limits}}]}

    assert strategy.qos_class(spec) == quality


def faults(key: str, **obj: Any) -> list[str]:
    found = {"metadata": {"name": "a", "namespace": "n"}, **obj}
    defaults.set_defaults(key, found)
    return [f"{fault.field}: {fault}" for fault in validation.validate(row(key), found)]


def pod(**container: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "image": "i:1", **container}]}}


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        ({"spec": {}}, "spec.containers: Required value"),
        (pod(image=""), "spec.containers[0].image: Required value"),
        (pod(name="A_b"), "a lowercase RFC 1123 label must consist of"),
        (pod(imagePullPolicy="Maybe"), 'Unsupported value: "Maybe"'),
        (pod(restartPolicy="Always"), "may not be set for non-init containers"),
        (pod(ports=[{"containerPort": 0}]), "must be between 1 and 65535, inclusive"),
        (pod(ports=[{"containerPort": 1, "name": "much-too-long-name"}]), "no more than 15"),
        (pod(ports=[{"containerPort": 1, "protocol": "ICMP"}]), "supported values: "),
        (pod(env=[{"name": "a=b"}]), "a valid environment variable name expected"),
        (pod(volumeMounts=[{"name": "v", "mountPath": "/"}]), 'Not found: "v"'),
        (pod(livenessProbe={}), "must specify a handler type"),
        (pod(livenessProbe={"exec": {}, "grpc": {"port": 1}}), "more than 1 handler type"),
        (pod(livenessProbe={"exec": {}, "successThreshold": 2}), "successThreshold: Invalid"),
        (pod(resources={"requests": {"cpu": "lots"}}), "resources.requests.cpu: Invalid"),
        (
            pod(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            "must be less than or equal to cpu limit of 1",
        ),
    ],
)
def test_a_wrong_pod_is_refused(obj: Any, words: str) -> None:
    found = faults("pods", **obj)

    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("key", "obj", "words"),
    [
        ("services", {"spec": {}}, "spec.ports: Required value"),
        (
            "services",
            {"spec": {"ports": [{"port": 0, "targetPort": 1}]}},
            "must be between 1 and 65535",
        ),
        ("services", {"spec": {"ports": [{"port": 1}], "type": "Odd"}}, 'value: "Odd"'),
        ("configmaps", {"data": {"a b": ""}}, "a valid config key must consist of"),
        ("configmaps", {"data": {"a": "x" * 1048577}}, "Too long: may not be more than 1048576"),
        ("configmaps", {"metadata": {"name": "A"}}, "a lowercase RFC 1123 subdomain"),
        ("configmaps", {"metadata": {"name": "a", "labels": {"-": ""}}}, "metadata.labels"),
        ("configmaps", {"metadata": {"name": "a", "labels": {"a": "b!"}}}, "a valid label must"),
        ("configmaps", {"metadata": {}}, "name or generateName is required"),
        ("namespaces", {"metadata": {"name": "a.b"}}, "a lowercase RFC 1123 label"),
        (
            "roles.rbac.authorization.k8s.io",
            {"rules": [{"verbs": ["get"], "resources": ["pods"]}]},
            "must supply at least one api group",
        ),
        (
            "clusterrolebindings.rbac.authorization.k8s.io",
            {
                "kind": "ClusterRoleBinding",
                "roleRef": {"kind": "ClusterRole", "name": "a"},
                "subjects": [{"kind": "ServiceAccount", "name": "a"}],
            },
            "subjects[0].namespace: Required value",
        ),
        (
            "endpointslices.discovery.k8s.io",
            {"addressType": "IPv9"},
            'supported values: "IPv4", "IPv6", "FQDN"',
        ),
    ],
)
def test_a_wrong_object_is_refused(key: str, obj: Any, words: str) -> None:
    found = faults(key, **obj)

    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/pods", Target("", "v1", "pods")),
        ("/api/v1/namespaces", Target("", "v1", "namespaces")),
        ("/api/v1/namespaces/a", Target("", "v1", "namespaces", name="a")),
        ("/api/v1/namespaces/a/status", Target("", "v1", "namespaces", "", "a", "status")),
        ("/api/v1/namespaces/a/pods", Target("", "v1", "pods", "a")),
        ("/api/v1/namespaces/a/pods/b/log", Target("", "v1", "pods", "a", "b", "log")),
        (
            "/api/v1/namespaces/a/pods/b:80/proxy/x%2Fy/z",
            Target("", "v1", "pods", "a", "b:80", "proxy", "/x%2Fy/z"),
        ),
        ("/apis/apps/v1/deployments", Target("apps", "v1", "deployments")),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Ax",
            Target("rbac.authorization.k8s.io", "v1", "clusterroles", name="system:x"),
        ),
        ("/api/v1", None),
        ("/apis/apps", None),
        ("/api/v1/", None),
        ("/healthz", None),
        ("/", None),
    ],
)
def test_a_path_names_what_it_is_about(path: str, target: Target | None) -> None:
    assert paths.parse(path) == target
