"""The server as a process on loopback: watches, proofs of identity, logs, restarts."""

from __future__ import annotations

import json
import socket
import threading
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.local.api.conftest import Server, running

CONFIGS = "/api/v1/namespaces/{}/configmaps"
MERGE = {"Content-Type": "application/merge-patch+json"}
REVIEWS = "/apis/authentication.k8s.io/v1"


def events(answer: HTTPResponse, count: int) -> list[tuple[str, Any]]:
    found = []
    for _ in range(count):
        event = json.loads(answer.readline())
        found.append((event["type"], event["object"]))
    return found


def config(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


# -- watches -----------------------------------------------------------------------------------


def test_a_watch_resumes_from_a_list(server: Server) -> None:
    path = CONFIGS.format(server.namespace("w-resume"))
    revision = server.call("GET", path)["metadata"]["resourceVersion"]
    server.call("POST", path, config("a"))

    with server.open("GET", f"{path}?watch=1&resourceVersion={revision}") as answer:
        found = events(answer, 1)
        server.call("PATCH", f"{path}/a", {"data": {"x": "1"}}, headers=MERGE)
        server.call("DELETE", f"{path}/a")
        found += events(answer, 2)

    assert [(type_, obj["metadata"]["name"]) for type_, obj in found] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
    ]


def test_initial_events_end_with_a_bookmark(server: Server) -> None:
    path = CONFIGS.format(server.namespace("w-initial"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"

    with server.open("GET", f"{path}?{query}&allowWatchBookmarks=true") as answer:
        (_, first), (kind, mark) = events(answer, 2)

    assert first["metadata"]["name"] == "kube-root-ca.crt"
    assert kind == "BOOKMARK"
    assert mark["kind"] == "ConfigMap"
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["metadata"]["resourceVersion"]) >= int(first["metadata"]["resourceVersion"])


def test_initial_events_without_their_match_are_refused(server: Server) -> None:
    found = server.call("GET", "/api/v1/pods?watch=1&sendInitialEvents=true", code=422)

    assert "sendInitialEvents requires setting resourceVersionMatch" in found["message"]


def test_a_revision_of_the_future_gets_410(server: Server) -> None:
    found = server.call("GET", "/api/v1/pods?watch=1&resourceVersion=999999999", code=410)

    assert found["reason"] == "Expired"


def test_a_watch_of_tables_sends_rows_and_columns_once(server: Server) -> None:
    path = CONFIGS.format(server.namespace("w-table"))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}

    with server.open("GET", f"{path}?watch=1", headers=accept) as answer:
        server.call("POST", path, config("b", x="1"))
        (_, first), (_, second) = events(answer, 2)

    assert [c["name"] for c in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["columnDefinitions"] == []
    assert second["rows"][0]["cells"][:2] == ["b", 1]


def test_a_watch_ends_after_its_timeout(server: Server) -> None:
    with server.open("GET", "/api/v1/nodes?watch=1&timeoutSeconds=1") as answer:
        assert answer.read() == b""


def test_events_are_one_kind_in_two_dialects(server: Server) -> None:
    server.namespace("events")
    core, modern = (
        "/api/v1/namespaces/events/events",
        "/apis/events.k8s.io/v1/namespaces/events/events",
    )
    event = {
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "events"},
        "note": "words",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reason": "Why",
        "reportingController": "me",
    }

    server.call("POST", modern, event, code=201)

    with server.open("GET", f"{modern}?watch=1&fieldSelector=regarding.name%3Dp") as answer:
        ((_, shown),) = events(answer, 1)
    found = server.call("GET", f"{core}?fieldSelector=involvedObject.name%3Dp")["items"]
    assert (shown["note"], shown["regarding"]["name"]) == ("words", "p")
    assert [(e["message"], e["reportingComponent"]) for e in found] == [("words", "me")]


# -- who asks ----------------------------------------------------------------------------------


def test_without_proof_there_is_little_to_see(server: Server) -> None:
    with server.open("GET", "/healthz", as_admin=False) as answer:
        assert answer.read() == b"ok"

    found = server.call("GET", "/api/v1/pods", as_admin=False, code=403)

    assert found["message"] == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" '
        "at the cluster scope"
    )


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer a.b.c", "Basic YTpi"])
def test_a_proof_that_is_no_good_is_refused(server: Server, header: str) -> None:
    proof = {"Authorization": header}

    found = server.call("GET", "/api/v1/pods", headers=proof, as_admin=False, code=401)

    assert found["reason"] == "Unauthorized"


def test_a_token_acts_as_its_account_and_is_reviewed(server: Server) -> None:
    path = f"/api/v1/namespaces/{server.namespace('tokens')}/serviceaccounts/default/token"
    request = {"spec": {"audiences": ["https://kubernetes.default.svc", "mine"]}}
    token = server.call("POST", path, request, code=201)["status"]["token"]

    def review(audience: str) -> Any:
        spec = {"token": token, "audiences": [audience]}
        return server.call("POST", f"{REVIEWS}/tokenreviews", {"spec": spec}, code=201)["status"]

    proof = {"Authorization": f"Bearer {token}"}
    who = server.call(
        "POST", f"{REVIEWS}/selfsubjectreviews", {}, headers=proof, as_admin=False, code=201
    )
    good, bad = review("mine"), review("other")

    name = "system:serviceaccount:tokens:default"
    assert who["status"]["userInfo"]["username"] == name
    assert (good["authenticated"], good["audiences"]) == (True, ["mine"])
    assert good["user"]["username"] == name
    assert "authenticated" not in bad
    assert "error" in bad


