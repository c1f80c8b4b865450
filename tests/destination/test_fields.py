"""Every field of every kind is enforced or reported: none is silent.

For each field of the schemas a sample holds it; changing it must change what is compiled, or a
problem must name the field or what it stands in.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from destination.dialects.undone import RESOURCES
from destination.fragments import Ref
from destination.store import OPTIONAL, RESOURCE_OF
from mesh.core import labels
from mesh.core.model import Problem
from mesh.install.crds import linkerd_crds, smi_crds
from mesh.install.gateway_crds import gateway_crds
from tests.destination.world import Object, World, deployed, namespace, service

# A name that other kinds may refer to, and that says nothing by itself.
LABELS = r"spec[.]matches\[\d+\][.]name"
OTHERS = Path(__file__).parents[1] / "cluster" / "published"
PUBLISHED = Path(__file__).parent / "published_fields.txt"

EDIT = "{set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}"
MIRROR = "{type: RequestMirror, requestMirror: {backendRef: {group: '', kind: Service, name: api,"
MIRROR += " namespace: shop, port: 80}, "
PLAIN = f"""
- {{type: RequestHeaderModifier, requestHeaderModifier: {EDIT}}}
- {{type: ResponseHeaderModifier, responseHeaderModifier: {EDIT}}}
- {MIRROR} percent: 5}}}}
- {MIRROR} fraction: {{numerator: 1, denominator: 9}}}}}}
"""
EXTENSION = "[{type: ExtensionRef, extensionRef: {group: a, kind: b, name: c}}]"
CORS = """
{allowOrigins: [a], allowMethods: [GET], allowHeaders: [b], exposeHeaders: [c],
 allowCredentials: true, maxAge: 7}
"""
HTTP_FILTERS = [
    PLAIN,
    EXTENSION,
    f"[{{type: CORS, cors: {CORS}}}]",
    "[{type: URLRewrite, urlRewrite: {hostname: a, path: {type: ReplaceFullPath,"
    " replaceFullPath: /x}}}]",
    "[{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}]",
    "[{type: RequestRedirect, requestRedirect: {scheme: http, hostname: a, port: 81,"
    " statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /x}}}]",
    "[{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch,"
    " replacePrefixMatch: /x}}}]",
    "[{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: a}}}]",
]
BACKEND = "group: '', kind: Service, name: api, namespace: shop, port: 80, weight: 3"
PARENT = "{group: '', kind: Service, namespace: shop, name: web, port: 80, sectionName: http}"
HTTP_RULE = """
name: one
matches:
- path: {type: PathPrefix, value: /a}
  method: GET
  headers: [{type: Exact, name: h, value: "1"}]
  queryParams: [{type: Exact, name: q, value: "1"}]
timeouts: {request: 9s, backendRequest: 2s}
retry: {codes: [503], attempts: 2, backoff: 50ms}
sessionPersistence: {sessionName: a}
"""
GRPC_RULE = """
name: one
matches:
- method: {type: Exact, service: a, method: b}
  headers: [{type: Exact, name: h, value: "1"}]
