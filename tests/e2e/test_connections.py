"""TCPRoutes and TLSRoutes on live connections: effect, status and what `mesh explain` says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.definitions import gateway_kinds
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import Object, apply, container, namespace, service, workload
from tests.support.authority import TrustChain
from tests.support.authority import workload as identity

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(300)]

SPACE = "connections"
SERVER = """
import os, socketserver, ssl, tempfile, threading
with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
    file.write(os.environ["PEM"])
    file.flush()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file.name)
class Plain(socketserver.BaseRequestHandler):
    def handle(self):
        if self.request.recv(100):
            self.request.sendall(os.environ["APP"].encode())
class Secret(Plain):
    def handle(self):
        with context.wrap_socket(self.request, server_side=True) as self.request:
            super().handle()
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
for port, handler in ((5432, Plain), (8443, Secret)):
    threading.Thread(target=Server(("", port), handler).serve_forever).start()
"""
CLIENT = """
import json, socket, ssl, time
context = ssl._create_unverified_context()
def ask(service, port, name):
    try:
        with socket.create_connection((service, port), 8) as plain:
            link = context.wrap_socket(plain, server_hostname=name) if name is not None else plain
            link.sendall(b"hello")
            return link.recv(100).decode() or "closed"
    except (OSError, ValueError) as error:
        return "closed"
for turn in range(10**6):
    said = {name: ask("secure", 8443, name) for name in ("one.example", "two.example", "a.other")}
    said |= {"tcp": ask("db", 5432, None), "turn": turn}
    print(json.dumps(said), flush=True)
    time.sleep(0.1)
"""
PARENT = {"group": "", "kind": "Service"}


def _route(kind: str, name: str, parent: str, rules: list[Any], **spec: Any) -> Object:
    refs = [PARENT | {"name": parent}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"parentRefs": refs, "rules": rules} | spec,
    }


def _to(*backends: tuple[str, int, int]) -> list[Any]:
    return [{"backendRefs": [{"name": n, "port": p, "weight": w} for n, p, w in backends]}]


@pytest.fixture(scope="module")
def wired(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two servers of bytes and of TLS, and a client that connects all the time."""
    folder: Path = tmp_path_factory.mktemp("certificate")
    pem = TrustChain().leaf_file(folder, identity()).read_text()
    objects: list[Object] = []
    for name in ("one", "two"):
        env = [{"name": "APP", "value": name}, {"name": "PEM", "value": pem}]
        ready = {"tcpSocket": {"port": 5432}, "periodSeconds": 1}
        program = container(stage, ["python3", "-c", SERVER], env=env, readinessProbe=ready)
        objects.append(workload("Deployment", name, SPACE, program))
    for name, app in (("db", "one"), ("db-two", "two"), ("secure", "one"), ("secure-two", "two")):
        port = {"port": 5432, "name": "tcp"} if name.startswith("db") else {"port": 8443}
        objects.append(service(name, SPACE, selector={"app": app}, ports=[port]))
    client = container(stage, ["python3", "-uc", CLIENT])
    objects.append(workload("Deployment", "client", SPACE, client))
    with gateway_kinds(stage), namespace(stage, SPACE):
        apply(stage, *objects)
        eventually(lambda: _last(stage)["tcp"] == _last(stage)["a.other"] == "one", within=90)
        yield stage


def _said(stage: Stage, lines: int) -> list[dict[str, Any]]:
    log = stage.kubectl("-n", SPACE, "logs", "deploy/client", "-c", "app", f"--tail={lines}")
    return [json.loads(text) for text in log.splitlines()]


def _last(stage: Stage) -> dict[str, Any]:
    return _said(stage, 1)[-1]


def _shares(stage: Stage, turns: int) -> Counter[str]:
    """Who answered so many connections that all began after this call."""
    first = _last(stage)["turn"] + 2
    eventually(lambda: _last(stage)["turn"] >= first + turns, within=60)
    return Counter(said["tcp"] for said in _said(stage, turns))


def _conditions(stage: Stage, kind: str, name: str) -> dict[str, str]:
    (parent,) = stage.get(kind, name, "-n", SPACE)["status"]["parents"]
    return {item["type"]: item["reason"] for item in parent["conditions"]}


