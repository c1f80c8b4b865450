"""Routes of the Gateway API on live traffic: what the conformance suite does not look at."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.definitions import gateway_kinds
from tests.e2e.stage import Stage, eventually
from tests.e2e.workloads import namespace

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

SPACE = "routes"
PAGE = Path(__file__).parents[2] / "docs" / "routing.md"
SERVER = """
import collections, http.server, json, os, time
COUNTS = collections.Counter()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(3)
        COUNTS[self.path] += 1
        fails = self.path == "/flaky" and COUNTS[self.path] % 2
        fields = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"app": os.environ["APP"], "path": self.path, "fields": fields,
                           "method": self.command, "counts": COUNTS}).encode()
        self.send_response(503 if fails else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
CLIENT = """
import http.client, json, time
ASKED = {"plain": "/", "canary": "/", "moved": "/old/a?x=1", "rewritten": "/api/b?x=1",
         "slow": "/slow", "read": "/only", "written": "/only", "flaky": "/flaky",
         "copied": "/copied", "counted": "/counts", "refused": "/broken"}
for turn in range(10**6):
    for name, path in ASKED.items():
        said = {"name": name, "turn": turn}
        try:
            connection = http.client.HTTPConnection("web", 80, timeout=8)
            fields = {"x-canary": "yes"} if name in ("canary", "counted") else {}
            connection.request("POST" if name == "written" else "GET", path, headers=fields)
            answer = connection.getresponse()
            said["status"] = answer.status
            said["fields"] = {key.lower(): value for key, value in answer.getheaders()}
            said["body"] = answer.read().decode()
            connection.close()
        except OSError as error:
            said["error"] = repr(error)
        print(json.dumps(said), flush=True)
    time.sleep(0.5)
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: routes}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules:
  - matches: [{headers: [{name: x-canary, value: "yes"}]}]
    backendRefs: [{name: web-v2, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters:
    - type: RequestRedirect
      requestRedirect:
        scheme: https
        statusCode: 301
        path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}
  - matches: [{path: {type: PathPrefix, value: /api}}]
    filters:
    - type: URLRewrite
      urlRewrite:
        hostname: web.example
        path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-by, value: route}]}
  - matches: [{path: {type: PathPrefix, value: /slow}}]
    timeouts: {request: 500ms}
  - matches: [{path: {type: PathPrefix, value: /only}, method: POST}]
    backendRefs: [{name: web-v2, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /flaky}, method: GET}]
    retry: {codes: [503], attempts: 2, backoff: 10ms}
  - matches: [{path: {type: PathPrefix, value: /copied}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: web-v2, port: 80}}}
  - matches: [{path: {type: PathPrefix, value: /broken}}]
    filters: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}]
  - matches: [{path: {type: PathPrefix, value: /}}]
"""


def _meta(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": SPACE}


def _app(stage: Stage, name: str, code: str) -> list[dict[str, Any]]:
    marks = {"app": name}
    container = {
        "name": "app",
        "image": stage.image,
        "command": ["python3", "-uc", code],
        "env": [{"name": "APP", "value": name}],
    }
    template = {"metadata": {"labels": marks}, "spec": {"containers": [container]}}
    port = {"name": "http", "port": 80, "targetPort": 8080}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _meta(name),
            "spec": {"selector": {"matchLabels": marks}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta(name),
            "spec": {"selector": marks, "ports": [port]},
        },
    ]


@pytest.fixture(scope="module")
def routed(stage: Stage) -> Iterator[Stage]:
    """Two servers, a client that asks all the time, and the route between them."""
    apps = (("web", SERVER), ("web-v2", SERVER), ("client", CLIENT))
    with gateway_kinds(stage), namespace(stage, SPACE):
        stage.apply(yaml.safe_dump_all(o for app in apps for o in _app(stage, *app)))
        eventually(lambda: _last(stage)["plain"]["status"] == 200, within=90)
        stage.apply(ROUTE)
        eventually(lambda: "redirect" in _last(stage)["moved"]["fields"]["mesh-reason"], within=30)
        yield stage


def _last(stage: Stage) -> dict[str, Any]:
    """The answers of the last whole turn."""
    log = stage.kubectl("-n", SPACE, "logs", "deploy/client", "-c", "app", "--tail=24")
    answers = [json.loads(text) for text in log.splitlines()]
    turn = answers[-1]["turn"] - (answers[-1]["name"] != "refused")
    return {said["name"]: said for said in answers if said["turn"] == turn}


def _fresh(stage: Stage) -> dict[str, Any]:
    """The answers of a turn that began after this call."""
    after = _last(stage)["plain"]["turn"] + 1
    return eventually(lambda: (said := _last(stage))["plain"]["turn"] > after and said, within=30)


def _seen(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said["body"])
    return found


def test_each_rule_does_what_it_says(routed: Stage) -> None:
    found = _fresh(routed)

    assert found["slow"]["status"] == 504
    assert _seen(found["plain"])["app"] == "web"
    assert _seen(found["canary"])["app"] == "web-v2"
    moved = found["moved"]
    assert (moved["status"], moved["fields"]["location"]) == (301, "https://web/new/a?x=1")
    rewritten = _seen(found["rewritten"])
    assert (rewritten["path"], rewritten["fields"]["host"]) == ("/v2/b?x=1", "web.example")
    assert found["rewritten"]["fields"]["x-by"] == "route"
    assert found["slow"]["fields"]["mesh-reason"] == "timeout; HTTPRoute/routes/web#3"
    refused = found["refused"]
    assert refused["status"] == 500
    assert refused["fields"]["mesh-reason"] == "invalid-backend; HTTPRoute/routes/web#7"


def test_methods_are_told_apart(routed: Stage) -> None:
    found = _fresh(routed)

    assert [_seen(found[name])["method"] for name in ("read", "written")] == ["GET", "POST"]
    assert [_seen(found[name])["app"] for name in ("read", "written")] == ["web", "web-v2"]


def test_a_retry_hides_that_every_other_answer_is_503(routed: Stage) -> None:
    flaky = _fresh(routed)["flaky"]

    assert flaky["status"] == 200
    assert _seen(flaky)["counts"]["/flaky"] % 2 == 0


def test_a_mirror_gets_a_copy_of_what_another_answers(routed: Stage) -> None:
    before = _seen(_fresh(routed)["counted"])["counts"].get("/copied", 0)

    found = _fresh(routed)

    assert _seen(found["copied"])["app"] == "web"
    counted = _seen(found["counted"])
    assert (counted["app"], counted["counts"]["/copied"] > before) == ("web-v2", True)


def test_the_status_says_what_acts_and_what_does_not(routed: Stage) -> None:
    (parent,) = routed.get("httproute", "web", "-n", SPACE)["status"]["parents"]

    conditions = {item["type"]: item["reason"] for item in parent["conditions"]}
    assert conditions == {
        "Accepted": "Accepted",
        "ResolvedRefs": "ResolvedRefs",
        "Effective": "Partial",
        "Verdict": "Partial",
    }
    assert "ExtensionRef is not supported" in parent["conditions"][-2]["message"]
    assert "Partial" in routed.kubectl("get", "httproutes", "-n", SPACE)


def test_where_definitions_are_others_the_page_says_how_to_see_the_verdict(routed: Stage) -> None:
    _, block, *_ = PAGE.read_text().split("```")
    ask, add = (shlex.split(text)[1:] for text in re.split(r"\n(?=kubectl )", block.strip()))
    column = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    place = "/spec/versions/0/additionalPrinterColumns"
    plain = json.dumps([{"op": "replace", "path": place, "value": [column]}])
    get = ("get", "httproutes", "-n", SPACE)
    crd = "httproutes.gateway.networking.k8s.io"

    routed.kubectl("patch", "crd", crd, "--type=json", "-p", plain)
    assert eventually(lambda: "Partial" not in routed.kubectl(*get), within=15)
    assert "Partial" in routed.kubectl(*ask, "-n", SPACE)
    routed.kubectl(*add)

    assert eventually(lambda: "Partial" in routed.kubectl(*get), within=15)


def test_a_route_that_another_goes_before_says_which_in_a_column(routed: Stage) -> None:
    spec = {
        "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
        "rules": [{"backendRefs": [{"name": "web-v2", "port": 80}]}],
    }
    apart = {"group": "", "kind": "Service", "name": "web-v2"}
    routes: list[dict[str, Any]] = [
        {"kind": "GRPCRoute", "metadata": _meta("calls"), "spec": spec | {"parentRefs": [apart]}},
        {"kind": "HTTPRoute", "metadata": _meta("late"), "spec": spec | {"parentRefs": [apart]}},
        {"kind": "TCPRoute", "metadata": _meta("bytes"), "spec": spec},
    ]
    group = {"apiVersion": "gateway.networking.k8s.io/v1"}
    routed.apply(yaml.safe_dump_all([group | item for item in routes]))

    def shown(kind: str, name: str) -> str:
        return routed.kubectl("get", kind, name, "-n", SPACE, "--no-headers")

    try:
        by_calls = "Shadowed by GRPCRoute/routes/calls"
        assert eventually(lambda: by_calls in shown("httproute", "late"), within=15)
        by_web = "Shadowed by HTTPRoute/routes/web"
        assert eventually(lambda: by_web in shown("tcproute", "bytes"), within=15)
        assert "Effective" in shown("grpcroute", "calls")
    finally:
        for item in routes:
            routed.kubectl("delete", item["kind"], item["metadata"]["name"], "-n", SPACE)


def test_a_route_that_goes_takes_its_effect_with_it(routed: Stage) -> None:
    routed.kubectl("delete", "httproute", "web", "-n", SPACE)

    assert eventually(lambda: _seen(_last(routed)["canary"])["app"] == "web", within=15)
    assert eventually(lambda: _last(routed)["moved"]["status"] == 200, within=15)
