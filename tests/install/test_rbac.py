"""Rights of the roles: nothing above what each of them does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from destination import live
from mesh.core import labels
from mesh.install.render import render
from mesh.install.values import Values

MANIFESTS = render(Values())
READ = {"get", "list", "watch"}
# (role, group, resource) -> verbs, for all that may be changed
WRITES = {
    ("mesh-identity", "authentication.k8s.io", "tokenreviews"): {"create"},
    ("mesh-identity", "", "secrets"): {"create", "update"},
    ("mesh-identity", "", "configmaps"): {"create", "update"},
    ("mesh-identity", "", "events"): {"create"},
    ("mesh-destination", "authentication.k8s.io", "tokenreviews"): {"create"},
    ("mesh-destination", "", "events"): {"create"},
    ("mesh-destination", "linkerd.io", "serviceprofiles/status"): {"patch"},
    ("mesh-destination", "linkerd.io", "linkerdtrafficsplits/status"): {"patch"},
    ("mesh-destination", "split.smi-spec.io", "trafficsplits/status"): {"patch"},
    ("mesh-destination", "specs.smi-spec.io", "httproutegroups/status"): {"patch"},
    ("mesh-destination", "gateway.networking.k8s.io", "httproutes/status"): {"patch"},
    ("mesh-destination", "gateway.networking.k8s.io", "grpcroutes/status"): {"patch"},
    ("mesh-destination", "gateway.networking.k8s.io", "tlsroutes/status"): {"patch"},
    ("mesh-destination", "gateway.networking.k8s.io", "tcproutes/status"): {"patch"},
    ("mesh-destination", "gateway.networking.k8s.io", "udproutes/status"): {"patch"},
    ("mesh-destination", "policy.linkerd.io", "httproutes/status"): {"patch"},
    ("mesh-destination", "coordination.k8s.io", "leases"): {"create", "update"},
    ("mesh-inject", "", "events"): {"create", "patch"},
    ("mesh-inject", "", "secrets"): {"create", "update"},
    ("mesh-inject", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"): {"patch"},
    ("mesh-inject", "admissionregistration.k8s.io", "validatingwebhookconfigurations"): {"patch"},
    ("mesh-viewer", "", "serviceaccounts/token"): {"create"},
}


def rules() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for manifest in MANIFESTS:
        if manifest["kind"] in ("Role", "ClusterRole"):
            yield from ((manifest, rule) for rule in manifest["rules"])


def test_nobody_lists_secrets_or_reads_them_unnamed() -> None:
    for role, rule in rules():
        if "secrets" in rule["resources"]:
            assert role["kind"] == "Role", "a Secret of the cluster"
            assert not {"list", "watch", "deletecollection", "*"} & set(rule["verbs"])
            assert rule["verbs"] == ["create"] or rule["resourceNames"]


def test_no_rule_has_a_wildcard_or_touches_rights() -> None:
    for _, rule in rules():
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
        assert not {"impersonate", "escalate", "bind", "delete", "deletecollection"} & {
            *rule["verbs"]
        }
        assert not {"pods/exec", "pods/attach", "pods/ephemeralcontainers"} & {*rule["resources"]}


def test_what_may_be_written_is_exactly_this() -> None:
    found: dict[tuple[str, str, str], set[str]] = {}
    for role, rule in rules():
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                verbs = set(rule["verbs"]) - READ
                if verbs:
                    key = (role["metadata"]["name"], group, resource)
                    found[key] = found.get(key, set()) | verbs

    assert found == WRITES


def test_what_destination_watches_is_what_it_may_read() -> None:
    watched = {*live._CORE, *live._ROUTING}
    read = {
        f"{resource}.{group}" if group else resource
        for role, rule in rules()
        if role["kind"] == "ClusterRole" and role["metadata"]["name"] == labels.DESTINATION
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if set(rule["verbs"]) == READ
    }

    assert read == watched


def test_what_may_be_changed_cluster_wide_is_named_or_a_status_or_an_event() -> None:
    for role, rule in rules():
        if role["kind"] == "ClusterRole" and set(rule["verbs"]) - READ:
            reviews = rule["resources"] == ["tokenreviews"]
            status = all(resource.endswith("/status") for resource in rule["resources"])
            assert rule.get("resourceNames") or rule["resources"] == ["events"] or status or reviews


def test_every_account_is_bound_to_its_own_roles_only() -> None:
    bindings = [m for m in MANIFESTS if m["kind"].endswith("RoleBinding")]

    for binding in bindings:
        (subject,) = binding["subjects"]
        assert subject["name"] == binding["roleRef"]["name"] == binding["metadata"]["name"]
        assert subject["namespace"] == "mesh"
    assert labels.VIEWER not in {b["metadata"]["name"] for b in bindings}


@pytest.mark.parametrize("name", [labels.IDENTITY, labels.DESTINATION, labels.INJECT])
def test_each_deployment_runs_under_its_own_account(name: str) -> None:
    (deployment,) = (
        m for m in MANIFESTS if m["kind"] == "Deployment" and m["metadata"]["name"] == name
    )

    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == name
