"""Kinds that have no effect here say so."""

from __future__ import annotations

from typing import Any

import pytest

from destination.dialects.undone import RESOURCES, UNDONE
from destination.fragments import Outcome, Ref
from mesh.inject.validate import validate
from mesh.install.rbac import UNDONE as GRANTED
from mesh.kube.resources import find_resource
from mesh.lint.commands import lint_files
from tests.destination.world import World, service

SERVICE = {"group": "", "kind": "Service", "name": "web"}


def made(group: str, kind: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": "a", "namespace": "shop"}
    return {"apiVersion": f"{group}/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}


def outcome_of(obj: dict[str, Any], resource: str) -> Outcome | None:
    return World([service("web"), obj]).snapshot.outcomes.get(Ref(resource, "shop", "a"))


@pytest.mark.parametrize(("group", "kind"), UNDONE)
def test_each_object_has_a_verdict_and_lint_and_kubectl_apply_say_the_same(
    group: str, kind: str
) -> None:
    obj = made(group, kind, parentRefs=[SERVICE])

    found = outcome_of(obj, UNDONE[group, kind][0])

    assert found is not None
    assert found.verdict == "Rejected"
    (problem,) = found.problems
    assert problem.message.startswith(f"{kind} is not supported: ")
    validation = validate(obj)
    assert validation.refusal == ""  # somebody else's controller may do it
    assert problem.message in validation.warnings[0]
    (finding,) = lint_files([("a.yaml", str(obj))])[0]
    assert (finding.reason, finding.level) == ("NotSupported", "warning")


def test_a_udp_route_of_a_service_says_so_in_its_status_and_one_of_gateways_is_not_ours() -> None:
    resource = UNDONE["gateway.networking.k8s.io", "UDPRoute"][0]
    ours = outcome_of(made("gateway.networking.k8s.io", "UDPRoute", parentRefs=[SERVICE]), resource)
    theirs = made("gateway.networking.k8s.io", "UDPRoute", parentRefs=[{"name": "front"}])

    assert ours is not None
    assert ours.parents[0].accepted == "UnsupportedValue"
    assert "UDP passes by" in ours.parents[0].accepted_message
    assert outcome_of(theirs, resource) is None


def test_destination_may_read_every_such_kind_and_knows_its_names() -> None:
    granted = {f"{plural}.{group}" for group, kinds in GRANTED for plural in kinds}

    assert granted == set(RESOURCES)
    for (group, kind), (resource, _) in UNDONE.items():
        known = find_resource(resource)
        assert (known.group, known.kind) == (group, kind)


def route(*parents: dict[str, Any], group: str = "policy.linkerd.io") -> dict[str, Any]:
    return made(group, "HTTPRoute", parentRefs=list(parents), rules=[{}]) | {
        "apiVersion": f"{group}/{'v1beta3' if group.startswith('policy') else 'v1'}"
    }


@pytest.mark.parametrize("group", ["policy.linkerd.io", "gateway.networking.k8s.io"])
@pytest.mark.parametrize("kind", ["Server", "EgressNetwork"])
def test_linkerds_own_kinds_as_parents_are_named(group: str, kind: str) -> None:
    server = {"group": "policy.linkerd.io", "kind": kind, "name": "web"}
    resource = f"httproutes.{group}"

    alone = outcome_of(route(server, group=group), resource)
    beside = outcome_of(route(SERVICE, server, group=group), resource)

    assert alone is not None
    assert (alone.verdict, alone.parents[0].accepted) == ("Rejected", "UnsupportedValue")
    assert f"{kind} as a parent is not supported" in alone.parents[0].accepted_message
    assert beside is not None
    assert beside.verdict == "Partial"
    assert [problem.path for problem in beside.problems] == ["spec.parentRefs[1]"]
    assert [parent.accepted for parent in beside.parents] == ["Accepted"]
