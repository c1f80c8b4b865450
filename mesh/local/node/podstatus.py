"""What a pod's status says. Pure: records in, status out; times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mesh.local.node.podstate import Record, State, is_sidecar, wants_restart

Object = dict[str, Any]


def timestamp(seconds: float) -> str:
    """RFC 3339 with whole seconds, as metav1.Time."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def terminated(record: Record) -> Object:
    """The `terminated` state of a record."""
    found: Object = {
        "exitCode": record.exit_code,
        "reason": record.reason,
        "startedAt": timestamp(record.started_at or record.finished_at),
        "finishedAt": timestamp(record.finished_at),
    }
    if record.signal:
        found["signal"] = record.signal
    if record.message:
        found["message"] = record.message
    if record.container_id:
        found["containerID"] = record.container_id
    return found


def _waiting(reason: str, message: str = "") -> Object:
    found: Object = {"reason": reason}
    if message:
        found["message"] = message
    return {"waiting": found}


def _container_state(record: Record, *, init: bool, over: bool, restarts: bool, now: float) -> Any:
    if record.state is State.RUNNING:
        return {"running": {"startedAt": timestamp(record.started_at)}}
    if record.state is State.WAITING:
        return _waiting(
            record.reason or ("PodInitializing" if not init else "ContainerCreating"),
            record.message,
        )
    if restarts and not over and record.retry_at > now:
        text = f"back-off {record.retry_at - record.finished_at:.0f}s restarting failed container"
        return _waiting("CrashLoopBackOff", f"{text}={record.name}")
    return {"terminated": terminated(record)}


def container_status(
    container: Object, record: Record, *, init: bool, over: bool, policy: str, now: float
) -> Object:
    """One entry of containerStatuses or initContainerStatuses."""
    sidecar = init and is_sidecar(container)
    if init and not sidecar:
        restarts = policy != "Never" and record.exit_code != 0
        ready = record.state is State.TERMINATED and record.exit_code == 0
    else:
        restarts = sidecar or wants_restart(policy, record)
        ready = record.ready
    state = _container_state(record, init=init, over=over, restarts=restarts, now=now)
    found: Object = {
        "name": record.name,
        "image": container.get("image", ""),
        "imageID": "",
        "ready": ready,
        "started": record.started,
        "restartCount": record.restarts,
        "state": state,
        "lastState": {},
    }
    if record.container_id:
        found["containerID"] = record.container_id
    if "waiting" in state and record.state is State.TERMINATED:
        found["lastState"] = {"terminated": terminated(record)}
    elif record.last is not None:
        found["lastState"] = {"terminated": record.last}
    return found


def _condition(
    kind: str, true: bool, old: Iterable[Object], now: float, reason: str = "", message: str = ""
) -> Object:
    status = "True" if true else "False"
    made: Object = {"type": kind, "status": status, "lastProbeTime": None}
    changed = timestamp(now)
    for entry in old:
        if entry.get("type") == kind and entry.get("status") == status:
            changed = entry.get("lastTransitionTime", changed)
    made["lastTransitionTime"] = changed
    if not true and reason:
        made["reason"] = reason
        if message:
            made["message"] = message
    return made


@dataclass(frozen=True, slots=True)
class Facts:
    """What a pod's status is made of besides its records. Addresses may be empty."""

    addresses: tuple[str, ...]
    host: tuple[str, ...]
    initialized: bool
    phase: str  # of a pod whose work is over, else empty
    start_time: float


def _phase(spec: Object, records: Mapping[str, Record], facts: Facts) -> str:
    if facts.phase:
        return facts.phase
    apps = [records[container["name"]] for container in spec["containers"]]
    begun = any(record.state is not State.WAITING for record in apps)
    return "Running" if facts.initialized and begun else "Pending"


def _list(names: Iterable[str]) -> str:
    return f"[{' '.join(names)}]"


def _gates_open(spec: Object, conditions: Iterable[Object]) -> bool:
    """Whether every readinessGate has a condition that somebody set to True."""
    true = {entry["type"] for entry in conditions if entry.get("status") == "True"}
    return all(gate.get("conditionType") in true for gate in spec.get("readinessGates") or ())


def _conditions(
    spec: Object, old: list[Object], records: Mapping[str, Record], facts: Facts, now: float
) -> list[Object]:
    inits = spec.get("initContainers") or ()
    counted = (*(entry for entry in inits if is_sidecar(entry)), *spec["containers"])
    unready = [entry["name"] for entry in counted if not records[entry["name"]].ready]
    pending = [
        entry["name"]
        for entry in inits
        if not (records[entry["name"]].started or records[entry["name"]].state is State.TERMINATED)
    ]
    over = bool(facts.phase)
    ready = facts.initialized and not unready and not over
    reason = "PodCompleted" if facts.phase == "Succeeded" else "ContainersNotReady"
    text = f"containers with unready status: {_list(unready)}" if unready else ""
    made: list[Object] = []

    def add(kind: str, true: bool, reason: str = "", message: str = "") -> None:
        made.append(_condition(kind, true, old, now, reason, message))

    add("PodReadyToStartContainers", bool(facts.addresses) and not over)
    waiting = f"containers with incomplete status: {_list(pending)}"
    add("Initialized", facts.initialized, "ContainersNotInitialized", waiting)
    gated = ready and not _gates_open(spec, old)
    add("Ready", ready and not gated, "ReadinessGatesNotReady" if gated else reason, text)
    add("ContainersReady", ready, reason, text)
    add("PodScheduled", True)
    ours = {entry["type"] for entry in made}
    return made + [entry for entry in old if entry.get("type") not in ours]


def pod_status(pod: Object, records: Mapping[str, Record], facts: Facts, *, now: float) -> Object:
    """The whole `status` of a pod; transition times are kept where nothing changed."""
    spec, old = pod["spec"], pod.get("status") or {}
    policy, over = spec.get("restartPolicy", "Always"), bool(facts.phase)

    def statuses(containers: Iterable[Object], init: bool) -> list[Object]:
        return [
            container_status(
                entry, records[entry["name"]], init=init, over=over, policy=policy, now=now
            )
            for entry in containers
        ]

    status: Object = {
        "phase": _phase(spec, records, facts),
        "conditions": _conditions(spec, list(old.get("conditions") or ()), records, facts, now),
        "hostIP": facts.host[0] if facts.host else "",
        "hostIPs": [{"ip": address} for address in facts.host],
        "startTime": timestamp(facts.start_time),
        "containerStatuses": statuses(spec["containers"], False),
        "qosClass": old.get("qosClass", "BestEffort"),
    }
    if facts.addresses:
        status["podIP"] = facts.addresses[0]
        status["podIPs"] = [{"ip": address} for address in facts.addresses]
    if spec.get("initContainers"):
        status["initContainerStatuses"] = statuses(spec["initContainers"], True)
    return status
