"""Each kind of probe keeps its meaning behind the redirect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.core import labels
from mesh.inject.patch import Injection
from mesh.inject.probes import PROBES
from tests.inject.pods import Object, container_of, environment, inject, make_pod, plan


def with_probe(field: str, probe: dict[str, Any], **annotations: str) -> Object:
    pod = make_pod(annotations)
    pod["spec"]["containers"][0][field] = probe
    return pod


@pytest.mark.parametrize("field", PROBES)
@pytest.mark.parametrize("port", [80, "80", "http"])
def test_a_tcp_probe_asks_the_proxy_to_dial_the_application(field: str, port: int | str) -> None:
    before = {"tcpSocket": {"port": port}, "periodSeconds": 7}

    pod = inject(with_probe(field, before))

    get = {"path": "/probe/tcp/80", "port": labels.ADMIN_PORT, "scheme": "HTTP"}
    assert container_of(pod, "web")[field] == {"httpGet": get, "periodSeconds": 7}
    noted = json.loads(pod["metadata"]["annotations"][labels.A_REWRITTEN_PROBES])
    assert noted == {"web": {field: before}}


@pytest.mark.parametrize("field", PROBES)
@pytest.mark.parametrize(
    "probe",
    [
        {"httpGet": {"path": "/up", "port": 80}},
        {"httpGet": {"path": "/up", "port": "http", "scheme": "HTTPS"}},
        {"grpc": {"port": 80}},
        {"exec": {"command": ["true"]}},
        {"tcpSocket": {"port": 80, "host": "10.0.0.1"}},
    ],
)
def test_the_other_probes_stay_as_they_are(field: str, probe: dict[str, Any]) -> None:
    pod = inject(with_probe(field, probe))

    assert container_of(pod, "web")[field] == probe
    assert labels.A_REWRITTEN_PROBES not in pod["metadata"]["annotations"]


def test_a_port_that_is_not_redirected_keeps_its_tcp_probe() -> None:
    pod = with_probe("readinessProbe", {"tcpSocket": {"port": 80}})
    pod["metadata"]["annotations"]["mesh/skip-inbound-ports"] = "80"

    assert "tcpSocket" in container_of(inject(pod), "web")["readinessProbe"]


def test_a_port_name_that_does_not_exist_is_told() -> None:
    outcome = plan(with_probe("livenessProbe", {"tcpSocket": {"port": "htp"}}))

    assert isinstance(outcome, Injection)
    assert outcome.warnings == (
        'container web: livenessProbe tcpSocket: expected a port or the name of one, got "htp"; '
        "left as it is",
    )


def test_probes_of_the_application_s_own_sidecars_are_rewritten_as_well() -> None:
    helper = {
        "name": "helper",
        "restartPolicy": "Always",
        "startupProbe": {"tcpSocket": {"port": 9}},
    }

    pod = inject(make_pod(initContainers=[helper]))

    assert container_of(pod, "helper")["startupProbe"]["httpGet"]["path"] == "/probe/tcp/9"


def test_the_proxy_is_told_which_paths_the_kubelet_asks_for() -> None:
    pod = make_pod()
    pod["spec"]["containers"][0] |= {
        "readinessProbe": {"httpGet": {"path": "/up?deep=1", "port": "http"}},
        "livenessProbe": {"grpc": {"port": 9000}},
        "startupProbe": {"httpGet": {"port": 80, "host": "elsewhere"}},
    }

    proxy = container_of(inject(pod), labels.PROXY_CONTAINER)

    told = environment(proxy)["MESH_PROXY_PROBES"]
    assert told == "80/up,9000/grpc.health.v1.Health/Check"
