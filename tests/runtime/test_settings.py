"""Settings: one typed object, or every fault at once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mesh.core.errors import ConfigError
from mesh.core.quantity import parse_duration, parse_port
from mesh.runtime.settings import describe, load, setting, usage, variable_of


@dataclass(frozen=True)
class Example:
    name: str = setting("MESH_NAME", "the name of the pod")
    port: int = setting("MESH_PORT", "the port to listen on", default="4140", parse=parse_port)
    wait: float = setting(
        "MESH_WAIT", "how long to wait", default="1s", parse=parse_duration, flag="--wait"
    )


def test_settings_come_from_variables_and_defaults() -> None:
    assert load(Example, {"MESH_NAME": "web", "MESH_WAIT": "250ms"}) == Example("web", 4140, 0.25)


def test_every_fault_is_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Example, {"MESH_PORT": "http", "MESH_WAIT": "5"})

    assert caught.value.problems == (
        "MESH_NAME: expected the name of the pod, got nothing",
        'MESH_PORT: expected a port from 1 to 65535, got "http"',
        'MESH_WAIT: expected a duration such as 300ms, 5s or 1m30s, got "5"',
    )


def test_an_empty_variable_counts_as_unset() -> None:
    assert load(Example, {"MESH_NAME": "web", "MESH_PORT": ""}).port == 4140


def test_a_flag_counts_before_its_variable() -> None:
    environ = {"MESH_NAME": "web", "MESH_WAIT": "1s"}

    assert load(Example, environ, ["--wait", "2s"]).wait == 2.0
    assert load(Example, environ, ["--wait=3s"]).wait == 3.0
    assert "--wait VALUE  how long to wait (MESH_WAIT)" in usage(Example, "it")


def test_faults_of_flags_are_listed_under_their_names() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Example, {"MESH_NAME": "web"}, ["--port", "--wait"])

    assert caught.value.problems == (
        'expected --wait, got "--port"',
        '--wait: expected a duration such as 300ms, 5s or 1m30s, got ""',
    )


def test_settings_describe_themselves() -> None:
    assert [item.variable for item in describe(Example)] == ["MESH_NAME", "MESH_PORT", "MESH_WAIT"]
    assert variable_of(Example, "port") == "MESH_PORT"
