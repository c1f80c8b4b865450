"""Kubernetes objects -> the few facts that compiling needs; pure.

Each object is read once, when it arrives, and then dropped: what compiling touches again and
again is small and typed. Nothing here raises on an odd object: the API server has validated
core kinds, and files may hold anything, so what does not read is as if it were absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mesh.core import labels
from mesh.core.quantity import has_port, parse_ports, parse_switch

Object = dict[str, Any]
Key = tuple[str, str]  # namespace, name

SERVICE_LABEL: Final = "kubernetes.io/service-name"
_HASH_LABEL: Final = "pod-template-hash"
_OPAQUE: Final = "mesh/opaque-ports"
_SKIP: Final = "mesh/skip-inbound-ports"
_REQUIRE_TLS: Final = "mesh/require-tls"


@dataclass(frozen=True, slots=True)
class PortSet:
    """Ports by number or by name, as annotations list them. `bad` holds what does not read."""

    ranges: tuple[tuple[int, int], ...] = ()
    names: frozenset[str] = frozenset()
    bad: tuple[str, ...] = ()

    def has(self, port: int, name: str = "") -> bool:
        return (name != "" and name in self.names) or has_port(self.ranges, port)


@dataclass(frozen=True, slots=True)
class Namespace:
    """The annotations of a namespace that reach its pods and services."""

    name: str
    opaque: PortSet | None = None
    skip_inbound: PortSet | None = None
    require_tls: bool = False
    needs_grants: bool = False  # routes of other namespaces need a ReferenceGrant


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod. `control_namespace` is the mesh that its proxy belongs to, "" without one."""

    namespace: str
    name: str
    uid: str = ""
    ips: tuple[str, ...] = ()
    service_account: str = "default"
    node: str = ""
    workload: str = ""
    control_namespace: str = ""
    host_network: bool = False
    running: bool = True  # neither Succeeded nor Failed
    leaving: bool = False
    app_done: bool = False
    created: str = ""
    opaque: PortSet | None = None
    skip_inbound: PortSet | None = None
    require_tls: bool | None = None
    port_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class ServicePort:
    number: int
    name: str = ""
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One Service. `ips` are its cluster IPs; none when headless or external."""

    namespace: str
    name: str
    ips: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    headless: bool = False
    external_name: str = ""
    first_family: str = ""  # IPv4 | IPv6
    publish_not_ready: bool = False
    local_only: bool = False  # internalTrafficPolicy: Local
    by_client: bool = False  # sessionAffinity: ClientIP
    opaque: PortSet | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)  # of meshes only
    uid: str = ""

    @property
    def key(self) -> Key:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """One address of an EndpointSlice; `pod` is the key and uid behind it, if any."""

    address: str
    ready: bool
    serving: bool
    leaving: bool
    pod: Key | None = None
    pod_uid: str = ""
    node: str = ""
    zone: str = ""
    for_zones: tuple[str, ...] = ()  # hints: whose clients should come here
    for_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """One EndpointSlice of one Service. Ports by name; "" for the unnamed one."""

    namespace: str
    name: str
    service: Key
    family: str  # IPv4 | IPv6 | FQDN
    ports: Mapping[str, int]
    endpoints: tuple[SliceEndpoint, ...]

    @property
    def key(self) -> Key:
        return self.namespace, self.name


def key_of(obj: Object) -> Key:
    meta = as_mapping(obj.get("metadata"))
    return as_text(meta.get("namespace")), as_text(meta.get("name"))


def read_namespace(obj: Object) -> Namespace:
    notes = _annotations(obj)
    return Namespace(
        name=key_of(obj)[1],
        opaque=_port_set(notes, _OPAQUE),
        skip_inbound=_port_set(notes, _SKIP),
        require_tls=bool(_switch(notes, _REQUIRE_TLS)),
        needs_grants=notes.get(labels.A_REFERENCE_GRANTS) == "required",
    )


def read_pod(obj: Object) -> Pod:
    meta, spec, status = (as_mapping(obj.get(part)) for part in ("metadata", "spec", "status"))
    notes, marks = _annotations(obj), as_mapping(meta.get("labels"))
    namespace, name = key_of(obj)
    return Pod(
        namespace=namespace,
        name=name,
        uid=as_text(meta.get("uid")),
        ips=_pod_ips(status),
        service_account=as_text(spec.get("serviceAccountName")) or "default",
        node=as_text(spec.get("nodeName")),
        workload=_workload(meta, marks),
        control_namespace=as_text(marks.get(labels.L_CONTROL_NAMESPACE)),
        host_network=bool(spec.get("hostNetwork")),
        running=status.get("phase") not in ("Succeeded", "Failed"),
        leaving=bool(meta.get("deletionTimestamp")),
        app_done=_is_app_done(meta, spec, status),
        created=as_text(meta.get("creationTimestamp")),
        opaque=_port_set(notes, _OPAQUE),
        skip_inbound=_port_set(notes, _SKIP),
        require_tls=_switch(notes, _REQUIRE_TLS),
        port_names=_container_ports(spec),
    )


def read_service(obj: Object) -> ServiceFacts:
    meta, spec = as_mapping(obj.get("metadata")), as_mapping(obj.get("spec"))
    namespace, name = key_of(obj)
    external = as_text(spec.get("externalName")) if spec.get("type") == "ExternalName" else ""
    single = as_text(spec.get("clusterIP"))
    listed = [as_text(ip) for ip in as_list(spec.get("clusterIPs"))] or [single]
    headless = not external and single == "None"
    families = as_list(spec.get("ipFamilies"))
    notes = _annotations(obj)
    return ServiceFacts(
        namespace=namespace,
        name=name,
        ips=() if headless or external else tuple(ip for ip in listed if ip),
        ports=tuple(_service_ports(spec)),
        headless=headless,
        external_name=external,
        first_family=as_text(families[0]) if families else "",
        publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
        local_only=spec.get("internalTrafficPolicy") == "Local",
        by_client=spec.get("sessionAffinity") == "ClientIP",
        opaque=_port_set(notes, _OPAQUE),
        annotations={note: notes[note] for note in notes if _is_mesh_note(note)},
        uid=as_text(meta.get("uid")),
    )


def read_slice(obj: Object) -> Slice | None:
    """None when it belongs to no Service."""
    namespace, name = key_of(obj)
    marks = as_mapping(as_mapping(obj.get("metadata")).get("labels"))
    service = as_text(marks.get(SERVICE_LABEL))
    if not service:
        return None
    ports = {
        as_text(port.get("name")): port["port"]
        for port in map(as_mapping, as_list(obj.get("ports")))
        if isinstance(port.get("port"), int) and port.get("protocol") in (None, "TCP")
    }
    return Slice(
        namespace=namespace,
        name=name,
        service=(namespace, service),
        family=as_text(obj.get("addressType")) or "IPv4",
        ports=ports,
        endpoints=tuple(
            endpoint
            for item in as_list(obj.get("endpoints"))
            for endpoint in _slice_endpoints(namespace, as_mapping(item))
        ),
    )


def with_defaults(pod: Pod, namespace: Namespace) -> Pod:
    """The pod with what its namespace says where it says nothing itself."""
    if namespace.opaque is None and namespace.skip_inbound is None and not namespace.require_tls:
        return pod
    return replace(
        pod,
        opaque=namespace.opaque if pod.opaque is None else pod.opaque,
        skip_inbound=namespace.skip_inbound if pod.skip_inbound is None else pod.skip_inbound,
        require_tls=namespace.require_tls if pod.require_tls is None else pod.require_tls,
    )


def parse_port_set(text: str) -> PortSet:
    """`80,8000-8010,mysql`: ports, ranges and port names."""
    ranges, names, bad = [], set(), []
    for word in (word.strip() for word in text.split(",")):
        if word and word[0].isdigit():
            try:
                ranges.append(word) if parse_ports(word) else None
            except ValueError:
                bad.append(word)
        elif word and all(c.isalnum() or c == "-" for c in word):
            names.add(word)
        elif word:
            bad.append(word)
    return PortSet(parse_ports(",".join(ranges)), frozenset(names), tuple(bad))


def as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _slice_endpoints(namespace: str, item: Mapping[str, Any]) -> list[SliceEndpoint]:
    state, target = as_mapping(item.get("conditions")), as_mapping(item.get("targetRef"))
    pod: Key | None = None
    if target.get("kind") == "Pod":
        pod = (as_text(target.get("namespace")) or namespace, as_text(target.get("name")))
    ready = state.get("ready") is not False  # unset means ready (discovery.k8s.io/v1)
    serving = state.get("serving")
    hints = as_mapping(item.get("hints"))
    zones, nodes = (
        tuple(as_text(as_mapping(hint).get("name")) for hint in as_list(hints.get(kind)))
        for kind in ("forZones", "forNodes")
    )
    return [
        SliceEndpoint(
            address=address,
            ready=ready,
            serving=ready if serving is None else bool(serving),
            leaving=bool(state.get("terminating")),
            pod=pod,
            pod_uid=as_text(target.get("uid")),
            node=as_text(item.get("nodeName")),
            zone=as_text(item.get("zone")),
            for_zones=zones,
            for_nodes=nodes,
        )
        for address in as_list(item.get("addresses"))
        if isinstance(address, str)
    ]


def _service_ports(spec: Mapping[str, Any]) -> list[ServicePort]:
    return [
        ServicePort(port["port"], as_text(port.get("name")), as_text(port.get("appProtocol")))
        for port in map(as_mapping, as_list(spec.get("ports")))
        if isinstance(port.get("port"), int) and port.get("protocol") in (None, "TCP")
    ]


def _pod_ips(status: Mapping[str, Any]) -> tuple[str, ...]:
    ips = [as_text(as_mapping(item).get("ip")) for item in as_list(status.get("podIPs"))]
    return tuple(ip for ip in ips or [as_text(status.get("podIP"))] if ip)


def _container_ports(spec: Mapping[str, Any]) -> dict[int, str]:
    return {
        port["containerPort"]: as_text(port.get("name"))
        for container in as_list(spec.get("containers"))
        for port in map(as_mapping, as_list(as_mapping(container).get("ports")))
        if isinstance(port.get("containerPort"), int) and port.get("name")
    }


def _is_app_done(
    meta: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]
) -> bool:
    """Whether every application container has ended and none will be started again: in a pod
    that is being deleted, none is."""
    policy = "Never" if meta.get("deletionTimestamp") else spec.get("restartPolicy")
    if policy not in ("Never", "OnFailure"):
        return False
    names = {
        as_text(as_mapping(container).get("name")) for container in as_list(spec.get("containers"))
    } - {labels.PROXY_CONTAINER}
    ended = set()
    for item in map(as_mapping, as_list(status.get("containerStatuses"))):
        final = as_mapping(as_mapping(item.get("state")).get("terminated"))
        if final and (policy == "Never" or final.get("exitCode") == 0):
            ended.add(as_text(item.get("name")))
    return bool(names) and names <= ended


def _workload(meta: Mapping[str, Any], marks: Mapping[str, Any]) -> str:
    """`deployment/web`: from the injector's labels, else from the owner."""
    kind, name = marks.get(labels.L_WORKLOAD_KIND), marks.get(labels.L_WORKLOAD_NAME)
    if isinstance(kind, str) and isinstance(name, str) and kind and name:
        return f"{kind.lower()}/{name}"
    owners = [as_mapping(owner) for owner in as_list(meta.get("ownerReferences"))]
    owner = next((owner for owner in owners if owner.get("controller")), None)
    if owner is None:
        return f"pod/{as_text(meta.get('name'))}"
    kind, name = as_text(owner.get("kind")).lower(), as_text(owner.get("name"))
    template = as_text(marks.get(_HASH_LABEL))
    if kind == "replicaset" and template and name.endswith(f"-{template}"):
        return f"deployment/{name.removesuffix(f'-{template}')}"
    return f"{kind}/{name}"


def _annotations(obj: Object) -> Mapping[str, str]:
    notes = as_mapping(as_mapping(obj.get("metadata")).get("annotations"))
    return {name: value for name, value in notes.items() if isinstance(value, str)}


def _value_of(notes: Mapping[str, str], name: str) -> str | None:
    """The value under our name, else under a dialect's."""
    annotation = labels.ANNOTATION_BY_NAME[name]
    for spelling in (annotation.name, *annotation.aliases):
        if spelling in notes:
            return notes[spelling]
    return None


def _port_set(notes: Mapping[str, str], name: str) -> PortSet | None:
    text = _value_of(notes, name)
    return None if text is None else parse_port_set(text)


def _switch(notes: Mapping[str, str], name: str) -> bool | None:
    text = _value_of(notes, name)
    try:
        return None if text is None else parse_switch(text)
    except ValueError:
        return None


def _is_mesh_note(name: str) -> bool:
    prefix = name.partition("/")[0]
    return prefix == "mesh" or prefix == "linkerd.io" or prefix.endswith(".linkerd.io")
