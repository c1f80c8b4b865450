"""Kinds of the same families that this mesh does not do, so that none is silent.

Somebody who applies an AuthorizationPolicy must not believe that it guards something here. Each
object of these kinds has a verdict, as an event where the status belongs to another controller.
Kinds that concern only gateways (Gateway, ListenerSet, BackendTLSPolicy) are those controllers'.
"""

from __future__ import annotations

from typing import Final

from destination.dialects.gateway import read_parents
from destination.dialects.reading import Reader
from destination.facts import Object, as_text
from destination.fragments import (
    NOT_SUPPORTED,
    Fragment,
    RejectedFragment,
    RouteFragment,
    RouteKind,
)
from mesh.core import labels
from mesh.core.model import Problem

UDP_ROUTES: Final = "udproutes.gateway.networking.k8s.io"
_ACCESS: Final = "nothing here is allowed or denied by it"
_SMI: Final = "specs.smi-spec.io"
_POLICY: Final = "policy.linkerd.io"

# (group, kind) -> resource, and what its absence means to somebody who applied it.
UNDONE: Final = {
    ("gateway.networking.k8s.io", "UDPRoute"): (
        UDP_ROUTES,
        "UDP passes by the proxies and cannot be routed",
    ),
    ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy"): (
        "xbackendtrafficpolicies.gateway.networking.x-k8s.io",
        "its retry budget and sessions are not applied; a ServiceProfile has a retryBudget",
    ),
    (_POLICY, "Server"): (f"servers.{_POLICY}", _ACCESS),
    (_POLICY, "ServerAuthorization"): (f"serverauthorizations.{_POLICY}", _ACCESS),
    (_POLICY, "AuthorizationPolicy"): (f"authorizationpolicies.{_POLICY}", _ACCESS),
    (_POLICY, "MeshTLSAuthentication"): (f"meshtlsauthentications.{_POLICY}", _ACCESS),
    (_POLICY, "NetworkAuthentication"): (f"networkauthentications.{_POLICY}", _ACCESS),
    (_POLICY, "HTTPLocalRateLimitPolicy"): (
        f"httplocalratelimitpolicies.{_POLICY}",
        "no rate is limited by it",
    ),
    (_POLICY, "EgressNetwork"): (
        f"egressnetworks.{_POLICY}",
        "traffic that leaves the cluster is neither routed nor refused by it",
    ),
    ("access.smi-spec.io", "TrafficTarget"): ("traffictargets.access.smi-spec.io", _ACCESS),
    (_SMI, "TCPRoute"): (f"tcproutes.{_SMI}", "only a TrafficTarget would use it"),
    (_SMI, "UDPRoute"): (f"udproutes.{_SMI}", "only a TrafficTarget would use it"),
}
RESOURCES: Final = tuple(resource for resource, _ in UNDONE.values())
_MEANING: Final = dict(UNDONE.values())


def read_undone(
    obj: Object, resource: str, cluster_domain: str = labels.CLUSTER_DOMAIN
) -> Fragment:
    """The verdict on an object of such a kind; a UDPRoute of gateways is not ours to judge."""
    kind = as_text(obj.get("kind"))
    reader = Reader(obj, resource, kind)
    parents = read_parents(reader) if resource == UDP_ROUTES else ()
    if resource == UDP_ROUTES and not parents:
        return RouteFragment(reader.ref, reader.source, RouteKind.TCP, (), ())
    message = f"{kind} is not supported: {_MEANING[resource]}"
    problem = Problem(reader.source, "kind", NOT_SUPPORTED, message)
    return RejectedFragment(reader.ref, reader.source, (problem,), parents)
