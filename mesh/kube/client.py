"""An async client of the Kubernetes API: dict objects in and out, every failure an ApiError.

lightkube brings configuration, TLS and authentication (rotating service account tokens,
client certificates, exec plugins). Its own AsyncClient is left aside: it needs a class per
kind, and its watch has no read timeout, so a frozen one never heals. Watching is in
`mesh.kube.watch`. No retries here: the caller knows what may be repeated.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import exists
from types import TracebackType
from typing import Any, Final

import httpx2 as httpx
import msgspec
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import SingleConfig
from lightkube.core.exceptions import ConfigError as LightkubeConfigError

from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError
from mesh.kube.config import Access
from mesh.kube.resources import Object, Resource, find_resource
from mesh.kube.sender import Sender

TIMEOUT: Final = 10.0  # seconds for each step of a request: connect, send, first bytes
PAGE: Final = 500  # objects per page of a list

MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"

JsonPatch = list[Object]

UNREACHABLE: Final = "Unreachable"  # reason of an ApiError with code 0: no answer at all
UNTRUSTED: Final = "Untrusted"  # ... with code 0: the server's certificate is of nobody we trust
NO_CREDENTIALS: Final = "NoCredentials"  # ... with code 0: a plugin or a token file gave none
TIMED_OUT: Final = "TimedOut"  # reason of an ApiError with code 0: no answer in time


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list. `token` is "" on the last one."""

    items: list[Object]
    resource_version: str
    token: str


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Who a token belongs to, as a TokenReview says. `username` is "" when it is not valid."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] | None = None
    error: str = ""

    @property
    def service_account(self) -> tuple[str, str] | None:
        """(namespace, name) when the user is a service account."""
        parts = self.username.split(":")
        if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"]:
            return parts[2], parts[3]
        return None


class _Parameters(client_adapter.ConnectionParams):
    """Takes the API server's certificate as it is: Python 3.13 began to refuse those without an
    Authority Key Identifier, and clusters made by hand or long ago have such ones."""

    def httpx_params(self, config: SingleConfig) -> dict[str, Any]:
        found: dict[str, Any] = super().httpx_params(config)
        found["verify"].verify_flags &= ~ssl.VERIFY_X509_STRICT
        return found


