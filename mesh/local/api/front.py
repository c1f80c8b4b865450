"""The way in over HTTP: who asks, may they, and which handler answers. A shell.

Everything that is refused is answered with a `Status`; a bug costs one request.
"""

from __future__ import annotations

import logging
import time
from email.utils import formatdate
from typing import Any, Final

import msgspec
from aiohttp import web

from mesh.core.errors import ApiError
from mesh.local.api import discovery, negotiate, openapi, paths, rbac, status
from mesh.local.api.authn import Authenticator
from mesh.local.api.handlers import Handlers, json_response
from mesh.local.api.paths import Target
from mesh.local.api.rbac import Action
from mesh.local.api.resources import Object, Registry, Resource
from mesh.local.api.tokens import Signer
from mesh.local.api.users import User

_LOG: Final = logging.getLogger("mesh.local.api")
_YEAR: Final = 365 * 86400  # seconds
_HEALTH: Final = ("/healthz", "/livez", "/readyz")
_LEFT_OUT: Final = {
    "attach": "attach: read the pod's log with `kubectl logs -f`",
    "portforward": (
        "port-forward: Services and pods are reachable by their address from this machine"
    ),
}


class Front:
    """Dispatches requests; keeps OpenAPI documents encoded until the registry changes."""

    def __init__(
        self, handlers: Handlers, auth: Authenticator, signer: Signer, registry: Registry
    ) -> None:
        self._handlers = handlers
        self._auth = auth
        self._signer = signer
        self._registry = registry
        self._documents: dict[tuple[int, str], bytes] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever happens."""
        try:
            return await self._route(request)
        except ApiError as error:
            return self._refuse(error)
        except (ConnectionResetError, web.HTTPException):
            raise
        except Exception:
            _LOG.exception("request failed method=%s path=%s", request.method, request.path)
            return self._refuse(status.internal("an error of mesh local; its log says more"))

    def _refuse(self, error: ApiError) -> web.Response:
        headers = {}
        if error.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(error.retry_after)))
        return json_response(status.status_object(error), code=error.code, headers=headers)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        peer = transport.get_extra_info("peercert") if transport is not None else None
        user = self._auth.authenticate(request.headers, peer)
        asked = self._auth.impersonate(user, request.headers)
        raw = request.rel_url.raw_path
        target = paths.parse(raw)
        if target is None:
            self._authorize(asked, Action(request.method.lower(), path=request.path))
            return self._document(request)
        action = action_of(request.method, target, request.query)
        self._authorize(asked, action)
        row = self._find(target)
        self._check_subresource(row, target)
        if not target.name and request.method in ("PUT", "PATCH"):
            raise status.method_not_allowed()
        return await self._handlers.handle(request, row, target, action, asked)

    def _authorize(self, user: User, action: Action) -> None:
        if rbac.decide(self._handlers.api.store, user, action).allowed:
            return
        name = f'"{action.name}" ' if action.name else ""
        what = f"{action.resource}.{action.group}" if action.group else action.resource
        if action.path:
            words = f'forbidden: User "{user.name}" {action.describe()}'
        else:
            words = f'{what} {name}is forbidden: User "{user.name}" {action.describe()}'
        details = {"name": action.name, "group": action.group, "kind": action.resource}
        raise status.StatusError(
            403, "Forbidden", words, details={k: v for k, v in details.items() if v}
        )

    def _find(self, target: Target) -> Resource:
        row = self._registry.at(target.group, target.version, target.plural)
        if row is None:
            where = f"{target.group}/{target.version}" if target.group else target.version
            raise status.no_such_thing(f"{target.plural} in {where}")
        if bool(target.namespace) and not row.namespaced:
            raise status.no_such_thing(f"{target.plural} in namespaces")
        if row.namespaced and target.name and not target.namespace:
            raise status.no_such_thing(f"{target.plural} outside of namespaces")
        return row

    def _check_subresource(self, row: Resource, target: Target) -> None:
        name = target.subresource
        if name and name not in row.subresources_of(target.version):
            words = _LEFT_OUT.get(name, f"{row.plural}/{name}")
            raise status.no_such_thing(words)

    # -- documents -------------------------------------------------------------------------

    def _document(self, request: web.Request) -> web.Response:
        path = request.path.rstrip("/") or "/"
        if path in _HEALTH or path.startswith(tuple(f"{known}/" for known in _HEALTH)):
            return web.Response(text="ok")
        if request.method not in ("GET", "HEAD"):
            raise status.method_not_allowed()
        accept = request.headers.get("Accept", "")
        match path.strip("/").split("/"):
            case ["version"]:
                return json_response(discovery.version_info())
            case ["api" | "apis" as root]:
                return self._discovery(accept, core=root == "api")
            case ["api", version]:
                return self._resources("", version)
            case ["apis", group]:
                return _or_404(discovery.group(self._registry, group), f"API group {group}")
            case ["apis", group, version]:
                return self._resources(group, version)
            case ["openapi", "v2"]:
                kind = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
                return web.Response(body=b"", headers={"Content-Type": kind})
            case ["openapi", "v3"]:
                return json_response(openapi.root(self._registry))
            case ["openapi", "v3", "api", version]:
                return self._openapi("", version, request.query.get("hash"))
            case ["openapi", "v3", "apis", group, version]:
                return self._openapi(group, version, request.query.get("hash"))
            case [".well-known", "openid-configuration"]:
                return json_response(self._issuer())
            case ["openid", "v1", "jwks"]:
                return json_response(self._signer.keys())
            case [""]:
                return json_response({"paths": ["/api", "/apis", "/openapi/v3", "/version"]})
        raise status.no_such_thing(path)

    def _discovery(self, accept: str, *, core: bool) -> web.Response:
        wanted = negotiate.aggregated_discovery(accept)
        if wanted is not None:
            found = discovery.aggregated(self._registry, core=core, api_version=wanted.version)
            return json_response(found, content_type=wanted.content_type)
        return json_response(
            discovery.api_versions() if core else discovery.group_list(self._registry)
        )

    def _resources(self, group: str, version: str) -> web.Response:
        found = discovery.resource_list(self._registry, group, version)
        return _or_404(found, f"API version {group}/{version}" if group else version)

    def _openapi(self, group: str, version: str, wanted: str | None) -> web.Response:
        key = (self._registry.generation, f"{group}/{version}")
        if key not in self._documents:
            found = openapi.document(self._registry, group, version)
            if found is None:
                raise status.no_such_thing(f"API version {group}/{version}")
            stale = [old for old in self._documents if old[0] != key[0]]
            for old in stale:
                del self._documents[old]
            self._documents[key] = msgspec.json.encode(found)
        headers = {"Content-Type": "application/json", "Vary": "Accept"}
        if wanted is not None and wanted == openapi.digest(self._registry, group, version):
            headers["Cache-Control"] = "public, immutable"
            headers["Expires"] = formatdate(time.time() + _YEAR, usegmt=True)
            headers["ETag"] = f'"{wanted}"'
        return web.Response(body=self._documents[key], headers=headers)

    def _issuer(self) -> Object:
        return {
            "issuer": self._signer.issuer,
            "jwks_uri": f"{self._signer.issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }


def action_of(method: str, target: Target, query: Any) -> Action:
    """What a request does, in the verbs of RBAC. Raises ApiError 405."""
    named = bool(target.name)
    match method:
        case "GET" | "HEAD":
            verb = "get" if named else "list"
            if not named and query.get("watch", "0").lower() in ("", "1", "true"):
                verb = "watch"
        case "POST":
            verb = "create"
        case "PUT":
            verb = "update"
        case "PATCH":
            verb = "patch"
        case "DELETE":
            verb = "delete" if named else "deletecollection"
        case _:
            raise status.method_not_allowed()
    namespace = target.namespace
    if target.plural == "namespaces" and not target.group:
        namespace = target.name
    name = target.name.rpartition(":")[0] if target.subresource == "proxy" else ""
    if verb in ("list", "watch"):
        name = _selected_name(query.get("fieldSelector", ""))
    return Action(
        verb,
        target.group,
        target.plural,
        target.subresource,
        namespace,
        name or target.name,
    )


def _selected_name(selector: str) -> str:
    """The one object that a list asks for: rules may name it (k8s.io/apiserver, requestinfo.go)."""
    for part in selector.split(","):
        key, equals, value = part.replace("==", "=").partition("=")
        if equals and key.strip() == "metadata.name":
            return value.strip()
    return ""


def _or_404(found: Object | None, what: str) -> web.Response:
    if found is None:
        raise status.no_such_thing(what)
    return json_response(found)
