"""What `mesh upgrade --plan` says: each object and each behaviour that changes, and no more."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from mesh import __version__
from mesh.core import labels
from mesh.core.errors import ConfigError
from mesh.install.plan import (
    describe_behaviour,
    find_changes,
    key_of,
    plan_upgrade,
    print_plan,
)
from mesh.install.render import VERSION_KEY, render
from mesh.install.upgrade import stored_values
from mesh.install.values import build_values

Object = dict[str, Any]


def cluster(**values: Any) -> dict[tuple[str, str, str], Object]:
    """The rendered objects as an API server keeps them: with defaults, without what is empty."""
    live = {}
    for manifest in copy.deepcopy(render(build_values(values))):
        manifest["metadata"] |= {"uid": "1", "resourceVersion": "7"}
        live[key_of(manifest)] = _without_empty(manifest)
    for key, manifest in live.items():
        if key[0] == "Deployment":
            manifest["spec"]["strategy"] = {"type": "RollingUpdate"}
    return live


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_empty(v) for k, v in value.items() if v not in ("", [], {}, None)}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def data_of(**values: Any) -> dict[str, str]:
    config = cluster(**values)["ConfigMap", "mesh", labels.CONFIG_MAP]
    return dict(config["data"])


def test_the_same_mesh_again_changes_nothing() -> None:
    plan = plan_upgrade(render(build_values({})), cluster())

    assert (plan.created, plan.changed, plan.removed) == ((), {}, ())
    assert print_plan(plan) == f"= {plan.same} objects stay as they are\n"


def test_each_change_is_told_with_its_path() -> None:
    wanted = render(build_values({"image": "mesh:2", "controlPlane": {"logLevel": "debug"}}))

    plan = plan_upgrade(wanted, cluster())

    changed = plan.changed["Deployment mesh/mesh-identity"]
    old = cluster()["Deployment", "mesh", "mesh-identity"]["spec"]["template"]["spec"]
    image = old["containers"][0]["image"]
    assert f"spec.template.spec.containers[identity].image: {image} -> mesh:2" in changed
    assert any("env[MESH_LOG_LEVEL].value: info -> debug" in line for line in changed)
    assert "data.values.yaml: +image: mesh:2" in plan.changed["ConfigMap mesh/mesh-config"]
    assert "its pods are replaced, one after the other" in print_plan(plan)


def test_what_is_new_and_what_is_left_over_is_named() -> None:
    live = cluster()
    missing = live.pop(("Service", "mesh", "mesh-inject"))
    stray = {"kind": "Service", "metadata": {"name": "old", "namespace": "mesh"}}

    plan = plan_upgrade(render(build_values({})), live, [stray, missing])

    assert plan.created == ("Service mesh/mesh-inject",)
    assert plan.removed == ("Service mesh/old",)
    assert "kubectl delete Service old -n mesh" in print_plan(plan)


def test_what_the_last_apply_wrote_and_this_one_does_not_is_removed() -> None:
    last = {"spec": {"replicas": 3, "paused": True, "selector": {}}, "metadata": {"name": "x"}}
    noted = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(last)}
    there = {"metadata": {"name": "x", "annotations": noted}, "spec": {"replicas": 3}}

    changes = list(find_changes(there, {"metadata": {"name": "x"}, "spec": {"replicas": 3}}))

    assert changes == ["spec.paused: removed"]


def test_behaviour_names_versions_defaults_and_pods_that_stay_behind() -> None:
    before = data_of() | {VERSION_KEY: "0.0.9"}
    after = data_of(proxy={"accessLog": "json", "inboundPort": "5143"})
    pod = {
        "metadata": {
            "name": "web-1",
            "namespace": "shop",
            "annotations": {labels.A_PROXY_VERSION: "0.0.9"},
        },
        "spec": {"containers": [{"name": labels.PROXY_CONTAINER}]},
    }

    lines = describe_behaviour(before, after, [pod, pod], __version__)

    assert lines[0] == f"control plane: version 0.0.9 -> {__version__}"
    assert any(line.startswith("new pods: inbound port 4143 -> 5143; ") for line in lines)
    assert "new pods: mesh/access-log off -> json" in lines
    assert lines[-1].startswith("namespace shop: 2 proxies stay at 0.0.9 until their pods restart")


def test_an_upgrade_keeps_the_values_of_the_install() -> None:
    data = data_of(destination={"replicas": "2"})

    tree = stored_values(data, "mesh")

    assert build_values(tree).destination.replicas == 2
    with pytest.raises(ConfigError, match=r"values\.yaml"):
        stored_values({"values.yaml": "a: ["}, "mesh")
