"""Our definitions take what published ones take, and what people write besides."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from mesh.install.render import render_crds
from mesh.install.values import Crds, Values
from mesh.local.api import definitions, schema

VALUES = Values(crds=Crds(gateway=True))
CRDS = {crd["metadata"]["name"]: crd for crd in render_crds(VALUES)}
SPLIT, LINKERD_SPLIT = "trafficsplits.split.smi-spec.io", "linkerdtrafficsplits.linkerd.io"
PROFILE = "serviceprofiles.linkerd.io"
GROUP = "httproutegroups.specs.smi-spec.io"

TAKEN = [
    (SPLIT, "{service: web, backends: [{service: v1, weight: 500m}, {service: v2, weight: 1}]}"),
    (SPLIT, "{service: web, backends: [], matches: [{kind: HTTPRouteGroup, name: g}]}"),
    (LINKERD_SPLIT, "{service: web, allocation: [{service: v1, weight: 90}]}"),
    (PROFILE, "{routes: [{name: a, condition: {pathRegex: /a, method: GET}, timeout: 25ms}]}"),
    (PROFILE, "{routes: [{name: a, condition: {path: /a}, isRetryable: true}]}"),
    (PROFILE, "{routes: [{name: a, condition: {all: [{method: GET}, {not: {pathRegex: /b}}]}}]}"),
    (PROFILE, "{routes: [{name: a, condition: {not: [{method: GET}]}}]}"),
    (PROFILE, "{routes: [{name: a, condition: {not: {method: GET}}}]}"),
    (
        PROFILE,
        "{routes: [{name: a, responseClasses: [{condition: {status: {min: 500, max: 599}},"
        " isFailure: true}, {condition: {statusCode: 200}}]}]}",
    ),
    (PROFILE, "{retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10s}}"),
    (PROFILE, "{dstOverrides: [{authority: v2.shop.svc.cluster.local, weight: 900m}]}"),
    (PROFILE, "{opaquePorts: ['3306']}"),
    (GROUP, "{matches: [{name: a, methods: [GET], pathRegex: /a, headers: {x: y}}]}"),
    (GROUP, "{matches: [{headers: [{x: y}]}]}"),
]


def versions(name: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (version["name"], version["schema"]["openAPIV3Schema"])
        for version in CRDS[name]["spec"]["versions"]
    ]


@pytest.mark.parametrize(("name", "spec"), TAKEN)
def test_each_published_form_is_taken_whole_by_every_version(name: str, spec: str) -> None:
    for _, tree in versions(name):
        obj = {"apiVersion": "x/v1", "kind": "X", "metadata": {}, "spec": yaml.safe_load(spec)}
        before = copy.deepcopy(obj)

        assert schema.validate(tree, obj) == []
        assert schema.prune(tree, obj) == []
        assert obj == before


def test_a_misspelt_field_is_still_noticed() -> None:
    obj = {"apiVersion": "x/v1", "kind": "X", "metadata": {}, "spec": {"servce": "web"}}

    assert schema.prune(versions(SPLIT)[0][1], obj) == ["spec.servce"]


@pytest.mark.parametrize("name", CRDS)
def test_a_definition_is_structural_with_one_schema_for_all_its_versions(name: str) -> None:
    spec = CRDS[name]["spec"]

    assert definitions.validate(CRDS[name]) == []
    assert sum(version["storage"] for version in spec["versions"]) == 1
    assert all(version["served"] for version in spec["versions"])
    assert all(tree == versions(name)[0][1] for _, tree in versions(name))
    assert all(version["subresources"] == {"status": {}} for version in spec["versions"])


def test_every_published_version_is_there() -> None:
    assert [version for version, _ in versions(SPLIT)] == [
        "v1alpha1",
        "v1alpha2",
        "v1alpha3",
        "v1alpha4",
    ]
    assert [version for version, _ in versions(PROFILE)] == ["v1alpha1", "v1alpha2"]


def test_the_names_do_not_hide_the_split_that_people_mean() -> None:
    names = CRDS[LINKERD_SPLIT]["spec"]["names"]

    assert names["kind"] == CRDS[SPLIT]["spec"]["names"]["kind"] == "TrafficSplit"
    assert not {names["plural"], names["singular"]} & {"trafficsplits", "trafficsplit"}
    assert "shortNames" not in names