sessionPersistence: {sessionName: a}
"""


def load(text: str) -> Any:
    return yaml.safe_load(text)


def routed(kind: str, rules: list[Any], **spec: Any) -> dict[str, Any]:
    api = "gateway.networking.k8s.io/v1"
    return sample(api, kind, "route", {"parentRefs": [load(PARENT)], "rules": rules} | spec)


def sample(api: str, kind: str, name: str, spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}


def with_filters(kind: str, rule: str, lists: list[str]) -> list[dict[str, Any]]:
    """A route with each list of filters on its rule, and one with it on its backend."""
    made = []
    for text in lists:
        filters = load(text)
        backend = load(f"{{{BACKEND}}}")
        outer = load(rule) | {"filters": filters, "backendRefs": [backend]}
        inner = load(rule) | {"backendRefs": [backend | {"filters": filters}, {"name": "web"}]}
        more = {"hostnames": ["a"], "useDefaultGateways": "All"}
        made += [routed(kind, [outer], **more), routed(kind, [inner], **more)]
    return made


PLAIN_RULE = {"name": "one", "backendRefs": [load(f"{{{BACKEND}}}"), {"name": "web"}]}
CONDITION = {"pathRegex": "/a", "method": "GET"}
PROFILE = {
    "routes": [
        {
            "name": "a",
            "condition": CONDITION,
            "isRetryable": True,
            "timeout": "1s",
            "responseClasses": [
                {"condition": {"status": {"min": 500, "max": 503}}, "isFailure": True},
                {"condition": {"statusCode": 404}},
                {"condition": {"all": [{"statusCode": 404}]}},
                {"condition": {"any": [{"statusCode": 404}]}},
                {"condition": {"not": {"statusCode": 404}}},
            ],
        },
        {"name": "b", "condition": {"path": "/b"}},
        {"name": "c", "condition": {"all": [CONDITION]}},
        {"name": "d", "condition": {"any": [CONDITION]}},
        {"name": "e", "condition": {"not": CONDITION}},
    ],
    "retryBudget": {"retryRatio": 0.5, "minRetriesPerSecond": 3, "ttl": "9s"},
    "dstOverrides": [{"authority": "api.shop", "weight": 3}, {"authority": "web", "weight": 1}],
    "opaquePorts": ["80"],
}
WEIGHTS = [{"service": "web", "weight": 9}, {"service": "api", "weight": 1}]
GROUPS = [{"kind": "HTTPRouteGroup", "name": "g", "apiGroup": "specs.smi-spec.io"}]
REQUEST = {"name": "a", "methods": ["GET"], "pathRegex": "/a", "headers": {"x": "y"}}
SMI = "split.smi-spec.io/v1alpha4"
SPLIT = sample(SMI, "TrafficSplit", "s", {"service": "web", "backends": WEIGHTS, "matches": GROUPS})
OTHER = {"service": "web", "allocation": WEIGHTS}
GROUP = sample("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", "g", {"matches": [REQUEST]})
GRANT = load("""
from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: team}]
to: [{group: "", kind: Service, name: api}]
""")
GUEST = load("""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: guest, namespace: team}
spec:
  parentRefs: [{group: "", kind: Service, name: front}]
  rules: [{backendRefs: [{name: api, namespace: shop, port: 80}]}]
""")

SAMPLES: list[dict[str, Any]] = [
    *with_filters("HTTPRoute", HTTP_RULE, HTTP_FILTERS),
    *with_filters("GRPCRoute", GRPC_RULE, [PLAIN, EXTENSION]),
    routed("TLSRoute", [PLAIN_RULE], hostnames=["a.example"], useDefaultGateways="All"),
    routed("TCPRoute", [PLAIN_RULE], useDefaultGateways="All"),
    sample("linkerd.io/v1alpha2", "ServiceProfile", "web.shop.svc.cluster.local", PROFILE),
    SPLIT,
    sample(SMI, "TrafficSplit", "s", OTHER),
    sample("linkerd.io/v1alpha2", "TrafficSplit", "s", SPLIT["spec"]),
    sample("linkerd.io/v1alpha2", "TrafficSplit", "s", OTHER),
    GROUP,
    sample("gateway.networking.k8s.io/v1", "ReferenceGrant", "g", GRANT),
    *(
        sample("policy.linkerd.io/v1beta3", "HTTPRoute", "route", found["spec"])
        for found in with_filters("HTTPRoute", HTTP_RULE, HTTP_FILTERS)
    ),
]
# Every version of every kind that clusters serve, or have served.
VERSIONS = {
    ("linkerd.io", "ServiceProfile"): ("v1alpha1", "v1alpha2"),
    ("linkerd.io", "TrafficSplit"): ("v1alpha2",),
    ("split.smi-spec.io", "TrafficSplit"): ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    ("specs.smi-spec.io", "HTTPRouteGroup"): ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    ("gateway.networking.k8s.io", "HTTPRoute"): ("v1alpha2", "v1beta1", "v1"),
    ("gateway.networking.k8s.io", "GRPCRoute"): ("v1alpha2", "v1"),
    ("gateway.networking.k8s.io", "TLSRoute"): ("v1alpha2", "v1alpha3", "v1"),
    ("gateway.networking.k8s.io", "TCPRoute"): ("v1alpha2", "v1"),
    ("gateway.networking.k8s.io", "ReferenceGrant"): ("v1alpha2", "v1beta1", "v1"),
    ("policy.linkerd.io", "HTTPRoute"): ("v1alpha1", "v1beta1", "v1beta2", "v1beta3"),
}
CRDS = {
    (crd["spec"]["group"], crd["spec"]["names"]["kind"]): crd
    for crd in (*linkerd_crds(), *smi_crds(), *gateway_crds())
}


def schema_fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    """The leaves of a schema: `spec.rules[].name`."""
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from schema_fields(inner, f"{path}.{name}")
    elif schema.get("type") == "array":
        yield from schema_fields(schema["items"], f"{path}[]")
    else:
        yield path


def published_fields(kind: str) -> set[str]:
    lines = [line.split() for line in PUBLISHED.read_text().splitlines()]
    return {line[1] for line in lines if line and line[0] == kind}


def fields_of(group: str, kind: str) -> set[str]:
    crd = CRDS.get((group, kind)) or CRDS.get(("gateway.networking.k8s.io", kind))
    if crd is None:
        return published_fields(kind)
    tree = crd["spec"]["versions"][-1]["schema"]["openAPIV3Schema"]
    return set(schema_fields(tree["properties"]["spec"], "spec"))


def leaves(value: Any, path: str) -> Iterator[str]:
    """The leaves of an object with their places: `spec.rules[0].name`."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path


