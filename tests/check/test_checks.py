"""Each thing that can go wrong: the check that says so names the object and a remedy."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct

from mesh.check import foreign
from mesh.check.catalogue import Mode, categories_of
from mesh.check.facts import Clash, Facts, Handshake, Read, Skew
from mesh.check.model import Result, Verdict, judge
from mesh.core import labels
from mesh.core.report import ProxiesAnswer, WatchStatus
from mesh.inject.certs import make_serving
from mesh.install.gateway_crds import NAMES
from mesh.kube.client import NO_CREDENTIALS, UNREACHABLE, UNTRUSTED
from tests.check.world import (
    CHAIN,
    NOW,
    app_pod,
    changed,
    control_pod,
    crd,
    healthy,
    issuer_secret,
    meta,
    shadowed_route,
    split,
    status,
    unread,
    webhook,
)
from tests.support.authority import TrustChain

Object = dict[str, Any]


def run(facts: Facts, mode: Mode = Mode.PROXY) -> dict[str, Result]:
    """Every check that does not succeed, by its description."""
    results = [
        judge(category, check, facts)
        for category in categories_of(mode)
        for check in category.checks
    ]
    return {r.check.description: r for r in results if r.verdict is not Verdict.SUCCESS}


def only(facts: Facts, mode: Mode = Mode.PROXY) -> Result:
    """The one check that fails."""
    (result,) = run(facts, mode).values()
    return result


def set_at(*path: Any) -> Callable[[Any], None]:
    """Assign the last of `path` at the place that the others lead to."""

    def change(value: Any) -> None:
        for key in path[:-2]:
            value = value[key]
        value[path[-2]] = path[-1]

    return change


def test_a_healthy_mesh_has_no_fault() -> None:
    assert run(healthy()) == {}


def waiting(reason: str, message: str) -> Callable[[list[Object]], None]:
    def change(pods: list[Object]) -> None:
        pods[1] = control_pod(labels.DESTINATION, ready=False)
        state = {"waiting": {"reason": reason, "message": message}}
        pods[1]["status"]["containerStatuses"][0]["state"] = state
        pods[1]["status"]["phase"] = "Pending"

    return change


def refused(message: str) -> Object:
    """What the controller says of a pod that it could not make."""
    about = {"kind": "ReplicaSet", "namespace": "shop", "name": "web-7d9"}
    return {"involvedObject": about, "message": message, "lastTimestamp": "2027-01-15T07:59:00Z"}


def watches(*found: WatchStatus) -> Callable[[ProxiesAnswer], ProxiesAnswer]:
    named = tuple(replace_struct(watch, pod="mesh-destination-1") for watch in found)
    return lambda answer: replace_struct(answer, watches=named)


OLD = TrustChain(now=NOW - 4000 * 86400)
ENDING = TrustChain(now=NOW - 340 * 86400)

FAILURES: list[tuple[str, Facts, Verdict, str, str]] = [
    (
        "old Kubernetes",
        changed("version", lambda v: {"major": "1", "minor": "19+"}),
        Verdict.ERROR,
        "API server https://10.0.0.1:6443: expected Kubernetes 1.25 or newer, got 1.19",
        "upgrade the cluster",
    ),
    (
        "our clock",
        replace(healthy(), skew=Read(Skew(-400.0, 1.0))),
        Verdict.WARNING,
        "this machine's clock: is 400 s ahead of the API server's",
        "NTP",
    ),
    (
        "a node's clock",
        changed("node_leases", set_at(0, "spec", "renewTime", "2027-01-15T09:00:00.123456Z")),
        Verdict.WARNING,
        "node node-1: its clock is 3600 s ahead",
        "NTP",
    ),
    (
        "no namespace",
        changed(
            "namespaces", lambda found: [ns for ns in found if ns["metadata"]["name"] != "mesh"]
        ),
        Verdict.ERROR,
        "namespace mesh: there is none",
        "mesh install",
    ),
    (
        "no configuration",
        unread("config", 404),
        Verdict.ERROR,
        "ConfigMap mesh/mesh-config: there is none",
        "mesh install",
    ),
    (
        "a missing account",
        changed("mesh_accounts", lambda found: found[:-1]),
        Verdict.ERROR,
        "ServiceAccount mesh/mesh-viewer: there is none",
        "mesh install",
    ),
    (
        "a missing kind",
        changed("crds", lambda found: found[1:]),
        Verdict.WARNING,
        "CustomResourceDefinition serviceprofiles.linkerd.io: there is none",
        "crds.linkerd=false",
    ),
    (
        "a kind that is not established",
        changed("crds", set_at(2, "status", {})),
        Verdict.ERROR,
        "CustomResourceDefinition trafficsplits.split.smi-spec.io: is not established",
        "kubectl describe crd",
    ),
    (
        "a control-plane pod that waits",
        changed("mesh_pods", waiting("ImagePullBackOff", 'Back-off pulling image "mesh:9"')),
        Verdict.ERROR,
        "pod mesh/mesh-destination-7d9-abc: Pending, ImagePullBackOff: container destination: "
        'Back-off pulling image "mesh:9"',
        "kubectl -n mesh describe pod mesh-destination-7d9-abc",
    ),
    (
        "a control-plane pod that says what it waits for",
        replace(
            changed("mesh_pods", set_at(1, control_pod(labels.DESTINATION, ready=False))),
            mesh_waits={"mesh/mesh-destination-7d9-abc": "waiting for the first list of pods"},
        ),
        Verdict.ERROR,
        "not ready; it is waiting for the first list of pods",
        "kubectl -n mesh logs mesh-destination-7d9-abc",
    ),
    (
        "a destination that is cut off",
        changed("proxies", watches(WatchStatus("pods", 41.0), WatchStatus("services", 55.0))),
        Verdict.ERROR,
        "pod mesh/mesh-destination-1: has heard nothing of pods, services for 55 s",
        "kubectl -n mesh logs mesh-destination-1",
    ),
    (
        "a watch that froze lately",
        changed("proxies", watches(WatchStatus("pods", 3.0, frozen=1, thawed=90.0))),
        Verdict.WARNING,
        "pod mesh/mesh-destination-1: its watch of pods fell silent without an end; noticed 90 s",
        "drops connections",
    ),
    (
        "a role scaled to nothing",
        replace(
            changed("mesh_pods", lambda pods: pods[1:]),
            mesh_deployments=Read(
                [{**meta(role, "mesh"), "spec": {"replicas": 0}} for role in ("mesh-identity",)]
                + [meta("mesh-destination", "mesh"), meta("mesh-inject", "mesh")]
            ),
        ),
        Verdict.ERROR,
        "Deployment mesh/mesh-identity: is scaled to 0",
        "kubectl -n mesh scale deploy mesh-identity --replicas=1",
    ),
    (
        "another version",
        replace(healthy(), our_version="1.1.0"),
        Verdict.WARNING,
        "ConfigMap mesh/mesh-config: version 1.0.0 of the mesh is installed, this command is 1.1.0",
        "mesh install",
    ),
    (
        "destination that does not answer",
        unread("proxies", 503, "ServiceUnavailable", "dial tcp 10.1.0.3:9990: refused"),
        Verdict.ERROR,
        "Deployment mesh/mesh-destination: dial tcp 10.1.0.3:9990: refused",
        "kubectl -n mesh logs deploy/mesh-destination",
    ),
    (
        "no anchors yet",
        unread("trust_roots", 404),
        Verdict.ERROR,
        "ConfigMap mesh/mesh-trust-roots: there is none",
        "logs deploy/mesh-identity",
    ),
    (
        "an anchor that ended",
        replace(
            changed("trust_roots", set_at("data", labels.TRUST_ROOTS_KEY, OLD.bundle)),
            issuer=Read(issuer_secret(OLD)),
        ),
        Verdict.ERROR,
        'ConfigMap mesh/mesh-trust-roots: "CN=mesh root',
        "bring a new anchor",
    ),
    (
        "an issuer of another root",
        replace(healthy(), issuer=Read(issuer_secret(TrustChain(now=NOW - 60)))),
        Verdict.ERROR,
        "Secret mesh/mesh-identity-issuer: expected a chain to a trust anchor",
        "chains to an anchor of the bundle",
    ),
    (
        "an issuer that soon ends",
        replace(
            changed("trust_roots", set_at("data", labels.TRUST_ROOTS_KEY, ENDING.bundle)),
            issuer=Read(issuer_secret(ENDING)),
        ),
        Verdict.WARNING,
        "ends in 25 days",
        "bring a new issuer before that day",
    ),
    (
        "no webhook",
        changed("mutating", lambda found: []),
        Verdict.ERROR,
        "MutatingWebhookConfiguration mesh-inject: there is none",
        "mesh install",
    ),
    (
        "an empty caBundle",
        changed("mutating", lambda found: [webhook("mesh-inject", "pods.inject.mesh", bundle="")]),
        Verdict.ERROR,
        "MutatingWebhookConfiguration mesh-inject: webhook pods.inject.mesh: caBundle is empty",
        "kubectl -n mesh logs deploy/mesh-inject",
    ),
    (
        "a webhook that nobody can reach",
        changed("dry_run", set_at("spec", "containers", [{"name": "probe"}])),
        Verdict.ERROR,
        "came back without container mesh-init and mesh-proxy",
        "can the API server reach Service mesh/mesh-inject?",
    ),
    (
        "another mesh's injector",
        changed(
            "mutating",
            lambda found: [
                *found,
                webhook("istio-sidecar-injector", "rev.namespace.sidecar-injector.istio.io"),
            ],
        ),
        Verdict.WARNING,
        "MutatingWebhookConfiguration istio-sidecar-injector: Istio's injector is in this cluster",
        "mesh/inject: enabled",
    ),
    (
        "another mesh's kinds",
        changed("crds", lambda found: [*found, crd("servers.policy.linkerd.io")]),
        Verdict.WARNING,
        "CustomResourceDefinitions of policy.linkerd.io",
        "delete what is left of it",
    ),
    (
        "another package's proxy",
        replace(healthy(), clashes=(Clash("proxy", "proxy.py"),)),
        Verdict.WARNING,
        "Python distribution proxy.py: also brings the package proxy",
        "pipx install lightmesh",
    ),
    (
        "a namespace that is not there",
        replace(healthy(), namespace="shpo"),
        Verdict.ERROR,
        "namespace shpo: there is none",
        "-n",
    ),
    (
        "a proxy that is not ready",
        changed("pods", lambda pods: [app_pod("web-1", ready=False), pods[1]]),
        Verdict.ERROR,
        "pod shop/web-1: Running: container mesh-proxy is not ready",
        "kubectl -n shop logs web-1 -c mesh-proxy",
    ),
    (
        "a proxy that says what it waits for",
        replace(
            changed("pods", lambda pods: [app_pod("web-1", ready=False), pods[1]]),
            waits={"shop/web-1": "waiting for a certificate from mesh-identity:8080"},
        ),
        Verdict.ERROR,
        "not ready; its proxy is waiting for a certificate from mesh-identity:8080",
        "kubectl -n shop logs web-1 -c mesh-proxy",
    ),
    (
        "a proxy without a stream",
        changed("proxies", lambda a: ProxiesAnswer(a.bundle_hash, a.proxies[:1])),
        Verdict.ERROR,
        "pod shop/web-2: its proxy has no stream to destination",
        "kubectl -n shop logs web-2 -c mesh-proxy",
    ),
    (
        "a proxy that lags",
        changed(
            "proxies",
            lambda a: ProxiesAnswer(
                a.bundle_hash, (a.proxies[0], status("web-2", acked=3, behind=30.0))
            ),
        ),
        Verdict.ERROR,
        "pod shop/web-2: its proxy has version 3 of its view, version 4 waits since 30 s",
        "kubectl -n shop logs web-2",
    ),
    (
        "a proxy on an old bundle",
        changed(
            "proxies",
            lambda a: ProxiesAnswer(
                a.bundle_hash, (a.proxies[0], status("web-2", bundle_hash="0d"))
            ),
        ),
        Verdict.WARNING,
        "pod shop/web-2: trusts bundle 0d, in force is",
        "restart its pod",
    ),
    (
        "an expired leaf",
        changed(
            "proxies",
            lambda a: ProxiesAnswer(
                a.bundle_hash, (a.proxies[0], status("web-2", leaf_not_after=NOW - 1))
            ),
        ),
        Verdict.ERROR,
        "pod shop/web-2: its leaf has expired",
        "can it reach identity?",
    ),
    (
        "an expired leaf of a proxy without a stream",
        replace(
            changed("proxies", lambda a: ProxiesAnswer(a.bundle_hash, a.proxies[:1])),
            leaves={"shop/web-2": NOW - 1},
            pods=Read([app_pod("web-1"), app_pod("web-2", ready=False)]),
        ),
        Verdict.ERROR,
        "pod shop/web-2: its leaf has expired",
        "can it reach identity?",
    ),
    (
        "proxies of an old version",
        changed(
            "pods",
            lambda pods: [
                app_pod(name, annotations={labels.A_PROXY_VERSION: "0.9.0"})
                for name in ("web-1", "web-2")
            ],
        ),
        Verdict.WARNING,
        "deployment shop/web: its proxies have version 0.9.0",
        "kubectl -n shop rollout restart deployment/web",
    ),
    (
        "a pod older than its namespace's annotation",
        changed("pods", lambda pods: [*pods, app_pod("web-3", meshed=False)]),
        Verdict.WARNING,
        "deployment shop/web: a pod asks for a proxy and has none (web-3)",
        "kubectl -n shop rollout restart deployment/web",
    ),
    (
        "a quota without room for the proxy",
        changed("refused", lambda found: [refused("exceeded quota: rule, requested: cpu=1")]),
        Verdict.WARNING,
        "ReplicaSet shop/web-7d9: its pods are not made: exceeded quota: rule, requested: cpu=1",
        "lower what the proxy counts in it: annotations mesh/proxy-cpu-request",
    ),
    (
        "a range that the proxy is beyond",
        changed("refused", lambda found: [refused("maximum cpu usage per Container is 10m")]),
        Verdict.WARNING,
        "ReplicaSet shop/web-7d9: its pods are not made: maximum cpu usage per Container",
        "set its resources by annotation",
    ),
    (
        "a default limit below what the proxy asks for",
        changed(
            "refused", lambda f: [refused("must be less than or equal to memory limit of 16Mi")]
        ),
        Verdict.WARNING,
        "its pods are not made: must be less than or equal to memory limit of 16Mi",
        "a LimitRange has no room for the proxy",
    ),
    (
        "a pod that cannot have a proxy",
        changed("pods", lambda pods: [*pods, app_pod("web-3", meshed=False, hostNetwork=True)]),
        Verdict.WARNING,
        "deployment shop/web: a pod asks for a proxy and has none: hostNetwork",
        "remove the obstacle",
    ),
    (
        "a misspelt annotation of a pod",
        changed(
            "pods",
            lambda pods: [app_pod("web-1", annotations={"mesh/skip-inbound-port": "1"}), pods[1]],
        ),
        Verdict.WARNING,
        "deployment shop/web: annotation mesh/skip-inbound-port is not known: "
        "did you mean mesh/skip-inbound-ports?",
        "pod template",
    ),
    (
        "a misspelt annotation of a namespace",
        changed("namespaces", set_at(0, "metadata", "annotations", {"mesh/injekt": "enabled"})),
        Verdict.WARNING,
        "namespace default: annotation mesh/injekt is not known: did you mean mesh/inject?",
        "correct it on the namespace",
    ),
    (
        "a bad value",
        changed(
            "pods", lambda pods: [app_pod("web-1", annotations={"mesh/access-log": "yes"}), pods[1]]
        ),
        Verdict.WARNING,
        'annotation mesh/access-log: expected off, text, json or apache, got "yes"',
        "pod template",
    ),
    (
        "a setting written as a label",
        changed(
            "pods", lambda pods: [app_pod("web-1", tags={"mesh/opaque-ports": "5432"}), pods[1]]
        ),
        Verdict.WARNING,
        "deployment shop/web: mesh/opaque-ports is written as a label",
        "metadata.annotations",
    ),
    (
        "a split that has no effect",
        changed("routing", lambda found: [split("Rejected", "spec.matches: not supported")]),
        Verdict.WARNING,
        "TrafficSplit shop/canary: Rejected: spec.matches: not supported",
        "kubectl -n shop describe trafficsplit canary",
    ),
    (
        "a route that another goes before",
        changed("routing", lambda found: [shadowed_route()]),
        Verdict.WARNING,
        "HTTPRoute shop/late: Shadowed by HTTPRoute/shop/web: rules[0] is never met",
        "kubectl -n shop describe httproute late",
    ),
    (
        "a split that nobody judged",
        changed("routing", lambda _: [split("", "", creationTimestamp="2027-01-15T07:59:00Z")]),
        Verdict.WARNING,
        "TrafficSplit shop/canary: has no verdict",
        "logs deploy/mesh-destination",
    ),
]


@pytest.mark.parametrize(
    ("facts", "verdict", "text", "remedy"),
    [case[1:] for case in FAILURES],
    ids=[case[0].replace(" ", "_") for case in FAILURES],
)
def test_a_fault_is_found_once_with_its_object_and_a_remedy(
    facts: Facts, verdict: Verdict, text: str, remedy: str
) -> None:
    results = list(run(facts).values())
    found = [r for r in results if any(text in str(fault) for fault in r.faults)]

    assert len(found) == 1, [str(fault) for r in results for fault in r.faults]
    assert found[0].verdict is verdict
    assert all(fault.object and fault.remedy for fault in found[0].faults)
    assert remedy in found[0].faults[0].remedy


def test_a_waiting_pod_shows_its_last_event() -> None:
    def about(reason: str, moment: str) -> Object:
        involved = {"name": "mesh-destination-7d9-abc", "namespace": "mesh"}
        times = {"lastTimestamp": moment, "message": f"{reason} it was"}
        return {"involvedObject": involved, "reason": reason, **times}

    facts = replace(
        changed("mesh_pods", waiting("ErrImagePull", "no such host")),
        mesh_events=Read(
            [about("Failed", "2027-01-15T08:00:05Z"), about("Pulling", "2027-01-15T08:00:01Z")]
        ),
    )

    assert "last event: Failed: Failed it was" in str(only(facts).faults[0])


def test_one_broken_pod_beside_a_ready_one_is_a_warning() -> None:
    def add(pods: list[Object]) -> None:
        pods.append(control_pod(labels.INJECT, ready=False))

    assert only(changed("mesh_pods", add)).verdict is Verdict.WARNING


@pytest.mark.parametrize(("at", "role"), [(0, labels.IDENTITY), (1, labels.DESTINATION)])
def test_a_role_that_is_not_ready_for_its_trust_says_so_where_all_else_ends(
    at: int, role: str
) -> None:
    facts = replace(
        changed("mesh_pods", set_at(at, control_pod(role, ready=False))),
        issuer=Read(issuer_secret(OLD)),
        leaves={"shop/lost": NOW - 1},
    )

    result = run(facts)["pods of the control plane are ready"]

    assert result.ends_all
    assert "pod shop/lost: its leaf has expired" in " ".join(map(str, result.faults))
    assert "Secret mesh/mesh-identity-issuer: " in " ".join(map(str, result.faults))


def test_a_watch_that_froze_long_ago_is_forgotten() -> None:
    froze = WatchStatus("pods", 3.0, frozen=2, thawed=601.0)

    assert run(changed("proxies", watches(froze))) == {}


def test_a_second_anchor_that_ended_is_a_warning_while_the_first_holds() -> None:
    both = CHAIN.bundle + OLD.bundle

    result = only(changed("trust_roots", set_at("data", labels.TRUST_ROOTS_KEY, both)))

    assert result.verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("handshake", "verdict"),
    [
        (Handshake("mesh-identity-1", leaf="PEM"), None),
        (Handshake("mesh-identity-1", error="not reachable: timed out"), Verdict.WARNING),
        (Handshake("mesh-identity-1", error="certificate verify failed: expired"), Verdict.ERROR),
    ],
)
def test_an_issuer_that_may_not_be_read_is_judged_by_a_handshake(
    handshake: Handshake, verdict: Verdict | None
) -> None:
    found = run(replace(unread("issuer", 403), handshakes=(handshake,)))

    assert [result.verdict for result in found.values()] == ([verdict] if verdict else [])


def test_a_read_that_is_forbidden_is_a_warning_and_names_what_was_refused() -> None:
    found = run(unread("node_leases", 403, "Forbidden", 'cannot list resource "leases"'))

    (result,) = found.values()
    assert result.verdict is Verdict.WARNING
    assert 'cannot list resource "leases"' in str(result.faults[0])


@pytest.mark.parametrize("junk", [{}, {"metadata": None, "spec": None, "status": None}])
@pytest.mark.parametrize(
    "name", ["pods", "namespaces", "mesh_pods", "crds", "mutating", "node_leases", "routing"]
)
def test_odd_objects_never_break_a_check(name: str, junk: Object) -> None:
    def add(found: list[Object]) -> None:
        found.append(junk)

    faults = [str(f) for result in run(changed(name, add)).values() for f in result.faults]

    assert not [fault for fault in faults if "the check itself failed" in fault]


# -- before an installation ---------------------------------------------------------------------


def bare() -> Facts:
    """A cluster without a mesh."""
    missing = unread("config", 404)
    return replace(missing, crds=Read([]), namespaces=Read([meta("default")]), mutating=Read([]))


def test_a_bare_cluster_is_ready_for_the_mesh() -> None:
    assert run(bare(), Mode.PRE) == {}


def test_definitions_of_others_name_their_owner_and_the_flag_that_spares_them() -> None:
    helm = {
        "meta.helm.sh/release-name": "linkerd-crds",
        "meta.helm.sh/release-namespace": "linkerd",
    }
    theirs = crd("serviceprofiles.linkerd.io", labels={}, annotations=helm)

    (fault,) = only(replace(bare(), crds=Read([theirs])), Mode.PRE).faults

    assert str(fault) == (
        "CustomResourceDefinition serviceprofiles.linkerd.io: is here already, "
        "from Helm release linkerd-crds in namespace linkerd"
    )
    assert "--set crds.linkerd=false" in fault.remedy


def test_gateway_routes_of_others_warn_against_the_flag_that_replaces_them() -> None:
    theirs = [crd(name, labels={}) for name in foreign.GATEWAY_NAMES[:2]]

    result = only(replace(bare(), crds=Read(theirs)), Mode.PRE)

    assert foreign.GATEWAY_NAMES == NAMES
    assert result.verdict is Verdict.WARNING
    assert result.faults[0].object == (
        "CustomResourceDefinitions grpcroutes.gateway.networking.k8s.io, "
        "httproutes.gateway.networking.k8s.io"
    )
    assert "without --gateway-api" in result.faults[0].remedy


def test_a_missing_right_is_named() -> None:
    from mesh.check.before import needed_rights

    rights = {right: Read(right.resource != "namespaces") for right in needed_rights("mesh")}

    result = only(replace(bare(), rights=rights), Mode.PRE)

    assert [str(fault) for fault in result.faults] == ["you: may not create namespaces"]
    assert result.verdict is Verdict.ERROR


def test_an_installed_mesh_is_told_before_an_installation() -> None:
    assert only(replace(healthy(), crds=Read([])), Mode.PRE).verdict is Verdict.WARNING


def test_no_kubeconfig_and_no_answer_are_fatal() -> None:
    unreachable = unread("version", 0, "Unreachable", "connection refused")

    assert run(replace(healthy(), access_error="kubeconfig: none found"))[
        "a kubeconfig says where the cluster is"
    ].ends_all
    result = run(unreachable)["the API server answers"]
    assert result.ends_all
    assert "API server https://10.0.0.1:6443: connection refused" in str(result.faults[0])


@pytest.mark.parametrize(
    ("days", "verdict", "said"),
    [
        (0, Verdict.SUCCESS, ""),
        (365 * 0.75, Verdict.SUCCESS, ""),
        (365 * 0.85, Verdict.WARNING, "should be renewed by now, it ends at 20"),
        (366, Verdict.ERROR, "its certificate ended at 20"),
    ],
)
def test_the_webhooks_own_certificate_is_judged_by_its_age(
    days: float, verdict: Verdict, said: str
) -> None:
    old = make_serving(["mesh-inject.mesh.svc"], now=NOW - (days + 300) * 86400)
    serving = make_serving(["mesh-inject.mesh.svc"], now=NOW - days * 86400, previous=old)
    hook = webhook(labels.WEBHOOK_CONFIGURATION, "pods.inject.mesh", bundle=serving.ca)

    result = run(replace(healthy(), mutating=Read([hook]))).get(
        "the webhook's certificate is renewed in time"
    )

    assert (result.verdict if result else Verdict.SUCCESS) is verdict
    assert said in " ".join(str(fault) for fault in (result.faults if result else ()))


@pytest.mark.parametrize(
    ("code", "reason", "remedy"),
    [
        (0, UNREACHABLE, "check network, VPN"),
        (0, UNTRUSTED, "certificate-authority is not the one of this server"),
        (0, NO_CREDENTIALS, "install the plugin"),
        (401, "Unauthorized", "check the credentials"),
    ],
)
def test_each_way_not_to_reach_the_api_server_has_its_own_remedy(
    code: int, reason: str, remedy: str
) -> None:
    result = run(unread("version", code, reason, "no"))["the API server answers"]

    assert remedy in result.faults[0].remedy


def test_a_bundle_that_is_not_base64_is_told() -> None:
    def spoil(found: list[Object]) -> None:
        found[0]["webhooks"][0]["clientConfig"]["caBundle"] = "%%%"

    assert "caBundle is not base64" in str(only(changed("mutating", spoil)).faults[0])
    empty = base64.b64encode(b"no certificate").decode()
    facts = changed("mutating", set_at(0, "webhooks", 0, "clientConfig", "caBundle", empty))
    assert "caBundle holds no certificate" in str(only(facts).faults[0])
