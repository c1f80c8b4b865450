"""CustomResourceDefinitions: ServiceProfile and TrafficSplit, as supersets of what is published.

One union schema serves all versions of a kind, with conversion None and one storage version,
so that applying ours over an existing definition keeps every stored object readable. Fields
that people write although no mesh ever defined them (`allocation`, `path`, `statusCode`) are
listed, so they are kept and other misspellings still warn. Nothing is `required` that some
published version leaves out: the verdict in the status says what is missing.
"""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

SERVICE_PROFILE_VERSIONS: Final = ("v1alpha1", "v1alpha2")
SPLIT_VERSIONS: Final = ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4")

_TEXT: Final[Schema] = {"type": "string"}
_INT: Final[Schema] = {"type": "integer", "format": "int32"}
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
        spec=_object({"matches": _array(_request())}),
        columns=[],
    )
    for version in group["spec"]["versions"]:  # where v1alpha1 and v1alpha2 have them
        properties = version["schema"]["openAPIV3Schema"]["properties"]
        properties["matches"] = _array(_request())
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
_AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


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
        "additionalPrinterColumns": [*columns, _VERDICT, _AGE],
        "schema": {"openAPIV3Schema": schema},
    }


def _traffic_split() -> Schema:
    backend = _object(
        {
            "service": {**_TEXT, "description": "Name of a Service in this namespace."},
            "weight": {
                **_ANY,  # published as number, and as quantity before: 0.5 must pass as well
                "description": "Share relative to the other backends: 90, 500m, 1 or 0.5.",
            },
        }
    )
    match = _object({"kind": _TEXT, "name": _TEXT, "apiGroup": _TEXT})
    return _object(
        {
            "service": {**_TEXT, "description": "The service whose traffic is split."},
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
    return _object(
        {
            "name": _TEXT,
            "methods": _array(_TEXT),
            "pathRegex": {**_TEXT, "description": "Regular expression for the whole path."},
            "headers": {
                **_ANY,  # a mapping of names to patterns, or a list of such mappings
                "description": "Regular expressions for the values of headers, by name.",
            },
        }
    )


def _service_profile() -> Schema:
    budget = _object(
        {
            "retryRatio": {"type": "number", "format": "float"},
            "minRetriesPerSecond": _INT,
            "ttl": _TEXT,
        }
    )
    override = _object({"authority": _TEXT, "weight": {"x-kubernetes-int-or-string": True}})
    return _object(
        {
            "routes": _array(_route()),
            "retryBudget": budget,
            "dstOverrides": _array(override),
            "opaquePorts": _array(_TEXT),
        }
    )


def _route() -> Schema:
    combined = {"all": _array(_NESTED), "any": _array(_NESTED), "not": _ANY}
    request = _object(
        {
            "pathRegex": {**_TEXT, "description": "Regular expression for the whole path."},
            "path": {**_TEXT, "description": "The exact path."},
            "method": _TEXT,
            **combined,
        }
    )
    response = _object(
        {
            "status": _object({"min": _INT, "max": _INT}),
            "statusCode": {**_INT, "description": "Short for status with min and max equal."},
            **combined,
        }
    )
    classes = _object({"condition": response, "isFailure": {"type": "boolean"}})
    return _object(
        {
            "name": _TEXT,
            "condition": request,
            "responseClasses": _array(classes),
            "isRetryable": {"type": "boolean"},
            "timeout": {**_TEXT, "description": "A duration such as 300ms."},
        }
    )


def _status() -> Schema:
    condition = _object(
        {
            "type": _TEXT,
            "status": _TEXT,
            "reason": _TEXT,
            "message": _TEXT,
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64"},
        }
    )
    problem = _object({"path": _TEXT, "reason": _TEXT, "message": _TEXT})
    return {
        "type": "object",
        "description": "What the mesh made of this object.",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            "verdict": {
                **_TEXT,
                "description": "Effective, Partial, Rejected, or Shadowed by another object.",
            },
            "conditions": _array(condition),
            "problems": _array(problem),
        },
    }


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}
