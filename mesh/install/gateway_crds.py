"""Definitions of the Gateway API's routes, for a cluster that has none.

Written by us from the published fields, without their rules between fields: what does not fit
together is said in the status of a route. They carry no approval and say so; the project's own
definitions may be applied over them at any time, which is the better choice where one can.
They are never printed unless asked for, and not where the cluster has some already.
"""

from __future__ import annotations

from typing import Any, Final

from mesh.install.schema import AGE, FLAG, INT, TEXT, Schema, condition, list_of, object_of

GROUP: Final = "gateway.networking.k8s.io"
NAMES: Final = tuple(
    f"{plural}.{GROUP}" for plural in ("httproutes", "grpcroutes", "tlsroutes", "tcproutes")
)
_APPROVAL: Final = "unapproved, written by lightmesh; the Gateway API's own may replace it"
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
        "parentRefs": list_of(_parent_ref()),
        "rules": list_of(rule),
        "useDefaultGateways": TEXT,
    }
    if has_hostnames:
        spec["hostnames"] = list_of(TEXT)
    schema = {
        "type": "object",
        "properties": {"spec": object_of(spec), "status": _status()},
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_VERDICT, AGE],
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
    "jsonPath": '.status.parents[*].conditions[?(@.type=="Verdict")].message',
}


def _parent_ref() -> Schema:
    return object_of(
        {
            "group": {**TEXT, "default": GROUP},
            "kind": {**TEXT, "default": "Gateway"},
            "namespace": TEXT,
            "name": TEXT,
            "sectionName": TEXT,
            "port": INT,
        }
    )


def _service_ref(more: dict[str, Schema]) -> Schema:
    return object_of(
        {
            "group": {**TEXT, "default": ""},
            "kind": {**TEXT, "default": "Service"},
            "name": TEXT,
            "namespace": TEXT,
            "port": INT,
            **more,
        }
    )


def _backends(more: dict[str, Schema]) -> Schema:
    return list_of(_service_ref({"weight": {**INT, "default": 1}, **more}))


def _plain_rule() -> Schema:
    return object_of({"name": TEXT, "backendRefs": _backends({})})


def _http_rule() -> Schema:
    typed = object_of({"type": {**TEXT, "default": "Exact"}, "name": TEXT, "value": TEXT})
    path = object_of(
        {
            "type": {**TEXT, "default": "PathPrefix"},
            "value": {**TEXT, "default": "/"},
        }
    )
    match = object_of(
        {"path": path, "headers": list_of(typed), "queryParams": list_of(typed), "method": TEXT}
    )
    filters = list_of(_http_filter())
    return object_of(
        {
            "name": TEXT,
            "matches": list_of(match),
            "filters": filters,
            "backendRefs": _backends({"filters": filters}),
            "timeouts": object_of({"request": TEXT, "backendRequest": TEXT}),
            "retry": object_of({"codes": list_of(INT), "attempts": INT, "backoff": TEXT}),
            "sessionPersistence": _ANY,
        }
    )


def _grpc_rule() -> Schema:
    typed = object_of({"type": {**TEXT, "default": "Exact"}, "name": TEXT, "value": TEXT})
    method = object_of({"type": {**TEXT, "default": "Exact"}, "service": TEXT, "method": TEXT})
    filters = list_of(object_of(_common_filters()))
    return object_of(
        {
            "name": TEXT,
            "matches": list_of(object_of({"method": method, "headers": list_of(typed)})),
            "filters": filters,
            "backendRefs": _backends({"filters": filters}),
            "sessionPersistence": _ANY,
        }
    )


def _common_filters() -> dict[str, Schema]:
    pair = object_of({"name": TEXT, "value": TEXT})
    edit = object_of({"set": list_of(pair), "add": list_of(pair), "remove": list_of(TEXT)})
    return {
        "type": TEXT,
        "requestHeaderModifier": edit,
        "responseHeaderModifier": edit,
        "requestMirror": object_of(
            {
                "backendRef": _service_ref({}),
                "percent": INT,
                "fraction": object_of({"numerator": INT, "denominator": {**INT, "default": 100}}),
            }
        ),
        "extensionRef": object_of({"group": TEXT, "kind": TEXT, "name": TEXT}),
    }


def _http_filter() -> Schema:
    path = object_of({"type": TEXT, "replaceFullPath": TEXT, "replacePrefixMatch": TEXT})
    redirect = {
        "scheme": TEXT,
        "hostname": TEXT,
        "path": path,
        "port": INT,
        "statusCode": {"type": "integer", "default": 302},
    }
    cors = {
        "allowOrigins": list_of(TEXT),
        "allowMethods": list_of(TEXT),
        "allowHeaders": list_of(TEXT),
        "exposeHeaders": list_of(TEXT),
        "allowCredentials": FLAG,
        "maxAge": {**INT, "default": 5},
    }
    return object_of(
        {
            **_common_filters(),
            "requestRedirect": object_of(redirect),
            "urlRewrite": object_of({"hostname": TEXT, "path": path}),
            "cors": object_of(cors),
            "externalAuth": _ANY,
        }
    )


def _status() -> Schema:
    parent = object_of(
        {
            "parentRef": _parent_ref(),
            "controllerName": TEXT,
            "conditions": list_of(condition()),
        }
    )
    return object_of({"parents": list_of(parent)})
