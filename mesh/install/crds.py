"""CustomResourceDefinitions: ServiceProfile and TrafficSplit, as supersets of what is published.

One union schema serves all versions of a kind, with conversion None and one storage version,
so that applying ours over an existing definition keeps every stored object readable. Fields
that people write although no mesh ever defined them (`allocation`, `path`, `statusCode`) are
listed, so they are kept and other misspellings still warn. Nothing is `required` that some
published version leaves out: the verdict in the status says what is missing.
"""

from __future__ import annotations

from typing import Any, Final

from mesh.install.schema import AGE, INT, TEXT, Schema, condition, list_of, object_of

SERVICE_PROFILE_VERSIONS: Final = ("v1alpha1", "v1alpha2")
SPLIT_VERSIONS: Final = ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4")

_ANY: Final[Schema] = {"x-kubernetes-preserve-unknown-fields": True}
_NESTED: Final[Schema] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def linkerd_crds() -> list[dict[str, Any]]:
    """ServiceProfile, and the TrafficSplit that people write under Linkerd's group.

    The latter has a plural of its own: with the common one `kubectl get trafficsplit` would
    pick this group, since linkerd.io sorts before split.smi-spec.io, and show nothing.
    """
    profile = _crd(
        "linkerd.io",
        plural="serviceprofiles",
        kind="ServiceProfile",
        short="sp",
        versions=SERVICE_PROFILE_VERSIONS,
        storage="v1alpha2",
        spec=_service_profile(),
        columns=[],
    )
    split = _crd(
        "linkerd.io",
        plural="linkerdtrafficsplits",
        kind="TrafficSplit",
        short="",
        versions=("v1alpha2",),
        storage="v1alpha2",
        spec=_traffic_split(),
        columns=[_APEX],
    )
    return [profile, split]


def smi_crds() -> list[dict[str, Any]]:
    """TrafficSplit and HTTPRouteGroup, each in all four published versions."""
    group = _crd(
        "specs.smi-spec.io",
        plural="httproutegroups",
        kind="HTTPRouteGroup",
        short="rg",
        versions=SPLIT_VERSIONS,
        storage="v1alpha4",
        spec=object_of({"matches": list_of(_request())}),
        columns=[],
    )
    for version in group["spec"]["versions"]:  # where v1alpha1 and v1alpha2 have them
        properties = version["schema"]["openAPIV3Schema"]["properties"]
        properties["matches"] = list_of(_request())
    return [
        _crd(
            "split.smi-spec.io",
            plural="trafficsplits",
            kind="TrafficSplit",
            short="ts",
            versions=SPLIT_VERSIONS,
            storage="v1alpha4",
            spec=_traffic_split(),
            columns=[_APEX],
        ),
        group,
    ]


_APEX: Final = {
    "name": "Service",
    "type": "string",
    "description": "The service whose traffic is split.",
    "jsonPath": ".spec.service",
}
_VERDICT: Final = {
    "name": "Verdict",
    "type": "string",
    "description": "Whether the object takes effect, and if not, why.",
    "jsonPath": ".status.verdict",
}


def _crd(
    group: str,
    *,
    plural: str,
    kind: str,
    short: str,
    versions: tuple[str, ...],
    storage: str,
    spec: Schema,
    columns: list[dict[str, Any]],
) -> dict[str, Any]:
    names: dict[str, Any] = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": plural.removesuffix("s"),
    }
    if short:
        names["shortNames"] = [short]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "conversion": {"strategy": "None"},
            "names": names,
            "versions": [
                _version(name, spec, columns, is_stored=name == storage) for name in versions
            ],
        },
    }


def _version(
    name: str, spec: Schema, columns: list[dict[str, Any]], *, is_stored: bool
) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec, "status": _status()}}
    return {
        "name": name,
        "served": True,
        "storage": is_stored,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [*columns, _VERDICT, AGE],
        "schema": {"openAPIV3Schema": schema},
    }


def _traffic_split() -> Schema:
    backend = object_of(
        {
            "service": {**TEXT, "description": "Name of a Service in this namespace."},
            "weight": {
                **_ANY,  # published as number, and as quantity before: 0.5 must pass as well
                "description": "Share relative to the other backends: 90, 500m, 1 or 0.5.",
            },
        }
    )
    match = object_of({"kind": TEXT, "name": TEXT, "apiGroup": TEXT})
    return object_of(
        {
            "service": {**TEXT, "description": "The service whose traffic is split."},
            "backends": {
                "type": "array",
                "items": backend,
                "description": "The services that share the traffic.",
            },
            "allocation": {
                "type": "array",
                "items": backend,
                "description": "Another spelling of backends.",
            },
            "matches": {
                "type": "array",
                "items": match,
                "description": "HTTPRouteGroups that limit the split to some requests.",
            },
        }
    )


def _request() -> Schema:
    """One description of requests in an HTTPRouteGroup."""
    return object_of(
        {
            "name": TEXT,
            "methods": list_of(TEXT),
            "pathRegex": {**TEXT, "description": "Regular expression for the whole path."},
            "headers": {
                **_ANY,  # a mapping of names to patterns, or a list of such mappings
                "description": "Regular expressions for the values of headers, by name.",
            },
        }
    )


def _service_profile() -> Schema:
    budget = object_of(
        {
            "retryRatio": {"type": "number", "format": "float"},
            "minRetriesPerSecond": INT,
            "ttl": TEXT,
        }
    )
    override = object_of({"authority": TEXT, "weight": {"x-kubernetes-int-or-string": True}})
    return object_of(
        {
            "routes": list_of(_route()),
            "retryBudget": budget,
            "dstOverrides": list_of(override),
            "opaquePorts": list_of(TEXT),
        }
    )


def _route() -> Schema:
    combined = {"all": list_of(_NESTED), "any": list_of(_NESTED), "not": _ANY}
    request = object_of(
        {
            "pathRegex": {**TEXT, "description": "Regular expression for the whole path."},
            "path": {**TEXT, "description": "The exact path."},
            "method": TEXT,
            **combined,
        }
    )
    response = object_of(
        {
            "status": object_of({"min": INT, "max": INT}),
            "statusCode": {**INT, "description": "Short for status with min and max equal."},
            **combined,
        }
    )
    classes = object_of({"condition": response, "isFailure": {"type": "boolean"}})
    return object_of(
        {
            "name": TEXT,
            "condition": request,
            "responseClasses": list_of(classes),
            "isRetryable": {"type": "boolean"},
            "timeout": {**TEXT, "description": "A duration such as 300ms."},
        }
    )


def _status() -> Schema:
    problem = object_of({"path": TEXT, "reason": TEXT, "message": TEXT})
    return {
        "type": "object",
        "description": "What the mesh made of this object.",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            "verdict": {
                **TEXT,
                "description": "Effective, Partial, Rejected, or Shadowed by another object.",
            },
            "conditions": list_of(condition()),
            "problems": list_of(problem),
        },
    }
