"""Who may do what: bindings, rules, names, paths, and the words of a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.api import rbac
from mesh.local.api.rbac import Action
from mesh.local.api.store import Store
from mesh.local.api.users import ADMIN, ANONYMOUS, User, service_account

ROBOT = service_account("shop", "robot")


def cluster(*objects: tuple[str, dict[str, Any]]) -> Store:
    store = Store()
    for key, obj in objects:
        store.create(key, obj)
    return store


def role(name: str, *rules: dict[str, Any], namespace: str = "shop") -> tuple[str, dict[str, Any]]:
    return rbac.ROLES, {"metadata": {"name": name, "namespace": namespace}, "rules": list(rules)}


def binding(
    name: str, to: str, *subjects: dict[str, Any], kind: str = "Role", namespace: str = "shop"
) -> tuple[str, dict[str, Any]]:
    key = rbac.BINDINGS if namespace else rbac.CLUSTER_BINDINGS
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return key, {
        "metadata": meta,
        "roleRef": {"kind": kind, "name": to},
        "subjects": list(subjects),
    }


def rule(groups: str, resources: str, verbs: str, **more: Any) -> dict[str, Any]:
    return {
        "apiGroups": groups.split(","),
        "resources": resources.split(","),
        "verbs": verbs.split(","),
        **more,
    }


ACCOUNT = {"kind": "ServiceAccount", "name": "robot", "namespace": "shop"}


def test_a_role_counts_in_its_namespace_only() -> None:
    store = cluster(role("reader", rule("", "pods", "get,list")), binding("b", "reader", ACCOUNT))

    assert rbac.decide(store, ROBOT, Action("get", "", "pods", namespace="shop")).allowed
    assert not rbac.decide(store, ROBOT, Action("get", "", "pods", namespace="other")).allowed
    assert not rbac.decide(store, ROBOT, Action("get", "", "pods")).allowed
    assert not rbac.decide(store, ROBOT, Action("delete", "", "pods", namespace="shop")).allowed


def test_a_subject_without_namespace_means_the_bindings() -> None:
    subject = {"kind": "ServiceAccount", "name": "robot"}
    store = cluster(role("r", rule("", "pods", "get")), binding("b", "r", subject))

    assert rbac.decide(store, ROBOT, Action("get", "", "pods", namespace="shop")).allowed


def test_subresources_are_rights_of_their_own() -> None:
    store = cluster(role("r", rule("", "pods,*/scale", "get")), binding("b", "r", ACCOUNT))

    def may(resource: str, sub: str) -> bool:
        action = Action("get", "", resource, sub, namespace="shop")
        return rbac.decide(store, ROBOT, action).allowed

    assert may("pods", "")
    assert not may("pods", "log")
    assert may("anything", "scale")


def test_a_rule_with_names_allows_those_names_only() -> None:
    named = rule("", "secrets", "get", resourceNames=["mine"])
    store = cluster(role("r", named), binding("b", "r", ACCOUNT))

    def may(name: str) -> bool:
        action = Action("get", "", "secrets", namespace="shop", name=name)
        return rbac.decide(store, ROBOT, action).allowed

    assert may("mine")
    assert not may("other")
    assert not may("")


def test_groups_users_and_paths() -> None:
    store = cluster(
        (
            rbac.CLUSTER_ROLES,
            {
                "metadata": {"name": "c"},
                "rules": [
                    {"nonResourceURLs": ["/api/*", "/healthz"], "verbs": ["get"]},
                    rule("*", "*", "watch"),
                ],
            },
        ),
        binding("b", "c", {"kind": "Group", "name": "team"}, kind="ClusterRole", namespace=""),
    )
    member, stranger = User("me", ("team",)), User("team")

    assert rbac.decide(store, member, Action("get", path="/api/v1")).allowed
    assert not rbac.decide(store, member, Action("get", path="/metrics")).allowed
    assert rbac.decide(store, member, Action("watch", "x.y", "things", namespace="any")).allowed
    assert not rbac.decide(store, stranger, Action("get", path="/healthz")).allowed
    assert rbac.decide(store, ADMIN, Action("delete", "", "nodes")).allowed
    assert not rbac.decide(store, ANONYMOUS, Action("get", "", "pods")).allowed


@pytest.mark.parametrize(
    ("have", "want", "missing"),
    [
        ([rule("", "pods", "get")], [rule("", "pods", "get")], []),
        ([rule("*", "*", "*")], [rule("apps", "deployments", "create,delete")], []),
        (
            [rule("", "pods", "get")],
            [rule("", "pods", "get,list")],
            ['{APIGroups:[""], Resources:["pods"], Verbs:["list"]}'],
        ),
        (
            [rule("", "secrets", "get", resourceNames=["a"])],
            [rule("", "secrets", "get")],
            ['{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'],
        ),
    ],
)
def test_nobody_grants_more_than_they_have(have: Any, want: Any, missing: list[str]) -> None:
    assert rbac.covers(have, want) == missing


def test_an_aggregated_role_has_the_rules_of_its_parts() -> None:
    part = {"metadata": {"name": "part", "labels": {"to": "x"}}, "rules": [rule("", "pods", "get")]}
    whole = {
        "metadata": {"name": "whole"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "x"}}]},
    }

    assert rbac.aggregate([part, whole], whole) == part["rules"]


def test_a_refusal_is_worded_as_the_server_does() -> None:
    action = Action("list", "apps", "deployments", "scale", namespace="shop")

    assert action.describe() == (
        'cannot list resource "deployments/scale" in API group "apps" in the namespace "shop"'
    )