def changed(obj: dict[str, Any], path: str) -> dict[str, Any]:
    """The object with another value at one place."""
    made = copy.deepcopy(obj)
    steps = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]
    *outer, last = steps
    at: Any = made
    for step in outer:
        at = at[step]
    old = at[last]
    if isinstance(old, bool):
        at[last] = not old
    elif isinstance(old, int | float):
        at[last] = old + 1
    else:
        at[last] = f"{old}x"
    return made


def world_with(obj: Object) -> World:
    ports = {"http": 80, "alt": 81}
    others = [GROUP, SPLIT] if obj["kind"] == "HTTPRouteGroup" else [GROUP]
    if obj["kind"] == "ReferenceGrant":
        asks = namespace("shop", **{"mesh/reference-grants": "required"})
        others += [asks, service("front", ip="10.96.0.3", namespace="team"), GUEST]
    return World(
        [
            *deployed("web", ip="10.96.0.1", pod_ip="10.1.0.1", ports=ports),
            *deployed("api", ip="10.96.0.2", pod_ip="10.1.0.2", ports=ports),
            *(other for other in others if other["kind"] != obj["kind"]),
            obj,
        ]
    )


def effect(obj: Object) -> tuple[Any, list[str]]:
    """What an object makes of the cluster, and the fields that problems name."""
    world = world_with(obj)
    units = {
        key: [
            (port.routing, port.targets, port.service, port.protocol)
            for port in unit.ports.values()
        ]
        for key, unit in world.snapshot.units.items()
    }
    group = obj["apiVersion"].partition("/")[0]
    ref = Ref(RESOURCE_OF[group, obj["kind"]], "shop", obj["metadata"]["name"])
    outcome = world.snapshot.outcomes.get(ref)
    return (units, outcome), [_reach(problem) for problem in outcome.problems] if outcome else []


def _reach(problem: Problem) -> str:
    """The part of the object that a problem speaks of: a filter that cannot be done takes the
    whole rule or backend that it stands on with it."""
    if problem.reason in ("UnsupportedFilter", "InvalidFilter"):
        return problem.path.rpartition(".filters[")[0]
    return problem.path


@pytest.mark.parametrize("key", VERSIONS, ids=lambda key: f"{key[1]}.{key[0]}")
def test_the_samples_hold_every_field_of_the_schema(key: tuple[str, str]) -> None:
    group, kind = key
    held = {
        re.sub(r"\[\d+\]", "[]", leaf)
        for obj in SAMPLES
        if obj["kind"] == kind and obj["apiVersion"].startswith(f"{group}/")
        for leaf in leaves(obj["spec"], "spec")
    }

    missing = {
        field
        for field in fields_of(group, kind)
        if field not in held
        and not any(leaf.startswith((f"{field}.", f"{field}[")) for leaf in held)
    }

    assert missing == set()


def test_every_kind_that_acts_has_samples_and_versions_here() -> None:
    acting = {
        key
        for key, resource in RESOURCE_OF.items()
        if resource in OPTIONAL and resource not in RESOURCES
    }

    assert set(VERSIONS) == acting
    assert {(obj["apiVersion"].partition("/")[0], obj["kind"]) for obj in SAMPLES} == acting