class KubeClient:
    """One connection pool to one API server; use as an async context manager.

    `resource` arguments are a Resource or its name (`pods`, `deployments.apps`).
    Every method raises ApiError; code 0 means that no answer came.
    """

    def __init__(
        self,
        access: Access,
        *,
        timeout: float = TIMEOUT,
        impersonate: str = "",
        impersonate_groups: Sequence[str] = (),
        field_manager: str = labels.FIELD_MANAGER,
    ) -> None:
        self.access = access
        self._timeout = timeout
        self._field_manager = field_manager
        parameters = _Parameters(timeout=httpx.Timeout(timeout), trust_env=not access.in_cluster)
        try:
            self._http = client_adapter.AsyncClient(access.config, parameters)
        except (LightkubeConfigError, OSError, ValueError) as error:
            missing = [f"{path} does not exist" for path in _files_of(access) if not exists(path)]
            raise ConfigError(
                f"access to {access.server}: {', '.join(missing) or error}; check the kubeconfig"
            ) from error
        self._sender = Sender(self._http)
        self._http.headers["User-Agent"] = "lightmesh"
        if impersonate:
            extra = [("Impersonate-User", impersonate)]
            extra += [("Impersonate-Group", group) for group in impersonate_groups]
            self._http.headers = httpx.Headers([*self._http.headers.multi_items(), *extra])

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._sender.close()

    # -- objects ---------------------------------------------------------------------------

    async def get(
        self, resource: Resource | str, name: str, namespace: str | None = None
    ) -> Object:
        return await self.call("GET", _known(resource).path(namespace, name))

    async def list(
        self,
        resource: Resource | str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> list[Object]:
        """All objects, read in pages."""
        items: list[Object] = []
        async for page in self.list_pages(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        ):
            items += page.items
        return items

    async def list_pages(
        self,
        resource: Resource | str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[ListPage]:
        """Pages of at most 500. Items carry apiVersion and kind, which the API leaves out."""
        resource = _known(resource)
        params = {"limit": str(PAGE)} | _selectors(label_selector, field_selector)
        while True:
            answer = await self.call("GET", resource.path(namespace), params=params)
            meta = answer.get("metadata") or {}
            items = answer.get("items") or []
            for item in items:
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
            token = meta.get("continue") or ""
            yield ListPage(items, meta.get("resourceVersion", ""), token)
            if not token:
                return
            params["continue"] = token

    async def create(
        self,
        resource: Resource | str,
        obj: Object,
        *,
        namespace: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        path = _known(resource).path(namespace or _namespace_of(obj))
        return await self.call("POST", path, body=obj, params=self._writing(dry_run))

    async def replace(
        self,
        resource: Resource | str,
        obj: Object,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """PUT; a stale metadata.resourceVersion is refused with code 409."""
        name = obj["metadata"]["name"]
        path = _known(resource).path(_namespace_of(obj), name, subresource)
        return await self.call("PUT", path, body=obj, params=self._writing(dry_run))

    async def patch(
        self,
        resource: Resource | str,
        name: str,
        patch: Object | JsonPatch,
        *,
        namespace: str | None = None,
        subresource: str = "",
        content_type: str = MERGE,
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """PATCH, by default a merge patch. With APPLY, `force` takes fields over from others."""
        params = self._writing(dry_run)
        if force:
            params["force"] = "true"
        path = _known(resource).path(namespace, name, subresource)
        return await self.call("PATCH", path, body=patch, params=params, content_type=content_type)

    async def delete(
        self,
        resource: Resource | str,
        name: str,
        namespace: str | None = None,
        *,
        grace: int | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> Object:
        options: Object = {"propagationPolicy": propagation}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        path = _known(resource).path(namespace, name)
        params = {"dryRun": "All"} if dry_run else {}
        return await self.call("DELETE", path, body=options, params=params)

    # -- who and what ----------------------------------------------------------------------

    async def token_review(self, token: str, audiences: Sequence[str] = ()) -> Reviewed:
        """Whose token this is. A token for another audience is not authenticated."""
        spec = {"token": token, "audiences": list(audiences)}
        answer = await self.create("tokenreviews.authentication.k8s.io", {"spec": spec})
        status = answer.get("status") or {}
        granted = tuple(status.get("audiences") or ())
        if not status.get("authenticated"):
            return Reviewed("", error=status.get("error") or "token not authenticated")
        if audiences and not set(audiences) & set(granted):
            # An API server that ignores audiences returns none: the token proves nothing to us.
            return Reviewed("", error=f"token is for audiences {list(granted)}")
        user = status.get("user") or {}
        return Reviewed(
            username=user.get("username", ""),
            uid=user.get("uid", ""),
            groups=tuple(user.get("groups") or ()),
            audiences=granted,
            extra=user.get("extra") or {},
        )

    async def create_token(
        self, account: str, namespace: str, *, audiences: Sequence[str], seconds: int = 600
    ) -> str:
        """A token of a service account (TokenRequest); the right to create it is needed."""
        path = find_resource("serviceaccounts").path(namespace, account, "token")
        spec = {"audiences": list(audiences), "expirationSeconds": seconds}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self.call("POST", path, body=body)
        return str(answer["status"]["token"])

    async def can_i(
        self,
        verb: str,
        resource: Resource | str,
        namespace: str | None = None,
        *,
        name: str = "",
        subresource: str = "",
    ) -> bool:
        """Whether the caller may do this (SelfSubjectAccessReview)."""
        spec = {"resourceAttributes": _attributes(verb, resource, namespace, name, subresource)}
        return await self._review("selfsubjectaccessreviews.authorization.k8s.io", spec)

    async def _review(self, resource: str, spec: Object) -> bool:
        answer = await self.create(resource, {"spec": spec})
        return bool((answer.get("status") or {}).get("allowed"))

    # -- the server ------------------------------------------------------------------------

    async def version(self) -> Object:
        """`/version`: major, minor, gitVersion, ..."""
        return await self.call("GET", "/version")

    async def discover(self, resource: Resource | str) -> Resource | None:
        """The resource as this cluster serves it: our version if served, else the preferred one.

        Found by kind, since the plural of a CRD is its author's choice. None when the cluster
        does not know the kind.
        """
        resource = _known(resource)
        for version in await self._served_versions(resource):
            base = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
            answer = await self.call("GET", base)
            served = [item for item in answer.get("resources") or [] if "/" not in item["name"]]
            served.sort(key=lambda item: item["name"] != resource.plural)
            for item in served:
                if item.get("kind") == resource.kind:
                    namespaced = bool(item.get("namespaced"))
                    return Resource(
                        resource.group, version, item["name"], resource.kind, namespaced
                    )
        return None

    async def _served_versions(self, resource: Resource) -> Sequence[str]:
        if not resource.group:
            return [resource.version]
        try:
            answer = await self.call("GET", f"/apis/{resource.group}")
        except ApiError as error:
            if error.code == 404:
                return ()
            raise
        versions = [item["version"] for item in answer.get("versions") or []]
        return sorted(versions, key=lambda version: version != resource.version)

    # -- requests --------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """One JSON request; the answer's object."""
        headers = {"Content-Type": content_type} if body is not None else {}
        data = None if body is None else msgspec.json.encode(body)
        content = await self.raw(method, path, body=data, params=params, headers=headers)
        try:
            answer = msgspec.json.decode(content)
        except msgspec.DecodeError as error:
            raise ApiError(0, "BadAnswer", f"{method} {path}: expected JSON: {error}") from error
        if not isinstance(answer, dict):
            raise ApiError(0, "BadAnswer", f"{method} {path}: expected an object")
        return answer

    async def raw(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """One request; the answer's body. For what is not an object: `pods/NAME:PORT/proxy`.

        `seconds` replaces the client's own limit for each step of the request.
        """
        with _translated(f"{method} {path}"):
            request = self._http.build_request(
                method,
                path,
                content=body,
                params=dict(params or {}),
                headers=dict(headers or {}),
                timeout=httpx.Timeout(self._timeout if seconds is None else seconds),
            )
            response = await self._sender.send(request)
        if response.status_code >= 400:
            raise _refusal(response, response.content)
        return response.content

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], read_timeout: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A GET whose body arrives in pieces (watch, logs). Silence for `read_timeout` seconds
        raises ApiError with reason TimedOut."""
        timeout = httpx.Timeout(self._timeout, read=read_timeout)
        headers = {"Accept-Encoding": "identity"}
        with _translated(f"GET {path}"):
            request = self._http.build_request(
                "GET", path, params=dict(params), headers=headers, timeout=timeout
            )
            response = await self._sender.send(request, stream=True)
            try:
                if response.status_code >= 400:
                    raise _refusal(response, await response.aread())
                yield response.aiter_raw()
            finally:
                await response.aclose()

    def _writing(self, dry_run: bool) -> dict[str, str]:
        params = {"fieldManager": self._field_manager}
        return params | {"dryRun": "All"} if dry_run else params


def _files_of(access: Access) -> Sequence[str]:
    """The files that the kubeconfig names for a connection."""
    user, cluster = access.config.user, access.config.cluster
    named = (cluster.certificate_auth, user.client_cert, user.client_key) if user else ()
    return [path for path in named if path]


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Failures of the transport and of exec plugins as ApiError with code 0."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise ApiError(0, TIMED_OUT, f"{what}: no answer in time") from error
    except httpx.TransportError as error:
        detail = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in detail:
            words = f"{what}: the API server's certificate is not trusted: {detail}"
            raise ApiError(0, UNTRUSTED, words) from error
        raise ApiError(0, UNREACHABLE, f"{what}: API server not reachable: {detail}") from error
    except (LightkubeConfigError, OSError) as error:
        raise ApiError(0, NO_CREDENTIALS, f"{what}: no credentials to send: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ApiError(0, UNREACHABLE, f"{what}: {error}") from error


def _refusal(response: httpx.Response, content: bytes) -> ApiError:
    """The ApiError of an answer of 400 and more, from its Status object where there is one."""
    reason, message = response.reason_phrase or "Error", content[:200].decode("utf-8", "replace")
    retry_after = response.headers.get("retry-after", "")
    with contextlib.suppress(msgspec.DecodeError):
        status = msgspec.json.decode(content)
        if isinstance(status, dict) and status.get("kind") == "Status":
            reason = status.get("reason") or reason
            message = status.get("message") or reason
    seconds = float(retry_after) if retry_after.isdigit() else None
    return ApiError(response.status_code, reason, message, retry_after=seconds)


def _known(resource: Resource | str) -> Resource:
    return find_resource(resource) if isinstance(resource, str) else resource


def _namespace_of(obj: Object) -> str | None:
    namespace = (obj.get("metadata") or {}).get("namespace")
    return str(namespace) if namespace else None


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in chosen.items() if value}


def _attributes(
    verb: str, resource: Resource | str, namespace: str | None, name: str, subresource: str
) -> dict[str, str]:
    known = _known(resource)
    chosen = {
        "verb": verb,
        "group": known.group,
        "resource": known.plural,
        "namespace": namespace or "",
        "name": name,
        "subresource": subresource,
    }
    return {key: value for key, value in chosen.items() if value}