def _applied(stage: Stage, *routes: Object) -> None:
    stage.apply(yaml.safe_dump_all(list(routes)))
    for route in routes:
        judged = partial(_conditions, stage, route["kind"], route["metadata"]["name"])
        assert eventually(judged, within=15)


def test_a_tcp_route_shares_connections_by_weight(wired: Stage) -> None:
    _applied(wired, _route("TCPRoute", "db", "db", _to(("db", 5432, 3), ("db-two", 5432, 1))))
    eventually(lambda: _last(wired)["tcp"] == "two", within=15)

    shares = _shares(wired, 40)

    assert shares.total() == shares["one"] + shares["two"] == 40
    assert 8 <= shares["two"] <= 12
    assert _conditions(wired, "tcproute", "db")["Effective"] == "Effective"
    assert "Effective" in wired.kubectl("get", "tcproutes", "-n", SPACE)


def test_a_change_of_a_tcp_route_moves_everything_and_its_end_gives_it_back(wired: Stage) -> None:
    _applied(wired, _route("TCPRoute", "db", "db", _to(("db-two", 5432, 1))))
    eventually(lambda: {said["tcp"] for said in _said(wired, 5)} == {"two"}, within=15)

    wired.kubectl("delete", "tcproute", "db", "-n", SPACE)

    assert eventually(lambda: {said["tcp"] for said in _said(wired, 5)} == {"one"}, within=15)


def test_of_two_tcp_routes_the_younger_names_the_one_that_acts(wired: Stage) -> None:
    rules = [*_to(("db-two", 5432, 1)), *_to(("db", 5432, 1))]
    _applied(wired, _route("TCPRoute", "a", "db", rules))
    _applied(wired, _route("TCPRoute", "b", "db", _to(("db", 5432, 1))))

    def shown(name: str) -> str:
        return wired.kubectl("get", "tcproute", name, "-n", SPACE, "--no-headers")

    try:
        by_a = f"Shadowed by TCPRoute/{SPACE}/a"
        assert eventually(lambda: by_a in shown("b"), within=15)
        assert "Partial" in shown("a")  # its second rule is never met
        assert eventually(lambda: _last(wired)["tcp"] == "two", within=15)
        said = wired.mesh("explain", "--from", "deploy/client", "-n", SPACE, "http://db:5432/")
        assert f"TCPRoute/{SPACE}/a: the oldest of 2 TCPRoutes" in said
        assert "this rule is never met" in said
    finally:
        wired.kubectl("delete", "tcproute", "a", "b", "-n", SPACE)


def test_tls_routes_lead_by_server_name_and_leave_the_bytes_alone(wired: Stage) -> None:
    two = _route(
        "TLSRoute", "two", "secure", _to(("secure-two", 8443, 1)), hostnames=["two.example"]
    )
    rest = _route("TLSRoute", "rest", "secure", _to(("secure", 8443, 1)), hostnames=["*.example"])
    _applied(wired, two, rest)

    try:
        wanted = {"one.example": "one", "two.example": "two", "a.other": "closed"}
        assert eventually(lambda: _last(wired).items() >= wanted.items(), within=15)
        assert _conditions(wired, "tlsroute", "two")["Effective"] == "Effective"
        _explained(wired)
    finally:
        wired.kubectl("delete", "tlsroute", "two", "rest", "-n", SPACE)
    assert eventually(lambda: _last(wired)["a.other"] == "one", within=15)


def _explained(stage: Stage) -> None:
    """The client's own proxy, asked by server name, says what was seen."""

    def explain(name: str) -> str:
        words = ("--from", "deploy/client", "-n", SPACE, "https://secure:8443/")
        return stage.mesh("explain", *words, "-H", f"Host: {name}")

    met, unmet = explain("two.example"), explain("a.other")
    assert f"+ TLSRoute/{SPACE}/two#0: met" in met
    assert f"decides: TLSRoute/{SPACE}/two#0: sent to secure-two.{SPACE}" in met
    assert "the connection is closed: no-rule" in unmet
    assert "DIFFERS" not in met + unmet
