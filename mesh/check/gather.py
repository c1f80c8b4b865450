"""The shell of check: reads every fact at the same time and never raises.

A read that fails is a fact as well. Reads are bounded in time, so that one hanging kind of
object cannot hold up the rest.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.streams.tls
import anyio.to_thread
import msgspec

from mesh.check import before, installed
from mesh.check.catalogue import Mode
from mesh.check.facts import Facts, Handshake, Read, Right, Skew
from mesh.check.packages import find_clashes
from mesh.check.trust import CERTIFICATE_KEY
from mesh.check.waiting import ask_leaves, ask_proxies, ask_roles
from mesh.check.webhook import probe_namespace, probe_pod
from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError
from mesh.core.report import ProxiesAnswer, ProxyStatus, WatchStatus
from mesh.kube.client import KubeClient
from mesh.kube.clock import measure_skew
from mesh.kube.config import find_access
from mesh.kube.pods import is_leaving, is_meshed, is_ready, labels_of, name_of, namespace_of
from mesh.kube.resources import Object
from mesh.kube.served import ROUTING, list_served
from mesh.kube.viewer import ask_destination

T = TypeVar("T")

Job = Callable[[], Coroutine[Any, Any, None]]

READ_SECONDS = 10.0  # longest one read may take
_HANDSHAKE_SECONDS = 1.0
_proxies = msgspec.json.Decoder(ProxiesAnswer)


@dataclass(frozen=True, slots=True)
class Request:
    """What to look at: the cluster, the mesh in it, and how far."""

    mode: Mode = Mode.DEFAULT
    kubeconfig: str | None = None
    context: str | None = None
    mesh_namespace: str = labels.MESH_NAMESPACE
    namespace: str | None = None
    port_forward: tuple[str, ...] = ()


async def gather(request: Request) -> Facts:
    """All facts that the mode's checks ask for."""
    values: dict[str, Any] = {"clashes": await anyio.to_thread.run_sync(find_clashes)}
    try:
        access = find_access(request.kubeconfig, request.context)
        async with KubeClient(access) as client:
            values["server"] = access.server
            await _Gathering(client, request, values).run()
    except ConfigError as error:
        values["access_error"] = str(error)
    except Exception as error:  # the last line of defence: a check never ends in a traceback
        values["access_error"] = f"reading the cluster failed: {_innermost(error)!r}"
    return Facts(
        now=time.time(),
        mesh_namespace=request.mesh_namespace,
        namespace=request.namespace,
        **values,
    )


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def read(call: Callable[[], Awaitable[T]]) -> Read[T]:
    """The value of one read, or the ApiError that came instead; late counts as failed."""
    try:
        with anyio.fail_after(READ_SECONDS):
            return Read(got=await call())
    except ApiError as error:
        return Read(error=error)
    except TimeoutError:
        return Read(error=ApiError(0, "TimedOut", f"no answer within {READ_SECONDS:g} s"))
    except (AttributeError, KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        return Read(error=ApiError(0, "BadAnswer", f"an answer of an unexpected form: {error!r}"))


class _Gathering:
    """One round of reads; `values` fills up with the fields of Facts."""

    def __init__(self, client: KubeClient, request: Request, values: dict[str, Any]) -> None:
        self._client = client
        self._request = request
        self._values = values

    async def run(self) -> None:
        """Stops after /version when even that does not answer: the rest would only wait."""
        self._values["version"] = await read(self._client.version)
        if self._values["version"].error is not None:
            return
        jobs: list[Job] = [self._skew, self._rights, *self._lists()]
        if self._request.mode is not Mode.PRE:
            jobs += [self._pods_and_proxies, self._dry_run]
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(job)
        if self._request.mode is Mode.PROXY:
            await self._leaves()

    async def _leaves(self) -> None:
        """Of proxies without a stream to destination, which tell nobody by themselves."""
        proxies: Read[ProxiesAnswer] = self._values["proxies"]
        there = {(p.namespace, p.pod) for p in (proxies.got.proxies if proxies.got else ())}
        pods = [
            pod
            for pod in self._values["pods"].got or ()
            if is_meshed(pod) and (namespace_of(pod), name_of(pod)) not in there
        ]
        self._values["leaves"] = await ask_leaves(self._client, pods)

    def _lists(self) -> list[Job]:
        mesh, mode = self._request.mesh_namespace, self._request.mode
        webhooks = "webhookconfigurations.admissionregistration.k8s.io"
        jobs = [
            self._list("crds", "customresourcedefinitions.apiextensions.k8s.io"),
            self._list("mutating", f"mutating{webhooks}"),
            self._list("node_leases", "leases.coordination.k8s.io", "kube-node-lease"),
            self._get("config", "configmaps", labels.CONFIG_MAP),
        ]
        if mode is Mode.PRE:
            return [*jobs, self._list("namespaces", "namespaces")]
        jobs += [
            self._list("mesh_deployments", "deployments.apps", mesh),
            self._list("mesh_services", "services", mesh),
            self._list("mesh_accounts", "serviceaccounts", mesh),
            self._list("mesh_events", "events", mesh),
            self._list("validating", f"validating{webhooks}"),
            self._issuer,
        ]
        if mode is Mode.PROXY:
            jobs += [self._pods, self._refused, self._routing]
        return jobs

    def _list(self, name: str, resource: str, namespace: str | None = None) -> Job:
        async def job() -> None:
            self._values[name] = await read(lambda: self._client.list(resource, namespace))

        return job

    def _get(self, name: str, resource: str, obj: str) -> Job:
        async def job() -> None:
            where = self._request.mesh_namespace
            self._values[name] = await read(lambda: self._client.get(resource, obj, where))

        return job

    async def _pods(self) -> None:
        """Those whose proxy is not ready are asked what it waits for."""
        pods = await read(lambda: self._client.list("pods", self._request.namespace))
        self._values["waits"] = await ask_proxies(self._client, pods.got or [])
        self._values["pods"] = pods

    async def _refused(self) -> None:
        """Only what controllers say of pods that they could not make."""
        where, chosen = self._request.namespace, "reason=FailedCreate"
        self._values["refused"] = await read(
            lambda: self._client.list("events", where, field_selector=chosen)
        )

    async def _routing(self) -> None:
        where = self._request.namespace
        self._values["routing"] = await read(lambda: list_served(self._client, ROUTING, where))

    async def _issuer(self) -> None:
        """Only the certificate is kept: the key is nobody's business here."""

        async def certificate() -> Object:
            where = self._request.mesh_namespace
            secret = await self._client.get("secrets", labels.ISSUER_SECRET, where)
            data = secret.get("data") or {}
            return {"data": {CERTIFICATE_KEY: data.get(CERTIFICATE_KEY)}}

        self._values["issuer"] = await read(certificate)

    async def _skew(self) -> None:
        async def measure() -> Skew:
            ahead, within = await measure_skew(self._client)
            return Skew(ahead, within)

        self._values["skew"] = await read(measure)

    async def _rights(self) -> None:
        module = before if self._request.mode is Mode.PRE else installed
        rights: dict[Right, Read[bool]] = {}

        async def review(right: Right) -> None:
            rights[right] = await read(
                lambda: self._client.can_i(
                    right.verb,
                    right.resource,
                    right.namespace,
                    name=right.name,
                    subresource=right.subresource,
                )
            )

        async with anyio.create_task_group() as tasks:
            for right in module.needed_rights(self._request.mesh_namespace):
                tasks.start_soon(review, right)
        self._values["rights"] = rights

    async def _dry_run(self) -> None:
        namespaces = await read(lambda: self._client.list("namespaces"))
        self._values["namespaces"] = namespaces
        where = probe_namespace(namespaces.got or [], self._request.mesh_namespace)
        pod = probe_pod(where)
        self._values["dry_run"] = await read(
            lambda: self._client.create("pods", pod, namespace=where, dry_run=True)
        )

    async def _pods_and_proxies(self) -> None:
        """The control plane's pods first: they say whom to ask."""
        mesh = self._request.mesh_namespace
        pods = await read(lambda: self._client.list("pods", mesh))
        self._values["mesh_pods"] = pods
        roots = await read(lambda: self._client.get("configmaps", labels.TRUST_ROOTS, mesh))
        self._values["trust_roots"] = roots
        if pods.error is not None:
            self._values["proxies"] = Read(error=pods.error)
            return
        self._values["mesh_waits"] = await ask_roles(self._client, pods.got or [])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._proxies, pods.got or [])
            tasks.start_soon(self._handshakes, pods.got or [], roots.got or {})

    async def _proxies(self, pods: Sequence[Object]) -> None:
        self._values["proxies"] = await read(lambda: self._ask_proxies(_role(pods, "destination")))

    async def _ask_proxies(self, pods: Sequence[Object]) -> ProxiesAnswer:
        """The answers of all destinations as one. Raises ApiError when one gives none."""
        if not pods:
            raise ApiError(0, "NoDestination", "no destination pod is ready")
        answers = await ask_destination(
            self._client,
            self._request.mesh_namespace,
            "/v1/proxies",
            pods=pods,
            port_forward=self._request.port_forward,
        )
        bundle, found, watches = "", list[ProxyStatus](), list[WatchStatus]()
        for answer in answers:
            if answer.error is not None:
                raise answer.error
            decoded = _proxies.decode(answer.body)
            bundle = decoded.bundle_hash or bundle
            found += decoded.proxies
            watches += (msgspec.structs.replace(w, pod=answer.pod) for w in decoded.watches)
        return ProxiesAnswer(bundle, tuple(found), tuple(watches))

    async def _handshakes(self, pods: Sequence[Object], roots: Object) -> None:
        bundle = str((roots.get("data") or {}).get(labels.TRUST_ROOTS_KEY) or "")
        ready = _role(pods, "identity")
        found: list[Handshake] = []

        async def shake(pod: Object) -> None:
            found.append(await shake_hands(pod, bundle))

        async with anyio.create_task_group() as tasks:
            for pod in ready if bundle else ():
                tasks.start_soon(shake, pod)
        self._values["handshakes"] = tuple(found)


