"""Taints and labels of nodes for the control plane, in kubectl's words."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.core.errors import ConfigError
from mesh.install.placement import tolerations_of
from mesh.install.render import render
from mesh.install.values import build_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (
            "dedicated=mesh:NoSchedule",
            [
                {
                    "key": "dedicated",
                    "operator": "Equal",
                    "value": "mesh",
                    "effect": "NoSchedule",
                }
            ],
        ),
        ("spot", [{"key": "spot", "operator": "Exists"}]),
        (
            "a.io/b:NoExecute,c=",
            [
                {"key": "a.io/b", "operator": "Exists", "effect": "NoExecute"},
                {"key": "c", "operator": "Equal", "value": ""},
            ],
        ),
    ],
)
def test_taints_become_tolerations(text: str, expected: list[dict[str, Any]]) -> None:
    assert tolerations_of(text) == expected


@pytest.mark.parametrize("text", ["=x", "a:Never", "a b", "a=b c"])
def test_what_is_no_taint_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"controlPlane\.tolerations: expected taints such as"):
        build_values({"controlPlane": {"tolerations": text}})


def test_every_role_is_placed_alike() -> None:
    given = {"tolerations": "spot", "nodeSelector": "pool=system"}
    manifests = render(build_values({"controlPlane": given}))

    specs = [m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment"]
    assert len(specs) == 3
    for spec in specs:
        assert spec["tolerations"] == [{"key": "spot", "operator": "Exists"}]
        assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "system"}
