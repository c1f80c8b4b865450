"""The Api: what happens to an object between the request and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import ApiError
from mesh.local.api import rbac
from mesh.local.api.server import Api, Options
from mesh.local.api.users import service_account
from tests.local.api.conftest import make_api

CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "app:1"}
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [container], **spec},
    }


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}, **spec},
    }


def definition(*versions: dict[str, Any], **names: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "widgets.x.io"},
        "spec": {
            "group": "x.io",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", **names},
            "versions": list(versions),
        },
    }


def version(name: str, *, storage: bool, **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"spec": {"type": "object", **properties}},
    }
    if not properties:
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": schema},
    }


def widget(**more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "w", "namespace": "shop"}, **more}


def refused(call: Coroutine[Any, Any, Any]) -> ApiError:
    with pytest.raises(ApiError) as found:
        asyncio.run(call)
    return found.value


# -- namespaces --------------------------------------------------------------------------------


def test_a_namespace_begins_with_an_account_and_the_cluster_ca(api: Api) -> None:
    asyncio.run(api.create("namespaces", {"metadata": {"name": "new"}}))

    assert api.store.find("serviceaccounts", "new", "default") is not None
    found = api.store.get("configmaps", "new", "kube-root-ca.crt")
    assert found["data"] == {"ca.crt": "PEM"}


def test_a_deleted_namespace_goes_when_its_last_object_has_gone(api: Api) -> None:
    asyncio.run(api.create("pods", pod(nodeName="node")))

    asyncio.run(api.delete("namespaces", None, "shop"))
    held = api.store.get("namespaces", None, "shop")
    denied = refused(api.create("pods", pod("late")))
    api.store.finalize_delete("pods", "shop", "web")

    assert held["status"]["phase"] == "Terminating"
    assert (denied.code, denied.reason) == (403, "Forbidden")
    assert api.store.find("namespaces", None, "shop") is None
    assert list(api.store.scan("configmaps", "shop")) == []


def test_what_a_namespace_needs_comes_back(api: Api) -> None:
    asyncio.run(api.delete("configmaps", "shop", "kube-root-ca.crt"))
    asyncio.run(api.delete("serviceaccounts", "shop", "default"))

    assert api.store.find("configmaps", "shop", "kube-root-ca.crt") is not None
    assert api.store.find("serviceaccounts", "shop", "default") is not None


# -- pods --------------------------------------------------------------------------------------


def test_a_pod_gets_its_account_and_a_token_in_each_container(api: Api) -> None:
    made = asyncio.run(
        api.create("pods", pod(initContainers=[{"name": "first", "image": "first:1"}]))
    )

    spec = made["spec"]
    (volume,) = spec["volumes"]
    assert spec["serviceAccountName"] == "default"
    assert volume["projected"]["sources"][0]["serviceAccountToken"] == {
        "expirationSeconds": 3607,
        "path": "token",
    }
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["volumeMounts"] == [
            {
                "name": volume["name"],
                "readOnly": True,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            }
        ]


def test_a_pod_may_do_without_a_token(api: Api) -> None:
    made = asyncio.run(api.create("pods", pod(automountServiceAccountToken=False)))

    assert "volumes" not in made["spec"]


def test_a_pod_of_a_missing_account_is_refused(api: Api) -> None:
    denied = refused(api.create("pods", pod(serviceAccountName="nobody")))

    assert denied.code == 403
    assert 'serviceaccount "nobody" not found' in denied.message


def test_names_are_generated(api: Api) -> None:
    fresh = pod()
    fresh["metadata"] = {"generateName": "web-", "namespace": "shop"}

    first, second = (asyncio.run(api.create("pods", fresh)) for _ in range(2))

    assert first["metadata"]["name"].startswith("web-")
    assert first["metadata"]["name"] != second["metadata"]["name"]


def test_a_dry_run_shows_the_object_and_stores_nothing(api: Api) -> None:
    before = api.store.revision

    made = asyncio.run(api.create("pods", pod(), options=Options(dry_run=True)))

    assert made["metadata"]["uid"]
    assert made["status"]["phase"] == "Pending"
    assert api.store.revision == before


# -- services ----------------------------------------------------------------------------------


def test_services_get_addresses_of_their_own(api: Api) -> None:
    first = asyncio.run(api.create("services", service("a")))["spec"]
    second = asyncio.run(api.create("services", service("b", ipFamilyPolicy="PreferDualStack")))

    assert first["clusterIP"].startswith("10.96.")
    assert (first["ipFamilies"], first["clusterIPs"]) == (["IPv4"], [first["clusterIP"]])
    assert second["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert second["spec"]["clusterIPs"][1].startswith("fd00:96::")
    assert second["spec"]["clusterIP"] != first["clusterIP"]


def test_a_service_keeps_its_address_when_it_is_applied_again(api: Api) -> None:
    made = asyncio.run(api.create("services", service()))

    changed = asyncio.run(api.update("services", service(ports=[{"port": 81}])))

    assert changed["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert changed["spec"]["ports"] == [{"port": 81, "protocol": "TCP", "targetPort": 81}]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.97.0.1", "not in the valid range"),
        ("10.96.0.1", "already allocated"),
        ("nonsense", "must be a valid IP address"),
    ],
)
def test_an_address_that_cannot_be_given_is_refused(api: Api, address: str, words: str) -> None:
    assert words in refused(api.create("services", service(clusterIP=address))).message


def test_a_headless_service_has_no_address(api: Api) -> None:
    made = asyncio.run(api.create("services", service(clusterIP="None")))

    assert made["spec"]["clusterIPs"] == ["None"]


# -- patches -----------------------------------------------------------------------------------


def test_a_patch_is_tried_again_when_the_object_changes_meanwhile(tmp_path: Path) -> None:
    holder: list[Api] = []
    raced: list[int] = []

    async def race(_: Any, review: dict[str, Any], __: float) -> dict[str, Any]:
        if not raced:
            raced.append(1)
            holder[0].store.update(
                "configmaps",
                {"metadata": {"name": "c", "namespace": "shop"}, "data": {"other": "1"}},
            )
        return {"response": {"uid": review["request"]["uid"], "allowed": True}}

    api = make_api(tmp_path, call=race)
    holder.append(api)
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["configmaps"],
    }
    hook = {
        "name": "a.b.c",
        "rules": [rule],
        "clientConfig": {"url": "https://x"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    key = "validatingwebhookconfigurations.admissionregistration.k8s.io"

    async def run() -> dict[str, Any]:
        await api.create("configmaps", {"metadata": {"name": "c", "namespace": "shop"}})
        await api.create(key, {"metadata": {"name": "v"}, "webhooks": [hook]})
        return await api.patch("configmaps", "shop", "c", {"data": {"mine": "2"}})

    assert asyncio.run(run())["data"] == {"other": "1", "mine": "2"}


def test_a_patch_that_names_an_old_revision_is_a_conflict(api: Api) -> None:
    async def run() -> None:
        await api.create("configmaps", {"metadata": {"name": "c", "namespace": "shop"}})
        change = {"metadata": {"resourceVersion": "1"}, "data": {"a": "1"}}
        await api.patch("configmaps", "shop", "c", change)

    assert refused(run()).code == 409


def test_a_patch_may_not_rename(api: Api) -> None:
    asyncio.run(api.create("configmaps", {"metadata": {"name": "c", "namespace": "shop"}}))

    denied = refused(api.patch("configmaps", "shop", "c", {"metadata": {"name": "d"}}))

    assert denied.code == 422


# -- field validation --------------------------------------------------------------------------


def validated(api: Api, mode: str, warn: Callable[[str], None]) -> dict[str, Any]:
    options = Options(validation=mode, warn=warn)
    return asyncio.run(api.create("pods", pod(dnsPolice="x"), options=options))


def test_unknown_fields_are_refused_told_or_dropped(api: Api) -> None:
    told: list[str] = []

    with pytest.raises(ApiError, match=r'strict decoding error: unknown field "spec\.dnsPolice"'):
        validated(api, "Strict", told.append)
    made = validated(api, "Warn", told.append)

    assert told == ['unknown field "spec.dnsPolice"']
    assert "dnsPolice" not in made["spec"]


# -- custom resources --------------------------------------------------------------------------


def test_a_definition_serves_its_kind_at_once(api: Api) -> None:
    size = {"properties": {"size": {"type": "integer", "default": 3}}}

    async def run() -> dict[str, Any]:
        await api.create(CRDS, definition(version("v1", storage=True, **size)))
        return await api.create("widgets.x.io", widget(spec={"extra": 1}))

    made = asyncio.run(run())

    assert made["apiVersion"] == "x.io/v1"
    assert made["spec"] == {"size": 3}
    assert made["metadata"]["generation"] == 1


def test_each_version_shows_the_same_object(api: Api) -> None:
    default = {"properties": {"new": {"type": "string", "default": "x"}}}

    async def run() -> list[dict[str, Any]]:
        await api.create(
            CRDS,
            definition(version("v1beta1", storage=True), version("v1", storage=False, **default)),
        )
        old = await api.create("widgets.x.io", widget(spec={}), options=Options(version="v1beta1"))
        row = api.resource("widgets.x.io")
        new = api.read(row, "v1", "shop", "w")
        return [old, new, api.store.get("widgets.x.io", "shop", "w")]

    old, new, stored = asyncio.run(run())

    assert (old["apiVersion"], old["spec"]) == ("x.io/v1beta1", {})
    assert (new["apiVersion"], new["spec"]) == ("x.io/v1", {"new": "x"})
    assert stored["apiVersion"] == "x.io/v1beta1"


def test_a_clash_of_names_keeps_a_definition_from_being_served(api: Api) -> None:
    async def run() -> dict[str, Any]:
        await api.create(CRDS, definition(version("v1", storage=True)))
        second = definition(version("v1", storage=True), plural="gadgets")
        second["metadata"]["name"] = "gadgets.x.io"
        return await api.create(CRDS, second)

    made = asyncio.run(run())

    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "False", "Established": "False"}
    assert refused(api.create("gadgets.x.io", widget())).code == 404


def test_a_deleted_definition_takes_its_objects_with_it(api: Api) -> None:
    async def run() -> None:
        await api.create(CRDS, definition(version("v1", storage=True)))
        await api.create("widgets.x.io", widget())
        await api.delete(CRDS, None, "widgets.x.io")

    asyncio.run(run())

    assert api.store.find(CRDS, None, "widgets.x.io") is None
    assert list(api.store.scan("widgets.x.io")) == []
    assert api.store.registry.find("widgets.x.io") is None


def test_an_object_that_is_held_holds_its_definition(api: Api) -> None:
    async def run() -> None:
        await api.create(CRDS, definition(version("v1", storage=True)))
        held = widget()
        held["metadata"]["finalizers"] = ["x/y"]
        await api.create("widgets.x.io", held)
        await api.delete(CRDS, None, "widgets.x.io")
        assert api.store.find(CRDS, None, "widgets.x.io") is not None
        await api.patch("widgets.x.io", "shop", "w", {"metadata": {"finalizers": None}})

    asyncio.run(run())

    assert api.store.find(CRDS, None, "widgets.x.io") is None


def test_an_update_of_a_custom_object_must_name_its_revision(api: Api) -> None:
    async def run() -> None:
        await api.create(CRDS, definition(version("v1", storage=True)))
        await api.create("widgets.x.io", widget())
        await api.update("widgets.x.io", widget(spec={}))

    assert "must be specified for an update" in refused(run()).message


# -- the rest ----------------------------------------------------------------------------------


def test_deleting_with_orphan_lets_go_of_what_is_owned(api: Api) -> None:
    async def run() -> None:
        owner = await api.create("configmaps", {"metadata": {"name": "o", "namespace": "shop"}})
        reference = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "o",
            "uid": owner["metadata"]["uid"],
        }
        meta = {"name": "c", "namespace": "shop", "ownerReferences": [reference]}
        await api.create("configmaps", {"metadata": meta})
        await api.delete("configmaps", "shop", "o", orphan=True)

    asyncio.run(run())

    assert "ownerReferences" not in api.store.get("configmaps", "shop", "c")["metadata"]


def test_an_account_cannot_grant_what_it_does_not_have(api: Api) -> None:
    robot = service_account("shop", "robot")
    role = {
        "metadata": {"name": "r", "namespace": "shop"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }

    denied = refused(api.create(rbac.ROLES, role, user=robot))

    assert denied.code == 403
    assert 'Resources:["secrets"]' in denied.message


def test_what_is_stored_and_not_enforced_says_so(api: Api) -> None:
    told: list[str] = []
    policy = {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": {}}}
    key = "networkpolicies.networking.k8s.io"

    asyncio.run(api.create(key, policy, options=Options(warn=told.append)))

    assert told == ["mesh local stores networkpolicies and does not enforce them"]


def test_a_kind_that_is_left_out_is_named(api: Api) -> None:
    message = refused(api.create("ingresses.networking.k8s.io", {})).message
    assert message == "mesh local has no ingresses.networking.k8s.io"
