"""The columns of built-in kinds as `kubectl get` shows them. Pure.

Names, order and words follow k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from mesh.local.api.resources import Column, Object
from mesh.local.api.selectors import format_labels

Cells = Callable[[Object, float], list[Any]]
_NAME: Final = Column("Name", "string", format="name", description="Name of the object")


def columns(*names: str, wide: Iterable[str] = ()) -> tuple[Column, ...]:
    """Columns of these names; `wide` ones are shown by `-o wide`."""
    plain = tuple(Column(name, _TYPES.get(name, "string")) for name in names)
    return plain + tuple(Column(name, "string", priority=1) for name in wide)


_TYPES: Final = {"Data": "integer", "Desired": "integer", "Current": "integer"}


def age(obj: Object, now: float) -> str:
    """The time since creation as kubectl prints it."""
    return since((obj.get("metadata") or {}).get("creationTimestamp"), now)


def since(text: str | None, now: float) -> str:
    """The time since an RFC 3339 time."""
    if not text:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return "<invalid>"
    return human_duration(now - then)


def human_duration(seconds: float) -> str:
    """`duration.HumanDuration`: two units at most, coarser as time passes."""
    total = int(seconds)
    if seconds < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    if total < 120:
        return f"{total}s"
    minutes = total // 60
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = total // 3600
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years = days // 365
    if years < 8:
        return f"{years}y{days % 365}d" if days % 365 else f"{years}y"
    return f"{years}y"


def pod_status(pod: Object) -> tuple[int, int, str, int, str]:
    """Ready containers, containers, the status word, restarts, and when the last one was."""
    spec, state = pod.get("spec") or {}, pod.get("status") or {}
    meta = pod.get("metadata") or {}
    reason = state.get("reason") or state.get("phase") or "Unknown"
    for condition in state.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    sidecars = {
        c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"
    }
    total = len(spec.get("containers") or ()) + len(sidecars)
    ready, restarts, last = 0, 0, ""
    inits = state.get("initContainerStatuses") or []
    sidecar_restarts, sidecar_last = 0, ""
    initializing = False
    for number, one in enumerate(inits):
        restarts += one.get("restartCount", 0)
        last = max(last, _finished(one))
        if one.get("name") in sidecars:
            sidecar_restarts += one.get("restartCount", 0)
            sidecar_last = max(sidecar_last, _finished(one))
        word = _init_word(one, one.get("name") in sidecars, number, len(spec["initContainers"]))
        if word == "":
            if one.get("name") in sidecars and one.get("ready"):
                ready += 1
            continue
        reason, initializing = word, True
        break
    if not initializing or _initialized(state):
        restarts, last = sidecar_restarts, sidecar_last
        reason, ready_now, again, last = _main_words(state, reason, ready, restarts, last)
        ready, restarts = ready_now, again
    if meta.get("deletionTimestamp"):
        reason = "Unknown" if state.get("reason") == "NodeLost" else "Terminating"
    return ready, total, reason, restarts, last


def _initialized(state: Object) -> bool:
    return any(
        c.get("type") == "Initialized" and c.get("status") == "True"
        for c in state.get("conditions") or ()
    )


def _finished(one: Object) -> str:
    return str(((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or "")


def _init_word(one: Object, is_sidecar: bool, number: int, total: int) -> str:
    """What keeps a pod in initialization; empty when this container is done."""
    state = one.get("state") or {}
    ended = state.get("terminated")
    if ended is not None and ended.get("exitCode") == 0:
        return ""
    if is_sidecar and one.get("started"):
        return ""
    if ended is not None:
        if ended.get("reason"):
            return f"Init:{ended['reason']}"
        if ended.get("signal"):
            return f"Init:Signal:{ended['signal']}"
        return f"Init:ExitCode:{ended.get('exitCode')}"
    waiting = (state.get("waiting") or {}).get("reason")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{number}/{total}"


def _main_words(
    state: Object, reason: str, ready: int, restarts: int, last: str
) -> tuple[str, int, int, str]:
    has_running = False
    for one in reversed(state.get("containerStatuses") or []):
        restarts += one.get("restartCount", 0)
        last = max(last, _finished(one))
        now = one.get("state") or {}
        ended = now.get("terminated")
        if (now.get("waiting") or {}).get("reason"):
            reason = now["waiting"]["reason"]
        elif ended is not None and ended.get("reason"):
            reason = ended["reason"]
        elif ended is not None:
            signal = ended.get("signal")
            reason = f"Signal:{signal}" if signal else f"ExitCode:{ended.get('exitCode')}"
        elif one.get("ready") and "running" in now:
            has_running = True
            ready += 1
    if reason == "Completed" and has_running:
        is_ready = any(
            c.get("type") == "Ready" and c.get("status") == "True"
            for c in state.get("conditions") or ()
        )
        reason = "Running" if is_ready else "NotReady"
    return reason, ready, restarts, last


def _pod(pod: Object, now: float) -> list[Any]:
    ready, total, word, restarts, last = pod_status(pod)
    state, spec = pod.get("status") or {}, pod.get("spec") or {}
    again = f"{restarts} ({since(last, now)} ago)" if restarts and last else str(restarts)
    addresses = [one.get("ip") for one in state.get("podIPs") or ()]
    gates = spec.get("readinessGates") or ()
    passed = sum(
        any(
            c.get("type") == gate.get("conditionType") and c.get("status") == "True"
            for c in state.get("conditions") or ()
        )
        for gate in gates
    )
    return [
        f"{ready}/{total}",
        word,
        again,
        age(pod, now),
        (addresses[0] if addresses else state.get("podIP")) or "<none>",
        spec.get("nodeName") or "<none>",
        state.get("nominatedNodeName") or "<none>",
        f"{passed}/{len(gates)}" if gates else "<none>",
    ]


def images(obj: Object) -> tuple[str, str]:
    """Names and images of a template's containers."""
    spec = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
    found = spec.get("containers") or ()
    return ",".join(c.get("name", "") for c in found), ",".join(c.get("image", "") for c in found)


