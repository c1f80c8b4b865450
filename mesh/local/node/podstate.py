"""The life of a pod as decisions: what to start next, and when it is over.

Pure: records in, decisions out, with the time as an argument in seconds since the
epoch. The rules are the kubelet's: Kubernetes documentation, "Pod Lifecycle" and "Sidecar
Containers"; the backoff is shorter, for people who wait for it at a terminal.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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


def wants_restart(policy: str, record: Record) -> bool:
    """Whether a container that has ended is to be started again."""
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
        record.state is State.TERMINATED and not wants_restart(policy, record) for record in apps
    ):
        failed = any(record.exit_code != 0 for record in apps)
        return Decision(initialized=True, finishing=True, phase="Failed" if failed else "Succeeded")
    for record in apps:
        if record.state is State.WAITING or (
            record.state is State.TERMINATED and wants_restart(policy, record)
        ):
            plan.launch(record)
    return plan.done(initialized=True)
