"""Every form of Service leads a meshed client to the right pods, with mutual TLS between pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mesh.core import labels
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import (
    SLEEP,
    Object,
    apply,
    container,
    namespace,
    pod,
    service,
    wait_ready,
    workload,
)

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]

SPACE = "services"
SERVER = """
import http.server, os, socket, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{os.environ['APP']} {self.server.server_port}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
for port in (8080, 9090):
    threading.Thread(target=Server(("::", port), Handler).serve_forever).start()
"""
NAMED = [{"name": "http", "port": 80, "targetPort": "web"}]
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
PORTS = [{"name": "web", "containerPort": 8080}, {"name": "alt", "containerPort": 9090}]


def _server(stage: Stage, name: str) -> Object:
    ready = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}
    more = {"ports": PORTS, "env": [{"name": "APP", "value": name}], "readinessProbe": ready}
    return workload("Deployment", name, SPACE, container(stage, ["python", "-c", SERVER], **more))


@pytest.fixture(scope="module")
def ask(stage: Stage) -> Iterator[Any]:
    """`ask(url)`: what a meshed client gets, with two servers and every form of Service there."""
    both = [*NAMED, {"name": "http-alt", "port": 81, "targetPort": "alt"}]
    chosen: dict[str, Any] = {"selector": {"app": "web"}}
    with namespace(stage, SPACE):
        apply(
            stage,
            _server(stage, "web"),
            _server(stage, "other"),
            pod("client", SPACE, container(stage, SLEEP)),
            service("named", SPACE, ports=NAMED, **chosen),
            service("two-ports", SPACE, ports=both, **chosen),
            service(
                "headless",
                SPACE,
                clusterIP="None",
                ports=[{"name": "http", "port": 8080}],
                **chosen,
            ),
            service("on-node", SPACE, type="NodePort", ports=NAMED, **chosen),
            service("moving", SPACE, ports=NAMED, **chosen),
            service("by-hand", SPACE, selector=None, ports=[{"name": "http", "port": 80}]),
            service("dual", SPACE, ipFamilyPolicy="PreferDualStack", ports=NAMED, **chosen),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "outside", "namespace": SPACE},
                "spec": {
                    "type": "ExternalName",
                    "externalName": f"named.{SPACE}.svc.{labels.CLUSTER_DOMAIN}",
                },
            },
        )
        for name in ("web", "other"):
            stage.kubectl("rollout", "status", f"deployment/{name}", "-n", SPACE, "--timeout=120s")
        wait_ready(stage, SPACE, "pod/client")
        run = ("exec", "client", "-n", SPACE, "-c", "app", "--", "python", "-c", ASK)
        yield lambda url: eventually(lambda: stage.kubectl(*run, url).split())


def _address(stage: Stage, app: str, *, six: bool = False) -> str:
    (found,) = stage.pods(f"app={app}", SPACE)
    addresses: list[str] = [item["ip"] for item in found["status"]["podIPs"]]
    return next(address for address in addresses if (":" in address) == six)


def _encrypted(stage: Stage, endpoint: str) -> bool:
    """Whether the client's proxy sent requests to this endpoint, all of them with mutual TLS."""
    client = stage.get("pod", "client", "-n", SPACE)["status"]["podIP"]
    sent = [line for line in stage.metrics(client) if line.startswith("request_total{")]
    there = [line for line in sent if f'target_addr="{endpoint}"' in line]
    assert there, f"nothing went to {endpoint}, only:\n" + "\n".join(sent)
    assert all('tls="true"' in line for line in there), "\n".join(there)
    return True


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("named", "8080"),
        ("two-ports", "8080"),
        ("two-ports:81", "9090"),
        ("headless:8080", "8080"),
        ("outside", "8080"),
        ("on-node", "8080"),
    ],
)
def test_a_service_leads_to_its_pods(stage: Stage, ask: Any, host: str, port: str) -> None:
    assert ask(f"http://{host}/") == ["web", port]
    assert _encrypted(stage, f"{_address(stage, 'web')}:{port}")


def test_a_pod_is_reached_by_its_address(stage: Stage, ask: Any) -> None:
    endpoint = f"{_address(stage, 'other')}:9090"

    assert ask(f"http://{endpoint}/") == ["other", "9090"]
    assert _encrypted(stage, endpoint)


def test_a_port_of_the_node_is_reached(stage: Stage, ask: Any) -> None:
    (node,) = stage.get("nodes")["items"]
    addresses = node["status"]["addresses"]
    address = next(a["address"] for a in addresses if a["type"] == "InternalIP")
    (port,) = stage.get("service", "on-node", "-n", SPACE)["spec"]["ports"]

    assert ask(f"http://{address}:{port['nodePort']}/") == ["web", "8080"]
    assert eventually(lambda: stage.ask((address, port["nodePort"]), "/"))[0] == 200


def test_endpoints_written_by_hand_are_followed(stage: Stage, ask: Any) -> None:
    address = _address(stage, "other")
    apply(
        stage,
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "by-hand-1",
                "namespace": SPACE,
                "labels": {"kubernetes.io/service-name": "by-hand"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": 8080}],
        },
    )

    assert ask("http://by-hand/") == ["other", "8080"]
    assert _encrypted(stage, f"{address}:8080")


def test_a_changed_selector_moves_the_traffic(stage: Stage, ask: Any) -> None:
    assert ask("http://moving/") == ["web", "8080"]
    change = '{"spec": {"selector": {"app": "other"}}}'

    stage.kubectl("patch", "service", "moving", "-n", SPACE, "-p", change)

    assert eventually(lambda: ask("http://moving/")[0] == "other", within=10.0)


@pytest.mark.embedded  # the node's pods have IPv4 only
def test_ipv6_is_encrypted_as_ipv4_is(stage: Stage, ask: Any) -> None:
    addresses = stage.get("service", "dual", "-n", SPACE)["spec"]["clusterIPs"]
    six = [address for address in addresses if ":" in address]
    if not six:
        pytest.skip("this cluster has IPv4 only")
    only = service("six", SPACE, ipFamilies=["IPv6"], selector={"app": "web"}, ports=NAMED)
    apply(stage, only)

    assert ask("http://six/") == ["web", "8080"]  # the name has an IPv6 address only
    assert ask(f"http://[{six[0]}]/") == ["web", "8080"]
    there = _address(stage, "web", six=True)
    assert ask(f"http://[{there}]:9090/") == ["web", "9090"]
    assert _encrypted(stage, f"[{there}]:8080")
    assert _encrypted(stage, f"[{there}]:9090")
