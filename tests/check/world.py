"""A healthy mesh as facts, and small changes to it that make it ill."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec.structs

from mesh.check.facts import Facts, Read, Skew
from mesh.check.foreign import CRD_FLAGS
from mesh.core import labels
from mesh.core.errors import ApiError
from mesh.core.report import ProxiesAnswer, ProxyStatus
from mesh.inject.config import KEY, InjectConfig, dump_config
from mesh.runtime.bundle import hash_bundle
from tests.support.authority import TrustChain

Object = dict[str, Any]
NOW = 1_800_000_000.0
ROLES = (labels.IDENTITY, labels.DESTINATION, labels.INJECT)
CHAIN = TrustChain(now=NOW - 86400)


def meta(name: str, namespace: str = "", **more: Any) -> Object:
    place = {"namespace": namespace} if namespace else {}
    return {"metadata": {"name": name, **place, **more}}


def condition(kind: str, is_true: bool = True) -> Object:
    return {"type": kind, "status": "True" if is_true else "False"}


def control_pod(role: str, *, ready: bool = True) -> Object:
    component = role.removeprefix("mesh-")
    return {
        **meta(f"{role}-7d9-abc", "mesh", labels={labels.L_COMPONENT: component}),
        "spec": {"containers": [{"name": component}]},
        "status": {
            "phase": "Running",
            "conditions": [condition("Ready", ready)],
            "containerStatuses": [{"name": component, "ready": ready, "state": {"running": {}}}],
        },
    }


def app_pod(
    name: str,
    *,
    meshed: bool = True,
    ready: bool = True,
    annotations: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    **spec: Any,
) -> Object:
    """A pod of Deployment shop/web."""
    proxy = [{"name": labels.PROXY_CONTAINER}] if meshed else []
    statuses = [{"name": "app", "ready": True, "state": {"running": {}}}]
    if meshed:
        statuses.append({"name": labels.PROXY_CONTAINER, "ready": ready, "state": {"running": {}}})
    return {
        **meta(
            name,
            "shop",
            annotations=annotations or {},
            labels={"pod-template-hash": "6f", **(tags or {})},
            ownerReferences=[{"kind": "ReplicaSet", "name": "web-6f", "controller": True}],
        ),
        "spec": {"containers": [{"name": "app"}, *proxy], **spec},
        "status": {"phase": "Running", "containerStatuses": statuses},
    }


def crd(name: str, **more: Any) -> Object:
    plural, _, group = name.partition(".")
    tags = {labels.L_PART_OF: labels.PART_OF}
    return {
        **meta(name, **{"labels": tags, **more}),
        "spec": {"group": group, "names": {"plural": plural}},
        "status": {"conditions": [condition("Established")]},
    }


def webhook(name: str, hook: str, *, bundle: str = CHAIN.bundle) -> Object:
    client = {
        "service": {"name": labels.INJECT, "namespace": "mesh"},
        "caBundle": base64.b64encode(bundle.encode()).decode(),
    }
    return {**meta(name), "webhooks": [{"name": hook, "clientConfig": client}]}


def split(verdict: str, message: str, **more: Any) -> Object:
    """TrafficSplit shop/canary as destination judged it; no verdict: not judged."""
    state = {"type": "Effective", "reason": verdict, "message": message}
    judged = {"status": {"conditions": [state], "verdict": verdict}} if verdict else {}
    return {"kind": "TrafficSplit", **meta("canary", "shop", **more), **judged}


def shadowed_route() -> Object:
    """HTTPRoute shop/late, of which an older one takes all."""
    states = [
        {"type": "Effective", "reason": "Shadowed", "message": "rules[0] is never met"},
        {"type": "Verdict", "reason": "Shadowed", "message": "Shadowed by HTTPRoute/shop/web"},
    ]
    parent = {"controllerName": labels.CONTROLLER, "conditions": states}
    refs = [{"group": "", "kind": "Service", "name": "web"}]
    spec, judged = {"parentRefs": refs}, {"parents": [parent]}
    return {"kind": "HTTPRoute", **meta("late", "shop"), "spec": spec, "status": judged}


def status(pod: str, **more: Any) -> ProxyStatus:
    good = ProxyStatus(
        "shop",
        pod,
        sent=4,
        acked=4,
        bundle_hash=hash_bundle(CHAIN.bundle),
        leaf_not_after=NOW + 3600,
        connected=600.0,
    )
    return msgspec.structs.replace(good, **more)


def issuer_secret(chain: TrustChain) -> Object:
    certificate = base64.b64encode(chain.issuer.chain_pem.encode()).decode()
    return {"data": {"tls.crt": certificate}}


def healthy() -> Facts:
    """Two meshed pods of Deployment shop/web under a mesh without a fault."""
    config = {"version": "1.0.0", KEY: dump_config(InjectConfig())}
    containers = [{"name": name} for name in (labels.INIT_CONTAINER, labels.PROXY_CONTAINER)]
    return Facts(
        now=NOW,
        our_version="1.0.0",
        server="https://10.0.0.1:6443",
        version=Read({"major": "1", "minor": "34", "gitVersion": "v1.34.4"}),
        skew=Read(Skew(0.2, 0.6)),
        namespaces=Read(
            [meta("default"), meta("mesh"), meta("shop", annotations={"mesh/inject": "enabled"})]
        ),
        crds=Read([crd(name) for name in CRD_FLAGS]),
        mutating=Read([webhook(labels.WEBHOOK_CONFIGURATION, "pods.inject.mesh")]),
        validating=Read([webhook(labels.VALIDATING_CONFIGURATION, "routes.validate.mesh")]),
        node_leases=Read([{**meta("node-1"), "spec": {"renewTime": "2027-01-15T08:00:00Z"}}]),
        config=Read({**meta(labels.CONFIG_MAP, "mesh"), "data": config}),
        trust_roots=Read({"data": {labels.TRUST_ROOTS_KEY: CHAIN.bundle}}),
        issuer=Read(issuer_secret(CHAIN)),
        mesh_deployments=Read([meta(role, "mesh") for role in ROLES]),
        mesh_services=Read([meta(role, "mesh") for role in ROLES]),
        mesh_accounts=Read([meta(role, "mesh") for role in (*ROLES, labels.VIEWER)]),
        mesh_pods=Read([control_pod(role) for role in ROLES]),
        mesh_events=Read([]),
        dry_run=Read({"metadata": {"namespace": "default"}, "spec": {"containers": containers}}),
        proxies=Read(ProxiesAnswer(hash_bundle(CHAIN.bundle), (status("web-1"), status("web-2")))),
        pods=Read([app_pod("web-1"), app_pod("web-2")]),
        refused=Read([]),
        routing=Read([split("Effective", "acts on Service shop/web")]),
    )


def changed(name: str, change: Callable[[Any], object]) -> Facts:
    """A healthy mesh whose fact `name` went through `change` (in place, or what it returns)."""
    facts = healthy()
    value = copy.deepcopy(getattr(facts, name).value)
    result = change(value)
    fact: dict[str, Any] = {name: Read(value if result is None else result)}
    return replace(facts, **fact)


def unread(name: str, code: int, reason: str = "", message: str = "") -> Facts:
    """A healthy mesh one fact of which could not be read."""
    error = ApiError(code, reason, message or f"{name} refused with {code}")
    fact: dict[str, Any] = {name: Read(error=error)}
    return replace(healthy(), **fact)