def test_an_impersonated_account_has_its_own_rights_only(server: Server) -> None:
    robot = {"Impersonate-User": "system:serviceaccount:default:default"}

    found = server.call("GET", "/api/v1/pods", headers=robot, code=403)
    lost = server.call("GET", "/api/v1/pods", headers={"Impersonate-Group": "a"}, code=400)

    assert 'User "system:serviceaccount:default:default" cannot list' in found["message"]
    assert "without impersonating a user" in lost["message"]


def test_who_may_not_impersonate_is_refused(server: Server) -> None:
    other = {"Impersonate-User": "system:admin"}

    found = server.call("GET", "/api/v1/pods", headers=other, as_admin=False, code=403)

    assert 'User "system:anonymous" cannot impersonate resource "users"' in found["message"]


# -- bodies and answers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "media", "code"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"metadata": 3}', "application/json", 400),
        (b'{"metadata": {"name": 3}}', "application/json", 400),
        (b'{"metadata": {"name": "a"}, "data": {"x": NaN}}', "application/json", 400),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "application/json", 400),
        (b'{"a":' * 100_000, "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"k8s\x00\xff", "application/vnd.kubernetes.protobuf", 400),
        (b"<a/>", "text/xml", 415),
        (b'{"x":"' + b"y" * (3 << 20) + b'"}', "application/json", 413),
    ],
    ids=range(12),
)
def test_a_body_that_is_no_object_is_refused(
    server: Server, body: bytes, media: str, code: int
) -> None:
    path = CONFIGS.format("default")

    found = server.call("POST", path, body, headers={"Content-Type": media}, code=code)

    assert found["kind"] == "Status"


def test_yaml_is_taken_as_kubernetes_reads_it(server: Server) -> None:
    path = CONFIGS.format(server.namespace("yaml"))
    body = b"metadata: {name: y}\ndata: {when: 2026-01-01}"

    made = server.call("POST", path, body, headers={"Content-Type": "application/yaml"}, code=201)

    assert made["data"] == {"when": "2026-01-01"}


@pytest.mark.parametrize(
    ("method", "path", "code", "words"),
    [
        ("GET", "/apis/apps/v1/controllerrevisions", 404, "mesh local has no controllerrevisions"),
        ("GET", "/apis/apps/v2/deployments", 404, "mesh local has no deployments in apps/v2"),
        ("GET", "/apis/nothing.io", 404, "mesh local has no API group nothing.io"),
        ("GET", "/elsewhere", 404, "mesh local has no /elsewhere"),
        ("GET", "/api/v1/pods/one", 404, "mesh local has no pods outside of namespaces"),
        ("GET", "/api/v1/namespaces/x/nodes", 404, "mesh local has no nodes in namespaces"),
        ("GET", "/api/v1/namespaces/x/pods/y/attach", 404, "mesh local has no attach"),
        ("POST", "/api/v1/namespaces/x/pods/y/eviction", 404, "mesh local has no pods/eviction"),
        ("PUT", "/api/v1/namespaces", 405, "does not allow this method"),
        ("POST", "/version", 405, "does not allow this method"),
        ("PATCH", "/api/v1/namespaces/default", 415, "accepted media types"),
    ],
)
def test_what_is_not_there_says_so(
    server: Server, method: str, path: str, code: int, words: str
) -> None:
    assert words in server.call(method, path, {}, code=code)["message"]


def test_server_side_apply_is_left_out_in_plain_words(server: Server) -> None:
    apply = {"Content-Type": "application/apply-patch+yaml"}

    found = server.call("PATCH", "/api/v1/namespaces/default", {}, headers=apply, code=415)

    assert found["message"] == "mesh local has no server-side apply"


def test_both_forms_of_discovery_are_served(server: Server) -> None:
    for version in ("v2", "v2beta1"):
        form = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        with server.open("GET", "/apis", headers={"Accept": f"{form},application/json"}) as answer:
            assert answer.headers["Content-Type"] == form
            assert json.loads(answer.read())["apiVersion"] == f"apidiscovery.k8s.io/{version}"

    groups = server.call("GET", "/apis")["groups"]
    apps = server.call("GET", "/apis/apps/v1")["resources"]
    assert "apps" in [group["name"] for group in groups]
    assert "deployments/scale" in [resource["name"] for resource in apps]