@pytest.mark.parametrize(
    ("key", "index"), [(k, i) for k, v in VERSIONS.items() for i in range(len(v))]
)
def test_all_versions_of_a_kind_mean_the_same(key: tuple[str, str], index: int) -> None:
    group, kind = key
    for obj in SAMPLES:
        if obj["kind"] == kind and obj["apiVersion"].startswith(f"{group}/"):
            other = obj | {"apiVersion": f"{group}/{VERSIONS[key][index]}"}

            assert effect(other) == effect(obj)


def test_a_group_of_routes_may_have_its_matches_on_top_as_its_first_versions_did() -> None:
    first = {key: value for key, value in GROUP.items() if key != "spec"}
    first |= {"apiVersion": "specs.smi-spec.io/v1alpha1", "matches": GROUP["spec"]["matches"]}

    assert effect(first) == effect(GROUP)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("serviceprofile", ("linkerd.io", "ServiceProfile")),
        ("trafficsplit", ("split.smi-spec.io", "TrafficSplit")),
    ],
)
def test_our_definitions_have_every_field_of_linkerds_and_smis(
    name: str, key: tuple[str, str]
) -> None:
    crd, *_ = yaml.safe_load_all((OTHERS / f"{name}.yaml").read_text())
    spec = crd["spec"]
    schemas = [
        found["openAPIV3Schema"]
        for version in spec["versions"]
        for found in (version.get("schema") or spec.get("validation"),)
        if found is not None
    ]

    assert schemas
    ours = fields_of(*key)
    for schema in schemas:
        published = set(schema_fields(schema["properties"]["spec"], "spec"))
        assert {
            field
            for field in published - ours
            if not any(field.startswith((f"{known}.", f"{known}[")) for known in ours)
        } == set()


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"])
def test_our_definitions_have_every_published_field(kind: str) -> None:
    ours = fields_of("gateway.networking.k8s.io", kind)
    published = published_fields(kind)

    assert len(published) > 10
    assert [
        field
        for field in published
        if field not in ours and not any(field.startswith(f"{known}.") for known in ours)
    ] == []


@pytest.mark.parametrize("index", range(len(SAMPLES)))
def test_no_field_is_silent(index: int) -> None:
    obj = SAMPLES[index]
    before, reported = effect(obj)

    silent = []
    for leaf in leaves(obj["spec"], "spec"):
        if leaf.startswith(tuple(reported)) or re.fullmatch(LABELS, leaf):
            continue
        after, named = effect(changed(obj, leaf))
        if after == before and leaf not in named:
            silent.append(leaf)

    assert silent == []


@pytest.mark.parametrize("name", sorted(labels.ROUTE_ANNOTATION_BY_NAME))
def test_no_annotation_of_a_service_is_silent(name: str) -> None:
    def compiled(notes: dict[str, str]) -> Any:
        world = World([service("web", annotations=notes)])
        port = world.snapshot.units["shop", "web"].ports[80]
        return (
            port.routing,
            port.service.policy,
            world.snapshot.outcomes.get(Ref("services", "shop", "web")),
        )

    kind = labels.ROUTE_ANNOTATION_BY_NAME[name].kind
    values = {
        "statuses": "5xx",
        "grpc-codes": "internal",
        "duration": "5s",
        "choice": "consecutive",
        "balancer": "random",
    }
    switch = {"balancer.linkerd.io/failure-accrual": "consecutive"}
    others = (
        {} if name in ("mesh/failure-accrual", *switch) else switch | {"mesh/retry-http": "500"}
    )

    good = others | {name: values.get(kind, "3")}
    bad = others | {name: "?"}

    assert compiled(good) != compiled(others)
    assert compiled(bad)[2] is not None


def test_session_affinity_which_has_no_effect_is_said_of_a_service() -> None:
    def found(**spec: Any) -> list[str]:
        world = World([service("web", sessionAffinity="ClientIP", **spec)])
        outcome = world.snapshot.outcomes.get(Ref("services", "shop", "web"))
        return [problem.path for problem in outcome.problems] if outcome is not None else []

    assert found() == ["spec.sessionAffinity"]
    assert found(clusterIP="None", clusterIPs=["None"]) == []
