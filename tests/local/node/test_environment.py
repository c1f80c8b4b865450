"""Variables, commands and the downward API."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.local.node.capabilities import CreateError
from mesh.local.node.environment import command, environment, expand, field, format_map

POD: dict[str, Any] = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "uid": "u1",
        "labels": {"app": "web", "b": 'say "hi"'},
        "annotations": {"mesh/inject": "enabled"},
    },
    "spec": {"nodeName": "n1", "serviceAccountName": "web", "containers": []},
    "status": {"podIP": "10.1.0.5", "podIPs": [{"ip": "10.1.0.5"}, {"ip": "fd00::5"}]},
}
STORED: dict[tuple[str, str], Any] = {
    ("configmaps", "settings"): {"data": {"COLOUR": "red", "SIZE": "3"}},
    ("secrets", "login"): {"data": {"password": "c2VzYW1l"}},
}


def lookup(resource: str, name: str) -> dict[str, Any] | None:
    return STORED.get((resource, name))


def variables(container: dict[str, Any]) -> dict[str, str]:
    return environment(
        POD, container, lookup, base={"PATH": "/bin"}, machine={"cpu": "2", "memory": "4096"}
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$(NOPE)", "$(NOPE)"),
        ("$$(A)", "$(A)"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
    ],
)
def test_known_variables_are_expanded_and_others_left(text: str, wanted: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == wanted


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("metadata.name", "web-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['mesh/inject']", "enabled"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "n1"),
        ("spec.serviceAccountName", "web"),
        ("status.podIP", "10.1.0.5"),
        ("status.podIPs", "10.1.0.5,fd00::5"),
        ("status.hostIP", ""),
    ],
)
def test_field_references(path: str, wanted: str) -> None:
    assert field(POD, path) == wanted


def test_a_field_that_pods_lack_is_named() -> None:
    with pytest.raises(CreateError, match=r"spec\.colour"):
        field(POD, "spec.colour")


def test_a_map_is_written_sorted_and_quoted() -> None:
    assert format_map(POD["metadata"]["labels"]) == 'app="web"\nb="say \\"hi\\""'


def test_later_variables_see_earlier_ones_and_win() -> None:
    found = variables(
        {
            "envFrom": [{"prefix": "C_", "configMapRef": {"name": "settings"}}],
            "env": [
                {"name": "BASE", "value": "http://x"},
                {"name": "URL", "value": "$(BASE)/$(C_COLOUR)"},
                {"name": "C_SIZE", "value": "9"},
            ],
        }
    )

    assert found["URL"] == "http://x/red"
    assert found["C_SIZE"] == "9"
    assert found["PATH"] == "/bin"


def test_keys_of_config_maps_and_secrets() -> None:
    def reference(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
        return {"name": key, "valueFrom": {kind: {"name": name, "key": key, **more}}}

    found = variables(
        {
            "env": [
                reference("configMapKeyRef", "settings", "COLOUR"),
                reference("secretKeyRef", "login", "password"),
                reference("secretKeyRef", "none", "left-out", optional=True),
            ]
        }
    )

    assert (found["COLOUR"], found["password"]) == ("red", "sesame")
    assert "left-out" not in found


def test_a_missing_key_says_which() -> None:
    source = {"configMapKeyRef": {"name": "settings", "key": "nope"}}

    with pytest.raises(CreateError, match="couldn't find key nope in configmap settings"):
        variables({"env": [{"name": "X", "valueFrom": source}]})


def test_resources_are_divided_and_rounded_up() -> None:
    def reference(resource: str, divisor: str) -> dict[str, Any]:
        return {"resourceFieldRef": {"resource": resource, "divisor": divisor}}

    found = variables(
        {
            "resources": {"limits": {"memory": "100Mi", "cpu": "1500m"}},
            "env": [
                {"name": "MEMORY", "valueFrom": reference("limits.memory", "1Mi")},
                {"name": "CPU", "valueFrom": reference("limits.cpu", "1")},
                {"name": "NONE", "valueFrom": reference("requests.cpu", "1m")},
            ],
        }
    )

    assert (found["MEMORY"], found["CPU"], found["NONE"]) == ("100", "2", "0")


def test_a_container_without_a_command_has_its_own_reason() -> None:
    with pytest.raises(CreateError) as caught:
        command({"image": "nginx", "args": ["x"]}, {})

    assert caught.value.reason == "NoCommand"


def test_command_and_args_are_joined_and_expanded() -> None:
    container = {"command": ["run", "$(A)"], "args": ["--to=$(B)"]}

    assert command(container, {"A": "1", "B": "2"}) == ["run", "1", "--to=2"]