def test_every_group_has_an_openapi_document_that_names_field_validation(server: Server) -> None:
    root = server.call("GET", "/openapi/v3")["paths"]

    documents = {where: server.call("GET", x["serverRelativeURL"]) for where, x in root.items()}

    patch = documents["api/v1"]["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    assert [p["name"] for p in patch["parameters"]] == ["fieldValidation"]
    assert all(document["openapi"] == "3.0.0" for document in documents.values())


# -- logs and proxies ----------------------------------------------------------------------------


def running_pod(server: Server, where: str) -> str:
    """The path of a pod on 127.0.0.1 that a kubelet would call running."""
    path = f"/api/v1/namespaces/{server.namespace(where)}/pods"
    container = {"name": "app", "image": "app:1"}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "nodeName": "n"}}
    server.call("POST", path, pod, code=201)
    state = {"name": "app", "ready": True, "restartCount": 0, "state": {"running": {}}}
    status = {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": [state]}
    server.call("PATCH", f"{path}/p/status", {"status": status}, headers=MERGE, code=200)
    return f"{path}/p"


def test_logs_are_shown_cut_and_followed(server: Server) -> None:
    pod = running_pod(server, "logs")
    file = server.folder / "logs" / "logs" / "p" / "app.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"one\ntwo\nthree\n")

    with server.open("GET", f"{pod}/log?tailLines=2") as answer:
        assert answer.read() == b"two\nthree\n"
    with server.open("GET", f"{pod}/log?limitBytes=5") as answer:
        assert answer.read() == b"one\nt"
    with server.open("GET", f"{pod}/log?follow=true&tailLines=1") as answer:
        assert answer.readline() == b"three\n"
        with file.open("ab") as more:
            more.write(b"four\n")
        assert answer.readline() == b"four\n"
        server.call("DELETE", f"{pod}?gracePeriodSeconds=0")
        assert answer.read() == b""


def answer_once(listener: socket.socket, heard: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        while (line := lines.readline()) != b"\r\n":
            heard.append(line.strip())
        heard.append(lines.read(4))
        connection.sendall(b"HTTP/1.1 418 Odd\r\nx-mine: 1\r\ncontent-length: 2\r\n\r\nhi")


def test_the_proxy_passes_all_but_the_callers_proof(server: Server) -> None:
    pod = running_pod(server, "proxied")
    path = f"/api/v1/namespaces/{server.namespace('callers')}/serviceaccounts/default/token"
    token = server.call("POST", path, {}, code=201)["status"]["token"]
    server.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", ALLOW, code=201)
    heard: list[bytes] = []
    proof = {"Authorization": f"Bearer {token}", "X-Token": "kept", "Content-Type": "text/plain"}

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=answer_once, args=(listener, heard))
        thread.start()
        url = f"{pod}:{port}/proxy/a%2Fb?q=1"
        with server.open("POST", url, b"body", headers=proof, as_admin=False) as answer:
            found = (answer.status, answer.headers["x-mine"], answer.read())
        thread.join()
    gone = server.call("GET", f"{pod}:{port}/proxy/", code=503)

    assert found == (418, "1", b"hi")
    assert heard[0] == b"POST /a%2Fb?q=1 HTTP/1.1"
    assert heard[-1] == b"body"
    names = [line.partition(b":")[0].lower() for line in heard[1:-1]]
    assert b"x-token" in names
    assert b"authorization" not in names
    assert "error trying to reach service" in gone["message"]


def test_the_proxy_finds_a_service_by_its_ready_endpoint(server: Server) -> None:
    space = f"/api/v1/namespaces/{server.namespace('served')}/services"
    spec = {"clusterIP": "None", "ports": [{"name": "web", "port": 80}]}
    server.call("POST", space, {"metadata": {"name": "s"}, "spec": spec}, code=201)
    none = server.call("GET", f"{space}/s:web/proxy/", code=503)
    heard: list[bytes] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        labels = {"kubernetes.io/service-name": "s"}
        endpoints = {
            "metadata": {"name": "s", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"]}],
            "ports": [{"name": "web", "port": port}],
        }
        slices = "/apis/discovery.k8s.io/v1/namespaces/served/endpointslices"
        server.call("POST", slices, endpoints, code=201)
        thread = threading.Thread(target=answer_once, args=(listener, heard))
        thread.start()
        with server.open("POST", f"{space}/s:80/proxy/x", b"body") as answer:
            assert answer.read() == b"hi"
        thread.join()

    assert none["message"] == 'no endpoints available for service "s"'
    assert heard[0] == b"POST /x HTTP/1.1"


ALLOW = {
    "metadata": {"name": "callers"},
    "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "callers"}],
}


# -- the process -----------------------------------------------------------------------------------


def test_state_survives_a_restart(tmp_path: Path) -> None:
    path = CONFIGS.format("kept")

    with running(tmp_path) as first:
        first.namespace("kept")
        made = first.call("POST", path, config("a", x="1"), code=201)
    with running(tmp_path) as second:
        found = second.call("GET", f"{path}/a", code=200)
        old = second.call("GET", f"{path}?watch=1&resourceVersion=5", code=410)

    assert found == made
    assert old["reason"] == "Expired"
    assert (first.process.returncode, second.process.returncode) == (0, 0)
