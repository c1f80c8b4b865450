"""Strategic merge patch: merge keys, directives and the order of lists."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.api import strategic


def pod(*containers: Any, **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def test_containers_merge_by_name_and_new_ones_come_last() -> None:
    old = pod({"name": "a", "image": "1"}, {"name": "b", "image": "1"})

    new = strategic.merge("Pod", old, pod({"name": "b", "image": "2"}, {"name": "c"}))

    assert new == pod({"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"})
    assert old["spec"]["containers"][1]["image"] == "1"


def test_nested_lists_have_their_own_keys() -> None:
    old = pod(
        {
            "name": "a",
            "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
            "ports": [{"containerPort": 80, "name": "http"}],
            "args": ["one", "two"],
        }
    )

    new = strategic.merge(
        "Pod",
        old,
        pod(
            {
                "name": "a",
                "env": [{"name": "Y", "value": "3"}],
                "ports": [{"containerPort": 80, "name": "web"}],
                "args": ["three"],
            }
        ),
    )

    container = new["spec"]["containers"][0]
    assert container["env"] == [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}]
    assert container["ports"] == [{"containerPort": 80, "name": "web"}]
    assert container["args"] == ["three"]


def test_the_patch_decides_the_order_and_what_only_the_server_has_stays_in_place() -> None:
    old = pod({"name": "injected"}, {"name": "a"}, {"name": "b"})
    change = pod({"name": "c"})
    change["spec"]["$setElementOrder/containers"] = [{"name": "b"}, {"name": "c"}, {"name": "a"}]

    new = strategic.merge("Pod", old, change)

    assert [c["name"] for c in new["spec"]["containers"]] == ["injected", "b", "c", "a"]


def test_an_order_alone_reorders() -> None:
    change = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}

    new = strategic.merge("Pod", pod({"name": "a"}, {"name": "b"}), change)

    assert [c["name"] for c in new["spec"]["containers"]] == ["b", "a"]


def test_delete_removes_one_element() -> None:
    change = pod({"name": "a", "$patch": "delete"})

    assert strategic.merge("Pod", pod({"name": "a"}, {"name": "b"}), change) == pod({"name": "b"})


def test_replace_in_a_list_replaces_the_list() -> None:
    change = pod({"$patch": "replace"}, {"name": "c"})

    assert strategic.merge("Pod", pod({"name": "a"}, {"name": "b"}), change) == pod({"name": "c"})


def test_replace_in_an_object_replaces_the_object() -> None:
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}}

    new = strategic.merge("Pod", old, {"metadata": {"labels": {"$patch": "replace", "c": "3"}}})

    assert new == {"metadata": {"labels": {"c": "3"}}}


def test_null_removes_a_field() -> None:
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}}

    new = strategic.merge("Pod", old, {"metadata": {"labels": {"a": None, "x": None}}})

    assert new == {"metadata": {"labels": {"b": "2"}}}


def test_retain_keys_drops_the_other_members_of_a_union() -> None:
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    change = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}

    assert strategic.merge("Deployment", old, change) == {
        "spec": {"strategy": {"type": "Recreate"}}
    }


def test_primitive_lists_merge_as_sets_and_lose_what_is_named() -> None:
    old = {"metadata": {"finalizers": ["a", "b"]}}

    added = strategic.merge("ConfigMap", old, {"metadata": {"finalizers": ["b", "c"]}})
    lost = strategic.merge(
        "ConfigMap", old, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    )

    assert added == {"metadata": {"finalizers": ["a", "b", "c"]}}
    assert lost == {"metadata": {"finalizers": ["b"]}}


def test_service_ports_merge_by_port_and_unknown_lists_are_replaced() -> None:
    old = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81}], "externalIPs": ["x"]}}
    change = {"spec": {"ports": [{"port": 81, "name": "b"}], "externalIPs": ["y"]}}

    new = strategic.merge("Service", old, change)

    assert new["spec"]["ports"] == [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]
    assert new["spec"]["externalIPs"] == ["y"]


@pytest.mark.parametrize(
    "change",
    [
        pod({"image": "without a key"}),
        pod("not an object"),
        {"spec": {"$patch": "dance"}},
    ],
)
def test_a_patch_that_cannot_be_merged_is_refused(change: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        strategic.merge("Pod", pod({"name": "a"}), change)


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet"])
def test_templates_merge_as_pods_do(kind: str) -> None:
    old = {"spec": {"template": pod({"name": "a", "image": "1"}, volumes=[{"name": "v"}])}}
    change = {"spec": {"template": pod({"name": "a", "image": "2"}, volumes=[{"name": "w"}])}}

    new = strategic.merge(kind, old, change)["spec"]["template"]["spec"]

    assert new["containers"] == [{"name": "a", "image": "2"}]
    assert new["volumes"] == [{"name": "v"}, {"name": "w"}]