def _deployment(obj: Object, now: float) -> list[Any]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    names, shown = images(obj)
    return [
        f"{state.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        str(state.get("updatedReplicas", 0)),
        str(state.get("availableReplicas", 0)),
        age(obj, now),
        names,
        shown,
        format_labels(spec.get("selector")),
    ]


def _replica_set(obj: Object, now: float) -> list[Any]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    names, shown = images(obj)
    return [
        spec.get("replicas", 0),
        state.get("replicas", 0),
        str(state.get("readyReplicas", 0)),
        age(obj, now),
        names,
        shown,
        format_labels(spec.get("selector")),
    ]


def _service(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    kind = spec.get("type", "ClusterIP")
    external = ",".join(spec.get("externalIPs") or ()) or "<none>"
    if kind == "ExternalName":
        external = spec.get("externalName") or "<none>"
    elif kind == "LoadBalancer":
        ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        shown = [one.get("ip") or one.get("hostname") for one in ingress]
        external = ",".join([*shown, *(spec.get("externalIPs") or ())]) or "<pending>"
    return [
        kind,
        spec.get("clusterIP") or "<none>",
        external,
        _service_ports(spec.get("ports") or ()),
        age(obj, now),
        format_labels({"matchLabels": spec.get("selector") or {}}) or "<none>",
    ]


def _service_ports(ports: Iterable[Mapping[str, Any]]) -> str:
    found = []
    for port in ports:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        found.append(f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(found) or "<none>"


def _endpoint_slice(obj: Object, now: float) -> list[Any]:
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    ports = [str(p.get("port", "*")) for p in obj.get("ports") or ()]
    return [
        obj.get("addressType", ""),
        _capped(ports, "<unset>"),
        _capped(addresses, "<unset>"),
        age(obj, now),
    ]


def _capped(items: list[str], empty: str) -> str:
    if not items:
        return empty
    more = f" + {len(items) - 3} more..." if len(items) > 3 else ""
    return ",".join(items[:3]) + more


def _node(obj: Object, now: float) -> list[Any]:
    state, spec = obj.get("status") or {}, obj.get("spec") or {}
    words = [
        "Ready" if c.get("status") == "True" else "NotReady"
        for c in state.get("conditions") or ()
        if c.get("type") == "Ready"
    ] or ["Unknown"]
    if spec.get("unschedulable"):
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    labels = (obj.get("metadata") or {}).get("labels") or {}
    roles = sorted(key[len(prefix) :] for key in labels if key.startswith(prefix))
    addresses = {a.get("type"): a.get("address") for a in reversed(state.get("addresses") or [])}
    info = state.get("nodeInfo") or {}
    return [
        ",".join(words),
        ",".join(roles) or "<none>",
        age(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", "<none>"),
        addresses.get("ExternalIP", "<none>"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _event(obj: Object, now: float) -> list[Any]:
    target = obj.get("involvedObject") or {}
    source = obj.get("source") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    series = obj.get("series") or {}
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    where = [source.get("component") or obj.get("reportingComponent"), source.get("host")]
    return [
        since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{str(target.get('kind', '')).lower()}/{target.get('name', '')}",
        target.get("fieldPath", ""),
        ", ".join(part for part in where if part),
        str(obj.get("message", "")).strip(),
        since(first, now),
        str(series.get("count") or obj.get("count") or 1),
        (obj.get("metadata") or {}).get("name", ""),
    ]


def _subjects(obj: Object) -> tuple[str, str, str]:
    found: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            name = f"{subject.get('namespace', '')}/{name}"
        found.setdefault(subject.get("kind", ""), []).append(name)
    users, groups, accounts = (", ".join(found[k]) for k in ("User", "Group", "ServiceAccount"))
    return users, groups, accounts


def _binding(obj: Object, now: float) -> list[Any]:
    role = obj.get("roleRef") or {}
    return [f"{role.get('kind')}/{role.get('name')}", age(obj, now), *_subjects(obj)]


def _created(obj: Object, now: float) -> list[Any]:
    return [(obj.get("metadata") or {}).get("creationTimestamp")]


def _budget(obj: Object, now: float) -> list[Any]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        "N/A" if least is None else str(least),
        "N/A" if most is None else str(most),
        state.get("disruptionsAllowed", 0),
        age(obj, now),
    ]


def _data_size(obj: Object) -> int:
    return len(obj.get("data") or {}) + len(obj.get("binaryData") or {})


def _priority(obj: Object, now: float) -> list[Any]:
    return [
        obj.get("value", 0),
        "true" if obj.get("globalDefault") else "false",
        age(obj, now),
        obj.get("preemptionPolicy", ""),
    ]


_ADMISSION: Final = "admissionregistration.k8s.io"
_RBAC: Final = "rbac.authorization.k8s.io"
_WORKLOAD_WIDE: Final = ("Containers", "Images", "Selector")
_BINDING: Final = (
    columns("Role", "Age", wide=("Users", "Groups", "ServiceAccounts")),
    _binding,
)
_CREATED: Final = (columns("Created At"), _created)
_ONLY_AGE: Final[tuple[tuple[Column, ...], Cells]] = (
    columns("Age"),
    lambda obj, now: [age(obj, now)],
)
_WEBHOOKS: Final[tuple[tuple[Column, ...], Cells]] = (
    columns("Webhooks", "Age"),
    lambda obj, now: [len(obj.get("webhooks") or ()), age(obj, now)],
)

# After Name, which is always first, but for events.
TABLE: Final[Mapping[str, tuple[tuple[Column, ...], Cells]]] = {
    "pods": (
        columns(
            "Ready",
            "Status",
            "Restarts",
            "Age",
            wide=("IP", "Node", "Nominated Node", "Readiness Gates"),
        ),
        _pod,
    ),
    "deployments.apps": (
        columns("Ready", "Up-to-date", "Available", "Age", wide=_WORKLOAD_WIDE),
        _deployment,
    ),
    "replicasets.apps": (
        columns("Desired", "Current", "Ready", "Age", wide=_WORKLOAD_WIDE),
        _replica_set,
    ),
    "services": (
        columns("Type", "Cluster-IP", "External-IP", "Port(s)", "Age", wide=("Selector",)),
        _service,
    ),
    "endpointslices.discovery.k8s.io": (
        columns("AddressType", "Ports", "Endpoints", "Age"),
        _endpoint_slice,
    ),
    "configmaps": (columns("Data", "Age"), lambda o, now: [_data_size(o), age(o, now)]),
    "secrets": (
        columns("Type", "Data", "Age"),
        lambda o, now: [o.get("type", ""), _data_size(o), age(o, now)],
    ),
    "serviceaccounts": (
        columns("Secrets", "Age"),
        lambda o, now: [len(o.get("secrets") or ()), age(o, now)],
    ),
    "namespaces": (
        columns("Status", "Age"),
        lambda o, now: [(o.get("status") or {}).get("phase", ""), age(o, now)],
    ),
    "nodes": (
        columns(
            "Status",
            "Roles",
            "Age",
            "Version",
            wide=("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        ),
        _node,
    ),
    "events": (
        (
            *columns("Last Seen", "Type", "Reason", "Object"),
            *columns(wide=("Subobject", "Source")),
            *columns("Message"),
            *columns(wide=("First Seen", "Count")),
            replace(_NAME, priority=1),
        ),
        _event,
    ),
    "leases.coordination.k8s.io": (
        columns("Holder", "Age"),
        lambda o, now: [(o.get("spec") or {}).get("holderIdentity", ""), age(o, now)],
    ),
    f"roles.{_RBAC}": _CREATED,
    f"clusterroles.{_RBAC}": _CREATED,
    f"rolebindings.{_RBAC}": _BINDING,
    f"clusterrolebindings.{_RBAC}": _BINDING,
    "customresourcedefinitions.apiextensions.k8s.io": _CREATED,
    f"mutatingwebhookconfigurations.{_ADMISSION}": _WEBHOOKS,
    f"validatingwebhookconfigurations.{_ADMISSION}": _WEBHOOKS,
    "poddisruptionbudgets.policy": (
        columns("Min Available", "Max Unavailable", "Allowed Disruptions", "Age"),
        _budget,
    ),
    "priorityclasses.scheduling.k8s.io": (
        columns("Value", "Global-Default", "Age", "PreemptionPolicy"),
        _priority,
    ),
    "networkpolicies.networking.k8s.io": (
        columns("Pod-Selector", "Age"),
        lambda o, now: [
            format_labels((o.get("spec") or {}).get("podSelector")) or "<none>",
            age(o, now),
        ],
    ),
}
DEFAULT: Final = _ONLY_AGE
NAME: Final = _NAME
