"""Traffic inside a running cluster, and from the machine into it."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.local.node.machine import Machine, eventually, python

pytestmark = pytest.mark.root

SERVER = """
import http.server, os, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.uname().nodename} {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 8080), Handler).serve_forever()
"""
CLIENT = """
import collections, json, socket, urllib.request
urls = {urls!r}
found = {{}}
for url in urls:
    seen = collections.Counter()
    for _ in range({times}):
        try:
            seen[urllib.request.urlopen(url, timeout=3).read().decode().split()[0]] += 1
        except OSError as error:
            reason = getattr(error, "reason", error)
            seen[type(reason).__name__] += 1
    found[url] = seen
print(json.dumps(found))
"""


def deployment(name: str, replicas: int = 2) -> list[dict[str, Any]]:
    """A web server as a Deployment, with a dual-stack Service."""
    container = python(
        SERVER,
        ports=[{"name": "http", "containerPort": 8080}],
        readinessProbe={"httpGet": {"port": "http"}, "periodSeconds": 1},
    )
    labels = {"app": name}
    meta = {"name": name, "namespace": "default"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    service = {
        "selector": labels,
        "ipFamilyPolicy": "PreferDualStack",
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    ]


@pytest.fixture(scope="module")
def web(machine: Machine) -> dict[str, str]:
    """A Deployment of two behind a Service; its addresses by family."""
    machine.apply(*deployment("web"))
    machine.kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    spec = machine.get("service", "web")["spec"]
    return dict(zip(spec["ipFamilies"], spec["clusterIPs"], strict=True))


def url(address: str) -> str:
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


def ask(machine: Machine, pod: str, *urls: str, times: int = 1) -> Any:
    """What a pod gets from each URL, counted by who answered or by the error."""
    code = CLIENT.format(urls=list(urls), times=times)
    return json.loads(machine.run(pod, {"containers": [python(code)]}))


def test_a_service_spreads_over_its_pods_in_both_families(
    machine: Machine, web: dict[str, str]
) -> None:
    urls = [url(web["IPv4"]), url(web["IPv6"]), "http://web.default/"]

    found = ask(machine, "spread", *urls, times=40)

    pods = {pod["metadata"]["name"] for pod in machine.get("pods", "-l", "app=web")["items"]}
    for address in urls:
        assert set(found[address]) == pods
        assert min(found[address].values()) >= 5


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_the_machine_reaches_services_and_pods(
    machine: Machine, web: dict[str, str], family: str
) -> None:
    pod = machine.get("pods", "-l", "app=web")["items"][0]["status"]["podIPs"]
    addresses = [(web[family], 80), (pod[family == "IPv6"]["ip"], 8080)]

    for host, port in addresses:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()


def test_a_node_port_leads_to_the_service(machine: Machine, web: dict[str, str]) -> None:
    machine.kubectl(
        "expose",
        "deploy",
        "web",
        "--name=outer",
        "--type=NodePort",
        "--port=80",
        "--target-port=http",
    )
    port = machine.get("service", "outer")["spec"]["ports"][0]["nodePort"]

    def answers() -> bool:
        connection = http.client.HTTPConnection(machine.cluster.ranges.node, port, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except ConnectionRefusedError:
            return False
        finally:
            connection.close()

    eventually(answers)
    machine.kubectl("delete", "service", "outer")


def test_a_pod_on_the_host_network_has_the_address_of_the_node(machine: Machine) -> None:
    found = machine.run("host", {"hostNetwork": True, "containers": [python("print('ran')")]})

    assert found == "ran\n"
    assert machine.get("pod", "host")["status"]["podIP"] == machine.cluster.ranges.node


def test_a_pod_reaches_itself_through_its_service(machine: Machine) -> None:
    own = deployment("mirror", replicas=1)
    machine.apply(*own)
    machine.kubectl("rollout", "status", "deploy/mirror", "--timeout=30s")
    spec = machine.get("service", "mirror")["spec"]
    code = CLIENT.format(urls=[url(address) for address in spec["clusterIPs"]], times=5)
    probe = {"exec": {"command": ["python", "-c", code + "\nassert 'mirror' in str(found)"]}}
    container = own[0]["spec"]["template"]["spec"]["containers"][0]
    container["readinessProbe"] = {**probe, "periodSeconds": 1, "timeoutSeconds": 10}
    own[1]["spec"]["publishNotReadyAddresses"] = True

    machine.apply(*own)

    machine.kubectl("rollout", "status", "deploy/mirror", "--timeout=30s")
    machine.kubectl("delete", "deploy,service", "mirror")


def test_what_nobody_serves_is_refused_at_once(machine: Machine, web: dict[str, str]) -> None:
    ranges = machine.cluster.ranges
    lost = [ranges.host("services", 300), ranges.host("services6", 300)]

    found = ask(machine, "lost", *(url(address) for address in lost))

    assert [list(seen) for seen in found.values()] == [["ConnectionRefusedError"]] * 2


def test_addresses_outside_fail_at_once(machine: Machine) -> None:
    found = ask(machine, "outside", "http://192.0.2.1/", "http://example.com/")

    assert list(found["http://192.0.2.1/"]) == ["OSError"]
    assert list(found["http://example.com/"]) == ["gaierror"]


NAMES = """
import json, socket
def look(name, family=0):
    try:
        found = socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)
    except OSError as error:
        return error.args[0]
    return sorted({entry[4][0] for entry in found})
print(json.dumps([look("web"), look("web.default.svc.cluster.local."), look("nope"),
    look("kubernetes.default", socket.AF_INET6), socket.gethostbyaddr(look("web")[0])[0]]))
"""


def test_pods_resolve_names_as_on_kubernetes(machine: Machine, web: dict[str, str]) -> None:
    short, full, none, other, back = json.loads(
        machine.run("names", {"containers": [python(NAMES)]})
    )

    assert short == full == sorted(web.values())
    assert none in (-2, -5)
    assert other in (-2, -5)
    assert back == "web.default.svc.cluster.local"


def test_a_roll_loses_no_request(machine: Machine, web: dict[str, str]) -> None:
    code = (
        "import time, urllib.request\nend = time.monotonic() + 4\nbad = good = 0\n"
        "while time.monotonic() < end:\n"
        "    try:\n        urllib.request.urlopen('http://web/', timeout=3).read(); good += 1\n"
        "    except OSError as error:\n        bad += 1; print(error)\n"
        "print(good > 100, bad)"
    )
    drain = {"preStop": {"exec": {"command": ["sleep", "0.5"]}}}
    calm = deployment("web")[0]
    calm["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = drain
    machine.apply(calm)
    machine.kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    machine.start("load", {"restartPolicy": "Never", "containers": [python(code)]})
    eventually(lambda: machine.phase("load") == "Running")

    machine.kubectl("rollout", "restart", "deploy/web")
    machine.kubectl("rollout", "status", "deploy/web", "--timeout=30s")

    eventually(lambda: machine.phase("load") == "Succeeded")
    assert machine.kubectl("logs", "load") == "True 0\n"
