"""The life of a pod as decisions: what to start next, when it is over, what its status says.

Pure: records in, decisions and status out, with the time as an argument in seconds since the
epoch. The rules are the kubelet's: Kubernetes documentation, "Pod Lifecycle" and "Sidecar
Containers"; the backoff is shorter, for people who wait for it at a terminal.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]

BACKOFF_FIRST, BACKOFF_LONGEST, BACKOFF_FORGET = 1.0, 15.0, 60.0  # seconds


class State(enum.Enum):
    """Where one container stands."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


@dataclass(slots=True)
class Record:
    """One container's life so far; the worker writes it, everything else reads it."""

    name: str
    state: State = State.WAITING
    reason: str = ""
    message: str = ""
    exit_code: int = 0
    signal: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    started: bool = False
    ready: bool = False
    restarts: int = 0
    crashes: int = 0  # in a row, each soon after its start
    retry_at: float = 0.0
    container_id: str = ""
    last: Object | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the worker does now. `phase` is set once the pod's work is over."""

    start: tuple[str, ...] = ()
    initialized: bool = False
    finishing: bool = False
    phase: str = ""
    wake_at: float | None = None


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container is a native sidecar."""
    return container.get("restartPolicy") == "Always"


def backoff(crashes: int) -> float:
    """Seconds before the restart after so many crashes in a row; the first is immediate."""
    if crashes <= 1:
        return 0.0
    return float(min(BACKOFF_FIRST * 2 ** (min(crashes, 20) - 2), BACKOFF_LONGEST))


def ended(record: Record, *, code: int, signal: int, reason: str, message: str, now: float) -> None:
    """Note that a container's process has ended."""
    soon = now - record.started_at < BACKOFF_FORGET
    record.crashes = record.crashes + 1 if soon else 1
    record.state, record.finished_at = State.TERMINATED, now
    record.exit_code, record.signal = code, signal
    record.reason = reason or ("Completed" if code == 0 else "Error")
    record.message = message
    record.started = record.ready = False
    record.retry_at = now + backoff(record.crashes)


def _wants_restart(policy: str, record: Record) -> bool:
    return policy == "Always" or (policy == "OnFailure" and record.exit_code != 0)


@dataclass(slots=True)
class _Plan:
    now: float
    busy: frozenset[str]
    start: list[str] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)

    def launch(self, record: Record) -> None:
        if record.name in self.busy:
            return
        if record.retry_at > self.now:
            self.wakes.append(record.retry_at)
        else:
            self.start.append(record.name)

    def done(self, **more: Any) -> Decision:
        wake = min(self.wakes) if self.wakes else None
        return Decision(start=tuple(self.start), wake_at=wake, **more)


def _initialise(spec: Object, records: Mapping[str, Record], plan: _Plan, once: bool) -> str:
    """Walk the init containers; returns "done", "wait" or "failed"."""
    policy = spec.get("restartPolicy", "Always")
    result = "done"
    for container in spec.get("initContainers") or ():
        record = records[container["name"]]
        if is_sidecar(container):
            if record.state is not State.RUNNING:
                plan.launch(record)
            if not record.started and not once:
                return "wait"
            continue
        if once or (record.state is State.TERMINATED and record.exit_code == 0):
            continue
        if record.state is State.RUNNING:
            return "wait"
        if record.state is State.TERMINATED and policy == "Never":
            return "failed"
        plan.launch(record)
        return "wait"
    return result


def decide(
    spec: Object,
    records: Mapping[str, Record],
    *,
    now: float,
    busy: Iterable[str] = (),
    initialized: bool = False,
) -> Decision:
    """The next step of a pod that nobody deletes.

    `busy` are containers being started or stopped. `initialized` is sticky: once all init
    containers were through, only sidecars among them are started again.
    """
    policy = spec.get("restartPolicy", "Always")
    plan = _Plan(now, frozenset(busy))
    step = _initialise(spec, records, plan, initialized)
    if step == "failed":
        return Decision(finishing=True, phase="Failed")
    if step == "wait":
        return plan.done()
    apps = [records[container["name"]] for container in spec["containers"]]
    if all(
        record.state is State.TERMINATED and not _wants_restart(policy, record) for record in apps
    ):
        failed = any(record.exit_code != 0 for record in apps)
        return Decision(initialized=True, finishing=True, phase="Failed" if failed else "Succeeded")
    for record in apps:
        if record.state is State.WAITING or (
            record.state is State.TERMINATED and _wants_restart(policy, record)
        ):
            plan.launch(record)
    return plan.done(initialized=True)


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
        restarts = sidecar or _wants_restart(policy, record)
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


def pod_status(pod: Object, records: Mapping[str, Record], facts: Facts, *, now: float) -> Object:
    """The whole `status` of a pod; transition times are kept where nothing changed."""
    spec, old = pod["spec"], pod.get("status") or {}
    conditions = list(old.get("conditions") or ())
    policy = spec.get("restartPolicy", "Always")
    over = bool(facts.phase)

    def statuses(containers: Iterable[Object], init: bool) -> list[Object]:
        return [
            container_status(
                entry, records[entry["name"]], init=init, over=over, policy=policy, now=now
            )
            for entry in containers
        ]

    inits = spec.get("initContainers") or ()
    counted = [
        records[entry["name"]]
        for entry in (*(item for item in inits if is_sidecar(item)), *spec["containers"])
    ]
    unready = [record.name for record in counted if not record.ready]
    ready = facts.initialized and not unready and not over
    reason = "PodCompleted" if facts.phase == "Succeeded" else "ContainersNotReady"
    text = "" if not unready else f"containers with unready status: [{' '.join(unready)}]"
    gates = {
        entry.get("conditionType"): next(
            (item["status"] for item in conditions if item["type"] == entry.get("conditionType")),
            "False",
        )
        for entry in spec.get("readinessGates") or ()
    }
    open_gates = all(status == "True" for status in gates.values())
    pending = [
        entry["name"]
        for entry in inits
        if not (records[entry["name"]].started or records[entry["name"]].state is State.TERMINATED)
    ]
    made = [
        _condition(
            "PodReadyToStartContainers", bool(facts.addresses) and not over, conditions, now
        ),
        _condition(
            "Initialized",
            facts.initialized,
            conditions,
            now,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(pending)}]",
        ),
        _condition(
            "Ready",
            ready and open_gates,
            conditions,
            now,
            reason if not ready else "ReadinessGatesNotReady",
            text,
        ),
        _condition("ContainersReady", ready, conditions, now, reason, text),
        _condition("PodScheduled", True, conditions, now),
    ]
    ours = {entry["type"] for entry in made}
    made += [entry for entry in conditions if entry.get("type") not in ours]
    status: Object = {
        "phase": _phase(spec, records, facts),
        "conditions": made,
        "hostIP": facts.host[0] if facts.host else "",
        "hostIPs": [{"ip": address} for address in facts.host],
        "startTime": timestamp(facts.start_time),
        "containerStatuses": statuses(spec["containers"], False),
        "qosClass": old.get("qosClass", "BestEffort"),
    }
    if facts.addresses:
        status["podIP"] = facts.addresses[0]
        status["podIPs"] = [{"ip": address} for address in facts.addresses]
    if inits:
        status["initContainerStatuses"] = statuses(inits, True)
    return status
