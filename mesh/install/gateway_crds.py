"""Definitions of the Gateway API's routes, for a cluster that has none.

Written by us from the published fields, without their rules between fields: what does not fit
together is said in the status of a route. They carry no approval and say so; the project's own
definitions may be applied over them at any time, which is the better choice where one can.
They are never printed unless asked for, and not where the cluster has some already.
"""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

GROUP: Final = "gateway.networking.k8s.io"
NAMES: Final = tuple(
    f"{plural}.{GROUP}" for plural in ("httproutes", "grpcroutes", "tlsroutes", "tcproutes")
)
_APPROVAL: Final = "unapproved, written by lightmesh; the Gateway API's own may replace it"
_TEXT: Final[Schema] = {"type": "string"}
_INT: Final[Schema] = {"type": "integer", "format": "int32"}
_FLAG: Final[Schema] = {"type": "boolean"}
_ANY: Final[Schema] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def gateway_crds() -> list[dict[str, Any]]:
    """HTTPRoute, GRPCRoute, TLSRoute and TCPRoute, version v1."""
    return [
        _crd("HTTPRoute", _http_rule(), has_hostnames=True),
        _crd("GRPCRoute", _grpc_rule(), has_hostnames=True),
        _crd("TLSRoute", _plain_rule(), has_hostnames=True),
        _crd("TCPRoute", _plain_rule(), has_hostnames=False),
    ]


def _crd(kind: str, rule: Schema, *, has_hostnames: bool) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    spec = {
        "parentRefs": _list(_parent_ref()),
        "rules": _list(rule),
        "useDefaultGateways": _TEXT,
    }
    if has_hostnames:
        spec["hostnames"] = _list(_TEXT)
    schema = {
        "type": "object",
        "properties": {"spec": _object(spec), "status": _status()},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_VERDICT, _AGE],
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "annotations": {"api-approved.kubernetes.io": _APPROVAL},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "categories": ["gateway-api"],
            },
            "versions": [version],
        },
    }


_VERDICT: Final = {
    "name": "Verdict",
    "type": "string",
    "description": "Whether the route takes effect at its first Service, and if not, why.",
    "jsonPath": '.status.parents[*].conditions[?(@.type=="Effective")].reason',
}
_AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _parent_ref() -> Schema:
    return _object(
        {
            "group": {**_TEXT, "default": GROUP},
            "kind": {**_TEXT, "default": "Gateway"},
            "namespace": _TEXT,
            "name": _TEXT,
            "sectionName": _TEXT,
            "port": _INT,
        }
    )


def _service_ref(more: dict[str, Schema]) -> Schema:
    return _object(
        {
            "group": {**_TEXT, "default": ""},
            "kind": {**_TEXT, "default": "Service"},
            "name": _TEXT,
            "namespace": _TEXT,
            "port": _INT,
            **more,
        }
    )


def _backends(more: dict[str, Schema]) -> Schema:
    return _list(_service_ref({"weight": {**_INT, "default": 1}, **more}))


def _plain_rule() -> Schema:
    return _object({"name": _TEXT, "backendRefs": _backends({})})


def _http_rule() -> Schema:
    typed = _object({"type": {**_TEXT, "default": "Exact"}, "name": _TEXT, "value": _TEXT})
    path = _object(
        {
            "type": {**_TEXT, "default": "PathPrefix"},
            "value": {**_TEXT, "default": "/"},
        }
    )
    match = _object(
        {"path": path, "headers": _list(typed), "queryParams": _list(typed), "method": _TEXT}
    )
    filters = _list(_http_filter())
    return _object(
        {
            "name": _TEXT,
            "matches": _list(match),
            "filters": filters,
            "backendRefs": _backends({"filters": filters}),
            "timeouts": _object({"request": _TEXT, "backendRequest": _TEXT}),
            "retry": _object({"codes": _list(_INT), "attempts": _INT, "backoff": _TEXT}),
            "sessionPersistence": _ANY,
        }
    )


def _grpc_rule() -> Schema:
    typed = _object({"type": {**_TEXT, "default": "Exact"}, "name": _TEXT, "value": _TEXT})
    method = _object({"type": {**_TEXT, "default": "Exact"}, "service": _TEXT, "method": _TEXT})
    filters = _list(_object(_common_filters()))
    return _object(
        {
            "name": _TEXT,
            "matches": _list(_object({"method": method, "headers": _list(typed)})),
            "filters": filters,
            "backendRefs": _backends({"filters": filters}),
            "sessionPersistence": _ANY,
        }
    )


def _common_filters() -> dict[str, Schema]:
    pair = _object({"name": _TEXT, "value": _TEXT})
    edit = _object({"set": _list(pair), "add": _list(pair), "remove": _list(_TEXT)})
    return {
        "type": _TEXT,
        "requestHeaderModifier": edit,
        "responseHeaderModifier": edit,
        "requestMirror": _object(
            {
                "backendRef": _service_ref({}),
                "percent": _INT,
                "fraction": _object({"numerator": _INT, "denominator": {**_INT, "default": 100}}),
            }
        ),
        "extensionRef": _object({"group": _TEXT, "kind": _TEXT, "name": _TEXT}),
    }


def _http_filter() -> Schema:
    path = _object({"type": _TEXT, "replaceFullPath": _TEXT, "replacePrefixMatch": _TEXT})
    redirect = {
        "scheme": _TEXT,
        "hostname": _TEXT,
        "path": path,
        "port": _INT,
        "statusCode": {"type": "integer", "default": 302},
    }
    cors = {
        "allowOrigins": _list(_TEXT),
        "allowMethods": _list(_TEXT),
        "allowHeaders": _list(_TEXT),
        "exposeHeaders": _list(_TEXT),
        "allowCredentials": _FLAG,
        "maxAge": {**_INT, "default": 5},
    }
    return _object(
        {
            **_common_filters(),
            "requestRedirect": _object(redirect),
            "urlRewrite": _object({"hostname": _TEXT, "path": path}),
            "cors": _object(cors),
            "externalAuth": _ANY,
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
    parent = _object(
        {
            "parentRef": _parent_ref(),
            "controllerName": _TEXT,
            "conditions": _list(condition),
        }
    )
    return _object({"parents": _list(parent)})


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}