def _role(pods: Sequence[Object], component: str) -> list[Object]:
    return [
        pod
        for pod in pods
        if labels_of(pod).get(labels.L_COMPONENT) == component
        and is_ready(pod)
        and not is_leaving(pod)
    ]


async def shake_hands(pod: Object, bundle: str) -> Handshake:
    """TLS with an identity pod under our own bundle, where pods can be reached from here."""
    name = str(pod["metadata"]["name"])
    address = str((pod.get("status") or {}).get("podIP") or "")
    try:
        context = ssl.create_default_context(cadata=bundle)
        context.check_hostname = False
        with anyio.fail_after(_HANDSHAKE_SECONDS):
            tcp = await anyio.connect_tcp(address, labels.IDENTITY_PORT)
            stream = await anyio.streams.tls.TLSStream.wrap(
                tcp, server_side=False, ssl_context=context, standard_compatible=False
            )
        leaf = stream.extra(anyio.streams.tls.TLSAttribute.peer_certificate_binary)
        await stream.aclose()
    except ssl.SSLCertVerificationError as error:
        return Handshake(name, error=f"certificate verify failed: {error.verify_message}")
    except (OSError, TimeoutError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
        return Handshake(name, error=f"not reachable: {error or type(error).__name__}")
    return Handshake(name, leaf=ssl.DER_cert_to_PEM_cert(leaf) if leaf else "")
