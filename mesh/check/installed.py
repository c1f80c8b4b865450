"""Checks of the control plane: is everything there, and do its pods run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from mesh.check.dataplane import leaves_are_valid
from mesh.check.facts import Facts, Read, Right
from mesh.check.foreign import CRD_FLAGS
from mesh.check.model import Category, Check, Fault, Severity
from mesh.check.podtext import describe_pod
from mesh.check.trust import anchors_are_valid, issuer_is_valid
from mesh.core import labels
from mesh.core.errors import ApiError, IdentityError
from mesh.core.report import WatchStatus
from mesh.kube.pods import is_finished, is_leaving, is_ready, labels_of, name_of
from mesh.kube.resources import Object

ROLES: Final = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)
_INSTALL = "`mesh install | kubectl apply -f -`"
_VERSION_KEY = "version"  # in ConfigMap mesh-config
_DEAF: Final = 40.0  # seconds; a silent watch is begun anew after 28
_LATELY: Final = 600.0  # seconds that a watch which froze is told


def needed_rights(mesh_namespace: str) -> list[Right]:
    """What `mesh stat` and the checks of the data plane take."""
    return [
        Right("create", "serviceaccounts", "token", mesh_namespace, labels.VIEWER),
        Right("get", "pods", "proxy", mesh_namespace),
        Right("list", "pods"),
    ]


def namespace_is_there(facts: Facts) -> Iterator[Fault]:
    """Who may not look is told so, and learns from the next check what matters."""
    error = facts.namespaces.error
    if error is not None and error.code == 403:
        yield Fault("", error.message, "", minor=True)
        return
    found = [ns for ns in facts.namespaces.value if name_of(ns) == facts.mesh_namespace]
    if not found:
        remedy = f"{_INSTALL}, or name its place with --mesh-namespace"
        yield Fault(f"namespace {facts.mesh_namespace}", "there is none", remedy)
    elif (found[0].get("status") or {}).get("phase") == "Terminating":
        remedy = f"wait until it is gone, then {_INSTALL}"
        yield Fault(f"namespace {facts.mesh_namespace}", "is being deleted", remedy)


def config_is_there(facts: Facts) -> Iterator[Fault]:
    if facts.config.is_missing:
        name = f"ConfigMap {facts.mesh_namespace}/{labels.CONFIG_MAP}"
        yield Fault(name, "there is none: no mesh is installed here", _INSTALL)
    else:
        _ = facts.config.value


def objects_are_there(facts: Facts) -> Iterator[Fault]:
    yield from _missing(facts, "Deployment", ROLES, facts.mesh_deployments)
    yield from _missing(facts, "Service", ROLES, facts.mesh_services)
    yield from _missing(facts, "ServiceAccount", (*ROLES, labels.VIEWER), facts.mesh_accounts)


def _missing(
    facts: Facts, kind: str, names: Sequence[str], read: Read[list[Object]]
) -> Iterator[Fault]:
    there = {name_of(obj) for obj in read.value}
    for name in names:
        if name not in there:
            what = f"{kind} {facts.mesh_namespace}/{name}"
            yield Fault(what, "there is none", f"apply the installation again: {_INSTALL}")


def definitions_are_there(facts: Facts) -> Iterator[Fault]:
    crds = {name_of(crd): crd for crd in facts.crds.value}
    for name, flag in CRD_FLAGS.items():
        crd = crds.get(name)
        if crd is None:
            yield Fault(
                f"CustomResourceDefinition {name}",
                "there is none, so objects of this kind cannot be applied",
                f"`mesh install --crds | kubectl apply -f -`, unless --set {flag}=false was meant",
                minor=True,
            )
        elif not _is_established(crd):
            remedy = f"`kubectl describe crd {name}` says why"
            yield Fault(f"CustomResourceDefinition {name}", "is not established", remedy)


def _is_established(crd: Object) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)


def pods_are_ready(facts: Facts) -> Iterator[Fault]:
    """Every role has a ready pod, and no pod of ours is anything else."""
    events = facts.mesh_events.got or []
    pods = [pod for pod in facts.mesh_pods.value if not is_finished(pod) and not is_leaving(pod)]
    is_down = False
    for role in ROLES:
        mine = [pod for pod in pods if labels_of(pod).get(labels.L_COMPONENT) == _component(role)]
        any_ready = any(is_ready(pod) for pod in mine)
        for pod in mine:
            if not is_ready(pod):
                yield _pod_fault(facts, pod, events, minor=any_ready)
        if not mine:
            yield _no_pods(facts, role)
        elif not any_ready:
            is_down = True
    if is_down:
        yield from _trust_faults(facts)


def _trust_faults(facts: Facts) -> Iterator[Fault]:
    """What keeps a role from being ready, where it is its trust: identity does not start, others
    have leaves that ended. With each of those in pods, since no later check is made."""
    for find in (anchors_are_valid, issuer_is_valid, leaves_are_valid):
        with contextlib.suppress(ApiError, IdentityError):
            yield from find(facts)


def _component(role: str) -> str:
    return role.removeprefix("mesh-")


def _pod_fault(facts: Facts, pod: Object, events: Sequence[Object], *, minor: bool) -> Fault:
    where = f"-n {facts.mesh_namespace}"
    remedy = f"`kubectl {where} describe pod {name_of(pod)}`, `kubectl {where} logs {name_of(pod)}`"
    name = f"pod {facts.mesh_namespace}/{name_of(pod)}"
    said = facts.mesh_waits.get(f"{facts.mesh_namespace}/{name_of(pod)}")
    what = describe_pod(pod, events) + (f"; it is {said}" if said else "")
    return Fault(name, what, remedy, minor=minor)


def _no_pods(facts: Facts, role: str) -> Fault:
    """A Deployment without pods says why in its conditions (quota, admission, account)."""
    name = f"Deployment {facts.mesh_namespace}/{role}"
    remedy = f"`kubectl -n {facts.mesh_namespace} describe deploy {role}`"
    for deployment in facts.mesh_deployments.got or ():
        if name_of(deployment) != role:
            continue
        if (deployment.get("spec") or {}).get("replicas") == 0:
            scale = f"`kubectl -n {facts.mesh_namespace} scale deploy {role} --replicas=1`"
            return Fault(name, "is scaled to 0", scale)
        for condition in (deployment.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                return Fault(name, f"cannot create pods: {condition.get('message')}", remedy)
    return Fault(name, "has no pod", remedy)


def destination_answers(facts: Facts) -> Iterator[Fault]:
    """The way that `mesh stat` goes: a viewer's token, then the API server's proxy."""
    error = facts.proxies.error
    if error is None:
        return
    minor = error.code in (401, 403)
    remedy = (
        "have the rights to create serviceaccounts/token and get pods/proxy in namespace "
        f"{facts.mesh_namespace} granted"
        if minor
        else f"`kubectl -n {facts.mesh_namespace} logs deploy/{labels.DESTINATION}`"
    )
    yield Fault(
        f"Deployment {facts.mesh_namespace}/{labels.DESTINATION}", str(error), remedy, minor
    )


def destination_hears(facts: Facts) -> Iterator[Fault]:
    """Of every kind at least twice a minute, or destination asks anew by itself."""
    if facts.proxies.error is not None:
        return  # another check says so
    for pod, watches in _by_pod(facts.proxies.value.watches).items():
        deaf = [watch for watch in watches if watch.silent > _DEAF]
        froze = [watch for watch in watches if watch.frozen and watch.thawed < _LATELY]
        if deaf:
            yield Fault(
                f"pod {facts.mesh_namespace}/{pod}",
                f"has heard nothing of {_kinds(deaf)} for {max(w.silent for w in deaf):.0f} s: "
                "proxies go on with what they know and learn of no change",
                "look for what keeps it from the API server (network policy, node, firewall): "
                f"`kubectl -n {facts.mesh_namespace} logs {pod}`",
            )
        elif froze:
            yield Fault(
                f"pod {facts.mesh_namespace}/{pod}",
                f"its watch of {_kinds(froze)} fell silent without an end; noticed "
                f"{min(w.thawed for w in froze):.0f} s ago and begun anew",
                "nothing is to be done at once; look for what drops connections between it and "
                "the API server without closing them (a firewall, NAT, a load balancer)",
                minor=True,
            )


def _by_pod(watches: Iterable[WatchStatus]) -> dict[str, list[WatchStatus]]:
    found: dict[str, list[WatchStatus]] = {}
    for watch in watches:
        found.setdefault(watch.pod, []).append(watch)
    return found


def _kinds(watches: Sequence[WatchStatus]) -> str:
    names = [watch.resource.partition(".")[0] for watch in watches]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def may_look(facts: Facts) -> Iterator[Fault]:
    for right in needed_rights(facts.mesh_namespace):
        allowed = facts.rights.get(right)
        if allowed is not None and not allowed.value:
            yield Fault(
                "you",
                f"may not {right}, which `mesh stat` and `mesh check --proxy` need",
                "have this right granted to you",
            )


def versions_agree(facts: Facts) -> Iterator[Fault]:
    version = (facts.config.value.get("data") or {}).get(_VERSION_KEY)
    if version and version != facts.our_version:
        yield Fault(
            f"ConfigMap {facts.mesh_namespace}/{labels.CONFIG_MAP}",
            f"version {version} of the mesh is installed, this command is {facts.our_version}",
            f"upgrade with {_INSTALL}, or use the mesh command of version {version}",
        )


EXISTENCE: Final = Category(
    "mesh-existence",
    (
        Check("the mesh's namespace is there", namespace_is_there, Severity.FATAL, retryable=True),
        Check("the mesh's configuration is there", config_is_there, Severity.FATAL, retryable=True),
        Check("the objects of the control plane are there", objects_are_there, retryable=True),
        Check("the kinds of the mesh can be applied", definitions_are_there, retryable=True),
    ),
)
CONTROL_PLANE: Final = Category(
    "mesh-control-plane",
    (
        Check(
            "pods of the control plane are ready", pods_are_ready, Severity.FATAL, retryable=True
        ),
        Check("you may read traffic figures", may_look, Severity.WARNING),
        Check("destination answers", destination_answers, retryable=True),
        Check("destination hears from the API server", destination_hears, retryable=True),
        Check("control plane and command have one version", versions_agree, Severity.WARNING),
    ),
)
